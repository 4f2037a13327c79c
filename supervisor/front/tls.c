/* Who is let in, and until when; a stream's bytes are tls_stream.c's. */
#include "supervisor/front/tls_private.h"

#include "common/base/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 32
#define LAST_MS 500   /* at the end of all, for answers that are on their way */
#define LEAVE_MS 1000 /* when nothing more is taken, for answers that have a bound of their own */
#define PLACE_MS 1000 /* when all places are taken, who has not said a word for so long makes one */

/* --- accepting --- */

static bool accept_one(struct front *f)
{
	struct sockaddr_storage from = {0};
	socklen_t n = sizeof(from);
	int one = 1;
	int fd = accept4(f->listen_fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return errno == EINTR || errno == ECONNABORTED;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (tls_stream_create(f, fd, (struct sockaddr *)&from, n))
		close(fd);
	patience_start(f);
	return true;
}

static void on_listener(uv_poll_t *h, int status, int events)
{
	struct tls *t = h->data;
	struct front *f = t->front;
	(void)events;
	errno = 0;
	for (int i = 0; status == 0 && i < ACCEPTS_PER_TURN; i++) {
		if (front_is_full(f))
			break;
		if (!accept_one(f)) {
			/* No descriptors, no memory: the next look tries again. */
			if (errno != EAGAIN)
				break;
			return;
		}
	}
	if (front_is_full(f) || errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
		errno == ENOBUFS) {
		uv_poll_stop(h);
		t->paused = true;
		patience_start(f);
	}
}

void tls_look(struct front *f)
{
	struct tls *t = f->tls;
	if (!t || !t->paused || f->quiesced || front_is_full(f))
		return;
	t->paused = false;
	uv_poll_start(&t->listener, UV_READABLE, on_listener);
}

void tls_turn(struct front *f)
{
	if (f->tls)
		f->tls->steps = 0;
}

/* --- life --- */

static void on_handle_closed(uv_handle_t *h)
{
	struct tls *t = h->data;
	struct front *f = t->front;
	if (--t->handles > 0)
		return;
	f->tls = NULL;
	tls_identity_release(t->identity);
	free(t);
	front_handle_closed(f);
}

static void stream_gone(struct tls *t)
{
	if (!t->stopping) {
		tls_look(t->front);
	} else if (t->front->stream_count == 0 && !uv_is_closing((uv_handle_t *)&t->last)) {
		uv_close((uv_handle_t *)&t->listener, on_handle_closed);
		uv_close((uv_handle_t *)&t->last, on_handle_closed);
	}
}

int tls_open(struct front *f, struct tls_identity *identity)
{
	struct tls *t = calloc(1, sizeof(*t));
	int rc = t ? uv_poll_init(f->loop, &t->listener, f->listen_fd) : -ENOMEM;
	if (rc) {
		free(t);
		tls_identity_release(identity);
		return rc;
	}
	uv_timer_init(f->loop, &t->last);
	t->handles = 2;
	t->front = f;
	t->identity = identity;
	t->gone = stream_gone;
	t->listener.data = t->last.data = t;
	TAILQ_INIT(&t->streams);
	f->tls = t;
	f->open_handles++;
	return uv_poll_start(&t->listener, UV_READABLE, on_listener);
}

void tls_renew(struct front *f, struct tls_identity *identity)
{
	tls_identity_release(f->tls->identity);
	f->tls->identity = identity;
}

void tls_quiesce(struct front *f)
{
	struct tls_stream *s;
	uint64_t at = uv_now(f->loop) + LEAVE_MS;
	if (!f->tls)
		return;
	uv_poll_stop(&f->tls->listener);
	TAILQ_FOREACH(s, &f->tls->streams, link)
		if (s->cut_ms > at)
			s->cut_ms = at;
}

static void end_all(struct tls *t, bool open)
{
	struct tls_stream *s, *next;
	for (s = TAILQ_FIRST(&t->streams); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (open || !s->open)
			tls_stream_end(s);
	}
}

static void on_last(uv_timer_t *h)
{
	end_all(h->data, true);
}

void tls_stop(struct front *f)
{
	struct tls *t = f->tls;
	if (!t)
		return;
	t->stopping = true;
	end_all(t, false);
	uv_timer_start(&t->last, on_last, LAST_MS, 0);
	stream_gone(t);
}

/* --- deadlines --- */

/* Not a byte has come. */
static bool is_silent(const struct tls_stream *s)
{
	char c;
	return !s->looked && recvfrom(s->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) < 0;
}

static bool is_late(const struct front *f, const struct tls_stream *s, uint64_t now)
{
	uint64_t since = now - s->since_ms;
	if (!s->open)
		return since >= f->head_ms ||
		       (front_is_full(f) && since >= PLACE_MS && is_silent(s));
	if (s->sending)
		return since >= f->idle_ms || (s->cut_ms && now >= s->cut_ms);
	return s->server_over && tls_stream_hung_up(s);
}

bool tls_patience(struct front *f, uint64_t now)
{
	struct tls_stream *s, *next;
	if (!f->tls)
		return false;
	for (s = TAILQ_FIRST(&f->tls->streams); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (!is_late(f, s, now))
			continue;
		if (!s->open)
			log_line(LOG_INFO, "tls_refused", LOG_STR("peer", s->peer),
				LOG_STR("why", "the handshake took too long"), LOG_END);
		tls_stream_end(s);
	}
	tls_look(f);
	return f->stream_count > 0 || f->tls->paused;
}
