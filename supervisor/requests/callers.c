#include "supervisor/requests/callers.h"

#include <stdlib.h>

void callers_init(struct callers *c)
{
	LIST_INIT(&c->list);
}

static void forget(struct caller *who)
{
	LIST_REMOVE(who, link);
	free(who);
}

void callers_fini(struct callers *c)
{
	while (!LIST_EMPTY(&c->list))
		forget(LIST_FIRST(&c->list));
}

struct caller *callers_find(const struct callers *c, const struct key *key)
{
	struct caller *who;
	LIST_FOREACH(who, &c->list, link)
		if (strcmp(who->name, key->name) == 0)
			return who;
	return NULL;
}

struct caller *callers_get(struct callers *c, const struct key *key)
{
	struct caller *who = callers_find(c, key);
	if (who)
		return who;
	who = calloc(1, sizeof(*who));
	if (!who)
		return NULL;
	memcpy(who->name, key->name, sizeof(who->name));
	LIST_INSERT_HEAD(&c->list, who, link);
	return who;
}

void callers_begin(struct caller *who, const struct key *key)
{
	memcpy(who->class, key->class, sizeof(who->class));
	who->holds++;
	who->active++;
	who->requests++;
}

void callers_answered(struct caller *who)
{
	who->active--;
}

static bool is_known(const struct keys *known, const struct caller *who)
{
	for (size_t i = 0; i < known->count; i++)
		if (strcmp(known->of[i].name, who->name) == 0)
			return true;
	return false;
}

void callers_release(struct caller *who, const struct keys *known)
{
	if (--who->holds == 0 && !is_known(known, who))
		forget(who);
}

bool callers_room(const struct caller *who, const struct key *key)
{
	return key->requests == 0 || who->active < key->requests;
}

void callers_reloaded(struct callers *c, const struct keys *known)
{
	struct caller *who = LIST_FIRST(&c->list), *next;
	for (; who; who = next) {
		next = LIST_NEXT(who, link);
		if (who->holds == 0 && !is_known(known, who))
			forget(who);
	}
}
