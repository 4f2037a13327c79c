/*
 * The lines that one selection chooses from, each with its factor, by its role,
 * age and message: copied out of a corpus, so that a selection costs what it looks at and not what
 * was read.
 *
 * Lines and messages are numbered in source order. A verbatim message has no lines.
 */
#ifndef TANDEM_TEXT_SOURCE_H
#define TANDEM_TEXT_SOURCE_H

#include "common/text/corpus.h"
#include "common/text/select.h"

struct line {
	uint32_t begin, end; /* bytes in its message, without the line end */
	uint32_t message;
	uint32_t row;  /* source lines that began before it, in all messages chosen from */
	uint32_t head; /* its heading, or CORPUS_NONE */
	uint32_t ids;  /* where its tokens begin in corpus.ids */
	uint32_t n_ids;
	uint32_t flags;
	uint64_t key;
	float factor;
};

struct source {
	const struct corpus *c;
	const struct text_message *m; /* the messages chosen from */
	size_t n;
	struct line *line; /* lines + 1 of them: the last only ends the rows */
	uint32_t lines;
	uint32_t *first; /* n + 1: the first line of each message */
	size_t bytes;	 /* of all that is not verbatim */
};

/*
 * m[i] is message at[i] of the corpus (NULL: message i), read with CORPUS_LINES unless it is
 * verbatim. Borrows both. 0 or -ENOMEM.
 */
int source_init(struct source *s, const struct corpus *c, const struct text_message *m,
	const uint32_t *at, size_t n, const struct select_options *o);

void source_fini(struct source *s);

static inline struct slice source_line(const struct source *s, uint32_t i)
{
	const struct line *l = &s->line[i];
	return (struct slice){s->m[l->message].text.p + l->begin, l->end - l->begin};
}

/* Source lines that begin in lines [from..to). */
static inline uint32_t source_rows(const struct source *s, uint32_t from, uint32_t to)
{
	return s->line[to].row - s->line[from].row;
}

#endif
