/*
 * Shared by the files of tls.h, and nobody else. From the lowest to the highest: tls_identity.c, tls_stream.c (one
 * stream), tls_handshake.c (how it begins), tls.c (all of them).
 */
#ifndef TANDEM_HTTP_TLS_PRIVATE_H
#define TANDEM_HTTP_TLS_PRIVATE_H

#include "supervisor/front/internal.h"
#include "supervisor/front/tls.h"

#include <gnutls/gnutls.h>

#define TLS_RECORD_BYTES 16384 /* RFC 8446, 5.1: of plain text at most */

TAILQ_HEAD(tls_list, tls_stream);

struct tls {
	struct front *front;
	struct tls_identity *identity; /* of new streams */
	uv_poll_t listener;
	uv_timer_t last; /* once stopping: until what is answered must be out */
	unsigned handles;
	unsigned steps;		     /* of handshakes, in this turn of the loop */
	struct tls_list streams;     /* the oldest first */
	struct tls_stream *arriving; /* being handed to libmicrohttpd */
	bool paused;		     /* all places are taken, or descriptors are */
	bool stopping;
	void (*gone)(struct tls *t); /* a stream is closed, and not counted any more */
};

/*
 * client <-> fd, session <-> pair_fd <-> libmicrohttpd. In its handshake until it is open: there is no
 * pair before.
 */
struct tls_stream {
	TAILQ_ENTRY(tls_stream) link;
	struct tls *tls;
	struct tls_identity *identity;
	struct connection *connection; /* libmicrohttpd's; NULL: none yet, or gone */
	gnutls_session_t session;
	struct sockaddr_storage from;
	socklen_t from_bytes;
	char peer[ADDRESS_PEER_BYTES];
	int fd, pair_fd;
	uv_poll_t poll, pair_poll;
	int watched, pair_watched; /* what the polls look for */
	unsigned handles;	   /* not closed yet */
	struct buf in;		   /* of the client, for which the pair had no room */
	struct buf out; /* for the client: of the record on its way, and what is behind it */
	size_t in_at;
	uint64_t since_ms; /* its beginning; once open, that of a record which cannot be sent */
	uint64_t cut_ms;   /* when what cannot be sent is given up; 0: after idle_ms */
	bool looked;	   /* at the first byte: it is TLS */
	bool open, ending; /* the handshake is over; so is all */
	bool sending;	   /* a record waits for room in the client's socket */
	bool client_over;  /* nothing more comes from the client ... */
	bool client_left;  /* ... or what does is behind its end */
	bool server_over, said_bye; /* nothing more comes from libmicrohttpd; the client knows */
	bool deaf;		    /* nobody reads what the client sends */
};

/* --- tls_handshake.c --- */
/* Takes fd over. 0 or -errno. */
int tls_stream_create(struct front *f, int fd, const struct sockaddr *from, socklen_t n);

/* --- tls_stream.c --- */
/* The handshake is over, and the pair is there. */
void tls_stream_begin(struct tls_stream *s);
/* Closes everything, now. */
void tls_stream_end(struct tls_stream *s);
/* Nobody holds the other end of the pair any more. */
bool tls_stream_hung_up(const struct tls_stream *s);
/* Has a poll look for these events; *watched: for which it does. */
void tls_watch_one(uv_poll_t *h, int *watched, int events, uv_poll_cb cb);

#endif
