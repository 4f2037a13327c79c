/*
 * What a selection becomes: spans, marks and the rendered text.
 */
#include "common/text/result.h"

#include <errno.h>
#include <stdlib.h>

void select_result_free(struct select_result *r)
{
	free(r->spans);
	free(r->forced);
	free(r->ops);
	free(r->index);
	*r = (struct select_result){0};
}

/* What may be appended: counted first, so that each array is allocated once. */
struct filler {
	struct select_result *r;
	const struct cost *l;
	bool counting;
};

static void add_op(struct filler *f, struct select_op op)
{
	if (!f->counting)
		f->r->ops[f->r->op_count] = op;
	f->r->op_count++;
}

static void add_span(struct filler *f, uint32_t from, uint32_t to)
{
	const struct line *line = f->l->s->line;
	struct text_span span = {line[from].message, line[from].begin, line[to - 1].end};
	add_op(f, (struct select_op){.kind = SELECT_SPAN, .at = f->r->count});
	if (!f->counting) {
		f->r->spans[f->r->count] = span;
		f->r->kept_bytes += span.end - span.begin;
	}
	f->r->count++;
}

static void add_forced(struct filler *f, uint32_t from, uint32_t to)
{
	const struct line *line = f->l->s->line;
	for (uint32_t i = from; i < to; i++) {
		uint32_t end = i;
		while (end < to && (line[end].flags & LINE_FORCED))
			end++;
		if (end == i)
			continue;
		if (!f->counting)
			f->r->forced[f->r->forced_count] = (struct text_span){
				line[i].message, line[i].begin, line[end - 1].end};
		f->r->forced_count++;
		i = end - 1;
	}
}

static void add_gap(struct filler *f, size_t message, uint32_t from, uint32_t to)
{
	uint32_t rows = source_rows(f->l->s, from, to);
	size_t bytes = cost_span_bytes(f->l->s, from, to);
	if (!rows && !bytes)
		return;
	add_op(f, (struct select_op){
			  .kind = SELECT_GAP, .rows = rows, .bytes = bytes, .at = message});
	if (!f->counting)
		f->r->omitted_lines += rows;
}

static void add_message(struct filler *f, size_t message)
{
	const struct source *s = f->l->s;
	const struct bitset *picked = &f->l->picked;
	uint32_t at = s->first[message], end = s->first[message + 1];

	if (!f->l->bare)
		add_op(f, (struct select_op){.kind = SELECT_HEADER, .at = message});
	while (at < end) {
		size_t next = bitset_next(picked, at);
		uint32_t from = next < end ? (uint32_t)next : end, to = from;
		add_gap(f, message, at, from);
		while (to < end && bitset_has(picked, to))
			to++;
		if (to > from) {
			add_span(f, from, to);
			add_forced(f, from, to);
		}
		at = to;
	}
}

static void add_omitted(struct filler *f, size_t from, size_t to)
{
	const struct source *s = f->l->s;
	struct select_op op = {.kind = SELECT_OMITTED, .at = from};
	uint64_t hash = 0;

	op.rows = source_rows(s, s->first[from], s->first[to]);
	if (!op.rows)
		return;
	for (size_t i = from; !f->counting && i < to; i++)
		hash = hash_mix(hash ^ hash_bytes(s->m[i].text.p, s->m[i].text.n));
	op.hash = (uint32_t)(hash >> 32);
	add_op(f, op);
	if (!f->counting)
		f->r->omitted_lines += op.rows;
}

static void fill(struct filler *f)
{
	const struct source *s = f->l->s;
	f->r->count = f->r->forced_count = f->r->op_count = 0;
	for (size_t i = 0; i < s->n; i++) {
		if (s->m[i].verbatim)
			continue;
		if (bitset_has(&f->l->shown, i)) {
			add_message(f, i);
		} else {
			size_t end = cost_hidden_end(f->l, i);
			add_omitted(f, i, end);
			i = end - 1;
		}
	}
}

int result_fill(struct select_result *r, const struct cost *l)
{
	struct filler f = {.r = r, .l = l, .counting = true};

	r->mark = l->mark;
	r->calls = l->calls;
	r->hashes = l->hashes;
	r->source_bytes = l->s->bytes;
	r->source_lines = source_rows(l->s, 0, l->s->lines);
	if (r->silent) {
		r->omitted_lines = r->source_lines;
		return 0;
	}
	fill(&f);
	r->spans = calloc(r->count + 1, sizeof(*r->spans));
	r->forced = calloc(r->forced_count + 1, sizeof(*r->forced));
	r->ops = calloc(r->op_count + 1, sizeof(*r->ops));
	if (!r->spans || !r->forced || !r->ops)
		return -ENOMEM;
	f.counting = false;
	fill(&f);
	r->rendered_bytes = l->used;
	return 0;
}

static void render_op(const struct text_message *m, const struct select_result *r,
	const struct select_op *op, struct buf *out)
{
	switch (op->kind) {
	case SELECT_HEADER:
		text_header(&m[op->at], r->mark, r->calls, out);
		break;
	case SELECT_SPAN: {
		const struct text_span *s = &r->spans[op->at];
		buf_add(out, m[s->message].text.p + s->begin, s->end - s->begin);
		buf_add_char(out, '\n');
		break;
	}
	case SELECT_GAP:
		if (op->rows)
			buf_printf(out, "[..%u]\n", op->rows);
		else
			buf_printf(out, "[..%zu bytes]\n", op->bytes);
		break;
	case SELECT_OMITTED:
		if (r->hashes)
			buf_printf(out, "[omitted §%08x %u lines]\n", op->hash, op->rows);
		else
			buf_printf(out, "[..%u]\n", op->rows);
		break;
	}
}

static size_t op_message(const struct select_result *r, size_t i)
{
	const struct select_op *op = &r->ops[i];
	return op->kind == SELECT_SPAN ? r->spans[op->at].message : op->at;
}

/* The first operation of message `from` or a later one: they stand in the order of messages. */
static size_t first_op(const struct select_result *r, size_t from)
{
	size_t low = 0, high = r->op_count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (op_message(r, mid) < from)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int text_render_part(const struct text_message *m, size_t n, const struct select_result *r,
	size_t from, size_t to, struct buf *out)
{
	if (from > to || to > n)
		return -EINVAL;
	for (size_t i = first_op(r, from); i < r->op_count; i++) {
		if (op_message(r, i) >= to)
			break;
		render_op(m, r, &r->ops[i], out);
	}
	return buf_error(out);
}

int text_render(
	const struct text_message *m, size_t n, const struct select_result *r, struct buf *out)
{
	int rc = text_render_part(m, n, r, 0, n, out);
	if (rc == 0 && r->index)
		rc = buf_printf(out, "%s\n", r->index);
	return rc;
}
