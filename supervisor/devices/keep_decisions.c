/* Decisions to freeze a conversation early: those of the last days, in memory and in the file. */
#include "supervisor/devices/keep_private.h"

#include <stdlib.h>
#include <time.h>

#define DAY_S 86400

int keep_by_chain(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static int by_age(const void *a, const void *b)
{
	const struct keep_decision *x = a, *y = b;
	return (x->at_s > y->at_s) - (x->at_s < y->at_s);
}

static void sort(struct keep *k)
{
	for (size_t i = 0; i < k->count; i++)
		k->chains[i] = k->decisions[i].chain;
	qsort(k->chains, k->count, sizeof(k->chains[0]), keep_by_chain);
}

static bool decided(const struct keep *k, uint64_t chain)
{
	return k->count && bsearch(&chain, k->chains, k->count, sizeof(chain), keep_by_chain);
}

static void add(struct keep *k, uint64_t chain, int64_t at_s)
{
	if (k->count == KEEP_DECISIONS_MAX)
		memmove(k->decisions, k->decisions + 1, --k->count * sizeof(k->decisions[0]));
	k->decisions[k->count++] = (struct keep_decision){chain, at_s};
}

const uint64_t *keep_decisions(const struct keep *k, size_t *count)
{
	*count = k->count;
	return k->chains;
}

static void put_decision(struct keep *k, const struct keep_decision *d)
{
	keep_put(k, STORE_DECISION, (struct slice){(const char *)&d->chain, sizeof(d->chain)},
		(struct slice){(const char *)&d->at_s, sizeof(d->at_s)});
}

void keep_decide(struct keep *k, uint64_t chain)
{
	if (decided(k, chain))
		return;
	add(k, chain, (int64_t)time(NULL));
	sort(k);
	put_decision(k, &k->decisions[k->count - 1]);
}

struct loading {
	struct keep_decision *all;
	size_t count, room;
};

static void load(void *ctx, struct slice key, struct slice value)
{
	struct loading *l = ctx;
	struct keep_decision d;
	if (key.n != sizeof(d.chain) || value.n != sizeof(d.at_s))
		return;
	memcpy(&d.chain, key.p, sizeof(d.chain));
	memcpy(&d.at_s, value.p, sizeof(d.at_s));
	if (d.at_s < (int64_t)time(NULL) - (int64_t)KEEP_DAYS * DAY_S)
		return;
	if (l->count == l->room) {
		size_t room = l->room ? l->room * 2 : 256;
		struct keep_decision *grown = realloc(l->all, room * sizeof(*grown));
		if (!grown)
			return;
		l->all = grown;
		l->room = room;
	}
	l->all[l->count++] = d;
}

/* The newest of those that are kept, each once. */
void keep_load_decisions(struct keep *k)
{
	struct loading l = {0};
	store_each(k->store, STORE_DECISION, load, &l);
	if (l.count)
		qsort(l.all, l.count, sizeof(l.all[0]), by_age);
	for (size_t i = 0; i < l.count; i++) {
		bool twice = false;
		for (size_t j = k->count;
			j > 0 && !twice && k->decisions[j - 1].at_s == l.all[i].at_s; j--)
			twice = k->decisions[j - 1].chain == l.all[i].chain;
		if (!twice)
			add(k, l.all[i].chain, l.all[i].at_s);
	}
	free(l.all);
	sort(k);
}

/* They stay kept (store.h: generations). */
void keep_touch_decisions(struct keep *k)
{
	struct store_value *values = k->count ? calloc(k->count, sizeof(*values)) : NULL;
	for (size_t i = 0; values && i < k->count; i++) {
		struct keep_decision *d = &k->decisions[i];
		values[i] = (struct store_value){STORE_DECISION,
			{(const char *)&d->chain, sizeof(d->chain)},
			{(const char *)&d->at_s, sizeof(d->at_s)}};
	}
	if (values)
		store_put(k->store, values, k->count);
	free(values);
}
