/*
 * Private to proto/: the nng sockets below a channel, for one peer in its life.
 *
 * A link is two pair1 sockets, one for each direction: w0-1.ipc carries what the worker says,
 * w0-1.ipc.down what the supervisor says. One socket for both would do but for a fault of nng
 * before 1.8 (#1543, #1813): when a pipe is closed, by us or because a send failed, while a message
 * is coming in on it or a send is just ending, nng's one reaper thread may wait for ever; then that
 * nng_close() and every later one in the process never return, and no pipe is ever reported gone.
 * With one socket a worker killed while both sides were sending did it about once in a hundred
 * times. So nothing is ever sent on a pipe that receives, a pipe is closed by us only when its peer
 * has gone or nothing moves on it, and nng_close() never runs on the loop's thread. It follows,
 * too, that all that a dead peer has sent is read: no failed send can cut it off.
 *
 * nng's pipe callbacks run on nng's threads; they only store atomics here and call wake (an
 * uv_async_send). The first peer with our user id is the peer; others are turned away, also after
 * it is gone: what was queued for it must not reach another process. Errors are -errno.
 */
#ifndef TANDEM_LINK_H
#define TANDEM_LINK_H

#include <nng/nng.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct link;

/* One direction. */
struct link_way {
	struct link *link;
	struct link_way *other;
	nng_socket socket;
	bool open;
	int fd;		    /* readable when there is a message, or room for one */
	atomic_ullong peer; /* process id << 32 | nng's pipe id; 0: nobody */
	atomic_bool joined, gone;
};

struct link {
	char url[128], down_url[128];	    /* nng refuses a path over 107 bytes */
	bool url_is_ours, down_url_is_ours; /* we listen on it, so the file is ours to remove */
	struct link_way in, out;
	void (*wake)(void *ctx); /* any thread */
	void *ctx;
	atomic_uint strangers; /* connections turned away */
};

/* Opens the sockets; nobody can connect yet. l is zeroed but for wake and ctx, and stays where it
 * is until it is closed. */
int link_open(struct link *l);
int link_listen(struct link *l, const char *url);
/* Blocks until the connections are refused or made; nng gives up a peer that does not answer after
 * 10 s. */
int link_dial(struct link *l, const char *url);

/*
 * Removes our socket files: once the peer is there nobody else has business with them, and nng 1.5
 * keeps some memory, at times a descriptor, of each stranger that comes and goes. nng removes them
 * too, when it comes to close.
 */
void link_unlink(struct link *l);

/*
 * The end, in two steps; each blocks for some 100 us while nng's threads let go: call them on a
 * thread that may wait. Closing the way out hangs up: the peer sees it as our death and hangs up
 * too. The way in is closed when it is quiet; then no callback runs any more.
 */
void link_close_out(struct link *l);
void link_close_in(struct link *l);
/* Makes the way in quiet although its peer stays: nng takes one message more, holds it, and does
 * not receive. */
void link_hold_in(struct link *l);

/* The peer is there, both ways. Its messages may come a moment earlier; what is sent before waits
 * for it. */
static inline bool link_joined(struct link *l)
{
	return atomic_load(&l->in.joined) && atomic_load(&l->out.joined);
}

/* The peer has hung up; what it sent before can still be received. */
static inline bool link_gone(struct link *l)
{
	return atomic_load(&l->in.gone);
}

/* Nothing moves: nobody is there, or both ways have ended. Not while a thread closes. */
static inline bool link_quiet(struct link *l)
{
	if (atomic_load(&l->in.peer) == 0 && atomic_load(&l->out.peer) == 0)
		return true;
	return link_gone(l) &&
	       (!l->out.open || !atomic_load(&l->out.joined) || atomic_load(&l->out.gone));
}

/* The peer's process id as the kernel says, 0: nobody. */
static inline uint64_t link_peer_pid(const struct link *l)
{
	return atomic_load(&l->in.peer) >> 32;
}

/* 0, -EAGAIN, or another -errno when the socket is of no use any more. A sent message is nng's.
 * Neither blocks. */
int link_send(struct link *l, nng_msg *m);
int link_receive(struct link *l, nng_msg **m);

#endif
