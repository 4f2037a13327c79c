#include "proto/channel_private.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define DRAIN_MS 100 /* nng sees a killed peer's end after about 1 ms */

static void on_soon(uv_idle_t *handle);

/* --- failure: told from the loop, never from inside a call --- */

static void give_up(struct channel *c, int error, const char *what)
{
	if (c->error)
		return;
	c->error = error;
	snprintf(c->what, sizeof c->what, "%s", what);
	uv_idle_start(&c->soon, on_soon);
}

/* A peer that breaks the protocol is not listened to any more; one that only reads too
 * slowly is. */
static bool is_deaf(const struct channel *c)
{
	return channel_closed(c) || c->error == -EPROTO || c->error == -EPROTONOSUPPORT;
}

/* --- sending --- */

void channel_drop_waiting(struct channel *c)
{
	while (c->first) {
		struct waiting *w = c->first;
		c->first = w->next;
		nng_msg_free(w->message);
		free(w);
	}
	c->last = &c->first;
	c->waiting_bytes = 0;
}

/* Hands waiting frames to nng as long as it takes them. */
static void send_waiting(struct channel *c)
{
	while (c->first) {
		struct waiting *w = c->first;
		size_t n = nng_msg_len(w->message);
		int rc = link_send(&c->link, w->message);
		if (rc == -EAGAIN)
			return;
		if (rc) {
			give_up(c, rc, "the socket takes nothing");
			break;
		}
		c->first = w->next;
		if (!c->first)
			c->last = &c->first;
		c->waiting_bytes -= n;
		c->counts.frames_out++;
		free(w);
	}
	uv_poll_stop(&c->writable);
	if (c->was_full && !c->error && c->events->room) {
		c->was_full = false;
		c->events->room(c->ctx);
	}
}

bool channel_full(struct channel *c)
{
	bool full = c->first && channel_backlog(c) >= c->options.queue_bytes / 2;
	c->was_full = c->was_full || full;
	return full;
}

static void on_writable(uv_poll_t *handle, int status, int events)
{
	(void)status, (void)events;
	send_waiting(handle->data);
}

static int wait_for_room(struct channel *c, nng_msg *message)
{
	size_t n = nng_msg_len(message);
	if (c->waiting_bytes + n > c->options.queue_bytes)
		return -ENOBUFS;
	struct waiting *w = malloc(sizeof *w);
	if (!w)
		return -ENOMEM;
	*w = (struct waiting){.message = message};
	*c->last = w;
	c->last = &w->next;
	c->waiting_bytes += n;
	if (c->first == w)
		uv_poll_start(&c->writable, UV_READABLE, on_writable);
	return 0;
}

void channel_flush(struct channel *c)
{
	struct slice frame = proto_writer_frame(&c->writer);
	nng_msg *message;
	if (frame.n == 0)
		return;
	if (c->gone_told || c->error || c->life != CHANNEL_OPEN) {
		proto_writer_reset(&c->writer);
		return;
	}
	int rc = nng_msg_alloc(&message, frame.n) ? -ENOMEM : 0;
	if (rc)
		goto out;
	memcpy(nng_msg_body(message), frame.p, frame.n);
	rc = c->first ? -EAGAIN : link_send(&c->link, message);
	if (!rc)
		c->counts.frames_out++;
	else if (rc == -EAGAIN)
		rc = wait_for_room(c, message);
	if (rc)
		nng_msg_free(message);
out:
	proto_writer_reset(&c->writer);
	if (rc)
		give_up(c, rc, rc == -ENOBUFS ? "the peer reads too slowly" : "cannot send");
}

static bool may_send(bool supervisor, enum proto_type type)
{
	return type >= PROTO_CREDIT || (type >= PROTO_ACK) == supervisor;
}

int channel_put(struct channel *c, const struct proto_record *r)
{
	if (c->error || c->gone_told || c->life != CHANNEL_OPEN)
		return c->error == -ENOBUFS ? -ENOBUFS : -EPIPE;
	if (!may_send(c->supervisor, r->type))
		return -EINVAL;
	if (c->first && c->waiting_bytes + c->writer.frame.n >= c->options.queue_bytes) {
		give_up(c, -ENOBUFS, "the peer reads too slowly");
		return -ENOBUFS;
	}
	int rc = proto_put(&c->writer, r);
	if (rc == -E2BIG && c->writer.count) { /* for what is left of this frame, perhaps */
		channel_flush(c);
		rc = proto_put(&c->writer, r);
	}
	if (rc)
		return rc;
	if (c->writer.frame.n >= PROTO_FLUSH_BYTES)
		channel_flush(c);
	else
		uv_idle_start(&c->soon, on_soon);
	return 0;
}

size_t channel_backlog(const struct channel *c)
{
	return c->waiting_bytes + c->writer.frame.n;
}

/* --- receiving --- */

static void tell_joined(struct channel *c)
{
	if (c->joined_told || channel_closed(c))
		return;
	c->joined_told = true;
	link_unlink(&c->link);
	c->events->peer(c->ctx, true);
}

static void deliver(struct channel *c, struct slice frame)
{
	struct proto_record r;
	uint64_t generation;
	int rc = proto_reader_open(c->reader, frame, &generation);
	if (!rc && generation != c->options.generation) {
		c->counts.stale_frames++;
		return;
	}
	while (!rc && !is_deaf(c) && (rc = proto_reader_next(c->reader, &r)) > 0) {
		if (!may_send(!c->supervisor, r.type)) {
			give_up(c, -EPROTO, "a record from the wrong side");
			return;
		}
		c->events->record(c->ctx, &r);
		rc = 0;
	}
	if (rc < 0 && !channel_closed(c))
		give_up(c, rc, proto_reader_problem(c->reader));
}

/* Up to max frames. True when nothing was left. */
static bool receive(struct channel *c, size_t max)
{
	bool used_up = false;
	if (c->reading) /* a record callback that drains: what waits comes after it returns */
		return false;
	c->reading = true;
	while (max-- > 0 && !used_up && !is_deaf(c)) {
		nng_msg *message;
		if (link_receive(&c->link, &message)) {
			used_up = true;
		} else {
			c->counts.frames_in++;
			tell_joined(c);
			deliver(c, (struct slice){nng_msg_body(message), nng_msg_len(message)});
			nng_msg_free(message);
		}
	}
	c->reading = false;
	return used_up || is_deaf(c);
}

/* Reads for one turn; when the peer is gone and all it sent is read, says so. */
static void receive_turn(struct channel *c)
{
	bool gone = link_gone(&c->link); /* before reading: what came earlier is read first */
	bool used_up = receive(c, c->options.turn_frames);
	if (!gone || !used_up || channel_closed(c) || c->gone_told)
		return;
	tell_joined(c); /* it may have gone before it was seen */
	if (channel_closed(c))
		return;
	c->gone_told = true;
	uv_poll_stop(&c->readable);
	channel_drop_waiting(c);
	if (c->life == CHANNEL_OPEN)
		uv_poll_stop(&c->writable);
	channel_hang_up(c);
	c->events->peer(c->ctx, false);
}

void channel_on_readable(uv_poll_t *handle, int status, int events)
{
	(void)status, (void)events;
	receive_turn(handle->data);
}

void channel_drain(struct channel *c)
{
	struct pollfd fd = {.fd = c->link.in.fd, .events = POLLIN};
	uint64_t deadline = uv_hrtime() + DRAIN_MS * UINT64_C(1000000);
	if (link_peer_pid(&c->link) == 0)
		return;
	while (!c->reading && !is_deaf(c) && uv_hrtime() < deadline) {
		bool gone = link_gone(&c->link);
		if (receive(c, SIZE_MAX) && gone)
			return;
		if (!is_deaf(c))
			poll(&fd, 1, 1);
	}
}

/* --- events of the loop --- */

void channel_on_wake(uv_async_t *handle)
{
	struct channel *c = handle->data;
	if (link_joined(&c->link))
		tell_joined(c);
	if (c->life != CHANNEL_OPEN)
		channel_go_on_closing(c);
	if (channel_closed(c))
		return;
	if (c->first) /* SENDFD does not always tell of a change of the peer */
		send_waiting(c);
	receive_turn(c);
}

static void on_soon(uv_idle_t *handle)
{
	struct channel *c = handle->data;
	uv_idle_stop(handle);
	channel_flush(c);
	if (c->error && !c->error_told) {
		c->error_told = true;
		if (is_deaf(c))
			uv_poll_stop(&c->readable);
		uv_idle_stop(handle);
		c->events->broken(c->ctx, c->error, c->what);
	}
}

uint64_t channel_peer_pid(const struct channel *c)
{
	return link_peer_pid(&c->link);
}

bool channel_has_socket(const struct channel *c, uint64_t id)
{
	return (c->link.in.open && (uint64_t)nng_socket_id(c->link.in.socket) == id) ||
	       (c->life == CHANNEL_OPEN && c->link.out.open &&
		       (uint64_t)nng_socket_id(c->link.out.socket) == id);
}

struct channel_counts channel_counts(const struct channel *c)
{
	struct channel_counts counts = c->counts;
	counts.strangers = atomic_load(&c->link.strangers);
	return counts;
}
