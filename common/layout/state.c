#include "common/layout/state.h"

#include "common/layout/parts.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/queue.h>

/* few states to each, whatever a client sends: the loop looks them up */
#define BUCKETS (1u << 16)
#define CONVERSATIONS                                                                              \
	1024 /* whose windows are remembered, in sets: of each the one used longest ago is forgotten */
#define WAYS 8
#define WINDOW_DRIFT .15
#define WINDOW_WAIT .5	  /* a larger one can wait, and one that was settled on stays, up to that */
#define WINDOW_RAISED 2.0 /* how a larger one comes about that a backend did not refuse */

struct layout_state {
	atomic_uint refs;
	uint64_t chain; /* of the last message */
	size_t count;	/* messages */
	uint32_t walked, raised_to, merged_to, retry;
	unsigned freezes, frozen_at;
	size_t first_human, newest_human, newest_files; /* SIZE_MAX: none */
	bool spare_nobody, hopeless;
	double room, soft;
	struct layout_options options;
	struct layout_message *messages;
	size_t *out_end; /* of each message's text in `outs` */
	uint32_t *open;	 /* of each group */
	struct buf outs;
	size_t bytes; /* in all */
	/* Of the cache. */
	TAILQ_ENTRY(layout_state) recent;
	struct layout_state *next; /* in its bucket */
};

void layout_state_release(struct layout_state *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
		return;
	free(s->messages);
	free(s->out_end);
	free(s->open);
	buf_free(&s->outs);
	free(s);
}

static size_t place(const struct layout *l, size_t i)
{
	return i == l->count ? SIZE_MAX : i;
}

/* Would another request's walk come by here, with the same bytes? */
static bool may_be_kept(const struct layout *l)
{
	bool single = l->options.single > 0 && l->groups == 1; /* cut after the walk */
	return l->result != LAYOUT_FAILED && !l->out_of_turn && !single && l->count > 0 &&
	       l->walked == l->groups;
}

struct layout_state *layout_state_save(const struct layout *l)
{
	size_t n = l->count;
	if (!may_be_kept(l))
		return NULL;
	struct layout_state *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	*s = (struct layout_state){.refs = 1,
		.chain = l->messages[n - 1].chain,
		.count = n,
		.walked = l->walked,
		.raised_to = l->raised_to,
		.merged_to = l->merged_to,
		.freezes = l->freezes,
		.frozen_at = l->frozen_at,
		.first_human = place(l, l->first_human),
		.newest_human = place(l, l->newest_human),
		.newest_files = place(l, l->newest_files),
		.spare_nobody = l->spare_nobody,
		.retry = l->retry,
		.hopeless = l->hopeless,
		.room = l->room,
		.soft = l->soft,
		.options = l->options};
	s->options.forced = NULL;
	s->options.forced_count = 0;
	s->options.noted = NULL;
	s->options.noted_count = 0;
	s->options.offered = (struct slice){0};
	s->messages = calloc(n, sizeof(*s->messages));
	s->out_end = calloc(n, sizeof(*s->out_end));
	s->open = calloc(l->groups + 1u, sizeof(*s->open));
	buf_init(&s->outs, 0);
	if (!s->messages || !s->out_end || !s->open) {
		layout_state_release(s);
		return NULL;
	}
	memcpy(s->messages, l->messages, n * sizeof(*s->messages));
	memcpy(s->open, l->open, l->groups * sizeof(*s->open));
	for (size_t i = 0; i < n; i++) {
		if (l->messages[i].flags & PART_OUT)
			buf_add_slice(&s->outs, buf_slice(&l->out[i]));
		s->out_end[i] = s->outs.n;
	}
	if (buf_error(&s->outs)) {
		layout_state_release(s);
		return NULL;
	}
	s->bytes = sizeof(*s) + s->outs.cap + n * (sizeof(*s->messages) + sizeof(*s->out_end)) +
		   l->groups * sizeof(*s->open);
	return s;
}

bool layout_state_suits(const struct layout_state *s, const struct layout *l)
{
	const struct layout_options *a = &s->options, *b = &l->options;
	return s->room == l->room && s->soft == l->soft && a->high == b->high && a->low == b->low &&
	       a->merge == b->merge && a->digest == b->digest && a->l1 == b->l1 &&
	       a->early_low == b->early_low && a->early_digest == b->early_digest &&
	       a->append == b->append && a->reach == b->reach && a->must_fit == b->must_fit;
}

int layout_state_restore(const struct layout_state *s, struct layout *l, size_t *known)
{
	*known = 0;
	if (s->count > l->count || l->messages[s->count - 1].chain != s->chain)
		return 0; /* of another conversation */
	for (size_t i = 0; i < s->count; i++) {
		size_t begin = i ? s->out_end[i - 1] : 0;
		l->messages[i] = s->messages[i];
		if (s->messages[i].flags & PART_OUT) {
			buf_reserve(&l->out[i], 1);
			if (buf_add(&l->out[i], s->outs.p + begin, s->out_end[i] - begin))
				return -ENOMEM;
		}
	}
	memcpy(l->open, s->open, s->walked * sizeof(*l->open));
	l->walked = s->walked;
	l->raised_to = s->raised_to;
	l->merged_to = s->merged_to;
	l->freezes = s->freezes;
	l->frozen_at = s->frozen_at;
	l->first_human = s->first_human == SIZE_MAX ? l->count : s->first_human;
	l->newest_human = s->newest_human == SIZE_MAX ? l->count : s->newest_human;
	l->newest_files = s->newest_files == SIZE_MAX ? l->count : s->newest_files;
	l->spare_nobody = s->spare_nobody;
	l->retry = s->retry;
	l->hopeless = s->hopeless;
	*known = s->count;
	return 0;
}

/* --- the cache --- */

TAILQ_HEAD(state_list, layout_state);

/* Of a conversation. */
struct window {
	uint64_t beginning;
	double window;
	bool settled;  /* not merely offered */
	bool refused;  /* a larger one was */
	uint64_t used; /* its number among the uses; 0: of none */
};

struct layout_cache {
	struct state_list recent; /* the newest first */
	struct layout_state *bucket[BUCKETS];
	size_t bytes, count, max_bytes;
	struct window windows[CONVERSATIONS];
	uint64_t uses;
};

struct layout_cache *layout_cache_create(size_t max_bytes)
{
	struct layout_cache *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	TAILQ_INIT(&c->recent);
	c->max_bytes = max_bytes;
	return c;
}

static void let_go(struct layout_cache *c, struct layout_state *s)
{
	struct layout_state **p = &c->bucket[s->chain % BUCKETS];
	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	TAILQ_REMOVE(&c->recent, s, recent);
	c->bytes -= s->bytes;
	c->count--;
	layout_state_release(s);
}

static void shrink(struct layout_cache *c)
{
	while (c->bytes > c->max_bytes && !TAILQ_EMPTY(&c->recent))
		let_go(c, TAILQ_LAST(&c->recent, state_list));
}

void layout_cache_limit(struct layout_cache *c, size_t max_bytes)
{
	c->max_bytes = max_bytes;
	shrink(c);
}

void layout_cache_destroy(struct layout_cache *c)
{
	if (!c)
		return;
	layout_cache_limit(c, 0);
	free(c);
}

static struct layout_state *look_up(struct layout_cache *c, uint64_t chain)
{
	struct layout_state *s = c->bucket[chain % BUCKETS];
	while (s && s->chain != chain)
		s = s->next;
	return s;
}

struct layout_state *layout_cache_find(
	struct layout_cache *c, const uint64_t *chains, const uint32_t *groups, size_t count)
{
	for (size_t i = count; i-- > 0;) {
		if (i + 1 < count && groups[i + 1] == groups[i])
			continue; /* no group end */
		struct layout_state *s = look_up(c, chains[i]);
		if (!s || s->count != i + 1)
			continue;
		TAILQ_REMOVE(&c->recent, s, recent);
		TAILQ_INSERT_HEAD(&c->recent, s, recent);
		atomic_fetch_add(&s->refs, 1);
		return s;
	}
	return NULL;
}

void layout_cache_put(struct layout_cache *c, struct layout_state *s)
{
	if (!s)
		return;
	struct layout_state *old = look_up(c, s->chain);
	if (old)
		let_go(c, old);
	s->next = c->bucket[s->chain % BUCKETS];
	c->bucket[s->chain % BUCKETS] = s;
	TAILQ_INSERT_HEAD(&c->recent, s, recent);
	c->bytes += s->bytes;
	c->count++;
	shrink(c);
}

static size_t first_of_set(uint64_t beginning)
{
	return beginning % (CONVERSATIONS / WAYS) * WAYS;
}

/* NULL: none is remembered. */
static const struct window *window_of(const struct layout_cache *c, uint64_t beginning)
{
	const struct window *set = &c->windows[first_of_set(beginning)];
	for (size_t i = 0; i < WAYS; i++)
		if (set[i].used && set[i].beginning == beginning)
			return &set[i];
	return NULL;
}

/* The one that is there, or a fresh one in the place of the one used longest ago. */
static struct window *use_window(struct layout_cache *c, uint64_t beginning)
{
	struct window *set = &c->windows[first_of_set(beginning)], *w = &set[0];
	for (size_t i = 0; i < WAYS; i++) {
		if (set[i].used && set[i].beginning == beginning) {
			w = &set[i];
			break;
		}
		if (set[i].used < w->used)
			w = &set[i];
	}
	if (w->used == 0 || w->beginning != beginning)
		*w = (struct window){.beginning = beginning};
	w->used = ++c->uses;
	return w;
}

double layout_cache_look_window(
	const struct layout_cache *c, uint64_t beginning, double window, bool waits)
{
	const struct window *w = window_of(c, beginning);
	if (!w)
		return window;
	double least = w->refused ? window / WINDOW_RAISED
		       : waits	  ? window / (1 + WINDOW_WAIT)
				  : window * (1 - WINDOW_DRIFT);
	double most = window * (1 + (w->settled ? WINDOW_WAIT : WINDOW_DRIFT));
	return w->window > least && w->window <= most ? w->window : window;
}

double layout_cache_window(struct layout_cache *c, uint64_t beginning, double window, bool waits)
{
	double now = layout_cache_look_window(c, beginning, window, waits);
	struct window *w = use_window(c, beginning);
	if (w->window != now) {
		w->window = now;
		w->settled = false;
	}
	return now;
}

void layout_cache_set_window(struct layout_cache *c, uint64_t beginning, double window)
{
	struct window *w = use_window(c, beginning);
	w->window = window;
	w->settled = true;
}

void layout_cache_refused(struct layout_cache *c, uint64_t beginning, double window)
{
	layout_cache_set_window(c, beginning, window);
	use_window(c, beginning)->refused = true;
}

bool layout_cache_may_grow(const struct layout_cache *c, uint64_t beginning)
{
	const struct window *w = window_of(c, beginning);
	return !(w && w->refused);
}

size_t layout_cache_bytes(const struct layout_cache *c)
{
	return c ? c->bytes : 0;
}

size_t layout_cache_count(const struct layout_cache *c)
{
	return c->count;
}
