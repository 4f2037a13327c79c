#include "common/text/chunk.h"

#include "common/text/piece.h"

#include <errno.h>
#include <stdlib.h>

#define STEP (TEXT_PIECE + 2) /* bytes by which a part grows, at most: a piece and its line end */

struct cutter {
	const struct text_message *m;
	size_t size; /* bytes a chunk may hold */
	struct text_chunk *chunk;
	size_t count, cap;
	size_t span_cap; /* of the last chunk */
};

static struct text_chunk *last(struct cutter *c)
{
	return c->count ? &c->chunk[c->count - 1] : NULL;
}

static int open_chunk(struct cutter *c)
{
	if (c->count == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 16;
		struct text_chunk *p = reallocarray(c->chunk, cap, sizeof(*p));
		if (!p)
			return -ENOMEM;
		c->chunk = p;
		c->cap = cap;
	}
	c->chunk[c->count++] = (struct text_chunk){0};
	c->span_cap = 0;
	return 0;
}

static int add_span(struct cutter *c, struct text_span span)
{
	struct text_chunk *k = last(c);
	if (k->count == c->span_cap) {
		size_t cap = c->span_cap ? c->span_cap * 2 : 4;
		struct text_span *p = reallocarray(k->spans, cap, sizeof(*p));
		if (!p)
			return -ENOMEM;
		k->spans = p;
		c->span_cap = cap;
	}
	k->spans[k->count++] = span;
	k->bytes += span.end - span.begin;
	return 0;
}

static bool has_room(struct cutter *c, size_t bytes)
{
	struct text_chunk *k = last(c);
	return k && (k->bytes == 0 || k->bytes + bytes <= c->size);
}

/* Adds a message piece by piece; a new chunk begins where part bytes are reached. */
static int add_parts(struct cutter *c, size_t message, size_t part)
{
	struct slice text = c->m[message].text;
	struct text_span span = {.message = message};
	struct piece p;
	int rc = 0;

	for (size_t at = 0; !rc && piece_next(text, &at, true, &p);) {
		struct text_chunk *k = last(c);
		size_t bytes = k->bytes + (p.end - span.begin);
		if (k->bytes + (span.end - span.begin) && bytes > part) {
			if (span.end > span.begin)
				rc = add_span(c, span);
			if (rc == 0)
				rc = open_chunk(c);
			span.begin = p.begin;
		}
		span.end = p.end;
	}
	if (rc == 0 && span.end > span.begin)
		rc = add_span(c, span);
	return rc;
}

/* One group: messages [from..to), bytes in all. */
static int add_group(struct cutter *c, size_t from, size_t to, size_t bytes)
{
	int rc = 0;
	if (!has_room(c, bytes) || bytes > c->size)
		if (!last(c) || last(c)->bytes)
			rc = open_chunk(c);
	/* Each part ends less than a step before its size: none is left with crumbs. */
	size_t parts = bytes > c->size ? bytes / (c->size - STEP) + 1 : 1;
	size_t part = bytes / parts + STEP;
	for (size_t i = from; i < to && !rc; i++) {
		if (c->m[i].verbatim || c->m[i].text.n == 0)
			continue;
		if (parts == 1)
			rc = add_span(c, (struct text_span){i, 0, c->m[i].text.n});
		else
			rc = add_parts(c, i, part);
	}
	return rc;
}

static int cut(struct cutter *c, size_t n)
{
	int rc = 0;
	for (size_t i = 0, to; i < n && !rc; i = to) {
		size_t bytes = 0;
		for (to = i; to < n && c->m[to].group == c->m[i].group; to++)
			if (!c->m[to].verbatim)
				bytes += c->m[to].text.n;
		if (bytes)
			rc = add_group(c, i, to, bytes);
	}
	return rc;
}

int text_chunks(const struct text_message *m, size_t n, size_t chunk_bytes, size_t max_chunks,
	struct text_chunk **out, size_t *count)
{
	size_t least = text_old_bytes(m, n) / (max_chunks ? max_chunks : 1);
	struct cutter c = {.m = m, .size = chunk_bytes};

	*out = NULL;
	*count = 0;
	if (c.size < least)
		c.size = least;
	if (c.size < CHUNK_MIN_BYTES)
		c.size = CHUNK_MIN_BYTES;
	for (;;) {
		int rc = cut(&c, n);
		if (rc) {
			text_chunks_free(c.chunk, c.count);
			return rc;
		}
		if (c.count <= (max_chunks ? max_chunks : 1))
			break;
		text_chunks_free(c.chunk, c.count);
		c = (struct cutter){.m = m, .size = c.size + c.size / 4};
	}
	*out = c.chunk;
	*count = c.count;
	return 0;
}

void text_chunks_free(struct text_chunk *chunks, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(chunks[i].spans);
	free(chunks);
}

int text_chunk_render(const struct text_message *m, const struct text_chunk *c, struct buf *out)
{
	for (size_t i = 0; i < c->count; i++) {
		const struct text_span *s = &c->spans[i];
		struct slice text = {m[s->message].text.p + s->begin, s->end - s->begin};
		if (i == 0 || s->message != c->spans[i - 1].message)
			text_header(&m[s->message], (struct slice){0}, true, out);
		buf_add_slice(out, text);
		if (text.n && text.p[text.n - 1] != '\n')
			buf_add_char(out, '\n');
	}
	return buf_error(out);
}
