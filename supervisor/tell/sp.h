/*
 * Scalability protocols over ipc, the listening end: what nng's sockets speak, on libuv pipes.
 *
 * nng is not used for it: the listener of nng 1.5 accepts nobody any more after a peer that left in
 * the middle of the handshake (nng #1518), and who watches a status may be interrupted at any time.
 * A peer that breaks the form, talks on while it is not listened to, or is silent for too long, is
 * disconnected.
 *
 * Format: github.com/nanomsg/nanomsg/tree/master/rfc, sp-ipc-mapping-01: a hello of 8 bytes each
 * way, then messages: type 1, length in 8 bytes, bytes.
 *
 * A protocol (rep.c, pub.c) says what a peer is: struct sp_peer first in a struct of its own.
 * Everything runs on the loop thread, nothing blocks.
 */
#ifndef TANDEM_SP_H
#define TANDEM_SP_H

#include "common/base/buf.h"

#include <sys/queue.h>
#include <uv.h>

#define SP_HELLO_BYTES 8
#define SP_HEAD_BYTES 9	      /* of a message: type and length */
#define SP_MESSAGE_BYTES 4096 /* longest message a peer may send */
#define SP_PEERS_MAX 64	      /* of one socket; for one more the one silent longest goes */
#define SP_HELLO_MS 5000      /* for a peer's hello */
#define SP_IDLE_MS 60000      /* without a message, or without reading one, it is disconnected */

enum sp_protocol { SP_PUB = 0x20, SP_SUB = 0x21, SP_REQ = 0x30, SP_REP = 0x31 };

struct sp;
struct sp_peer;

struct sp_kind {
	enum sp_protocol self, peer;
	bool silent;	  /* its peers only listen: their silence means nothing */
	size_t peer_size; /* bytes of the struct that begins with struct sp_peer */
	/* The handshake is done. May be NULL. */
	void (*greeted)(struct sp_peer *p);
	/* A whole message. Not called while p->busy. */
	void (*message)(struct sp_peer *p, struct slice message);
	/* The pipe is closed. Frees what the peer owns; false: it is still needed, and sp_forget()
	 * follows. */
	bool (*closed)(struct sp_peer *p);
};

struct sp_peer {
	struct sp *sp;
	TAILQ_ENTRY(sp_peer) link;
	uv_pipe_t pipe;
	uv_write_t hello_write;
	char hello[SP_HELLO_BYTES]; /* ours */
	bool greeted, closing;
	bool busy; /* the protocol's own: messages wait; sp_go_on() after clearing it */
	char in[SP_HEAD_BYTES + SP_MESSAGE_BYTES];
	size_t n;	   /* bytes in it */
	uint64_t moved_ms; /* loop time of its last message, or answer */
};

TAILQ_HEAD(sp_peers, sp_peer);

struct sp {
	const struct sp_kind *kind;
	void *ctx; /* the protocol's own */
	uv_pipe_t listener;
	uv_timer_t sweep;
	unsigned handles;      /* listener and sweep, not yet closed */
	struct sp_peers peers; /* the one silent longest first */
	unsigned peer_count;
	bool waiting; /* somebody is not accepted yet: too many peers, or no memory */
	bool closing;
	void (*gone)(struct sp *sp); /* stopped, and the loop has let go: frees it */
};

/* Listens on path, which must not exist. 0; on an error (-errno) gone() is called later as well. */
int sp_listen(struct sp *sp, uv_loop_t *loop, const struct sp_kind *kind, const char *path,
	void *ctx, void (*gone)(struct sp *sp));
/* Disconnects everybody and removes the path. */
void sp_stop(struct sp *sp);

/* Disconnects; closed() comes from the loop. May be called again. */
void sp_close(struct sp_peer *p);
/* Of a peer whose closed() returned false. */
void sp_forget(struct sp_peer *p);
/* Writes bytes, which live until done. A failure disconnects and is told to nobody. */
void sp_write(struct sp_peer *p, uv_write_t *w, struct slice bytes, uv_write_cb done);
/* What waited while the peer was busy. */
void sp_go_on(struct sp_peer *p);

/* The head of a message of n bytes. */
void sp_head(char head[SP_HEAD_BYTES], uint64_t n);

#endif
