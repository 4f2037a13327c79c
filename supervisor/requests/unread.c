#include "supervisor/requests/unread.h"

#include <math.h>

static struct unread_freeze *find(struct unread *u, uint64_t chain)
{
	for (unsigned i = 0; chain && i < UNREAD_MAX; i++)
		if (u->of[i].chain == chain)
			return &u->of[i];
	return NULL;
}

void unread_put(struct unread *u, const struct unread_freeze *f)
{
	struct unread_freeze *at = find(u, f->chain);
	if (!at) {
		at = &u->of[u->next];
		u->next = (u->next + 1) % UNREAD_MAX;
	}
	*at = *f;
}

void unread_done(struct unread *u, uint64_t chain)
{
	struct unread_freeze *at = find(u, chain);
	if (at)
		at->chain = 0;
}

static bool stands(const uint64_t *chains, size_t count, uint64_t chain)
{
	size_t i = count;
	while (i > 0 && chains[i - 1] != chain)
		i--;
	return chain && i > 0;
}

const struct unread_freeze *unread_find(
	const struct unread *u, const uint64_t *chains, size_t count)
{
	for (unsigned age = 1; age <= UNREAD_MAX; age++) {
		const struct unread_freeze *f = &u->of[(u->next + UNREAD_MAX - age) % UNREAD_MAX];
		if (stands(chains, count, f->chain))
			return f;
	}
	return NULL;
}

bool unread_is_later(const struct unread_freeze *f, const struct unread_facts *now)
{
	const struct foresight *o = now->foresight;
	enum prefix_age age;
	double fresh = fmax((double)now->plan->tokens - f->original, 0), all = f->counted + fresh;
	double held = o->map ? prefix_held(o->map, f->before, &age) : 0;
	struct plan_facts before_and_new = *now->plan;
	before_and_new.tokens = (uint64_t)ceil(all);
	before_and_new.counted = (uint64_t)f->counted;
	if (held <= 0 || !plan_fits(&before_and_new))
		return false;
	/* It was put aside for the frozen one, and that will be for it. */
	if (!prefix_leaves(o->map, f->alike, f->tokens) || !prefix_leaves(o->map, f->alike, all))
		return false;
	held = fmin(held, f->counted);
	double before = predict_first_ms(&o->rates, held, all - held) +
			foresight_swap_ms(o, f->counted + f->tokens);
	double frozen = predict_first_ms(&o->rates, f->cached, f->tokens - f->cached + fresh);
	return frozen - before >= now->gain_ms;
}
