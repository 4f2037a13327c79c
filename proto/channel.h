/*
 * One end of the link between supervisor and worker: nng pair1 sockets inside a libuv loop, one for
 * each direction (link.h says why two).
 *
 * Per worker incarnation there are new sockets and a new ipc URL; the supervisor listens, the
 * worker dials (a listener is wedged for good by a peer that dies during the handshake: nng #1518).
 * One peer in a channel's life, of our own user id; every other connection is turned away, also
 * after the peer is gone. RECVFD is polled by the loop; records put during a turn leave as one
 * frame before the loop polls again, earlier when PROTO_FLUSH_BYTES are reached. (Put from an
 * uv_prepare callback they leave after a poll that does not wait; channel_flush() sends them at
 * once.) When nng's buffer is full, frames wait in a queue of at most queue_bytes and SENDFD is
 * polled only then. Callbacks run on the loop thread; nng's pipe callbacks only store an atomic and
 * wake the loop. Nothing blocks but what says so.
 *
 * A callback may call channel_put() and channel_close(); after channel_close() no callback comes.
 * Only the supervisor's end may put the supervisor's record types, and so on: a record from the
 * wrong side breaks the channel.
 */
#ifndef TANDEM_CHANNEL_H
#define TANDEM_CHANNEL_H

#include "proto/proto.h"

#include <uv.h>

struct channel;

struct channel_events {
	/* A record of the right generation. Borrowed until return. */
	void (*record)(void *ctx, const struct proto_record *r);
	/* The peer connected (true), or is gone (false) and every record it sent has been given to
	 * record. Once each. */
	void (*peer)(void *ctx, bool connected);
	/*
	 * A frame that is no frame (-EPROTO), another version (-EPROTONOSUPPORT), the queue is over
	 * its cap (-ENOBUFS), no memory (-ENOMEM): give the peer up. Once. After the first two
	 * nothing more is read.
	 */
	void (*broken)(void *ctx, int error, const char *what);
	/* All that waited has been taken, after channel_full(). May be NULL. */
	void (*room)(void *ctx);
};

struct channel_options {
	uint64_t generation;
	size_t queue_bytes; /* cap of what waits to be sent */
	size_t turn_frames; /* frames read per loop turn; 0: 64 */
};

/*
 * Supervisor: listens on url ("ipc:///run/.../w0-1.ipc", in a folder that only we can enter) and on
 * the same with ".down"; both files have mode 0600 and are removed on closing. A URL is used once:
 * another listen on it wedges the first.
 * Worker: dials, blocking until the socket file answers or refuses.
 * 0 or -errno (-EINVAL: not ipc://, or too long a path).
 */
int channel_listen(uv_loop_t *loop, const char *url, const struct channel_options *o,
	const struct channel_events *e, void *ctx, struct channel **out);
int channel_dial(uv_loop_t *loop, const char *url, const struct channel_options *o,
	const struct channel_events *e, void *ctx, struct channel **out);

/*
 * Queues a record. 0, or it is not sent: -ENOBUFS (`broken` follows), -E2BIG and -EINVAL
 * (proto_put(), or not this side's to send), -ENOMEM, -EPIPE (the peer is gone or the channel
 * broken).
 */
int channel_put(struct channel *c, const struct proto_record *r);
/*
 * Sends what this turn has collected without waiting for its end. With no backlog the bytes are in
 * the kernel when it returns, so that a process may say a last word and exit.
 */
void channel_flush(struct channel *c);
/* Peer's process id as the kernel says (0: no peer yet). */
uint64_t channel_peer_pid(const struct channel *c);
/*
 * The high-water mark: half of queue_bytes wait. Who has more to send that can wait (bodies, answer
 * bytes, new jobs) waits for room(); the other half is for what is small and cannot.
 */
bool channel_full(struct channel *c);
/* Bytes queued and not yet taken by nng. */
size_t channel_backlog(const struct channel *c);
/*
 * After a worker's death: reads everything it sent, delivering records, then returns. Blocks until
 * nng has seen the death, about 1 ms, at most 100 ms. Not from inside a callback of this channel.
 */
void channel_drain(struct channel *c);
/*
 * Sends what waits in this turn's frame and hangs up: nothing more can be put, what the peer says
 * is still read, and it sees that nobody will say more. Returns at once; the peer hears of it some
 * 10 ms later. The owner still closes c. A peer that hung up first is hung up on by the channel
 * itself.
 */
void channel_hang_up(struct channel *c);
/*
 * Hangs up, and frees c once nng and the loop have let go. Returns at once; it takes a turn or two
 * of the loop when the peer is gone, some 20 ms when it is another channel, and up to a second when
 * it lives and does not hang up in its turn. Better order, for whoever owns the peer process: kill
 * it, wait for its exit, drain, close. What waited to be sent is lost.
 */
void channel_close(struct channel *c);

struct channel_counts {
	uint64_t frames_in, frames_out;
	uint64_t stale_frames; /* of another generation; not read */
	uint64_t strangers;    /* connections turned away */
};

/* Is that the id of one of its nng sockets? For nng's own statistics. */
bool channel_has_socket(const struct channel *c, uint64_t id);

struct channel_counts channel_counts(const struct channel *c);

#endif
