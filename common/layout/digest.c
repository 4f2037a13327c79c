/*
 * Level L2: the oldest groups become one digest of selected source lines.
 *
 * It stands where a text stood before: in the first result (or machine-made user message) of the
 * first group that has one, whose assistant message stays with its calls; where no group has one,
 * in the words of the first assistant message. So no message is invented and no role changes. The
 * other groups go whole, pairs of calls and results together, but for what a person said briefly:
 * that stays, with what keeps the roles alternating around it.
 */
#include "common/layout/parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define HOLDER_TOKENS 200 /* a larger assistant message does not stay for its result's place */
#define STUB_BYTES 200	  /* an assistant's words up to this stay between those of a person */
#define MARK_BYTES 4

static const char more[] = "[Further on, condensed later; headers begin with %.*s.]\n";
static const char intro[] = "[Earlier part of this conversation, condensed. Lines are verbatim, "
			    "[..N] stands for N lines "
			    "left out, headers that begin with %.*s tell who spoke.]\n";

struct digest {
	struct layout *l;
	size_t begin, end; /* messages of the run */
	size_t from;	   /* of these, the first whose lines are chosen from */
	size_t holder;	   /* that carries the text */
	uint32_t group;	   /* the holder's */
	uint32_t to, at;   /* groups below; the group end that it is made at */
};

static bool is_kept(const struct layout *l, size_t i)
{
	const struct layout_message *m = &l->messages[i];
	if (m->level == LAYOUT_FIXED || i == l->first_human || i == l->newest_human ||
		i == l->newest_files)
		return true;
	return (m->flags & PART_UNTOUCHED) && !l->spare_nobody;
}

static bool is_assistant(const struct layout *l, size_t i)
{
	return l->request->messages[i].role == CHAT_ASSISTANT;
}

/* May its text give way to the digest? A tool's message that follows no calls is no turn: with it
 * in the place of a user's, two assistants would follow each other. */
static bool can_hold(const struct layout *l, size_t caller, size_t i)
{
	if (l->request->messages[i].role == CHAT_TOOL && !(l->messages[caller].flags & PART_CALLS))
		return false;
	return !is_assistant(l, i) && !is_kept(l, i) && !(l->messages[i].flags & PART_LATE);
}

static void find_holder(struct digest *d)
{
	struct layout *l = d->l;
	size_t caller = d->end, large = d->end;
	d->holder = d->end;
	for (size_t i = d->begin; i < d->end; i++) {
		if (is_assistant(l, i))
			caller = i;
		if (caller == d->end || !can_hold(l, caller, i))
			continue;
		if (l->messages[caller].tokens_in <= HOLDER_TOKENS) {
			d->holder = i;
			break;
		}
		if (large == d->end)
			large = i;
	}
	if (d->holder == d->end)
		d->holder = large;
	for (size_t i = d->begin; i < d->end && d->holder == d->end; i++)
		if (is_assistant(l, i))
			d->holder = i;
	d->group = d->holder < d->end ? l->messages[d->holder].group : 0;
}

/* Does a person's message of the group stay? Then the messages before it must, too, in short. */
static bool group_is_kept(const struct layout *l, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (is_kept(l, i) && l->request->messages[i].role != CHAT_SYSTEM)
			return true;
	return false;
}

static void drop(struct layout *l, size_t i)
{
	struct layout_message *m = &l->messages[i];
	m->flags |= PART_DROPPED;
	m->bytes_out = 0;
	m->tokens_out = 0;
	m->reason = "in the digest";
}

/* An empty place that keeps its role. */
static void stub(struct layout *l, size_t i)
{
	struct buf text;
	if (is_assistant(l, i) && l->text[i].text.n <= STUB_BYTES) {
		l->messages[i].reason = "short, between words of a person";
		return;
	}
	if (l->messages[i].flags & PART_CALLS) {
		l->messages[i].reason = "its calls stay, between words of a person";
		return;
	}
	buf_init(&text, 0);
	layout_put_gap(l->text[i].text, &text);
	layout_set_out(l, i, &text, LAYOUT_L2);
	l->messages[i].reason = "in the digest; its place stays";
	buf_free(&text);
}

/* A result whose call stays, in whatever group that is. */
static bool answers_kept_call(const struct layout *l, size_t i)
{
	return l->owner[i] && !(l->messages[l->owner[i] - 1].flags & PART_DROPPED);
}

/*
 * Would the roles around the group alternate no more without it? A call and its results stand
 * aside, for templates that insist on alternation; of the others an odd number is a turn of one
 * side.
 */
static bool is_one_sided(const struct layout *l, size_t from, size_t to)
{
	unsigned sides = 0;
	for (size_t i = from; i < to; i++) {
		enum chat_role role = l->request->messages[i].role;
		sides += role == CHAT_USER ||
			 (role == CHAT_ASSISTANT && !(l->messages[i].flags & PART_CALLS));
	}
	return sides % 2;
}

static void put_group(struct digest *d, size_t from, size_t to)
{
	struct layout *l = d->l;
	bool holds = l->messages[from].group == d->group,
	     kept = holds || group_is_kept(l, from, to);
	bool alone = !kept && is_assistant(l, from) && is_one_sided(l, from, to);
	for (size_t i = from; i < to; i++) {
		if (alone && i == from && !(l->messages[i].flags & PART_CALLS)) {
			stub(l, i);
		} else if (is_kept(l, i)) {
			l->messages[i].reason = "never touched";
		} else if (i == d->holder) {
			l->messages[i].flags |= PART_HOLDER;
		} else if (answers_kept_call(l, i)) {
			stub(l, i);
		} else if (!kept || l->owner[i]) { /* of a call that is gone */
			drop(l, i);
		} else if (is_assistant(l, i)) {
			stub(l, i);
		} else if (l->request->messages[i].role == CHAT_TOOL) {
			stub(l, i); /* of a call without an id, which stays */
		} else {
			drop(l, i);
		}
	}
}

/* The messages that the digest chooses from: those that are not left as they are, the newest up to
 * `reach` bytes. Returns how many. */
static size_t sources(const struct digest *d, uint32_t *at, size_t reach, size_t *bytes)
{
	const struct layout *l = d->l;
	size_t n = 0;
	*bytes = 0;
	for (size_t i = d->end; i-- > d->from && *bytes < reach;) {
		const struct layout_message *m = &l->messages[i];
		if (!(m->flags & (PART_DROPPED | PART_OUT | PART_HOLDER)))
			continue;
		at[n++] = (uint32_t)i;
		*bytes += m->bytes_in;
	}
	for (size_t i = 0; i < n / 2; i++) {
		uint32_t k = at[i];
		at[i] = at[n - 1 - i];
		at[n - 1 - i] = k;
	}
	return n;
}

static double bytes_per_token(const struct digest *d)
{
	double bytes = 0, tokens = 0;
	for (size_t i = d->begin; i < d->end; i++) {
		bytes += (double)d->l->messages[i].bytes_in;
		tokens += d->l->messages[i].tokens_in;
	}
	return tokens > 0 ? bytes / tokens : 4;
}

static int select_text(
	struct digest *d, const uint32_t *at, size_t n, size_t budget, struct buf *text)
{
	struct layout *l = d->l;
	struct select_options o = l->options.select;
	struct select_result r;
	char mark[MARK_BYTES + 1];
	struct text_message *m = calloc(n + 1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		m[i] = l->text[at[i]];
		m[i].verbatim = false;
	}
	/* No tool's output can know it, so none can forge a turn. */
	snprintf(mark, sizeof(mark), "%04x", (unsigned)(l->messages[d->end - 1].chain & 0xffff));
	size_t before = text->n;
	buf_printf(text, before ? more : intro, MARK_BYTES, mark);
	size_t intro_end = text->n;
	int rc = layout_digest_notes(l, d->to, d->at, (size_t)(l->options.notes * (double)budget),
		(struct slice){mark, MARK_BYTES}, text);
	if (rc) {
		free(m);
		return rc;
	}
	struct slice notes = {text->p + intro_end, text->n - intro_end};
	size_t taken = text->n - before;
	o.keep_ratio = 0;
	o.budget_bytes = budget > taken ? budget - taken : 0;
	o.frozen = true;
	o.mark = (struct slice){mark, MARK_BYTES};
	struct slice *standing = layout_standing(l, &o.standing_count);
	if (standing && notes.n)
		standing[o.standing_count++] = notes;
	o.standing = standing;
	rc = standing ? text_select_from(&l->corpus, m, at, n, &o, &r) : -ENOMEM;
	if (rc == 0) {
		rc = text_render(m, n, &r, text);
		if (rc == 0 && r.silent)
			buf_printf(text, "[..%zu]\n", r.omitted_lines);
		select_result_free(&r);
	}
	free(standing);
	free(m);
	return rc ? rc : buf_error(text);
}

/* Of so many tokens; behind the text that it has where lines are added. */
static int make_text(struct digest *d, double tokens)
{
	struct layout *l = d->l;
	struct layout_message *m = &l->messages[d->holder];
	size_t bytes;
	struct buf text;
	uint32_t *at = calloc(d->end - d->from + 1, sizeof(*at));
	if (!at)
		return -ENOMEM;
	size_t budget = (size_t)(tokens * bytes_per_token(d));
	size_t n = sources(d, at, (size_t)((double)budget * l->options.reach), &bytes);
	buf_init(&text, 0);
	if (d->from > d->begin)
		buf_add_slice(&text, buf_slice(&l->out[d->holder]));
	int rc = select_text(d, at, n, budget, &text);
	free(at);
	if (rc) {
		buf_free(&text);
		return rc;
	}
	buf_free(&l->out[d->holder]);
	l->out[d->holder] = text;
	m->flags |= PART_OUT | (l->request->messages[d->holder].images ? PART_BARE : 0u);
	m->bytes_out = text.n;
	m->tokens_out = layout_tokens(buf_slice(&text), 0);
	m->reason = "holds the digest of the oldest groups";
	return 0;
}

/* What raising so much leaves below `low` is better filled with lines than left empty. Tokens. */
static double roomy(struct digest *d, double share)
{
	struct layout *l = d->l;
	layout_resize(l, l->corpus.n);
	double rest = l->size - l->messages[d->holder].tokens_out, most = l->options.digest_most;
	double left = l->soft > 0 ? l->aim - rest / l->soft : 0;
	if (share < l->options.digest || left <= share)
		return share * l->soft;
	return (left < most ? left : most) * l->soft;
}

static void take_in(struct digest *d, uint32_t from, uint32_t to)
{
	struct layout *l = d->l;
	for (size_t i = layout_group_begin(l, from); i < d->end; i++)
		layout_as_sent(l, i);
	layout_set_level(l, from, to, LAYOUT_L2);
	for (uint32_t g = from; g < to; g++)
		put_group(d, layout_group_begin(l, g), layout_group_begin(l, g + 1));
	for (size_t i = d->end; i < l->corpus.n; i++)
		layout_look_for_call(l, i);
	l->merged_to = to;
}

/* --- lines that are added to a digest --- */

/*
 * A digest that is made anew has the prompt read anew from its beginning; lines that are added to
 * it have it read from there on. So they are, as long as there is room for them: *tokens of what
 * the groups that join it have.
 */
static bool may_append(const struct digest *d, uint32_t to, double share, double *tokens)
{
	const struct layout *l = d->l;
	const struct layout_options *o = &l->options;
	double gone = 0;
	for (size_t i = layout_group_begin(l, l->merged_to), end = layout_group_begin(l, to);
		i < end; i++) {
		*tokens += is_kept(l, i) ? 0 : l->messages[i].tokens_in * o->append;
		gone += is_kept(l, i) ? 0 : l->messages[i].tokens_out;
	}
	return l->merged_to > 1 && to > l->merged_to && o->append > 0 && share >= o->digest &&
	       d->holder < d->end && l->size - gone + *tokens <= o->low * l->soft;
}

static void find_digest(struct digest *d)
{
	for (d->holder = d->begin; d->holder < d->end; d->holder++)
		if (d->l->messages[d->holder].flags & PART_HOLDER)
			break;
}

int layout_digest(struct layout *l, uint32_t to, uint32_t at, double share)
{
	struct digest d = {.l = l,
		.begin = layout_group_begin(l, 1),
		.end = layout_group_begin(l, to),
		.to = to,
		.at = at};
	double tokens = 0;
	d.from = d.begin;
	if (d.end <= d.begin)
		return 0;
	find_digest(&d);
	if (may_append(&d, to, share, &tokens)) {
		d.from = layout_group_begin(l, l->merged_to);
		take_in(&d, l->merged_to, to);
		return make_text(&d, tokens);
	}
	find_holder(&d);
	if (d.holder == d.end)
		return 0; /* nobody to carry it: a run of a person's words alone */
	take_in(&d, 1, to);
	return make_text(&d, roomy(&d, share));
}
