/*
 * The newest events, as they were sent (events.h), for those who ask afterwards: `tandemctl logs`.
 * limits.recent_event_bytes bounds their text; the oldest go first. Pure.
 */
#ifndef TANDEM_RECENT_H
#define TANDEM_RECENT_H

#include "common/base/buf.h"

#include <sys/queue.h>

struct recent_event;
TAILQ_HEAD(recent_list, recent_event);

struct recent {
	struct recent_list list;
	size_t bytes, max_bytes; /* 0: none are kept */
};

void recent_init(struct recent *r, size_t max_bytes);
void recent_fini(struct recent *r);
/* Another bound: what is too much goes. */
void recent_limit(struct recent *r, size_t max_bytes);
/* One more, a JSON object; without memory it is not kept. */
void recent_add(struct recent *r, struct slice event);
/* Appends them as the elements of a JSON array, the oldest first: all of them, or those that are
 * about this request. Brackets are the caller's. */
void recent_put(const struct recent *r, const char *request, struct buf *out);

#endif
