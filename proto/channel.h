/*
 * One end of the link between supervisor and worker: an nng pair1 socket inside a libuv loop.
 *
 * Per worker incarnation there is a new socket and a new ipc URL; the supervisor listens, the worker dials (a listener is wedged for
 * good by a peer that dies during the handshake: nng #1518). RECVFD is polled by the loop; records put during a turn leave as one frame
 * before the loop polls again (uv_prepare), earlier when PROTO_FLUSH_BYTES are reached. When nng's buffer is full, frames wait in a
 * queue of at most queue_bytes and SENDFD is polled only then. Callbacks run on the loop thread; nng's pipe callbacks only store an
 * atomic and wake the loop. Nothing blocks.
 *
 * A callback may call channel_put() and channel_close(); after channel_close() no callback comes.
 */
#ifndef TANDEM_CHANNEL_H
#define TANDEM_CHANNEL_H

#include "proto/proto.h"

#include <uv.h>

struct channel;

struct channel_events {
	/* A record of the right generation. Borrowed until return. */
	void (*record)(void *ctx, const struct proto_record *r);
	/* A peer connected (true) or is gone (false). */
	void (*peer)(void *ctx, bool connected);
	/* A frame that is no frame (-EPROTO), another version (-EPROTONOSUPPORT), or the queue is over its cap (-ENOBUFS): give the peer up. */
	void (*broken)(void *ctx, int error, const char *what);
};

struct channel_options {
	uint64_t generation;
	size_t queue_bytes; /* cap of what waits to be sent */
	size_t turn_frames; /* frames read per loop turn; 0: 64 */
};

/* Supervisor: listens on url ("ipc:///run/.../w0-1.ipc"). Worker: dials it once, blocking at most until the socket file answers. 0 or -errno. */
int channel_listen(uv_loop_t *loop, const char *url, const struct channel_options *o, const struct channel_events *e, void *ctx,
		struct channel **out);
int channel_dial(uv_loop_t *loop, const char *url, const struct channel_options *o, const struct channel_events *e, void *ctx,
		struct channel **out);

/* Queues a record. 0, or -ENOBUFS/-E2BIG/-ENOMEM (then the record is not sent, and `broken` follows for -ENOBUFS). */
int channel_put(struct channel *c, const struct proto_record *r);
/* Sends what this turn has collected without waiting for its end. */
void channel_flush(struct channel *c);
/* Peer's process id as the kernel says (0: no peer yet). */
uint64_t channel_peer_pid(const struct channel *c);
/* Bytes queued and not yet taken by nng. */
size_t channel_backlog(const struct channel *c);
/* Reads everything still waiting (after a worker's death), delivering records, then returns. */
void channel_drain(struct channel *c);
/* Closes socket and handles; frees c once the loop has let go of the handles. */
void channel_close(struct channel *c);

#endif
