#include "supervisor/life/doors.h"

#include "common/base/log.h"
#include "supervisor/life/life.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define METRICS_CONNECTIONS 32 /* of who collects */

/* --- opening --- */

static struct front_options options(const struct life *l)
{
	const struct config *c = l->config;
	return (struct front_options){
		.address = c->listen.address,
		.port = c->listen.port,
		.connections = l->connections_max,
		.header_bytes = (size_t)c->limits.header_bytes,
		.header_total_bytes = (size_t)c->limits.header_total_bytes,
		.headers = (size_t)c->limits.headers,
		.head_ms = (unsigned)c->deadlines.head_ms,
		.body_ms = (unsigned)c->deadlines.body_ms,
		.body_rate = (unsigned)c->limits.body_rate,
		/* Credit bounds what a worker sends; beside it stand heartbeats and an in-band
		   error. */
		.stream_bytes = (size_t)(c->limits.stream_bytes > PROTO_WINDOW_BYTES
						 ? c->limits.stream_bytes
						 : PROTO_WINDOW_BYTES) +
				65536,
		.idle_ms = (unsigned)c->limits.idle_ms,
		.certificate = c->listen.certificate,
		.key = c->listen.key,
		.listen_fd = -1,
	};
}

void doors_take_metrics(struct life *l, int fd)
{
	const struct config *c = l->config;
	struct buf err;
	bool same = false;
	if (fd < 0)
		return;
	buf_init(&err, 256);
	if (c->metrics.address &&
		front_check_listener(fd, c->metrics.address, c->metrics.port, &same, &err) == 0 &&
		same)
		l->metrics_fd = fd;
	else
		close(fd);
	buf_free(&err);
}

static int open_metrics(const struct life *l, struct front **out, struct buf *err)
{
	struct front_options o = options(l);
	if (!l->config->metrics.address)
		return 0;
	o.address = l->config->metrics.address;
	o.port = l->config->metrics.port;
	o.connections = METRICS_CONNECTIONS;
	o.listen_fd = l->metrics_fd < 0 ? -1 : fcntl(l->metrics_fd, F_DUPFD_CLOEXEC, 0);
	return front_start(l->loop, &o, &requests_metrics_events, l->requests, out, err);
}

/* It is the door for metrics from now on; its socket is kept for the successor, and to open it again. */
static void take_metrics_door(struct life *l, struct front *door)
{
	l->metrics = door;
	if (!door)
		return;
	if (l->metrics_fd < 0)
		l->metrics_fd = fcntl(front_listen_fd(door), F_DUPFD_CLOEXEC, 0);
	l->requests->metrics_loopback = front_is_loopback(door);
	log_line(LOG_INFO, "metrics_at", LOG_STR("address", front_address(door)), LOG_END);
}

/* Is it open to who has no key, under this configuration? */
static bool is_safe(const struct front *door, const struct config *c, struct buf *err)
{
	if (!door || front_is_loopback(door) || config_has_keys(c) || c->access.open)
		return true;
	buf_printf(err,
		"%s is open to the network: access.key_file must name the keys of those who may, "
		"or access.open = true say that all may",
		front_address(door));
	return false;
}

bool doors_may_stay(const struct life *l, const struct config *c, struct buf *err)
{
	return is_safe(l->front, c, err) && is_safe(l->metrics, c, err);
}

static int open_front(const struct life *l, int listen_fd, struct front **out, struct buf *err)
{
	struct front_options o = options(l);
	o.listen_fd = listen_fd;
	return front_start(l->loop, &o, &requests_front_events, l->requests, out, err);
}

int doors_open(struct life *l, int listen_fd, struct buf *err)
{
	struct front *front = NULL, *metrics = NULL;
	int rc = open_front(l, listen_fd, &front, err);
	if (rc == 0)
		rc = open_metrics(l, &metrics, err);
	if (rc == 0 && !(is_safe(front, l->config, err) && is_safe(metrics, l->config, err)))
		rc = -EACCES;
	if (rc) {
		if (front)
			front_stop(front);
		if (metrics)
			front_stop(metrics);
		return rc;
	}
	l->front = front;
	l->requests->loopback = front_is_loopback(front);
	take_metrics_door(l, metrics);
	return 0;
}

static void shut(struct life *l, struct front *door)
{
	if (!door)
		return;
	front_quiesce(door);
	l->shut[l->shut_count++] = door;
}

int doors_again(struct life *l, int listen_fd, struct buf *err)
{
	struct front *before = l->front, *metrics = l->metrics;
	if (l->shut_count + 2 > DOORS_SHUT_MAX) {
		close(listen_fd);
		buf_add_str(err, "too many successors have died");
		return -EMFILE;
	}
	int rc = doors_open(l, listen_fd, err);
	if (rc)
		return rc;
	shut(l, before);
	shut(l, metrics);
	return 0;
}

/* --- all of them --- */

#define DOORS_MAX (2 + DOORS_SHUT_MAX)

static size_t all_doors(const struct life *l, struct front *out[DOORS_MAX])
{
	size_t n = 0;
	if (l->front)
		out[n++] = l->front;
	if (l->metrics)
		out[n++] = l->metrics;
	for (size_t i = 0; i < l->shut_count; i++)
		out[n++] = l->shut[i];
	return n;
}

void doors_counts(const struct life *l, unsigned *connections, unsigned *exchanges)
{
	struct front *doors[DOORS_MAX];
	unsigned c, x;
	*connections = *exchanges = 0;
	for (size_t i = 0, n = all_doors(l, doors); i < n; i++) {
		front_counts(doors[i], &c, &x);
		*connections += c;
		*exchanges += x;
	}
}

void doors_quiesce(struct life *l)
{
	struct front *doors[DOORS_MAX];
	for (size_t i = 0, n = all_doors(l, doors); i < n; i++)
		front_quiesce(doors[i]);
}

void doors_close_idle(struct life *l, unsigned idle_ms)
{
	struct front *doors[DOORS_MAX];
	for (size_t i = 0, n = all_doors(l, doors); i < n; i++)
		front_close_idle(doors[i], idle_ms);
}

void doors_let_go(struct life *l)
{
	if (l->metrics_fd >= 0)
		close(l->metrics_fd);
	l->metrics_fd = -1;
}

void doors_stop(struct life *l)
{
	struct front *doors[DOORS_MAX];
	for (size_t i = 0, n = all_doors(l, doors); i < n; i++)
		front_stop(doors[i]);
	doors_let_go(l);
}
