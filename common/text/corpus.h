/*
 * A conversation read for selection: the lines of its messages, their tokens, and what is known of
 * both. Reading goes forward and may stop at any message: what was read never depends on what comes
 * after it, so that a conversation that grows is read once and a decision made at its end stays
 * what it was.
 *
 * Owns its arrays; borrows the messages and their texts, which must stay where they are. Linear in
 * the text, about 100 MB a second. Nothing blocks.
 */
#ifndef TANDEM_TEXT_CORPUS_H
#define TANDEM_TEXT_CORPUS_H

#include "common/text/lexicon.h"
#include "common/text/pins.h"
#include "common/text/text.h"
#include "common/text/vocab.h"

/* What a line is, beside its PIN_ bits. */
enum {
	LINE_BLANK = 1 << 8,
	LINE_HUMAN = 1 << 9, /* a person wrote it, also inside a tool's result (speaker.h) */
	LINE_LATER =
		1 << 10, /* the same line, its number aside, comes later (set when selecting) */
	LINE_SECRET = 1 << 11, /* holds a credential that no later turn uses (set when selecting) */
	LINE_MACHINE = 1 << 12,	 /* environment details that clients add to a prompt */
	LINE_FENCE = 1 << 13,	 /* ``` */
	LINE_PART = 1 << 14,	 /* goes on a long line that the line before began */
	LINE_ARMOUR = 1 << 15,	 /* of a private key */
	LINE_FORCED = 1 << 16,	 /* set when selecting */
	LINE_SENTENCE = 1 << 17, /* a constraint whose sentence goes on in the next line */
};

#define CORPUS_NONE UINT32_MAX

struct corpus_line {
	uint32_t begin, end; /* bytes in its message, without the line end */
	uint32_t ids;	     /* where its tokens begin in corpus.ids */
	uint32_t n_ids;
	uint32_t flags;
	uint32_t rows;	 /* source lines that begin in it */
	uint32_t head;	 /* the line that says what this one belongs to (a match list's file, a
			    hunk's header), or CORPUS_NONE */
	uint32_t same;	 /* of corpus.last: lines equal to this one */
	uint32_t secret; /* the token that would have to be used again, or CORPUS_NONE */
	uint64_t key;	 /* what a constraint is about (pins.h) */
};

/* How a message is read. */
enum corpus_reading {
	CORPUS_LINES,	 /* it may be selected from */
	CORPUS_LIVE,	 /* it stands in the prompt as it is: its words need no second place */
	CORPUS_QUESTION, /* the instruction about a text: its words weigh most */
};

struct corpus {
	const struct text_message *m;
	size_t total; /* messages there are */
	size_t n;     /* of these, read */
	struct corpus_line *line;
	uint32_t lines, line_cap;
	uint32_t *first; /* total + 1: the first line of each message */
	uint32_t *ids;
	uint32_t n_ids, ids_cap;
	struct vocab vocab;
	struct vocab equal; /* the lines by content */
	uint32_t *last;	    /* of each content: the newest line that has it */
	uint32_t last_cap;
	struct lexicon lexicon;
	bool packed; /* so many lines that several are read as one */
};

/* Nothing is read yet. 0, -ENOMEM or -E2BIG (SELECT_MESSAGES_MAX, SELECT_BYTES_MAX of select.h).
 * corpus_fini() either way. */
int corpus_init(struct corpus *c, const struct text_message *m, size_t total);
void corpus_fini(struct corpus *c);

/* Reads message c->n. 0 or -ENOMEM. */
int corpus_read(struct corpus *c, enum corpus_reading how);

static inline struct slice corpus_text(const struct corpus *c, size_t message, uint32_t line)
{
	const struct corpus_line *l = &c->line[line];
	return (struct slice){c->m[message].text.p + l->begin, l->end - l->begin};
}

#endif
