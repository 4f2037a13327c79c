/*
 * Streams that the backend keeps (TRAIT_REPLAYS, docs/protocols.md#kept-streams): how one is read
 * again, and their ends.
 *
 * A kept stream is generated to its end whoever leaves. So what nobody wants any more is ended by
 * us: a client's that has left, at once; a whole one a little after its END, which may be on its way
 * yet. The calls may be made from within a transfer's events: what is sent is sent by the loop.
 * Loop thread only; nothing blocks.
 */
#ifndef TANDEM_WORKERS_REPLAY_H
#define TANDEM_WORKERS_REPLAY_H

#include "workers/worker.h"

#define REPLAY_HEADER "X-Conversation-Id"
#define REPLAY_DONE_MS 2000  /* a whole stream is kept that long: its END has been read by then */
#define REPLAY_STOP_MS 60000 /* one order to end a stream: a server of few threads takes its time */
#define REPLAY_LAST_MS 2000  /* all of them, when the worker ends */
#define REPLAY_STOPS_MAX 4096 /* streams that wait for it; more are left to end by themselves */
#define REPLAY_TARGET_BYTES 128
#define REPLAY_NAME_BYTES 24 /* of a conversation: what may be shown */

/* NULL: memory is out. */
struct replays *replays_create(struct worker_self *w);
/* Frees it; its handle closes with the loop's last turns. NULL does nothing. */
void replays_destroy(struct replays *r);

/* The stream is to end in so many ms. NULL or an empty name: nothing. */
void replays_end(struct replays *r, struct slice conversation, uint64_t in_ms);
/* Those that wait, and all from now on, end at once; then ended(ctx), REPLAY_LAST_MS later at most.
 * It may be called from inside. */
void replays_finish(struct replays *r, void (*ended)(void *ctx), void *ctx);

/* The target of a GET that reads the whole stream. False: that is no name of ours. */
bool replay_target(struct slice conversation, char out[REPLAY_TARGET_BYTES]);

#endif
