#include "supervisor/front/internal.h"

#include "common/base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connection's memory in MHD: what it reads of a body at once, chunks of an answer, an answer's
 * head. Heads of requests are kept elsewhere (inlet.h). */
#define MHD_MEMORY_BYTES 40960
/* a run may make work for the next one; the rest waits for the next turn */
#define RUNS_PER_TURN 4

/* --- connections --- */

static void on_disconnect(uv_poll_t *poll, int status, int events)
{
	struct connection *c = poll->data;
	if (status == 0 && !(events & UV_DISCONNECT))
		return;
	if (!c->left && !c->current && status == 0) {
		/* Its last request may still be unread: MHD runs first, then this comes again. */
		c->left = true;
		front_wake(c->front);
		return;
	}
	c->left = true;
	uv_poll_stop(poll);
	bool whole = c->current && c->current->body_over;
	if (c->current)
		exchange_lost(c->current);
	if (!whole) /* nor would MHD wait for the rest of a body but for idle_ms */
		shutdown(c->fd, SHUT_RDWR); /* MHD's edge-triggered watch may have missed it */
}

static void on_connection_freed(uv_handle_t *h)
{
	free(h->data);
}

static void name_peer(struct connection *c, struct MHD_Connection *mhd)
{
	const struct sockaddr *a =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;
	address_peer(a, c->peer);
}

static struct connection *connection_create(struct front *f, struct MHD_Connection *mhd)
{
	int fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	struct connection *c = calloc(1, sizeof(*c));
	if (c)
		*c = (struct connection){
			.front = f, .mhd = mhd, .fd = fd, .idle_since_ms = uv_now(f->loop)};
	bool added = c && intake_add(c) == 0;
	if (!added || uv_poll_init(f->loop, &c->poll, fd)) {
		if (added)
			intake_remove(c);
		free(c);
		shutdown(fd, SHUT_RDWR); /* not served blind: MHD sees the end and closes */
		return NULL;
	}
	TAILQ_INSERT_TAIL(&f->open, c, link);
	c->poll.data = c;
	name_peer(c, mhd);
	uv_poll_start(&c->poll, UV_DISCONNECT, on_disconnect);
	c->stream = tls_adopt(f, c);
	patience_start(f);
	return c;
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
	enum MHD_ConnectionNotificationCode code)
{
	struct front *f = cls;
	struct connection *c = *context;
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		f->connections++;
		*context = connection_create(f, mhd);
		return;
	}
	*context = NULL;
	/* At the limit MHD has stopped listening; it listens again in its next run, which no event
	 * would bring. */
	if (f->connections-- >= f->connections_max)
		front_wake(f);
	tls_look(f);
	if (!c)
		return;
	if (c->stream)
		tls_forget(c->stream);
	if (c->current)
		exchange_drop(c->current);
	TAILQ_REMOVE(&f->open, c, link);
	intake_remove(c);
	uv_close((uv_handle_t *)&c->poll,
		on_connection_freed); /* stops at once, while the descriptor is still ours */
}

/* --- running MHD inside the loop --- */

static void on_epoll(uv_poll_t *h, int status, int events)
{
	(void)status;
	(void)events;
	front_wake(h->data);
}

static void on_timer(uv_timer_t *h)
{
	front_wake(h->data);
}

static void run_pending(struct front *f)
{
	MHD_UNSIGNED_LONG_LONG ms;
	for (int i = 0; i < RUNS_PER_TURN && f->pending; i++) {
		f->pending = false;
		intake_run_pokes(f);
		MHD_run(f->daemon);
		if (MHD_get_timeout(f->daemon, &ms) != MHD_YES)
			uv_timer_stop(&f->timer);
		else if (ms == 0)
			f->pending = true;
		else
			uv_timer_start(&f->timer, on_timer, ms, 0);
	}
	if (!f->pending)
		uv_idle_stop(&f->idle);
}

static void on_check(uv_check_t *h)
{
	struct front *f = h->data;
	tls_turn(f);
	if (f->pending)
		run_pending(f);
}

static void on_mhd_log(void *cls, const char *format, va_list ap)
{
	(void)cls;
	char line[512];
	vsnprintf(line, sizeof(line), format, ap);
	line[strcspn(line, "\n")] = '\0';
	log_line(LOG_DEBUG, "http", LOG_STR("message", line), LOG_END);
}

/* --- life --- */

static void take_options(struct front *f, const struct front_options *o)
{
	f->stream_bytes = o->stream_bytes;
	f->header_bytes = o->header_bytes;
	f->heads.max = o->header_total_bytes;
	f->headers_max = o->headers;
	f->head_ms = o->head_ms;
	f->body_ms = o->body_ms;
	f->body_rate = o->body_rate;
	f->connections_max = o->connections;
	f->idle_ms = o->idle_ms;
	TAILQ_INIT(&f->open);
	TAILQ_INIT(&f->exchanges);
	TAILQ_INIT(&f->lingers);
}

/* Clients with TLS are not accepted by libmicrohttpd (tls.h). */
static int start_daemon(struct front *f, bool tls, struct buf *err)
{
	const struct MHD_OptionItem none = {MHD_OPTION_END, 0, NULL};
	const struct MHD_OptionItem listener = {MHD_OPTION_LISTEN_SOCKET, f->listen_fd, NULL};
	struct MHD_OptionItem where[] = {tls ? none : listener, none};
	unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	f->daemon = MHD_start_daemon(tls ? flags | MHD_USE_NO_LISTEN_SOCKET : flags, 0, NULL, NULL,
		exchange_handle, f, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, f, MHD_OPTION_ARRAY,
		where, MHD_OPTION_CONNECTION_LIMIT, f->connections_max,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MHD_MEMORY_BYTES,
		MHD_OPTION_CONNECTION_TIMEOUT, front_idle_seconds(f->idle_ms),
		MHD_OPTION_URI_LOG_CALLBACK, exchange_begin, f, MHD_OPTION_NOTIFY_COMPLETED,
		exchange_completed, f, MHD_OPTION_NOTIFY_CONNECTION, on_connection, f,
		MHD_OPTION_END);
	if (f->daemon)
		return 0;
	buf_printf(err, "libmicrohttpd does not start: %s", strerror(errno));
	return -EIO;
}

static void watch_daemon(struct front *f)
{
	uv_poll_init(f->loop, &f->epoll,
		MHD_get_daemon_info(f->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
	uv_timer_init(f->loop, &f->timer);
	uv_check_init(f->loop, &f->check);
	uv_idle_init(f->loop, &f->idle);
	uv_timer_init(f->loop, &f->patience);
	f->open_handles = 5;
	f->epoll.data = f->timer.data = f->check.data = f->idle.data = f->patience.data = f;
	uv_poll_start(&f->epoll, UV_READABLE, on_epoll);
	uv_check_start(&f->check, on_check);
}

/* The socket, and all that hangs on it. 0 or -errno; the socket is closed then. */
static int open_all(struct front *f, const struct front_options *o, struct buf *err)
{
	struct tls_identity *identity = NULL;
	int rc = 0;
	f->listen_fd = o->listen_fd;
	if (o->certificate)
		rc = tls_identity_load(o->certificate, o->key, &identity, err);
	if (rc == 0)
		rc = intake_open();
	if (rc == 0 && f->listen_fd < 0)
		f->listen_fd = address_listen(o, err);
	if (rc == 0 && f->listen_fd < 0)
		rc = f->listen_fd;
	if (rc == 0) {
		address_name(f);
		rc = start_daemon(f, identity != NULL, err);
	}
	if (rc == 0) {
		watch_daemon(f);
		return identity ? tls_open(f, identity) : 0;
	}
	if (identity)
		tls_identity_release(identity);
	if (f->listen_fd >= 0)
		close(f->listen_fd);
	return rc;
}

int front_start(uv_loop_t *loop, const struct front_options *o, const struct front_events *e,
	void *ctx, struct front **out, struct buf *err)
{
	struct front *f = calloc(1, sizeof(*f));
	if (!f) {
		if (o->listen_fd >= 0)
			close(o->listen_fd);
		return -ENOMEM;
	}
	f->loop = loop;
	f->events = e;
	f->ctx = ctx;
	take_options(f, o);
	int rc = open_all(f, o, err);
	if (rc == 0)
		*out = f;
	else if (f->open_handles > 0) /* only the last step has failed */
		front_stop(f);
	else
		free(f);
	return rc;
}

const char *front_address(const struct front *f)
{
	return f->address;
}

bool front_is_loopback(const struct front *f)
{
	return f->loopback;
}

bool front_has_tls(const struct front *f)
{
	return f->tls != NULL;
}

int front_renew(struct front *f, const char *certificate, const char *key, struct buf *err)
{
	struct tls_identity *identity;
	int rc = f->tls ? tls_identity_load(certificate, key, &identity, err) : 0;
	if (rc == 0 && f->tls)
		tls_renew(f, identity);
	return rc;
}

int front_listen_fd(const struct front *f)
{
	return f->listen_fd;
}

void front_close_idle(struct front *f, unsigned idle_ms)
{
	struct connection *c;
	if (idle_ms >= f->idle_ms)
		return;
	TAILQ_FOREACH(c, &f->open, link) {
		if (!c->hurried && front_is_idle(c))
			front_hurry(c, idle_ms);
	}
}

void front_quiesce(struct front *f)
{
	if (f->quiesced)
		return;
	f->quiesced = true;
	tls_quiesce(f);
	MHD_quiesce_daemon(f->daemon);
	close(f->listen_fd);
	f->listen_fd = -1;
}

void front_counts(const struct front *f, unsigned *connections, unsigned *exchanges)
{
	*connections = f->tls ? f->stream_count : f->connections;
	*exchanges = f->exchange_count;
}

static void on_handle_closed(uv_handle_t *h)
{
	front_handle_closed(h->data);
}

void front_stop(struct front *f)
{
	struct exchange *x;
	front_quiesce(f); /* MHD must not close, let alone shut down, a socket that others share */
	f->stopping = true; /* nothing is suspended from here on: MHD panics when it is stopped with
			       a connection suspended */
	TAILQ_FOREACH(x, &f->exchanges, link)
		exchange_abort(x);
	linger_stop_all(f);
	uv_poll_stop(&f->epoll);
	MHD_run(f->daemon);
	MHD_stop_daemon(f->daemon); /* ends the exchanges that are left */
	tls_stop(f);
	uv_close((uv_handle_t *)&f->epoll, on_handle_closed);
	uv_close((uv_handle_t *)&f->timer, on_handle_closed);
	uv_close((uv_handle_t *)&f->check, on_handle_closed);
	uv_close((uv_handle_t *)&f->idle, on_handle_closed);
	uv_close((uv_handle_t *)&f->patience, on_handle_closed);
}
