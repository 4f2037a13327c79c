#include "supervisor/devices/saved.h"

#include <math.h>
#include <stdlib.h>

static void drop(struct saved *s, size_t i)
{
	s->links -= s->of[i].chain.count;
	prefix_chain_fini(&s->of[i].chain);
	s->count--;
	memmove(&s->of[i], &s->of[i + 1], (s->count - i) * sizeof(s->of[0]));
}

void saved_fini(struct saved *s)
{
	while (s->count)
		drop(s, s->count - 1);
	free(s->of);
	*s = (struct saved){0};
}

struct saved_chat *saved_get(struct saved *s, uint64_t id)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->of[i].id == id)
			return &s->of[i];
	return NULL;
}

struct saved_chat *saved_put(struct saved *s, uint64_t id, struct prefix_chain *chain)
{
	struct saved_chat *old = saved_get(s, id), fresh = {.id = id, .chain = *chain};
	*chain = (struct prefix_chain){0};
	if (!s->of)
		s->of = calloc(SAVED_MAX, sizeof(*s->of));
	if (!s->of || fresh.chain.count > PREFIX_LINKS_MAX) {
		prefix_chain_fini(&fresh.chain);
		return NULL;
	}
	if (old)
		drop(s, (size_t)(old - s->of));
	while (s->count == SAVED_MAX ||
		(s->count && s->links + fresh.chain.count > PREFIX_LINKS_MAX))
		drop(s, s->count - 1);
	memmove(&s->of[1], &s->of[0], s->count * sizeof(s->of[0]));
	s->of[0] = fresh;
	s->count++;
	s->links += fresh.chain.count;
	return &s->of[0];
}

void saved_list(struct saved *s)
{
	s->off = false;
	for (size_t i = 0; i < s->count; i++) {
		s->of[i].there = false;
		s->of[i].ready =
			0; /* a worker lists before it restores: that of one which died since */
	}
}

void saved_unload(struct saved *s)
{
	for (size_t i = 0; i < s->count; i++)
		s->of[i].loaded = false;
}

void saved_restored(struct saved *s, double bytes, double ms)
{
	s->restores++;
	if (ms <= 0 || bytes <= 0)
		return;
	s->bytes_per_ms = s->bytes_per_ms > 0 ? (s->bytes_per_ms + bytes / ms) / 2 : bytes / ms;
}

double saved_restore_ms(const struct saved *s, double bytes)
{
	return bytes / (s->bytes_per_ms > 0 ? s->bytes_per_ms : SAVED_START_RATE);
}

/* Tokens that both begin with; the answer behind a whole chain is in the file, too. */
static double shared(const struct saved_chat *e, const struct prefix_chain *c, double total)
{
	size_t n = prefix_common(&e->chain, c);
	if (n == 0)
		return 0;
	bool whole = n == e->chain.count && n < c->count;
	return fmin(whole ? fmax(e->tokens, e->chain.links[n - 1].tokens)
			  : e->chain.links[n - 1].tokens,
		total - 1);
}

const struct saved_chat *saved_find(
	const struct saved *s, const struct prefix_chain *c, double total, double *tokens)
{
	const struct saved_chat *best = NULL;
	*tokens = 0;
	for (size_t i = 0; !s->off && i < s->count; i++) {
		const struct saved_chat *e = &s->of[i];
		double n = e->there || e->loaded ? shared(e, c, total) : 0;
		if (n <= *tokens)
			continue;
		best = e;
		*tokens = n;
	}
	return best;
}

uint64_t saved_conversation(const struct saved *s, const struct prefix_chain *c)
{
	const struct saved_chat *best = NULL;
	for (size_t i = 0; i < s->count; i++) {
		const struct saved_chat *e = &s->of[i];
		if (e->chain.count && prefix_common(&e->chain, c) == e->chain.count &&
			(!best || e->chain.count > best->chain.count))
			best = e;
	}
	return best ? best->id : 0;
}

size_t saved_there(const struct saved *s, double *bytes)
{
	size_t n = 0;
	*bytes = 0;
	for (size_t i = 0; i < s->count; i++) {
		n += s->of[i].there;
		*bytes += s->of[i].there ? s->of[i].bytes : 0;
	}
	return n;
}
