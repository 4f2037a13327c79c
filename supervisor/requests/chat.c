#include "supervisor/requests/chat.h"
#include "supervisor/requests/audience.h"
#include "supervisor/requests/chat_reply.h"
#include "supervisor/requests/join.h"
#include "supervisor/requests/packed.h"
#include "supervisor/requests/tracing.h"

#include "common/base/hash.h"
#include "common/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* --- reading --- */

static size_t chat_body(struct request *r, const char *p, size_t n)
{
	struct chat *c = (struct chat *)r;
	if (c->state != CHAT_READING)
		return n; /* refused already: what still comes is thrown away */
	if (!request_may_hold(r->all, c->held, n)) {
		request_count(r, MEASURE_FAILED);
		request_refuse(r, 503,
			"too many large requests at once; limits.body_total_bytes is reached", 2);
		chat_finish(c);
	} else if (buf_add(&c->body, p, n)) {
		bool too_large = buf_error(&c->body) == -E2BIG;
		request_count_error(r, too_large ? 413 : 503);
		request_refuse(r, too_large ? 413 : 503,
			too_large ? "request body larger than limits.body_bytes" : "out of memory",
			too_large ? 0 : 2);
		chat_finish(c);
	} else {
		chat_hold(c, n);
	}
	return n;
}

static void chat_body_end(struct request *r)
{
	chat_event((struct chat *)r, CHAT_BODY_END);
}

static void chat_sent(struct request *r, size_t n)
{
	audience_sent((struct chat *)r, n);
}

static void chat_gone(struct request *r)
{
	chat_event((struct chat *)r, CHAT_GONE);
}

static void chat_cancel(struct request *r)
{
	chat_event((struct chat *)r, CHAT_CANCELLED);
}

static void on_timer_closed(uv_handle_t *h)
{
	struct chat *c = h->data;
	if (--c->timers_open == 0)
		free(c);
}

static void chat_destroy(struct request *r)
{
	struct chat *c = (struct chat *)r;
	chat_chunks_cancel(c);
	condense_fini(&c->condense);
	if (c->parsed)
		chat_request_fini(&c->view);
	chat_guard_fini(c);
	buf_free(&c->body);
	buf_free(&c->unpacked);
	buf_free(&c->model);
	buf_free(&c->alias);
	buf_free(&c->lane.model);
	buf_free(&c->notes_model);
	buf_free(&c->rewritten);
	buf_free(&c->reply);
	prefix_chain_fini(&c->chain);
	prefix_chain_fini(&c->sent_chain);
	free(c->forced);
	notes_offer_fini(&c->offer);
	chat_resume_fini(c);
	free(c->head.type);
	r->all->held_bytes -= c->held;
	c->timers_open = 2;
	uv_close((uv_handle_t *)&c->tick, on_timer_closed);
	uv_close((uv_handle_t *)&c->wait, on_timer_closed);
}

static void step(struct chat *c, enum chat_event e);

static const struct request_ops chat_ops = {.body = chat_body,
	.body_end = chat_body_end,
	.sent = chat_sent,
	.gone = chat_gone,
	.cancel = chat_cancel,
	.destroy = chat_destroy};

const struct chat *chat_of_request(const struct request *r)
{
	return r->ops == &chat_ops ? (const struct chat *)r : NULL;
}

/* As OpenTelemetry calls it. */
static const char *operation_of(enum dialect d)
{
	bool bare = d == DIALECT_OLLAMA_GENERATE || d == DIALECT_OPENAI_TEXT;
	return bare ? "text_completion" : "chat";
}

void chat_begin(struct requests *s, struct exchange *x, enum dialect d)
{
	struct chat *c = (struct chat *)request_create(s, x, d, &chat_ops, sizeof(*c));
	if (!c) {
		exchange_reply(x, 503, "application/json", SLICE("{\"error\":\"out of memory\"}"));
		return;
	}
	if (dialect_counts(d))
		s->count.passed++;
	else
		s->count.requests++;
	c->step = step;
	chat_bench_begin(c);
	chat_content_begin(c);
	request_remember(&c->base);
	tracing_names(&c->base, true, operation_of(d));
	audience_init(c);
	buf_init(&c->body, (size_t)s->config->limits.body_bytes);
	buf_init(&c->model, 4096);
	buf_init(&c->notes_model, 0);
	buf_init(&c->rewritten, (size_t)job_body_bytes_max(s->config));
	buf_init(&c->reply, PROTO_REPLY_BYTES);
	chat_resume_init(c);
	c->first_ms = c->queued_ms = -1;
	c->used = (struct proto_usage){-1, -1, -1, -1, -1, -1};
	uv_timer_init(s->loop, &c->tick);
	uv_timer_init(s->loop, &c->wait);
	c->tick.data = c->wait.data = c;
	int64_t declared = exchange_body_bytes(x);
	if (declared > s->config->limits.body_bytes) {
		request_count_error(&c->base, 413);
		request_refuse(&c->base, 413, "request body larger than limits.body_bytes", 0);
		chat_finish(c);
	} else if (declared > 0) {
		buf_reserve(&c->body, (size_t)(declared < 1 << 20 ? declared : 1 << 20));
	}
}

/* --- unpacking and parsing --- */

static void on_tick(uv_timer_t *t)
{
	chat_event(t->data, CHAT_TICK);
}

static void unpack_work(struct chat *c)
{
	c->unpack_result = unpack(c->coding, buf_slice(&c->body), &c->unpacked);
}

static void parse(struct chat *c)
{
	if (dialect_mends(c->base.dialect) || c->base.all->config->alias_count ||
		lane_is_there(c->base.all)) {
		c->asked_bytes = c->body.n;
		c->asked_hash = hash_bytes(c->body.p, c->body.n);
	}
	chat_guard_begin(c);
	if (c->explain || c->bench || dialect_counts(c->base.dialect) || !join_try(c))
		chat_work(c, chat_parse, CHAT_PARSED, c->body.n <= CHAT_INLINE_BYTES);
}

static void act_body_end(struct chat *c)
{
	const struct config *conf = c->base.all->config;
	const char *coding = exchange_header(c->base.exchange, "Content-Encoding");
	/* The bytes must be at the client by then: a tenth of it is kept for the way. */
	int64_t first = conf->deadlines.first_byte_ms - conf->deadlines.first_byte_ms / 10;
	c->state = CHAT_PARSING;
	steps_enter(request_steps(&c->base), STEP_PARSE, NULL, now_ms());
	c->hash_wanted = c->base.all->poison.used;
	c->coding = unpack_coding(coding);
	uv_timer_start(&c->tick, on_tick, (uint64_t)first, (uint64_t)conf->deadlines.heartbeat_ms);
	struct slice explain = slice_str(exchange_header(c->base.exchange, "X-Tandem-Explain"));
	c->explain_body = slice_eq(explain, SLICE("body"));
	c->explain = c->explain_body || slice_eq(explain, SLICE("1"));
	if (c->explain)
		uv_timer_stop(&c->tick); /* the answer is near, and no stream */
	if (c->coding == UNPACK_UNKNOWN) {
		char text[PACKED_TEXT_BYTES];
		packed_unknown(&c->base, text);
		chat_answer_error(c, 415, slice_str(text), (struct slice){0}, (struct slice){0}, 0);
	} else if (c->coding == UNPACK_NONE) {
		parse(c);
	} else {
		c->base.unpacked = true;
		buf_init(&c->unpacked, packed_room(c->base.all));
		chat_work(c, unpack_work, CHAT_UNPACKED, false);
	}
}

static void act_unpacked(struct chat *c)
{
	char text[PACKED_TEXT_BYTES];
	if (c->unpack_result) {
		int status = packed_broken(&c->base, c->unpack_result, text);
		chat_answer_error(c, status, slice_str(text), (struct slice){0}, (struct slice){0},
			status == 503 ? 2 : 0);
		return;
	}
	c->base.all->held_bytes -= c->held;
	c->held = 0;
	buf_free(&c->body);
	c->body = c->unpacked;
	c->unpacked = (struct buf){0};
	chat_hold(c, c->body.n);
	parse(c);
}

static void act_parsed(struct chat *c)
{
	bool small = c->lane.state == LANE_ON; /* its window is not the conversation's */
	if (c->guard.mended || c->bench ||
		(!chat_alias(c) && (small || !chat_compact(c)) && !chat_lane(c)))
		chat_plan(c);
}

/* --- what is short --- */

static void act_gone(struct chat *c)
{
	request_count(&c->base, MEASURE_CANCELLED);
	log_line(LOG_INFO, "client_gone", LOG_STR("req", c->base.id),
		LOG_INT("ms", now_ms() - c->base.begun_ms), LOG_END);
	if (!chat_hand_over(c))
		chat_finish(c);
}

static void act_gone_early(struct chat *c)
{
	request_count(&c->base, MEASURE_CANCELLED);
	chat_finish(c);
}

static void act_cancelled(struct chat *c)
{
	snprintf(c->note, sizeof(c->note), REQUEST_CANCELLED_TEXT);
	chat_answer_error(c, REQUEST_CANCELLED_STATUS, SLICE(REQUEST_CANCELLED_TEXT),
		(struct slice){0}, (struct slice){0}, 0);
}

static void act_started(struct chat *c)
{
	c->state = CHAT_ANSWERING;
	if (c->lane.state != LANE_ON) /* a head is no answer yet */
		uv_timer_stop(&c->wait);
	if (chat_begun(c))
		return;
	c->first_byte_ms = now_ms() - c->base.begun_ms;
	c->first_ms = c->answer ? (double)(now_ms() - c->answer->started_ms) : -1;
}

static void act_assembled(struct chat *c)
{
	if (c->adaptive)
		chat_adaptive_choose(c);
	if (c->explain)
		chat_explain(c);
	else
		chat_answer_submit(c);
}

/* --- the table --- */

typedef void action_fn(struct chat *c);

static action_fn *const actions[CHAT_STATES][CHAT_EVENTS] = {
	[CHAT_READING] = {[CHAT_BODY_END] = act_body_end,
		[CHAT_GONE] = act_gone_early,
		[CHAT_CANCELLED] = act_cancelled},
	[CHAT_PARSING] = {[CHAT_UNPACKED] = act_unpacked,
		[CHAT_PARSED] = act_parsed,
		[CHAT_TICK] = chat_answer_tick,
		[CHAT_GONE] = act_gone,
		[CHAT_CANCELLED] = act_cancelled},
	[CHAT_CONDENSING] = {[CHAT_PREPARED] = chat_condense_notes,
		[CHAT_SETTLED] = chat_condense_assemble,
		[CHAT_ORIGINAL] = chat_answer_submit,
		[CHAT_ASSEMBLED] = act_assembled,
		[CHAT_WAIT_OVER] = chat_chunks_late,
		[CHAT_TICK] = chat_answer_tick,
		[CHAT_GONE] = act_gone,
		[CHAT_CANCELLED] = act_cancelled},
	[CHAT_WAITING] = {[CHAT_STARTED] = act_started,
		[CHAT_FAILED] = chat_answer_failed,
		[CHAT_ENDED] = chat_answer_ended,
		[CHAT_TICK] = chat_answer_tick,
		[CHAT_WAIT_OVER] = chat_answer_wait_over,
		[CHAT_GONE] = act_gone,
		[CHAT_CANCELLED] = act_cancelled},
	[CHAT_ANSWERING] = {[CHAT_ENDED] = chat_answer_ended,
		[CHAT_FAILED] = chat_answer_failed,
		[CHAT_TICK] = chat_answer_tick,
		[CHAT_GONE] = act_gone,
		[CHAT_CANCELLED] = act_cancelled},
	[CHAT_JOINED] = {[CHAT_TICK] = chat_answer_tick,
		[CHAT_GONE] = act_gone,
		[CHAT_CANCELLED] = act_cancelled},
	[CHAT_OVER] = {0},
};

static void step(struct chat *c, enum chat_event e)
{
	action_fn *act = actions[c->state][e];
	if (act)
		act(c);
}
