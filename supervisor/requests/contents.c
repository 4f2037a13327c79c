#include "supervisor/requests/contents.h"

#include <stdlib.h>

struct content_owner content_owner(const struct key *key)
{
	struct content_owner o = {.keyed = key != NULL};
	if (key)
		memcpy(o.hash, key->hash, sizeof(o.hash));
	return o;
}

bool content_same_owner(const struct content_owner *a, const struct content_owner *b)
{
	return a->keyed == b->keyed && memcmp(a->hash, b->hash, sizeof(a->hash)) == 0;
}

/* --- bounds --- */

static size_t bytes_of(const struct content *one)
{
	return sizeof(*one) + content_text_bytes(&one->text);
}

static void forget(struct contents *c, struct content *one)
{
	TAILQ_REMOVE(&c->list, one, link);
	c->count--;
	c->bytes -= bytes_of(one);
	content_text_free(&one->text);
	free(one);
}

static void keep_bounds(struct contents *c)
{
	while (c->count && c->bytes > c->most)
		forget(c, TAILQ_LAST(&c->list, content_list));
}

void contents_init(struct contents *c)
{
	*c = (struct contents){0};
	TAILQ_INIT(&c->list);
}

void contents_limit(struct contents *c, size_t most)
{
	c->most = most;
	keep_bounds(c);
}

void contents_fini(struct contents *c)
{
	contents_limit(c, 0);
}

/* --- one --- */

static struct content *find(const struct contents *c, const char *id)
{
	struct content *one;
	TAILQ_FOREACH(one, &c->list, link)
		if (strcmp(one->id, id) == 0)
			return one;
	return NULL;
}

const struct content *contents_find(const struct contents *c, const char *id)
{
	return find(c, id);
}

bool contents_expect(struct contents *c, const char *id, const struct content_owner *owner)
{
	struct content *one = c->most ? calloc(1, sizeof(*one)) : NULL;
	if (!one)
		return false;
	record_text(one->id, sizeof(one->id), slice_str(id));
	one->owner = *owner;
	TAILQ_INSERT_HEAD(&c->list, one, link);
	c->count++;
	c->bytes += bytes_of(one);
	keep_bounds(c);
	return find(c, id) != NULL;
}

void contents_put(struct contents *c, const char *id, struct content_text *t)
{
	struct content *one = find(c, id);
	if (one && sizeof(*one) + content_text_bytes(t) <= c->most) {
		c->bytes += content_text_bytes(t);
		one->text = *t;
		one->state = CONTENT_KEPT;
		*t = (struct content_text){0};
		keep_bounds(c);
		return;
	}
	if (one)
		one->state = CONTENT_TOO_LARGE;
	content_text_free(t);
}

void contents_refuse(struct contents *c, const char *id, enum content_state why)
{
	struct content *one = find(c, id);
	if (one)
		one->state = why;
}
