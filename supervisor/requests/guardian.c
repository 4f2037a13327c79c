#include "supervisor/requests/guardian.h"

#include <stdlib.h>

struct guardian *guardian_create(size_t most, size_t bytes_most)
{
	struct guardian *g = calloc(1, sizeof(*g));
	if (!g)
		return NULL;
	TAILQ_INIT(&g->list);
	g->most = most;
	g->bytes_most = bytes_most;
	return g;
}

static void drop(struct guardian *g, struct conversation *c)
{
	TAILQ_REMOVE(&g->list, c, link);
	g->count--;
	guard_prompt_fini(&c->prompt);
	buf_free(&c->tools);
	free(c);
}

static void make_room(struct guardian *g, size_t most)
{
	while (g->count > most)
		drop(g, TAILQ_LAST(&g->list, conversation_list));
}

void guardian_destroy(struct guardian *g)
{
	if (!g)
		return;
	make_room(g, 0);
	free(g);
}

size_t conversation_bytes(const struct conversation *c)
{
	return guard_prompt_bytes(&c->prompt) + c->tools.cap;
}

/* Makes it as small as it must be. False: it cannot be. */
static bool fit(const struct guardian *g, struct conversation *c)
{
	if (conversation_bytes(c) > g->bytes_most)
		guard_prompt_thin(&c->prompt);
	if (conversation_bytes(c) > g->bytes_most)
		buf_free(&c->tools);
	return conversation_bytes(c) <= g->bytes_most;
}

bool guardian_has_room(const struct guardian *g, struct guard_prompt *p)
{
	if (guard_prompt_bytes(p) > g->bytes_most)
		guard_prompt_thin(p);
	return g->most > 0 && guard_prompt_bytes(p) <= g->bytes_most;
}

void guardian_limit(struct guardian *g, size_t most, size_t bytes_most)
{
	struct conversation *c, *next;
	g->most = most;
	g->bytes_most = bytes_most;
	make_room(g, most);
	for (c = TAILQ_FIRST(&g->list); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!fit(g, c))
			drop(g, c);
	}
}

/* The one of this client and model that `like` says most of, above *most. */
static struct conversation *most_like(struct guardian *g, const struct conversation *key,
	const struct guard_prompt *p, size_t looks, double *most,
	double (*like)(const struct guard_prompt *a, const struct guard_prompt *b))
{
	struct conversation *c, *best = NULL;
	TAILQ_FOREACH(c, &g->list, link) {
		if (c->client != key->client || c->model != key->model)
			continue;
		if (looks < c->prompt.count)
			break;
		looks -= c->prompt.count;
		double much = like(&c->prompt, p);
		if (much > *most) {
			*most = much;
			best = c;
		}
	}
	return best;
}

struct conversation *guardian_find(
	struct guardian *g, uint64_t client, uint64_t model, const struct guard_prompt *p)
{
	const struct conversation key = {.client = client, .model = model};
	double most = 0;
	struct conversation *next = most_like(g, &key, p, SIZE_MAX, &most, guard_goes_on);
	if (most >= (double)p->count) /* half of it is known */
		return next;
	struct conversation *other = most_like(g, &key, p, GUARDIAN_LOOKS, &most, guard_likeness);
	return other ? other : next;
}

struct slice guardian_tools(
	struct guardian *g, uint64_t client, uint64_t model, const struct guard_prompt *p)
{
	struct conversation *c;
	TAILQ_FOREACH(c, &g->list, link)
		if (c->client == client && c->model == model && c->tools.n && p->tools_set &&
			c->prompt.tools_set == p->tools_set)
			return buf_slice(&c->tools);
	return (struct slice){0};
}

struct conversation *guardian_by_id(struct guardian *g, uint64_t id)
{
	struct conversation *c;
	TAILQ_FOREACH(c, &g->list, link)
		if (c->id == id)
			return c;
	return NULL;
}

struct conversation *guardian_begin(struct guardian *g, uint64_t client, uint64_t model)
{
	struct conversation *c = g->most ? calloc(1, sizeof(*c)) : NULL;
	if (!c)
		return NULL;
	make_room(g, g->most - 1);
	c->id = ++g->last_id;
	c->client = client;
	c->model = model;
	c->tokens = c->cached = c->output = -1;
	buf_init(&c->tools, 0);
	TAILQ_INSERT_HEAD(&g->list, c, link);
	g->count++;
	return c;
}

void guardian_went_on(struct guardian *g, struct conversation *c, struct guard_prompt *p,
	struct slice tools, uint64_t now)
{
	TAILQ_REMOVE(&g->list, c, link);
	TAILQ_INSERT_HEAD(&g->list, c, link);
	c->turns++;
	c->last_ms = now;
	if (!p)
		return;
	bool same = p->tools_bytes && p->tools_bytes == c->prompt.tools_bytes && c->tools.n;
	guard_prompt_fini(&c->prompt);
	c->prompt = *p;
	*p = (struct guard_prompt){0};
	if (!same) {
		buf_free(&c->tools);
		if (buf_add_slice(&c->tools, tools))
			buf_free(&c->tools);
	}
	fit(g, c);
}
