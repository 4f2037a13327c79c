/* One client's bytes, in both directions, and its end. */
#include "supervisor/front/tls_private.h"

#include "common/base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECORDS_PER_TURN 4 /* then others have their turn */

static char block[TLS_RECORD_BYTES]; /* of whoever has its turn */

/* --- end --- */

static void on_closed(uv_handle_t *h)
{
	struct tls_stream *s = h->data;
	struct tls *t = s->tls;
	struct front *f = t->front;
	if (--s->handles > 0)
		return;
	f->stream_count--;
	free(s);
	t->gone(t);
	front_handle_closed(f);
}

void tls_stream_end(struct tls_stream *s)
{
	if (s->ending)
		return;
	s->ending = true;
	TAILQ_REMOVE(&s->tls->streams, s, link);
	if (s->connection)
		s->connection->stream = NULL;
	gnutls_deinit(s->session);
	tls_identity_release(s->identity);
	buf_free(&s->in);
	buf_free(&s->out);
	uv_poll_stop(&s->poll);
	close(s->fd);
	uv_close((uv_handle_t *)&s->poll, on_closed);
	if (s->pair_fd < 0)
		return;
	uv_poll_stop(&s->pair_poll);
	close(s->pair_fd);
	uv_close((uv_handle_t *)&s->pair_poll, on_closed);
}

bool tls_stream_hung_up(const struct tls_stream *s)
{
	struct pollfd p = {.fd = s->pair_fd};
	return poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR);
}

/* --- from the client --- */

/* Nothing more will come: libmicrohttpd sees a client that has closed, or half-closed, its side. */
static void end_client(struct tls_stream *s)
{
	s->client_over = true;
	buf_free(&s->in);
	s->in_at = 0;
	if (s->server_over)
		tls_stream_end(s);
	else
		shutdown(s->pair_fd, SHUT_WR);
}

/* Bytes for libmicrohttpd, of which those that the pair has no room for wait. */
static void hand_on(struct tls_stream *s, const char *p, size_t n)
{
	ssize_t sent = send(s->pair_fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0 && errno != EAGAIN && errno != EINTR) {
		s->deaf = true;
		if (s->server_over)
			tls_stream_end(s);
		return;
	}
	size_t taken = sent > 0 ? (size_t)sent : 0;
	if (taken == n)
		return;
	if (s->client_left || buf_add(&s->in, p + taken, n - taken))
		end_client(s);
}

static void drain_in(struct tls_stream *s)
{
	ssize_t n = send(
		s->pair_fd, s->in.p + s->in_at, s->in.n - s->in_at, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	s->deaf |= n < 0;
	s->in_at += n > 0 ? (size_t)n : 0;
	if (s->deaf || s->in_at == s->in.n) {
		buf_free(&s->in);
		s->in_at = 0;
	}
}

/* Not while a record waits: what is read may have GnuTLS send new keys, and then that is not gone on
 * with. */
static bool may_read(const struct tls_stream *s)
{
	return !s->ending && !s->client_over && !s->deaf && s->in.n == 0 && !s->sending;
}

/* An end without close_notify: to GnuTLS it would end both directions, to HTTP it does not. */
static bool is_at_end(const struct tls_stream *s)
{
	char c;
	return gnutls_record_check_pending(s->session) == 0 &&
	       recvfrom(s->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) == 0;
}

static void read_client(struct tls_stream *s)
{
	for (int i = 0; i < RECORDS_PER_TURN && may_read(s); i++) {
		if (is_at_end(s)) {
			end_client(s);
			return;
		}
		ssize_t n = gnutls_record_recv(s->session, block, sizeof(block));
		if (n > 0)
			hand_on(s, block, (size_t)n);
		else if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
			return;
		else if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION)
			end_client(s); /* HTTP says what was whole */
		else if (gnutls_error_is_fatal((int)n) || n == GNUTLS_E_REHANDSHAKE)
			tls_stream_end(s);
	}
}

/* --- to the client --- */

/* A record is on its way, or GnuTLS has to be asked for it again. False: the stream is over. */
static bool sent(struct tls_stream *s, ssize_t rc)
{
	bool blocked = rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
	if (rc < 0 && !blocked) {
		tls_stream_end(s);
		return false;
	}
	if (blocked && !s->sending)
		s->since_ms = uv_now(s->tls->front->loop);
	s->sending = blocked;
	return true;
}

/* What stays open behind it is for a client that is still sending (linger.c): closed at once, it would
 * lose the answer. */
static void say_bye(struct tls_stream *s)
{
	if (!s->said_bye && !sent(s, gnutls_bye(s->session, GNUTLS_SHUT_WR)))
		return;
	if (s->sending)
		return;
	s->said_bye = true;
	if (s->client_over || s->deaf || tls_stream_hung_up(s))
		tls_stream_end(s);
	else
		shutdown(s->fd, SHUT_WR);
}

/* Records may be smaller than what we have: a client may ask for that (RFC 6066, 4; RFC 8449). What
 * cannot go out waits, that of the record on its way first. */
static void send_bytes(struct tls_stream *s, const char *p, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t k = gnutls_record_send(s->session, p + at, n - at);
		if (!sent(s, k))
			return;
		if (!s->sending) {
			at += (size_t)k;
			continue;
		}
		if (buf_add(&s->out, p + at, n - at))
			tls_stream_end(s);
		return;
	}
}

static void send_on(struct tls_stream *s)
{
	ssize_t k = gnutls_record_send(s->session, NULL, 0);
	if (!sent(s, k) || s->sending)
		return;
	struct buf rest = s->out;
	buf_init(&s->out, TLS_RECORD_BYTES);
	send_bytes(s, rest.p + k, rest.n - (size_t)k);
	buf_free(&rest);
}

static void write_client(struct tls_stream *s)
{
	for (int i = 0; i < RECORDS_PER_TURN && !s->ending && !s->sending && !s->server_over; i++) {
		ssize_t n = recvfrom(s->pair_fd, block, sizeof(block), MSG_DONTWAIT, NULL, NULL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n > 0) {
			send_bytes(s, block, (size_t)n);
			continue;
		}
		s->server_over = true; /* also by a reset: it has closed with bytes unread */
		say_bye(s);
	}
}

static void go_on_sending(struct tls_stream *s)
{
	if (s->server_over)
		say_bye(s);
	else
		send_on(s);
}

/* --- both ways --- */

static void watch(struct tls_stream *s);

static void on_client(uv_poll_t *h, int status, int events)
{
	struct tls_stream *s = h->data;
	if (status) {
		tls_stream_end(s);
		return;
	}
	if (events & UV_WRITABLE && s->sending)
		go_on_sending(s);
	if (events & UV_READABLE)
		read_client(s);
	if (!s->ending && events & UV_DISCONNECT) {
		s->client_left = true;
		if (!s->client_over && (s->in.n > 0 || s->sending))
			end_client(s);
	}
	watch(s);
}

static void on_pair(uv_poll_t *h, int status, int events)
{
	struct tls_stream *s = h->data;
	if (status) {
		/* Closed with bytes unread: what was answered before may still be there. */
		s->pair_watched = 0;
		s->deaf = true;
		buf_free(&s->in);
		s->in_at = 0;
	}
	if (events & UV_WRITABLE && s->in.n > 0)
		drain_in(s);
	if (status || events & UV_READABLE)
		write_client(s);
	watch(s);
}

void tls_watch_one(uv_poll_t *h, int *watched, int events, uv_poll_cb cb)
{
	if (events == *watched)
		return;
	*watched = events;
	if (events)
		uv_poll_start(h, events, cb);
	else
		uv_poll_stop(h);
}

static void watch(struct tls_stream *s)
{
	if (s->ending)
		return;
	int client = (may_read(s) ? UV_READABLE : 0) | (s->sending ? UV_WRITABLE : 0) |
		     (s->client_left || s->client_over ? 0 : UV_DISCONNECT);
	int pair =
		(s->sending || s->server_over ? 0 : UV_READABLE) | (s->in.n > 0 ? UV_WRITABLE : 0);
	tls_watch_one(&s->poll, &s->watched, client, on_client);
	tls_watch_one(&s->pair_poll, &s->pair_watched, pair, on_pair);
}

/* --- with libmicrohttpd's connection --- */

void tls_stream_begin(struct tls_stream *s)
{
	uv_poll_stop(&s->poll); /* the handshake's callback */
	s->watched = 0;
	read_client(s); /* it may have come with the end of the handshake */
	watch(s);
}

struct tls_stream *tls_adopt(struct front *f, struct connection *c)
{
	struct tls_stream *s = f->tls ? f->tls->arriving : NULL;
	if (s)
		s->connection = c;
	return s;
}

void tls_forget(struct tls_stream *s)
{
	s->connection = NULL;
}

void tls_cut(struct tls_stream *s, uint64_t at_ms)
{
	s->cut_ms = at_ms;
}

void tls_break(struct tls_stream *s)
{
	tls_stream_end(s);
}
