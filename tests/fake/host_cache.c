/*
 * llama-server's prompt cache in host memory, as its server_prompt_cache works: a deque of whole
 * slot states. A state that begins another one is dropped, the oldest go when room is short (one
 * always stays), and what is put back into a slot leaves the cache.
 */
#include "tests/fake/engine.h"
#include "tests/fake/mem.h"

#define LOSES_MOST 0.5	/* a slot that keeps less of what it holds is saved first */
#define KEEP_LEAST 0.25 /* a saved prompt that would lose more than the rest stays where it is */

struct saved {
	struct saved *next;
	struct buf kv;
	size_t tokens;
};

static double chars(const struct model *m)
{
	return m->engine->fake->options.chars_per_token;
}

static void drop(struct model *m, struct saved **at)
{
	struct saved *gone = *at;

	*at = gone->next;
	if (!*at)
		m->saved_end = at;
	buf_free(&gone->kv);
	free(gone);
}

void host_cache_clear(struct model *m)
{
	while (m->saved)
		drop(m, &m->saved);
}

static void make_room(struct model *m)
{
	double tokens = 0;

	for (const struct saved *s = m->saved; s; s = s->next)
		tokens += (double)s->tokens;
	while (m->saved && m->saved->next && tokens > m->engine->fake->options.cache_tokens) {
		tokens -= (double)m->saved->tokens;
		drop(m, &m->saved);
	}
}

/* Saves what the slot holds, unless a saved prompt begins with it. Tokens copied. */
static size_t save(struct model *m, const struct slot *slot)
{
	struct slice kv = buf_slice(&slot->kv);
	size_t tokens = prompt_tokens(kv, chars(m));
	struct saved *s;

	for (s = m->saved; s; s = s->next)
		if (s->kv.n >= kv.n && memcmp(s->kv.p, kv.p, kv.n) == 0)
			return 0;
	for (struct saved **at = &m->saved; *at;) {
		if ((*at)->kv.n <= kv.n && memcmp((*at)->kv.p, kv.p, (*at)->kv.n) == 0)
			drop(m, at);
		else
			at = &(*at)->next;
	}
	s = mem_zalloc(sizeof(*s));
	buf_init(&s->kv, PROMPT_MAX * 2);
	buf_add_slice(&s->kv, kv);
	s->tokens = tokens;
	*m->saved_end = s;
	m->saved_end = &s->next;
	make_room(m);
	return tokens;
}

/* Puts the best saved prompt into the slot if it begins more of text and loses less.
 * Tokens copied. */
static size_t restore(struct model *m, struct slot *slot, struct slice text)
{
	struct slice kv = buf_slice(&slot->kv);
	size_t shared = prompt_shared(text, kv, chars(m)), held = prompt_tokens(kv, chars(m)),
	       tokens;
	double best_keep = held ? (double)shared / (double)held : -1;
	struct saved **best = NULL;

	for (struct saved **at = &m->saved; *at; at = &(*at)->next) {
		size_t n = prompt_shared(text, buf_slice(&(*at)->kv), chars(m));
		double keep = (double)n / (double)(*at)->tokens;

		if (keep < KEEP_LEAST || keep <= best_keep || n <= shared)
			continue;
		best_keep = keep;
		shared = n;
		best = at;
	}
	if (!best)
		return 0;
	tokens = (*best)->tokens;
	buf_clear(&slot->kv);
	buf_add_slice(&slot->kv, buf_slice(&(*best)->kv));
	drop(m, best);
	m->engine->count.restored++;
	return tokens;
}

size_t host_cache_swap(struct model *m, struct slot *s, const struct gen *g)
{
	struct slice text = buf_slice(&g->prompt.text), kv = buf_slice(&s->kv);
	size_t shared = prompt_shared(text, kv, chars(m)), held = prompt_tokens(kv, chars(m)),
	       moved = 0;
	double alike_from = m->engine->fake->options.slot_similarity;
	bool alike = alike_from > 0 &&
		     (double)shared > (double)prompt_tokens(text, chars(m)) * alike_from;

	if (!(m->engine->fake->options.cache_tokens > 0))
		return 0;
	if (alike && (double)shared >= LOSES_MOST * (double)held)
		return 0;
	if (held)
		moved = save(m, s);
	return moved + restore(m, s, text);
}
