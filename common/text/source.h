/*
 * A history read for selection: its lines, their tokens, and the factor of each line
 * (condensing.md 4.1, steps 1 to 4).
 *
 * Lines and messages are numbered in source order. A verbatim message has no lines; its tokens are
 * known to the vocabulary.
 */
#ifndef TANDEM_TEXT_SOURCE_H
#define TANDEM_TEXT_SOURCE_H

#include "common/text/lexicon.h"
#include "common/text/pins.h"
#include "common/text/select.h"
#include "common/text/vocab.h"

/* What a line is, beside its PIN_ bits. */
enum {
	LINE_BLANK = 1 << 8,
	LINE_LATER = 1 << 9,   /* the same line, its number aside, comes later */
	LINE_SECRET = 1 << 10, /* holds a credential that no later turn uses: never selected */
	LINE_FOOTER = 1 << 11, /* environment details that clients add to a prompt */
	LINE_FENCE = 1 << 12,  /* ``` */
	LINE_PART = 1 << 13,   /* goes on a long line that the line before began */
	LINE_FORCED = 1 << 14,
};

#define BLOCK_NONE UINT32_MAX

struct line {
	uint32_t begin, end; /* bytes in its message, without the line end */
	uint32_t message;
	uint32_t row;	/* source lines before it, in the whole history */
	uint32_t block; /* of source.block, or BLOCK_NONE */
	uint32_t ids;	/* where its tokens begin in source.ids */
	uint32_t n_ids;
	uint32_t flags;
	float factor;
};

/* A fence or diff that is selected whole or not at all. */
struct block {
	uint32_t first, end; /* lines */
	bool fence;
};

struct source {
	const struct text_message *m;
	size_t n;
	struct line *line; /* lines + 1 of them: the last only ends the rows */
	uint32_t lines, line_cap;
	uint32_t *first; /* n + 1: the first line of each message */
	struct block *block;
	uint32_t blocks, block_cap;
	uint32_t *ids;
	uint32_t n_ids, ids_cap;
	struct vocab vocab;
	size_t bytes; /* of all that is not verbatim */
};

/* block_bytes: fences and diffs above this are ordinary lines. 0, -ENOMEM or -E2BIG. */
int source_read(struct source *s, const struct text_message *m, size_t n,
	const struct select_options *o, size_t block_bytes);

void source_fini(struct source *s);

static inline struct slice source_line(const struct source *s, uint32_t i)
{
	const struct line *l = &s->line[i];
	return (struct slice){s->m[l->message].text.p + l->begin, l->end - l->begin};
}

/* Source lines in lines [from..to). */
static inline uint32_t source_rows(const struct source *s, uint32_t from, uint32_t to)
{
	return s->line[to].row - s->line[from].row;
}

#endif
