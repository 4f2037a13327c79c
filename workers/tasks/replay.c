#include "workers/tasks/replay.h"

#include "common/base/log.h"
#include "workers/http/http.h"

#include <stdio.h>
#include <stdlib.h>

struct stop {
	struct stop *next;
	struct replays *all;
	uint64_t due_ms; /* loop time */
	bool sent;
	struct http_transfer *transfer;
	char target[REPLAY_TARGET_BYTES];
};

struct replays {
	struct worker_self *worker;
	struct stop *stops;
	size_t count;
	uv_timer_t timer;
	bool finishing;
	uint64_t finish_ms; /* loop time */
	void (*ended)(void *ctx);
	void *ctx;
};

/* Digits and letters: what needs no escape in a target. */
static bool is_name(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!(s.p[i] >= '0' && s.p[i] <= '9') && !(s.p[i] >= 'a' && s.p[i] <= 'z'))
			return false;
	return s.n > 0 && s.n <= PROTO_CONVERSATION_BYTES;
}

bool replay_target(struct slice conversation, char out[REPLAY_TARGET_BYTES])
{
	if (!is_name(conversation))
		return false;
	snprintf(out, REPLAY_TARGET_BYTES, "/v1/stream?conv_id=%.*s&from=0", (int)conversation.n,
		conversation.p);
	return true;
}

/* --- one after the other --- */

static void arm(struct replays *r);

static void drop(struct stop *s)
{
	struct replays *r = s->all;
	struct stop **link = &r->stops;
	while (*link != s)
		link = &(*link)->next;
	*link = s->next;
	r->count--;
	free(s);
	arm(r);
}

static void on_head(void *ctx, int status)
{
	(void)ctx;
	log_line(LOG_DEBUG, "stream_ended", LOG_INT("status", status), LOG_END);
}

static void on_body(void *ctx, struct slice bytes)
{
	(void)ctx, (void)bytes;
}

/* Where it fails the backend is gone, and its streams with it, or keeps this one until it is whole
 * and old. */
static void on_done(void *ctx, enum http_result result)
{
	struct stop *s = ctx;
	if (result != HTTP_OK)
		log_line(LOG_INFO, "stream_not_ended", LOG_STR("why", http_result_text(result)),
			LOG_END);
	drop(s);
}

static void send_stop(struct stop *s)
{
	static const struct http_events events = {
		.head = on_head, .body = on_body, .done = on_done};
	struct http_request request = {
		.method = "DELETE",
		.target = slice_str(s->target),
		.again = true,
		.total_ms = REPLAY_STOP_MS,
	};
	s->sent = true;
	if (http_start(s->all->worker->http, &request, &events, s, &s->transfer))
		drop(s);
}

static void finish(struct replays *r)
{
	void (*ended)(void *ctx) = r->ended;
	r->ended = NULL;
	uv_timer_stop(&r->timer);
	if (ended)
		ended(r->ctx);
}

static void on_timer(uv_timer_t *timer)
{
	struct replays *r = timer->data;
	uint64_t now = uv_now(r->worker->loop);
	for (struct stop *s = r->stops, *next; s; s = next) {
		next = s->next;
		if (!s->sent && s->due_ms <= now)
			send_stop(s);
	}
	if (r->finishing && (!r->stops || now >= r->finish_ms))
		finish(r);
	else
		arm(r);
}

/* For the next one that is due. */
static void arm(struct replays *r)
{
	uint64_t now = uv_now(r->worker->loop), at = UINT64_MAX;
	for (const struct stop *s = r->stops; s; s = s->next)
		if (!s->sent && s->due_ms < at)
			at = s->due_ms;
	if (r->finishing && r->ended)
		at = !r->stops ? now : at < r->finish_ms ? at : r->finish_ms;
	if (at == UINT64_MAX)
		uv_timer_stop(&r->timer);
	else
		uv_timer_start(&r->timer, on_timer, at > now ? at - now : 0, 0);
}

void replays_end(struct replays *r, struct slice conversation, uint64_t in_ms)
{
	struct stop *s;
	if (!r || !is_name(conversation) || r->count >= REPLAY_STOPS_MAX)
		return;
	s = calloc(1, sizeof(*s));
	if (!s)
		return; /* it ends by itself */
	snprintf(s->target, sizeof(s->target), "/v1/stream?conv_id=%.*s", (int)conversation.n,
		conversation.p);
	s->all = r;
	s->due_ms = uv_now(r->worker->loop) + (r->finishing ? 0 : in_ms);
	s->next = r->stops;
	r->stops = s;
	r->count++;
	arm(r);
}

/* --- life --- */

void replays_finish(struct replays *r, void (*ended)(void *ctx), void *ctx)
{
	uint64_t now = uv_now(r->worker->loop);
	r->finishing = true;
	r->finish_ms = now + REPLAY_LAST_MS;
	r->ended = ended;
	r->ctx = ctx;
	for (struct stop *s = r->stops; s; s = s->next)
		s->due_ms = now;
	if (r->stops)
		arm(r);
	else
		finish(r);
}

struct replays *replays_create(struct worker_self *w)
{
	struct replays *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->worker = w;
	uv_timer_init(w->loop, &r->timer);
	r->timer.data = r;
	return r;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void replays_destroy(struct replays *r)
{
	if (!r)
		return;
	for (struct stop *s = r->stops, *next; s; s = next) {
		next = s->next;
		http_cancel(s->transfer);
		free(s);
	}
	uv_close((uv_handle_t *)&r->timer, on_closed);
}
