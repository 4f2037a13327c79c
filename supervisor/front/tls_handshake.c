/* From a client's first byte to the pair that libmicrohttpd gets. */
#include "supervisor/front/tls_private.h"

#include "common/base/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELLO_BYTE 0x16	 /* RFC 8446, 5.1: the content type of a handshake */
#define STEPS_PER_TURN 8 /* of handshakes: a signature takes a millisecond or more */

/* libmicrohttpd gets its end of the pair. False: it does not take it. */
static bool join(struct tls_stream *s, int theirs)
{
	struct front *f = s->tls->front;
	s->tls->arriving = s;
	bool taken = MHD_add_connection(f->daemon, theirs, (struct sockaddr *)&s->from,
			     s->from_bytes) == MHD_YES; /* it closes what it does not take */
	s->tls->arriving = NULL;
	front_wake(f);
	return taken;
}

static void open_pair(struct tls_stream *s)
{
	int fds[2], one = 1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds)) {
		tls_stream_end(s);
		return;
	}
	if (uv_poll_init(s->tls->front->loop, &s->pair_poll, fds[1])) {
		close(fds[0]);
		close(fds[1]);
		tls_stream_end(s);
		return;
	}
	s->pair_fd = fds[1];
	s->pair_poll.data = s;
	s->handles++;
	s->open = true;
	/* A client that does without TCP_NODELAY waits with its request until its last word is
	 * acknowledged. */
	setsockopt(s->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
	if (join(s, fds[0]))
		tls_stream_begin(s);
	else
		tls_stream_end(s);
}

/* A client that speaks HTTP to us should learn why it is not understood. True: it does. */
static bool refuse_plain(struct tls_stream *s)
{
	static const char words[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
				    "Content-Type: text/plain\r\n\r\n"
				    "https:// is spoken on this port.\n";
	unsigned char first;
	ssize_t n = recvfrom(s->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
	s->looked = n != 0 && !(n < 0 && errno == EAGAIN);
	if (n != 1 || first == HELLO_BYTE)
		return false;
	if (send(s->fd, words, sizeof(words) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		linger_start(s->tls->front, s->fd);
	shutdown(s->fd, SHUT_WR);
	return true;
}

static void fail_handshake(struct tls_stream *s, const char *why)
{
	log_line(LOG_INFO, "tls_refused", LOG_STR("peer", s->peer), LOG_STR("why", why), LOG_END);
	tls_stream_end(s);
}

static void on_handshake(uv_poll_t *h, int status, int events)
{
	struct tls_stream *s = h->data;
	(void)events;
	if (status == 0 && s->tls->steps++ >= STEPS_PER_TURN)
		return; /* what is ready is told of again */
	if (status == 0 && !s->looked && refuse_plain(s)) {
		fail_handshake(s, "no TLS");
		return;
	}
	int rc = status ? GNUTLS_E_PULL_ERROR : gnutls_handshake(s->session);
	if (rc == 0) {
		open_pair(s);
	} else if (rc < 0 && gnutls_error_is_fatal(rc)) {
		gnutls_alert_send_appropriate(s->session, rc);
		fail_handshake(s, gnutls_strerror(rc));
	} else {
		bool writes = gnutls_record_get_direction(s->session) == 1;
		tls_watch_one(h, &s->watched, writes ? UV_WRITABLE : UV_READABLE, on_handshake);
	}
}

static int open_session(struct tls_stream *s)
{
	static const gnutls_datum_t http = {(unsigned char *)"http/1.1", 8};
	int rc = gnutls_init(&s->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	if (rc)
		return -ENOMEM;
	rc = gnutls_priority_set_direct(
		s->session, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", NULL);
	if (rc == 0)
		rc = gnutls_credentials_set(
			s->session, GNUTLS_CRD_CERTIFICATE, tls_identity_credentials(s->identity));
	if (rc == 0)
		rc = gnutls_alpn_set_protocols(s->session, &http, 1, 0);
	gnutls_handshake_set_timeout(s->session, GNUTLS_INDEFINITE_TIMEOUT); /* patience */
	gnutls_transport_set_int(s->session, s->fd);
	if (rc)
		gnutls_deinit(s->session);
	return rc ? -ENOMEM : 0;
}

int tls_stream_create(struct front *f, int fd, const struct sockaddr *from, socklen_t n)
{
	struct tls_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct tls_stream){.tls = f->tls,
		.fd = fd,
		.pair_fd = -1,
		.from_bytes = n,
		.identity = f->tls->identity,
		.since_ms = uv_now(f->loop)};
	memcpy(&s->from, from, n);
	buf_init(&s->in, TLS_RECORD_BYTES);
	buf_init(&s->out, TLS_RECORD_BYTES);
	address_peer(from, s->peer);
	if (open_session(s)) {
		free(s);
		return -ENOMEM;
	}
	if (uv_poll_init(f->loop, &s->poll, fd)) {
		gnutls_deinit(s->session);
		free(s);
		return -ENOMEM;
	}
	tls_identity_hold(s->identity);
	s->poll.data = s;
	s->handles = 1;
	TAILQ_INSERT_TAIL(&f->tls->streams, s, link);
	f->stream_count++;
	f->open_handles++;
	tls_watch_one(&s->poll, &s->watched, UV_READABLE, on_handshake);
	return 0;
}
