#include "common/base/memo.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

#define BUCKETS 4096

struct entry {
	TAILQ_ENTRY(entry) recent;
	struct entry *next; /* in its bucket */
	uint64_t key;
	size_t n;
	bool looked_at;
	char bytes[];
};

TAILQ_HEAD(entry_list, entry);

struct memo {
	struct entry_list recent; /* the newest first */
	struct entry *bucket[BUCKETS];
	size_t bytes, count, max_bytes;
};

struct memo *memo_create(size_t max_bytes)
{
	struct memo *m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	TAILQ_INIT(&m->recent);
	m->max_bytes = max_bytes;
	return m;
}

static struct entry **place(struct memo *m, uint64_t key)
{
	struct entry **p = &m->bucket[key % BUCKETS];
	while (*p && (*p)->key != key)
		p = &(*p)->next;
	return p;
}

static void drop(struct memo *m, struct entry **p)
{
	struct entry *e = *p;
	*p = e->next;
	TAILQ_REMOVE(&m->recent, e, recent);
	m->bytes -= e->n + MEMO_ENTRY_BYTES;
	m->count--;
	free(e);
}

void memo_limit(struct memo *m, size_t max_bytes)
{
	m->max_bytes = max_bytes;
	while (m->bytes > max_bytes)
		drop(m, place(m, TAILQ_LAST(&m->recent, entry_list)->key));
}

void memo_destroy(struct memo *m)
{
	if (!m)
		return;
	memo_limit(m, 0);
	free(m);
}

int memo_put(struct memo *m, uint64_t key, struct slice bytes)
{
	struct entry **p = place(m, key);
	if (*p)
		drop(m, p);
	if (bytes.n + MEMO_ENTRY_BYTES > m->max_bytes)
		return -E2BIG;
	struct entry *e = malloc(sizeof(*e) + bytes.n);
	if (!e)
		return -ENOMEM;
	*e = (struct entry){.key = key, .n = bytes.n};
	if (bytes.n)
		memcpy(e->bytes, bytes.p, bytes.n);
	e->next = m->bucket[key % BUCKETS];
	m->bucket[key % BUCKETS] = e;
	TAILQ_INSERT_HEAD(&m->recent, e, recent);
	m->bytes += e->n + MEMO_ENTRY_BYTES;
	m->count++;
	memo_limit(m, m->max_bytes);
	return 0;
}

bool memo_get(struct memo *m, uint64_t key, struct slice *bytes)
{
	struct entry *e = *place(m, key);
	if (!e)
		return false;
	TAILQ_REMOVE(&m->recent, e, recent);
	TAILQ_INSERT_HEAD(&m->recent, e, recent);
	*bytes = (struct slice){e->bytes, e->n};
	return true;
}

bool memo_is_first_look(struct memo *m, uint64_t key)
{
	struct entry *e = *place(m, key);
	bool first = e && !e->looked_at;
	if (e)
		e->looked_at = true;
	return first;
}

size_t memo_bytes(const struct memo *m)
{
	return m ? m->bytes : 0;
}

size_t memo_count(const struct memo *m)
{
	return m ? m->count : 0;
}
