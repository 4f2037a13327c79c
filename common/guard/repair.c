/* Repairs: the body is copied with a few spans replaced; all else stays the client's own bytes. */
#include "common/guard/lines.h"

#include <stdlib.h>

#define LINE_END SLICE("\\n") /* as JSON writes it */

struct splice {
	const char *from, *to; /* of the body; equal: a place to put something */
	struct slice put[2];
	size_t number; /* in the order in which they were made */
};

struct repair {
	const struct chat_request *r;
	const struct guard_prompt *p, *before;
	struct buf splices; /* struct splice */
	size_t count;
};

static void splice(
	struct repair *w, const char *from, const char *to, struct slice first, struct slice second)
{
	struct splice s = {from, to, {first, second}, w->count++};
	buf_add(&w->splices, &s, sizeof(s));
}

/* --- attribution --- */

static void cut_attribution(struct repair *w, const struct chat_message *m)
{
	bool alone;
	struct slice s = guard_attribution(m, &alone), none = {0};
	struct json_iter it = json_iter(m->content);
	struct json_value own, next;
	if (!s.n)
		return;
	if (alone && json_array_next(&it, &own) && json_array_next(&it, &next) && own.raw.p < s.p &&
		s.p < next.raw.p)
		splice(w, own.raw.p, next.raw.p, none, none);
	else
		splice(w, s.p, s.p + s.n, none, none);
}

/* --- clocks and counters --- */

/* The lines of a message, as guard_read() counts them. calloc'ed; NULL. */
static struct slice *lines_of(const struct chat_message *m, size_t count, char *first)
{
	struct slice *all = calloc(count + 1, sizeof(*all));
	struct guard_walk walk = guard_walk(m);
	bool alone;
	struct slice skip = guard_attribution(m, &alone);
	for (size_t i = 0; all && i < count && guard_walk_next(&walk);) {
		if (skip.n && walk.line.p == skip.p)
			continue;
		first[i] = walk.first;
		all[i++] = walk.line;
	}
	return all;
}

/* Nothing but clocks and counters differs, and those of before are known. *changes: some do. */
static bool can_hold(const struct repair *w, size_t i, bool *changes)
{
	struct guard_diff d =
		guard_diff(w->before, &w->before->messages[i], w->p, &w->p->messages[i]);
	enum guard_step step;
	*changes = false;
	while ((step = guard_diff_next(&d)) != GUARD_END) {
		if (step == GUARD_WORDS)
			return false;
		*changes |= step != GUARD_SAME;
		if ((step == GUARD_OTHER || step == GUARD_LEFT_OUT) &&
			d.a[d.i - 1].kept == GUARD_NOT_KEPT)
			return false;
	}
	return d.bn > 0;
}

static struct slice kept(const struct repair *w, const struct guard_line *line)
{
	return (struct slice){w->before->kept.p + line->kept, line->bytes};
}

/* Takes a line out, with the line end before it, or else behind. *end: of what was cut last. */
static void cut_line(struct repair *w, struct slice line, bool first, bool last, const char **end)
{
	const char *from = line.p, *to = line.p + line.n;
	if (!first && from - 2 >= *end)
		from -= 2;
	else if (!last)
		to += 2;
	splice(w, from, to, (struct slice){0}, (struct slice){0});
	*end = to;
}

/* tell: where the lines that are held back go, one behind the other; NULL: nowhere. */
static void hold_lines(
	struct repair *w, size_t i, const struct slice *line, const char *first, const char *tell)
{
	struct guard_diff d =
		guard_diff(w->before, &w->before->messages[i], w->p, &w->p->messages[i]);
	const char *end = line[0].p;
	enum guard_step step;
	while ((step = guard_diff_next(&d)) != GUARD_END) {
		struct slice here = line[d.j ? d.j - 1 : 0];
		bool last = d.j == d.bn || first[d.j];
		if (tell && (step == GUARD_OTHER || step == GUARD_PUT_IN))
			splice(w, tell, tell, LINE_END, here);
		if (step == GUARD_OTHER) {
			splice(w, here.p, here.p + here.n, kept(w, &d.a[d.i - 1]),
				(struct slice){0});
			end = here.p + here.n;
		} else if (step == GUARD_PUT_IN) {
			cut_line(w, here, first[d.j - 1], last, &end);
		} else if (step == GUARD_LEFT_OUT && d.j == 0) {
			splice(w, here.p, here.p, kept(w, &d.a[d.i - 1]), LINE_END);
		} else if (step == GUARD_LEFT_OUT) {
			splice(w, here.p + here.n, here.p + here.n, LINE_END,
				kept(w, &d.a[d.i - 1]));
		}
	}
}

static bool hold(struct repair *w, size_t i, const char *end)
{
	const struct chat_message *m = &w->r->messages[i];
	size_t count = w->p->messages[i].lines;
	char *first = calloc(count + 1, 1);
	struct slice *line = first ? lines_of(m, count, first) : NULL;
	if (line)
		hold_lines(w, i, line, first, m->role == CHAT_SYSTEM ? end : NULL);
	free(first);
	free(line);
	return line;
}

/* The end of the newest message's text; NULL: it has none, or it is no place for it. */
static const char *newest_end(const struct chat_request *r)
{
	const struct chat_message *m = &r->messages[r->count - 1];
	struct chat_texts t = chat_texts(m->content);
	struct json_value string, part;
	const char *end = NULL;
	while (m->role != CHAT_SYSTEM && m->role != CHAT_ASSISTANT &&
		chat_texts_next(&t, &string, &part))
		end = string.raw.p + string.raw.n - 1;
	return end;
}

/* From the front, as long as all is as it was: what stands behind a change is read again anyway. The
 * newest message is what is said now, and stays. */
static void hold_all(struct repair *w)
{
	size_t n = w->before->count < w->p->count ? w->before->count : w->p->count - 1;
	const char *end = newest_end(w->r);
	bool changes;
	for (size_t i = 0; i < n; i++) {
		if (w->before->messages[i].hash == w->p->messages[i].hash)
			continue;
		if (w->before->messages[i].role != w->p->messages[i].role ||
			!can_hold(w, i, &changes) || !changes ||
			(w->p->messages[i].role == CHAT_SYSTEM && !end) || !hold(w, i, end))
			break;
	}
}

/* --- the whole --- */

static int by_place(const void *a, const void *b)
{
	const struct splice *x = a, *y = b;
	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	return (x->number > y->number) - (x->number < y->number);
}

static bool put(struct repair *w, struct buf *out)
{
	struct splice *s = (struct splice *)(void *)w->splices.p;
	const char *at = w->r->body.p, *end = at + w->r->body.n;
	qsort(s, w->count, sizeof(*s), by_place);
	for (size_t i = 0; i < w->count; i++) {
		buf_add(out, at, (size_t)(s[i].from - at));
		buf_add_slice(out, s[i].put[0]);
		buf_add_slice(out, s[i].put[1]);
		at = s[i].to;
	}
	buf_add(out, at, (size_t)(end - at));
	return !buf_error(out);
}

bool guard_repair(const struct chat_request *r, const struct guard_prompt *p,
	const struct guard_wish *wish, struct buf *out)
{
	struct repair w = {.r = r, .p = p, .before = wish->before};
	buf_init(&w.splices, 0);
	for (size_t i = 0; wish->attribution && i < r->count; i++)
		cut_attribution(&w, &r->messages[i]);
	if (wish->tools.n && json_is(r->tools, JSON_ARRAY) && !slice_eq(wish->tools, r->tools.raw))
		splice(&w, r->tools.raw.p, r->tools.raw.p + r->tools.raw.n, wish->tools,
			(struct slice){0});
	if (wish->hold && w.before)
		hold_all(&w);
	bool mended = w.count > 0 && !buf_error(&w.splices) && put(&w, out);
	buf_free(&w.splices);
	return mended;
}
