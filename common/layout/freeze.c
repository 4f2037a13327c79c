/*
 * The freeze rule, and level L1.
 */
#include "common/layout/parts.h"

#include <errno.h>
#include <stdlib.h>

#define KEEP_GROUPS 2  /* the newest are as the client sent them */
#define MERGE_SHARE .8 /* of L1, the oldest part that goes to L2 at once */
#define WAIT_GROUPS 8  /* a call without a result for so many groups will have none */
#define NEAR .6	       /* of the room: with so much that no L1 can spare a digest is near */

/* Selected lines of m[0..n), which are the messages at[0..n), take their places. */
static int put_selected(struct layout *l, const struct text_message *m, const uint32_t *at,
	size_t n, const struct select_result *r, enum layout_level level)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct buf text;
		buf_init(&text, 0);
		if (r->silent)
			layout_put_gap(m[i].text, &text);
		else
			rc = text_render_part(m, n, r, i, i + 1, &text);
		if (rc == 0)
			layout_set_out(l, at[i], &text, level);
		buf_free(&text);
	}
	return rc;
}

int layout_cut(
	struct layout *l, const uint32_t *at, size_t n, size_t budget, enum layout_level level)
{
	struct select_options o = l->options.select;
	struct select_result r;
	struct text_message *m = calloc(n + 1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		layout_as_sent(l, at[i]);
		m[i] = l->text[at[i]];
		m[i].verbatim = false;
	}
	o.keep_ratio = 0;
	o.budget_bytes = budget;
	o.frozen = o.bare = true;
	o.index = 0;
	struct slice *standing = layout_standing(l, &o.standing_count);
	o.standing = standing;
	int rc = standing ? text_select_from(&l->corpus, m, at, n, &o, &r) : -ENOMEM;
	if (rc == 0) {
		rc = put_selected(l, m, at, n, &r, level);
		select_result_free(&r);
	}
	free(standing);
	free(m);
	return rc;
}

int layout_raise(struct layout *l, uint32_t to, uint32_t g)
{
	size_t end = layout_group_begin(l, to), n = 0, bytes = 0;
	int rc = layout_need_corpus(l, g);
	uint32_t *at = rc ? NULL : calloc(end + 1, sizeof(*at));
	if (!at)
		return rc ? rc : -ENOMEM;
	/* Also what was spared in older groups, as the newest words of a person are. */
	for (size_t i = 0; i < end; i++)
		if (layout_may_cut(l, i) && !(l->messages[i].flags & PART_TRIED) &&
			l->messages[i].level != LAYOUT_L2) {
			l->messages[i].flags |= PART_TRIED;
			at[n++] = (uint32_t)i;
			bytes += l->messages[i].bytes_in;
		}
	layout_set_level(l, l->raised_to, to, LAYOUT_L1);
	if (n)
		rc = layout_cut(l, at, n, (size_t)((double)bytes * l->options.l1), LAYOUT_L1);
	free(at);
	l->raised_to = to;
	layout_resize(l, layout_group_begin(l, g + 1));
	return rc;
}

/* What raising group k to L1 is expected to free. */
static double saving(const struct layout *l, uint32_t k)
{
	double tokens = 0;
	size_t end = layout_group_begin(l, k + 1);
	for (size_t i = layout_group_begin(l, k); i < end; i++)
		if (layout_may_cut(l, i) && !(l->messages[i].flags & PART_TRIED))
			tokens += l->messages[i].tokens_in;
	return tokens * (1 - l->options.l1);
}

uint32_t layout_digest_is_near(const struct layout *l)
{
	double size = l->size;
	if (l->soft <= 0 || l->raised_to < 2)
		return 0;
	for (uint32_t k = l->raised_to; k + KEEP_GROUPS < l->groups; k++)
		size -= saving(l, k);
	return l->merged_to > 1 || size > NEAR * l->soft ? l->raised_to : 0;
}

/* Groups that are old enough to be raised at group end g: those below. */
static uint32_t old_groups(uint32_t g)
{
	return g + 1 > KEEP_GROUPS ? g + 1 - KEEP_GROUPS : 0;
}

static double tokens_out(const struct layout *l, uint32_t from, uint32_t to)
{
	double tokens = 0;
	size_t end = layout_group_begin(l, to);
	for (size_t i = layout_group_begin(l, from); i < end; i++)
		tokens += l->messages[i].tokens_out;
	return tokens;
}

/* The end of what may become the digest at group end g: no call in it still waits for its result,
 * and none has it further behind. */
static uint32_t digestible(const struct layout *l, uint32_t g)
{
	uint32_t to = l->raised_to;
	for (uint32_t k = g > WAIT_GROUPS ? g - WAIT_GROUPS : 0; k < to; k++)
		if (l->open[k])
			to = k;
	for (size_t i = layout_group_begin(l, g + 1); i-- > 0 && l->messages[i].group >= to;) {
		const struct layout_message *m = &l->messages[i];
		const struct layout_message *caller =
			l->owner[i] ? &l->messages[l->owner[i] - 1] : m;
		if ((m->flags & PART_LATE) && !(caller->flags & PART_DROPPED) && caller->group < to)
			to = caller->group;
	}
	return to;
}

/* The oldest two thirds of what is L1; all of it when `all`. */
static uint32_t merge_end(const struct layout *l, uint32_t g, bool all)
{
	uint32_t from = l->merged_to > 1 ? l->merged_to : 1, to = digestible(l, g), k = from;
	if (all || to <= from)
		return to;
	double most = tokens_out(l, from, to) * MERGE_SHARE, sum = 0;
	while (k < to && sum < most) {
		sum += tokens_out(l, k, k + 1);
		k++;
	}
	return k;
}

int layout_merge(struct layout *l, uint32_t g, bool all, double share)
{
	uint32_t to = merge_end(l, g, all);
	if (to <= 1 || (to <= l->merged_to && !all))
		return 0;
	int rc = layout_need_corpus(l, g);
	if (rc == 0)
		rc = layout_digest(l, to > l->merged_to ? to : l->merged_to, g, share);
	layout_resize(l, layout_group_begin(l, g + 1));
	return rc;
}

static bool is_forced(const struct layout *l, uint32_t g)
{
	size_t end = layout_group_begin(l, g + 1);
	if (end == 0) /* a conversation that begins with an answer: its first group is empty */
		return false;
	uint64_t chain = l->messages[end - 1].chain;
	size_t low = 0, high = l->options.forced_count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (l->options.forced[mid] < chain)
			low = mid + 1;
		else
			high = mid;
	}
	return low < l->options.forced_count && l->options.forced[low] == chain;
}

/* How far a freeze goes. */
struct depth {
	uint32_t old;	      /* groups below may be raised */
	double low;	      /* of the room: to L1 until so much is taken */
	double merge, digest; /* the oldest go to the digest if it is more; what that may take */
};

static int give_way(struct layout *l, uint32_t g, const struct depth *d)
{
	uint32_t to = l->raised_to;
	double size = l->size;
	l->aim = d->low;
	for (; to < d->old && size > d->low * l->soft; to++)
		size -= saving(l, to);
	int rc = to > l->raised_to ? layout_raise(l, to, g) : 0;
	if (rc == 0 && l->size > d->merge * l->soft)
		rc = layout_merge(l, g, false, d->digest);
	return rc;
}

/*
 * A freeze that is made early has the time that one on the way does not have: it goes deep, so that
 * the next one is far away. And there will be one more group when its prompt is used: so what is
 * the newest but one by then is the newest now.
 */
int layout_freeze(struct layout *l, uint32_t g)
{
	const struct layout_options *o = &l->options;
	const struct depth early = {old_groups(g + 1), o->early_low, o->early_low, o->early_digest};
	const struct depth on_the_way = {old_groups(g), o->low, o->merge, o->digest};
	bool due = l->size > o->high * l->soft && g >= l->retry, forced = is_forced(l, g);
	if (layout_group_begin(l, g + 1) == 0 || (!due && !forced))
		return 0;
	uint32_t raised = l->raised_to, merged = l->merged_to;
	int rc = give_way(l, g, forced ? &early : &on_the_way);
	if (l->raised_to != raised || l->merged_to != merged) {
		l->freezes++;
		l->frozen_at = g + 1;
	}
	return rc;
}
