#include "supervisor/tell/ui_streams.h"

#include "supervisor/requests/page.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/queue.h>

struct stream {
	TAILQ_ENTRY(stream) link;
	struct ui_streams *all;
	struct request *request;
	uint64_t lost; /* not told yet */
};

struct ui_streams {
	TAILQ_HEAD(, stream) list;
	uv_timer_t heartbeat; /* active while there are any */
	const int64_t *heartbeat_ms;
};

static void on_heartbeat(uv_timer_t *timer);

static void beat(struct ui_streams *s)
{
	uint64_t ms = (uint64_t)*s->heartbeat_ms;
	if (!uv_is_active((uv_handle_t *)&s->heartbeat))
		uv_timer_start(&s->heartbeat, on_heartbeat, ms, ms);
}

static void forget(struct stream *x)
{
	struct ui_streams *s = x->all;
	TAILQ_REMOVE(&s->list, x, link);
	free(x);
	if (TAILQ_EMPTY(&s->list))
		uv_timer_stop(&s->heartbeat);
}

static void on_gone(void *ctx)
{
	forget(ctx);
}

/* --- what they hear --- */

/* What was lost is told before anything newer. */
static bool tell_lost(struct stream *x)
{
	char text[96];
	if (x->lost == 0)
		return true;
	int n = snprintf(text, sizeof(text),
		"data: {\"level\":\"warn\",\"event\":\"lost\",\"count\":%" PRIu64 "}\n\n", x->lost);
	if (page_stream_write(x->request, (struct slice){text, (size_t)n}))
		return false;
	x->lost = 0;
	return true;
}

static void on_heartbeat(uv_timer_t *timer)
{
	struct ui_streams *s = timer->data;
	struct stream *x;
	TAILQ_FOREACH(x, &s->list, link)
		if (tell_lost(x))
			page_stream_write(x->request, SLICE(": keep-alive\n\n"));
}

bool ui_streams_hear(void *ctx, const struct slice *event)
{
	struct ui_streams *s = ctx;
	struct stream *x;
	struct buf text;
	if (!event || TAILQ_EMPTY(&s->list))
		return !TAILQ_EMPTY(&s->list);
	buf_init(&text, 0);
	buf_add_str(&text, "data: ");
	buf_add_slice(&text, *event);
	buf_add_str(&text, "\n\n");
	TAILQ_FOREACH(x, &s->list, link)
		if (buf_error(&text) || !tell_lost(x) ||
			page_stream_write(x->request, buf_slice(&text)))
			x->lost++;
	buf_free(&text);
	return true;
}

/* --- all of them --- */

void ui_streams_add(struct ui_streams *s, struct request *r)
{
	struct stream *x = calloc(1, sizeof(*x));
	if (!x) {
		page_answer(r, 503, (struct slice){0});
		return;
	}
	x->all = s;
	x->request = r;
	TAILQ_INSERT_TAIL(&s->list, x, link);
	if (page_stream_begin(r, on_gone, x)) {
		page_stream_write(r, SLICE(": the events of this gateway\n\n"));
		beat(s);
	} else {
		forget(x);
	}
}

void ui_streams_end(struct ui_streams *s)
{
	while (s && !TAILQ_EMPTY(&s->list)) {
		struct stream *x = TAILQ_FIRST(&s->list);
		struct request *r = x->request;
		forget(x);
		page_stream_end(r);
	}
}

struct ui_streams *ui_streams_create(uv_loop_t *loop, const int64_t *heartbeat_ms)
{
	struct ui_streams *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	TAILQ_INIT(&s->list);
	s->heartbeat_ms = heartbeat_ms;
	uv_timer_init(loop, &s->heartbeat);
	s->heartbeat.data = s;
	return s;
}

static void on_closed(uv_handle_t *h)
{
	free(h->data);
}

void ui_streams_destroy(struct ui_streams *s)
{
	if (!s)
		return;
	ui_streams_end(s);
	uv_close((uv_handle_t *)&s->heartbeat, on_closed);
}
