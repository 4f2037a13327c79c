/*
 * A PUB socket at an ipc path that nng's SUB sockets can listen to (sp.h says why not nng's own).
 *
 * Each subscriber has a queue of at most queue_bytes: one that reads too slowly loses messages, is
 * told how many as soon as there is room again, and delays nobody. Subscriptions are filtered by
 * the subscriber, as in nng.
 */
#ifndef TANDEM_PUB_H
#define TANDEM_PUB_H

#include "supervisor/tell/sp.h"

struct pub;

/* Appends the message that tells a subscriber of `count` lost ones. */
typedef void pub_lost_fn(void *ctx, uint64_t count, struct buf *out);

/* Listens on path, which must not exist. 0 or -errno. */
int pub_start(uv_loop_t *loop, const char *path, size_t queue_bytes, pub_lost_fn *lost, void *ctx,
	struct pub **out);
/* To every subscriber there is now. Copies. */
void pub_send(struct pub *p, struct slice message);
/* Subscribers that get what is sent now. */
unsigned pub_subscribers(const struct pub *p);
/* Messages that subscribers lost, all together. */
uint64_t pub_lost(const struct pub *p);
/* Of queues that are made from now on and of those that there are. */
void pub_set_queue_bytes(struct pub *p, size_t queue_bytes);
/* Disconnects everybody and removes the path; *p is freed once the loop has let go. */
void pub_stop(struct pub *p);

#endif
