/*
 * Private to proto/: the nng pair1 socket below a channel, for one peer in its life.
 *
 * nng's pipe callbacks run on nng's threads; they only store atomics here and call wake (an
 * uv_async_send). The first peer with our user id is the peer; others are turned away, also after
 * it is gone: what was queued for it must not reach another process. Errors are -errno.
 */
#ifndef TANDEM_SOCKET_H
#define TANDEM_SOCKET_H

#include <nng/nng.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct link_socket {
	nng_socket socket;
	bool open;
	int recv_fd, send_fd;	 /* readable when there is something to receive, or room to send */
	void (*wake)(void *ctx); /* any thread */
	void *ctx;
	atomic_int pipe;	  /* id of the peer's pipe, 0: none yet */
	atomic_bool joined, gone; /* the peer's, each set once */
	atomic_ullong pid;	  /* the peer's, as the kernel says */
	atomic_uint strangers;	  /* connections turned away */
};

/* Opens the socket; nobody can connect yet. s is zeroed but for wake and ctx, and stays where it is
 * until link_close(). */
int link_open(struct link_socket *s);
int link_listen(struct link_socket *s, const char *url);
/* Blocks until the connection is refused or made; nng gives up a peer that does not answer after 10
 * s. */
int link_dial(struct link_socket *s, const char *url);
/* No callback runs after it. */
void link_close(struct link_socket *s);

/* 0, -EAGAIN, or another -errno when the socket is of no use any more. A sent message is nng's.
 * Neither blocks. */
int link_send(struct link_socket *s, nng_msg *m);
int link_receive(struct link_socket *s, nng_msg **m);

#endif
