/*
 * Everything that is not a chat: passed to the device that serves it, bodies streamed both ways.
 *
 * Requests whose JSON body names a model (route.h) are held until it is known (pass_peek.h); all
 * others (blobs of many GB) stream through with at most a window of bytes in memory. What a model
 * works for (completions, embeddings, messages, ...) takes a slot and waits for its turn like a
 * chat, and one that streams has a first byte in time.
 */
#include "supervisor/requests/pass.h"

#include "common/base/log.h"
#include "supervisor/requests/tracing.h"

#include <stdlib.h>

/* --- from the client --- */

static size_t pass_body(struct request *r, const char *bytes, size_t n)
{
	struct pass *p = (struct pass *)r;
	if (p->over)
		return n;
	if (p->upload)
		return p->job ? job_body(p->job, bytes, n) : 0;
	struct requests *s = r->all;
	if (!request_may_hold(s, p->held, n)) {
		pass_error(p, 503,
			"too many large requests at once; limits.body_total_bytes is reached",
			PASS_RETRY_AFTER_S);
	} else if (buf_add(&p->body, bytes, n)) {
		pass_error(p, 413, "request body larger than limits.body_bytes", 0);
	} else {
		p->held += n;
		s->held_bytes += n;
	}
	return n;
}

static void read_done(struct pass *p)
{
	struct requests *s = p->base.all;
	char text[PACKED_TEXT_BYTES];
	if (p->over)
		return;
	if (p->unpack_result) {
		int status = packed_broken(&p->base, p->unpack_result, text);
		pass_error(p, status, text, status == 503 ? PASS_RETRY_AFTER_S : 0);
		return;
	}
	if (p->peek.model.n) {
		char why[ALIAS_TEXT_BYTES];
		struct device *d = pass_model(p, why);
		if (!d) {
			pass_error(p, 503, why, PASS_RETRY_AFTER_S);
			return;
		}
		p->device = d;
		if (p->base.record)
			record_text(p->base.record->model, sizeof(p->base.record->model),
				buf_slice(&p->peek.model));
	}
	if (p->route.works)
		p->base.tokens_in =
			tokens_estimate(s->tokens, buf_slice(&p->peek.model), &p->peek.census);
	pass_lane(p);
	if (p->route.works && p->peek.stream && dialect_is_sse(p->base.dialect))
		pass_watch_first_byte(p);
	pass_submit(p);
}

static void pass_body_end(struct request *r)
{
	struct pass *p = (struct pass *)r;
	p->upload_over = true;
	if (p->over)
		return;
	if (p->upload) {
		if (p->job)
			job_body_end(p->job);
		return;
	}
	if (!p->hold) {
		pass_submit(p);
	} else if (p->coding == UNPACK_UNKNOWN) {
		char text[PACKED_TEXT_BYTES];
		packed_unknown(r, text);
		pass_error(p, 415, text, 0);
	} else {
		pass_read(p, read_done);
	}
}

static void pass_sent(struct request *r, size_t n)
{
	struct pass *p = (struct pass *)r;
	/* Heartbeats go out first, and were not the worker's. */
	size_t ours = n < p->beat_bytes ? n : p->beat_bytes;
	p->beat_bytes -= ours;
	if (p->job && n > ours)
		job_credit(p->job, n - ours);
}

static void pass_gone(struct request *r)
{
	struct pass *p = (struct pass *)r;
	if (p->over)
		return;
	request_count(r, MEASURE_CANCELLED);
	log_line(LOG_INFO, "client_gone", LOG_STR("req", r->id),
		LOG_INT("ms", now_ms() - r->begun_ms), LOG_END);
	pass_finish(p);
}

static void on_closed(uv_handle_t *h)
{
	struct pass *p = h->data;
	if (--p->timers_open == 0)
		free(p);
}

static void pass_destroy(struct request *r)
{
	struct pass *p = (struct pass *)r;
	r->all->held_bytes -= p->held;
	buf_free(&p->body);
	buf_free(&p->target);
	buf_free(&p->asked);
	buf_free(&p->unpacked);
	buf_free(&p->refusal);
	pass_lane_fini(p);
	pass_peek_fini(&p->peek);
	p->timers_open = 2;
	uv_close((uv_handle_t *)&p->wait, on_closed);
	uv_close((uv_handle_t *)&p->tick, on_closed);
}

static void pass_cancel(struct request *r)
{
	struct pass *p = (struct pass *)r;
	if (!p->over)
		pass_error(p, REQUEST_CANCELLED_STATUS, REQUEST_CANCELLED_TEXT, 0);
}

static const struct request_ops pass_ops = {.body = pass_body,
	.body_end = pass_body_end,
	.sent = pass_sent,
	.gone = pass_gone,
	.cancel = pass_cancel,
	.destroy = pass_destroy};

void pass_begin(struct requests *s, struct exchange *x, const struct route *route)
{
	struct pass *p = (struct pass *)request_create(s, x, route->dialect, &pass_ops, sizeof(*p));
	if (!p) {
		exchange_reply(x, 503, "application/json", SLICE("{\"error\":\"out of memory\"}"));
		return;
	}
	s->count.passed++;
	request_remember(&p->base);
	p->route = *route;
	p->events = &pass_job_events;
	tracing_names(&p->base, route->path != NULL,
		!route->works	? NULL
		: route->writes ? "text_completion"
				: "embeddings");
	p->queued_ms = -1;
	buf_init(&p->body, (size_t)s->config->limits.body_bytes);
	buf_init(&p->target, 0);
	buf_init(&p->refusal, PASS_REFUSAL_BYTES);
	pass_peek_init(&p->peek);
	uv_timer_init(s->loop, &p->wait);
	uv_timer_init(s->loop, &p->tick);
	p->wait.data = p->tick.data = p;
	p->device = pick_role(s->devices, ROLE_MAIN);
	int64_t bytes = exchange_body_bytes(x);
	p->hold = bytes != 0 && route->named;
	p->coding = unpack_coding(exchange_header(x, "Content-Encoding"));
	p->upload = bytes != 0 && !p->hold;
	if (p->upload)
		pass_submit(p);
}
