#include "common/text/cost.h"

#include <errno.h>
#include <stdlib.h>

static size_t digits(size_t n)
{
	size_t d = 1;
	for (; n > 9; n /= 10)
		d++;
	return d;
}

/*
 * Bytes of the marker of a gap inside a message: "[..12]" for so many source lines, or where only
 * parts of one line are left out "[..340 bytes]"; 0 for no gap.
 */
static size_t gap_bytes(uint32_t rows, size_t bytes)
{
	if (rows)
		return sizeof("[..]\n") - 1 + digits(rows);
	return bytes ? sizeof("[.. bytes]\n") - 1 + digits(bytes) : 0;
}

size_t cost_span_bytes(const struct source *s, uint32_t from, uint32_t to)
{
	return to > from ? s->line[to - 1].end - s->line[from].begin : 0;
}

static size_t gap(const struct source *s, uint32_t from, uint32_t to)
{
	return gap_bytes(source_rows(s, from, to), cost_span_bytes(s, from, to));
}

/* Bytes of the marker for rows source lines of whole messages: 0 for none. */
static size_t omitted_bytes(const struct cost *l, uint32_t rows)
{
	if (rows && l->hashes)
		return sizeof("[omitted §01234567  lines]\n") - 1 + digits(rows);
	return gap_bytes(rows, 0);
}

static uint32_t message_rows(const struct cost *l, size_t from, size_t to)
{
	return source_rows(l->s, l->s->first[from], l->s->first[to]);
}

size_t cost_hidden_end(const struct cost *l, size_t i)
{
	size_t next = bitset_next(&l->shown, i);
	return next == BITSET_NONE ? l->s->n : next;
}

static size_t hidden_begin(const struct cost *l, size_t i)
{
	size_t before = bitset_before(&l->shown, i);
	return before == BITSET_NONE ? 0 : before + 1;
}

/* How the markers of whole messages grow when hidden messages [i..end) are shown. */
static ptrdiff_t reveal_cost(const struct cost *l, size_t i, size_t end)
{
	size_t from = hidden_begin(l, i), to = cost_hidden_end(l, i);
	if (end > to)
		end = to; /* some are shown: less than this is left out */
	return (ptrdiff_t)(omitted_bytes(l, message_rows(l, from, i)) +
			   omitted_bytes(l, message_rows(l, end, to))) -
	       (ptrdiff_t)omitted_bytes(l, message_rows(l, from, to));
}

static bool is_company(const struct text_message *caller, const struct text_message *m)
{
	return m->group == caller->group && (m->role == TEXT_TOOL || m->tool_result);
}

static void show(struct cost *l, size_t i)
{
	l->used = (size_t)((ptrdiff_t)l->used + reveal_cost(l, i, i + 1));
	l->used += l->header[i] + gap(l->s, l->s->first[i], l->s->first[i + 1]);
	bitset_set(&l->shown, i);
}

static void show_with_company(struct cost *l, size_t i)
{
	const struct text_message *m = l->s->m;
	show(l, i);
	for (size_t k = i + 1;
		l->with_company && m[i].calls_tools && k < l->s->n && is_company(&m[i], &m[k]); k++)
		if (!bitset_has(&l->shown, k))
			show(l, k);
}

static void measure_company(struct cost *l)
{
	const struct text_message *m = l->s->m;
	size_t caller = l->s->n;
	for (size_t i = 0; i < l->s->n; i++) {
		l->company_end[i] = (uint32_t)i + 1;
		if (l->with_company && caller < l->s->n && is_company(&m[caller], &m[i])) {
			l->company_end[caller] = (uint32_t)i + 1;
			if (!m[i].verbatim)
				l->company[caller] +=
					l->header[i] +
					(uint32_t)gap(l->s, l->s->first[i], l->s->first[i + 1]);
			continue;
		}
		caller = m[i].calls_tools ? i : l->s->n;
	}
}

int cost_init(struct cost *l, const struct source *s, const struct select_options *o)
{
	bool bare = o->single || o->bare;
	*l = (struct cost){.s = s,
		.bare = bare,
		.mark = o->mark,
		.calls = o->tuning.header_calls,
		.hashes = o->tuning.hashes,
		.with_company = o->tuning.company || bare};
	l->header = calloc(s->n + 1, sizeof(*l->header));
	l->company = calloc(s->n + 1, sizeof(*l->company));
	l->company_end = calloc(s->n + 1, sizeof(*l->company_end));
	if (!l->header || !l->company || !l->company_end || bitset_init(&l->picked, s->lines + 1) ||
		bitset_init(&l->shown, s->n + 1)) {
		cost_fini(l);
		return -ENOMEM;
	}
	for (size_t i = 0; i < s->n; i++) {
		if (s->m[i].verbatim)
			bitset_set(&l->shown, i);
		else if (!bare)
			l->header[i] = (uint32_t)text_header_size(&s->m[i], l->mark, l->calls);
	}
	for (size_t i = 0; i < s->n; i = cost_hidden_end(l, i) + 1)
		l->used += omitted_bytes(l, message_rows(l, i, cost_hidden_end(l, i)));
	measure_company(l);
	for (size_t i = 0; bare && i < s->n; i++)
		if (!bitset_has(&l->shown, i))
			show(l, i);
	return 0;
}

void cost_fini(struct cost *l)
{
	free(l->header);
	free(l->company);
	free(l->company_end);
	bitset_fini(&l->picked);
	bitset_fini(&l->shown);
	*l = (struct cost){0};
}

/* The nearest picked lines around [a..b) in its message; end when there is none. */
struct around {
	uint32_t first, end; /* of the message */
	uint32_t before;     /* end: none */
	uint32_t after;	     /* end: none */
};

static struct around look_around(const struct cost *l, uint32_t a, uint32_t b)
{
	const struct source *s = l->s;
	uint32_t m = s->line[a].message;
	struct around x = {.first = s->first[m], .end = s->first[m + 1]};
	size_t before = bitset_before(&l->picked, a), after = bitset_next(&l->picked, b);
	x.before = before == BITSET_NONE || before < x.first ? x.end : (uint32_t)before;
	x.after = after == BITSET_NONE || after > x.end ? x.end : (uint32_t)after;
	return x;
}

/* The bytes between two neighbouring picked lines p and q; p == end: none before, q ==
 * end: after. */
static size_t seam(const struct cost *l, const struct around *x, uint32_t p, uint32_t q)
{
	const struct source *s = l->s;
	if (p != x->end && q == p + 1 && q != x->end)
		return s->line[q].begin - s->line[p].end;
	uint32_t from = p == x->end ? x->first : p + 1;
	return (p != x->end) + gap(s, from, q);
}

static ptrdiff_t inner_cost(const struct cost *l, uint32_t a, uint32_t b, bool shown)
{
	const struct source *s = l->s;
	struct around x = look_around(l, a, b);
	size_t old = 0, new = 0;
	uint32_t p = x.before;

	for (uint32_t i = a; i < b; i++) {
		new += seam(l, &x, i == a ? x.before : i - 1, i);
		if (bitset_has(&l->picked, i)) {
			old += seam(l, &x, p, i);
			p = i;
		} else {
			new += s->line[i].end - s->line[i].begin;
		}
	}
	new += seam(l, &x, b - 1, x.after);
	if (shown)
		old += seam(l, &x, p, x.after);
	return (ptrdiff_t) new - (ptrdiff_t)old;
}

ptrdiff_t cost_of(const struct cost *l, uint32_t a, uint32_t b)
{
	uint32_t m = l->s->line[a].message;
	bool shown = bitset_has(&l->shown, m);
	ptrdiff_t cost = inner_cost(l, a, b, shown);
	if (!shown)
		cost += (ptrdiff_t)(l->header[m] + l->company[m]) +
			reveal_cost(l, m, l->company_end[m]);
	return cost;
}

void cost_pick(struct cost *l, uint32_t a, uint32_t b)
{
	uint32_t m = l->s->line[a].message;
	if (!bitset_has(&l->shown, m))
		show_with_company(l, m);
	l->used = (size_t)((ptrdiff_t)l->used + inner_cost(l, a, b, true));
	for (uint32_t i = a; i < b; i++)
		bitset_set(&l->picked, i);
}
