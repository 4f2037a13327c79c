#include "proto/channel_private.h"

#include <errno.h>
#include <stdlib.h>

#define TURN_FRAMES 64
#define SETTLE_MS 10   /* a send under way is over by then, or stuck for good */
#define LINGER_MS 1000 /* a peer hangs up when we do, or somebody kills it */
#define HOLD_MS 10

/*
 * --- closing ---
 *
 * With the peer gone, everything is closed at once. A peer that lives is hung up on first, and the
 * way in is closed when it has hung up too; until then what it says is thrown away. Whoever is hung
 * up on hangs up in its turn, closed or not: two ends that each wait for the other would both wait
 * out LINGER_MS. Why so carefully: link.h. nng's part runs on a thread, because it waits for nng's
 * own threads, and should nng hang there the loop does not.
 */

static void on_handle_closed(uv_handle_t *handle)
{
	struct channel *c = handle->data;
	if (--c->handles > 0)
		return;
	proto_reader_destroy(c->reader);
	proto_writer_fini(&c->writer);
	free(c);
}

static void close_handle(struct channel *c, void *handle)
{
	uv_handle_t *h = handle;
	if (h->data == c && !uv_is_closing(h)) /* was initialised */
		uv_close(h, on_handle_closed);
}

static void hang_up(void *arg)
{
	struct channel *c = arg;
	link_close_out(&c->link);
	if (c->life == CHANNEL_CLOSING)
		link_close_in(&c->link);
	atomic_store(&c->thread_done, true);
	uv_async_send(&c->wake);
}

static void start_thread(struct channel *c, enum channel_life life)
{
	c->life = life;
	atomic_store(&c->thread_done, false);
	uv_timer_stop(&c->timer);
	if (life == CHANNEL_CLOSING)
		close_handle(c, &c->readable); /* before nng closes its descriptor */
	if (uv_thread_create(&c->thread, hang_up, c) != 0) {
		c->thread = 0;
		hang_up(c); /* better late than never */
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct channel *c = timer->data;
	if (c->life == CHANNEL_SETTLING) {
		start_thread(c, CHANNEL_CLOSING_OUT);
	} else if (c->life == CHANNEL_LINGERING) {
		c->life = CHANNEL_HOLDING;
		link_hold_in(&c->link);
		uv_timer_start(timer, on_timer, HOLD_MS, 0);
	} else if (c->life == CHANNEL_HOLDING) {
		start_thread(c, CHANNEL_CLOSING);
	}
}

void channel_go_on_closing(struct channel *c)
{
	if (c->life == CHANNEL_CLOSING_OUT || c->life == CHANNEL_CLOSING) {
		if (!atomic_exchange(&c->thread_done, false))
			return; /* woken by something else */
		if (c->thread)
			uv_thread_join(&c->thread);
		if (c->life == CHANNEL_CLOSING) {
			close_handle(c, &c->wake);
			close_handle(c, &c->timer);
			close_handle(c, &c->soon);
			return;
		}
		c->life = CHANNEL_LINGERING;
		if (c->closed)
			uv_timer_start(&c->timer, on_timer, LINGER_MS, 0);
	}
	if (c->closed && link_quiet(&c->link))
		start_thread(c, CHANNEL_CLOSING);
}

static void settle(struct channel *c)
{
	c->life = CHANNEL_SETTLING;
	uv_timer_start(&c->timer, on_timer, SETTLE_MS, 0);
}

void channel_hang_up(struct channel *c)
{
	if (c->life != CHANNEL_OPEN || c->closed || link_quiet(&c->link))
		return;
	channel_flush(c);
	channel_drop_waiting(c);
	uv_poll_stop(&c->writable);
	close_handle(c, &c->writable); /* before nng closes its descriptor */
	settle(c);
}

static void on_unwanted(uv_poll_t *handle, int status, int events)
{
	struct channel *c = handle->data;
	nng_msg *message;
	(void)status, (void)events;
	for (size_t n = 0; n < c->options.turn_frames && link_receive(&c->link, &message) == 0; n++)
		nng_msg_free(message);
}

void channel_close(struct channel *c)
{
	if (channel_closed(c))
		return;
	c->closed = true;
	link_unlink(&c->link);
	channel_drop_waiting(c);
	uv_idle_stop(&c->soon);
	close_handle(c, &c->writable);
	if (c->readable.data == c)
		uv_poll_start(&c->readable, UV_READABLE, on_unwanted);
	if (c->life == CHANNEL_SETTLING || c->life == CHANNEL_CLOSING_OUT)
		return; /* hanging up already: goes on from there */
	if (link_quiet(&c->link) || c->readable.data != c)
		start_thread(c, CHANNEL_CLOSING);
	else if (c->life == CHANNEL_LINGERING)
		uv_timer_start(&c->timer, on_timer, LINGER_MS, 0);
	else
		settle(c);
}

/* --- opening --- */

static void wake_loop(void *ctx)
{
	struct channel *c = ctx;
	uv_async_send(&c->wake);
}

/* Marks a handle as initialised for close_handle(). Returns rc. */
static int own_handle(struct channel *c, void *handle, int rc)
{
	if (rc == 0) {
		((uv_handle_t *)handle)->data = c;
		c->handles++;
	}
	return rc;
}

static int open_channel(uv_loop_t *loop, const char *url, const struct channel_options *o,
	const struct channel_events *e, void *ctx, bool supervisor, struct channel **out)
{
	struct channel *c = calloc(1, sizeof *c);
	struct proto_reader *reader = proto_reader_create();
	int rc = c && reader ? uv_async_init(loop, &c->wake, channel_on_wake) : -ENOMEM;
	if (rc) {
		proto_reader_destroy(reader);
		free(c);
		return rc;
	}
	own_handle(c, &c->wake, 0);
	own_handle(c, &c->soon, uv_idle_init(loop, &c->soon)); /* these two cannot fail */
	own_handle(c, &c->timer, uv_timer_init(loop, &c->timer));
	c->options = *o;
	if (c->options.turn_frames == 0)
		c->options.turn_frames = TURN_FRAMES;
	c->events = e;
	c->ctx = ctx;
	c->supervisor = supervisor;
	c->last = &c->first;
	c->link.wake = wake_loop;
	c->link.ctx = c;
	c->reader = reader;
	proto_writer_init(&c->writer, o->generation);

	rc = link_open(&c->link);
	if (!rc)
		rc = own_handle(c, &c->readable, uv_poll_init(loop, &c->readable, c->link.in.fd));
	if (!rc)
		rc = own_handle(c, &c->writable, uv_poll_init(loop, &c->writable, c->link.out.fd));
	if (!rc)
		rc = uv_poll_start(&c->readable, UV_READABLE, channel_on_readable);
	if (!rc)
		rc = supervisor ? link_listen(&c->link, url) : link_dial(&c->link, url);
	if (rc) {
		channel_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

int channel_listen(uv_loop_t *loop, const char *url, const struct channel_options *o,
	const struct channel_events *e, void *ctx, struct channel **out)
{
	return open_channel(loop, url, o, e, ctx, true, out);
}

int channel_dial(uv_loop_t *loop, const char *url, const struct channel_options *o,
	const struct channel_events *e, void *ctx, struct channel **out)
{
	return open_channel(loop, url, o, e, ctx, false, out);
}
