/*
 * TLS towards clients, between their sockets and everything else of this folder.
 *
 * libmicrohttpd can do TLS by itself, but would read heads and chunks before the inlet does (inlet.h), and all that is
 * done past it (intake.c, linger.c, by_hand.c, patience.c) would meet ciphertext. So TLS ends here: each client's
 * socket is one end of a *stream* whose other end is a pair of sockets, of which libmicrohttpd gets one
 * as if it had accepted it. Behind it nothing differs from a client without TLS: bytes, ends, back-pressure
 * and clients that leave pass through in both directions.
 *
 * GnuTLS does the work, TLS 1.2 and 1.3, no renegotiation. A handshake has deadlines.head_ms, and at most
 * one record of 16 KB waits in a stream for either side. A certificate may be renewed while streams go on: they
 * keep what they began with. All on the loop's thread; nothing blocks but the reading of the files.
 */
#ifndef TANDEM_HTTP_TLS_H
#define TANDEM_HTTP_TLS_H

#include "common/base/buf.h"

#include <stdint.h>

struct connection;
struct front;
struct tls_identity;
struct tls_stream;

/* --- tls_identity.c: certificate and key, shared by the streams that began with them --- */

/* PEM files; the certificate's may hold those of its issuers behind it. 0, -EINVAL or -ENOMEM with words
 * in err. Held once for the caller. */
int tls_identity_load(
	const char *certificate, const char *key, struct tls_identity **out, struct buf *err);
struct tls_identity *tls_identity_hold(struct tls_identity *i);
void tls_identity_release(struct tls_identity *i);
/* For GnuTLS: a gnutls_certificate_credentials_t. */
void *tls_identity_credentials(const struct tls_identity *i);

/* --- tls.c --- */

/* The front's listening socket is accepted on here; takes the identity over. 0 or -errno. */
int tls_open(struct front *f, struct tls_identity *identity);
/* Streams that begin from now on have this one, which is taken over. */
void tls_renew(struct front *f, struct tls_identity *identity);
/* Accepts no more. Before the socket is closed. */
void tls_quiesce(struct front *f);
/* Once libmicrohttpd has stopped: what it has answered still goes out, then all ends. */
void tls_stop(struct front *f);
/* A connection may have become free. */
void tls_look(struct front *f);
/* A turn of the loop is over: the next one has time for as many handshakes again. */
void tls_turn(struct front *f);
/* Ends those that are too slow. True: look again. */
bool tls_patience(struct front *f, uint64_t now);

/* libmicrohttpd has a new connection: the stream that it is of. */
struct tls_stream *tls_adopt(struct front *f, struct connection *c);
/* That connection is gone. */
void tls_forget(struct tls_stream *s);
/* What waits for its client has until then (uv_now()); 0: no such bound. */
void tls_cut(struct tls_stream *s, uint64_t at_ms);
/* The answer will not be whole, or nobody waits for it: ends at once, without the word that says so
 * (close_notify), by which a client knows that something is missing. */
void tls_break(struct tls_stream *s);

#endif
