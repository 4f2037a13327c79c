/*
 * Selection by coverage: the lines of a history worth keeping, byte for byte, within a budget
 * (docs/condensing.md#which-lines). No model, no query; about a millisecond for 10K tokens.
 *
 * What is left out, of a message or whole messages, leaves a marker with its size in source lines:
 * "[..71]", or "[..340 bytes]" of one long line.
 * The rendered text, with headers, markers and index, is never longer than the budget.
 */
#ifndef TANDEM_TEXT_SELECT_H
#define TANDEM_TEXT_SELECT_H

#include "common/text/text.h"

#include <stdint.h>

/* Messages and bytes that one call takes; more is -E2BIG. */
#define SELECT_MESSAGES_MAX (1u << 20)
#define SELECT_BYTES_MAX (512u << 20)

/*
 * What measuring can change one by one (tests/eval); a caller leaves it as select_defaults() has
 * it. Names and values are those of the tables in docs/eval.md.
 */
struct select_tuning {
	double length_exponent; /* how much a line of a long message counts less; .2 */
	double second_cover;	/* of a word's weight when it is covered already; 0 */
	double occurrence;	/* weight of ln(how often a word stands); .5 */
	bool kinds;		/* a word's weight depends on what it looks like; true */
	bool header_calls;	/* a result's header names its call; false */
	unsigned window;	/* lines chosen as one; 1 */
	bool headings;		/* a line brings its heading along; true */
	bool company;	 /* an assistant's message brings its results' headers along; false */
	bool hashes;	 /* whole messages leave a marker with their hash; false */
	double standing; /* of a word's weight where it stands in the prompt anyway; 0 */
};

/* Start from select_defaults(). Shares are parts of the budget; the forced ones double below
 * 15 %. */
struct select_options {
	size_t budget_bytes; /* the hard bound; SIZE_MAX */
	double keep_ratio;   /* of the bytes that are not verbatim, a second bound; .25; 0: none */
	bool frozen;	     /* blind to the verbatim part, so that the result outlives it; false */
	bool single;	     /* one text cut in three: no headers, and the verbatim parts are the
				instruction, whose words weigh most; false */
	bool bare;	     /* no headers: each message keeps its place; false */
	struct slice mark;   /* at the begin of each header; empty */
	double constraints;  /* share of the user's constraints; .15 */
	size_t ledger_bytes; /* which may always have this much (but half the budget); 1500 */
	double errors;	     /* .06 */
	double one_shots;    /* tool outputs of at most 3 lines; .08 */
	double facts;	     /* commit hashes, numbers with units; .06 */
	double index;	     /* "[seen: ...]", names of what is left out; .05 */
	struct slice
		question; /* single: what is asked about the text, where that stands elsewhere */
	/* What stands in the prompt anyway (NULL: nothing): texts of words that the corpus has
	 * read. */
	const struct slice *standing;
	size_t standing_count;
	struct select_tuning tuning;
};

struct select_options select_defaults(void);

/* What a word of a conversation counts, by what it looks like and by who has used it. */
struct vocab_word;
float select_weight(const struct select_options *o, const struct vocab_word *w);

/* What text_render() writes, in order. */
struct select_op {
	enum { SELECT_HEADER, SELECT_SPAN, SELECT_GAP, SELECT_OMITTED } kind;
	uint32_t rows; /* gap, omitted: source lines left out; 0: parts of one line */
	uint32_t hash; /* omitted */
	size_t bytes;  /* gap: of what is left out */
	size_t at;     /* span: its number; others: the message (omitted: the first of them) */
};

/* Owned by the caller after text_select(); zero-initialise or let text_select() do it. */
struct select_result {
	struct text_span *spans; /* sorted, disjoint, as long as they go */
	size_t count;
	struct text_span *forced; /* each inside one of spans; sorted */
	size_t forced_count;
	struct select_op *ops;
	size_t op_count;
	char *index;	       /* "[seen: a b c]" without a line end, or NULL */
	size_t kept_bytes;     /* of the source, in spans */
	size_t rendered_bytes; /* what text_render() appends, exactly */
	size_t source_bytes;   /* of all messages that are not verbatim */
	size_t source_lines;
	size_t omitted_lines;
	struct slice mark; /* of the options, for text_render() */
	bool calls, hashes;
	bool silent; /* the budget does not even hold the markers: nothing is rendered */
};

/*
 * 0, -ENOMEM, -EINVAL (a ratio out of range, no messages array) or -E2BIG. On failure the result
 * is empty. Groups must be numbered and verbatim messages marked.
 */
int text_select(const struct text_message *m, size_t n, const struct select_options *o,
	struct select_result *out);

/*
 * The same from a corpus that was read before: m[i] is its message at[i] (NULL: message i). A
 * message that is not verbatim must have been read as lines.
 */
struct corpus;
int text_select_from(const struct corpus *c, const struct text_message *m, const uint32_t *at,
	size_t n, const struct select_options *o, struct select_result *out);

void select_result_free(struct select_result *r);

/* Appends the selection in source order with headers, markers and the index. buf_error(out). */
int text_render(
	const struct text_message *m, size_t n, const struct select_result *r, struct buf *out);

/*
 * The same for the messages [from, to) only and without the index, for a caller that leaves a
 * verbatim message at its place in the middle: from and to fall on verbatim messages or the ends.
 */
int text_render_part(const struct text_message *m, size_t n, const struct select_result *r,
	size_t from, size_t to, struct buf *out);

/* One huge text: the instruction at its head and at its tail, and what lies between. */
struct text_edges {
	struct slice head, middle, tail; /* adjacent but for line ends at the seams */
};

/*
 * The head is the first paragraph, at most 400 bytes or a quarter of budget; the tail the last
 * lines, at most 800 bytes or half of budget. A text without line ends is cut after sentences.
 */
void text_single_split(struct slice text, size_t budget, struct text_edges *e);

/*
 * Is the instruction about the text as a whole (translate, summarise, review this)? Then nothing of
 * it can be spared. English, Portuguese, Spanish, German and French words.
 */
bool text_is_about_whole(struct slice instruction);

/*
 * Appends text condensed to the budget (the smaller of budget_bytes and keep_ratio of it): head and
 * tail as they are, the middle selected for them: functions, sections and other blocks whose names
 * the instruction (the head, the tail and o->question) says survive whole as far as they fit. A
 * text that fits is appended whole. *omitted_lines (may be NULL): source lines left out. 0,
 * -ENOMEM, -EINVAL or -E2BIG.
 */
int text_select_single(struct slice text, const struct select_options *o, struct buf *out_text,
	size_t *omitted_lines);

#endif
