#include "supervisor/life/doors.h"

#include "supervisor/life/life.h"

#include <errno.h>
#include <unistd.h>

int doors_open(struct life *l, int listen_fd, struct buf *err)
{
	const struct config *c = l->config;
	struct front_options o = {
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
		.listen_fd = listen_fd,
	};
	int rc = front_start(l->loop, &o, &requests_front_events, l->requests, &l->front, err);
	if (rc)
		return rc;
	if (!doors_may_stay(l, c, err)) {
		front_stop(l->front);
		l->front = NULL;
		return -EACCES;
	}
	l->requests->loopback = front_is_loopback(l->front);
	return 0;
}

bool doors_may_stay(const struct life *l, const struct config *c, struct buf *err)
{
	if (!l->front || front_is_loopback(l->front) || config_has_keys(c) || c->access.open)
		return true;
	buf_printf(err,
		"%s is open to the network: access.key_file must name the keys of those who may, "
		"or access.open = true say that all may",
		front_address(l->front));
	return false;
}

int doors_again(struct life *l, int listen_fd, struct buf *err)
{
	struct front *before = l->front;
	if (l->shut_count == DOORS_SHUT_MAX) {
		close(listen_fd);
		buf_add_str(err, "too many successors have died");
		return -EMFILE;
	}
	int rc = doors_open(l, listen_fd, err);
	if (rc) {
		l->front = before;
		return rc;
	}
	front_quiesce(before);
	l->shut[l->shut_count++] = before;
	return 0;
}

void doors_counts(const struct life *l, unsigned *connections, unsigned *exchanges)
{
	unsigned c, x;
	*connections = *exchanges = 0;
	if (l->front)
		front_counts(l->front, connections, exchanges);
	for (size_t i = 0; i < l->shut_count; i++) {
		front_counts(l->shut[i], &c, &x);
		*connections += c;
		*exchanges += x;
	}
}

void doors_quiesce(struct life *l)
{
	if (l->front)
		front_quiesce(l->front);
}

void doors_close_idle(struct life *l, unsigned idle_ms)
{
	if (l->front)
		front_close_idle(l->front, idle_ms);
	for (size_t i = 0; i < l->shut_count; i++)
		front_close_idle(l->shut[i], idle_ms);
}

void doors_stop(struct life *l)
{
	if (l->front)
		front_stop(l->front);
	for (size_t i = 0; i < l->shut_count; i++)
		front_stop(l->shut[i]);
}
