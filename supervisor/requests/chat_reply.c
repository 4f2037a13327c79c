/* What the client is told: heads, bytes, errors, and the end of the request. */
#include "supervisor/requests/chat_reply.h"
#include "supervisor/requests/chat.h"

#include "common/base/log.h"
#include "common/dialect/answer.h"
#include "supervisor/requests/audience.h"
#include "supervisor/requests/explain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* --- head --- */

/* What answers in the place of an alias, unless a thread is about to write the name. */
static void add_model(const struct chat *c, const struct chat *by)
{
	if (by->alias.n && !(by->state == CHAT_PARSING && by->working))
		exchange_add_header(c->base.exchange, "X-Tandem-Model", buf_slice(&by->model));
}

/* failed: what no device was given was not sent. */
static void add_headers(struct chat *c, bool failed)
{
	char reason[2 * PLAN_REASON_BYTES + LANE_WHY_BYTES + REQUEST_ID_BYTES + 16];
	bool planned = c->plan.reason[0]; /* what is refused before took none of the routes */
	const char *strategy = c->too_long ? "refused"
			       : planned   ? strategy_name(c->plan.strategy)
					   : "pass";
	const char *lane = c->lane.state == LANE_ON ? "" : c->lane.why; /* its plan says it */
	snprintf(reason, sizeof(reason), "%s%s%s%s%s%s%s",
		planned	    ? c->plan.reason
		: c->parsed ? "no device serves this model"
			    : "not understood",
		lane[0] ? "; " : "", lane, c->note[0] ? "; " : "", c->note,
		c->joined_to[0] ? "; joined " : "", c->joined_to);
	request_tell(
		c->base.exchange, &(struct request_story){.id = c->base.id,
					  .strategy = strategy,
					  .tokens_in = c->facts.tokens,
					  .tokens_sent = failed && !c->asked ? 0 : c->sent_tokens,
					  .reason = reason});
	request_name(&c->base);
	const struct chat *by = c->lead && c->lead->state != CHAT_PARSING ? c->lead : c;
	add_model(c, by);
	if (by->guard.text[0])
		exchange_add_header(c->base.exchange, "X-Tandem-Prefix", slice_str(by->guard.text));
	if (c->device)
		exchange_add_header(
			c->base.exchange, "X-Tandem-Device", slice_str(c->device->conf->name));
}

void chat_answer_head(struct chat *c, int status, const char *content_type, int64_t body_bytes)
{
	if (c->head_sent)
		return;
	add_headers(c, false);
	exchange_add_header(c->base.exchange, "Content-Type", slice_str(content_type));
	exchange_head(c->base.exchange, status, body_bytes);
	c->head_sent = true;
}

/* --- ends --- */

static void break_off(struct chat *m)
{
	request_count(&m->base, MEASURE_FAILED);
	log_line(LOG_ERROR, "answer_overrun", LOG_STR("req", m->base.id), LOG_END);
	exchange_abort(m->base.exchange);
	chat_finish(m);
}

void chat_finish(struct chat *c)
{
	struct chat *m;
	chat_measured(c);
	chat_content_keep(c);
	c->state = CHAT_OVER;
	while ((m = TAILQ_FIRST(&c->joined)))
		break_off(m);
	audience_leave(c);
	uv_timer_stop(&c->tick);
	uv_timer_stop(&c->wait);
	chat_forecast_cut(c);
	if (c->resume.replay.again && !(c->answer && c->answer->running))
		chat_replay_drop(c);
	if (c->answer)
		job_cancel(c->answer);
	c->answer = NULL;
	/* Background assembly reads the notes: they are then freed with the request. */
	if (!c->working)
		chat_chunks_cancel(c);
}

bool chat_line_is_open(const struct chat *c)
{
	if (c->bytes_out == 0 || !c->view.stream)
		return false;
	if (dialect_is_sse(c->base.dialect))
		return !(c->tail[0] == '\n' && c->tail[1] == '\n');
	return c->tail[1] != '\n';
}

/* An overflow has the words that agents know by then. */
static void put_inband(
	struct chat *c, int status, struct slice message, struct slice body, struct buf *out)
{
	enum dialect d = c->base.dialect;
	const struct chat *by = c->lead ? c->lead : c;
	const struct dialect_stream at = {.partial = chat_line_is_open(c),
		.id = c->base.id,
		.identity = buf_slice(&by->resume.identity),
		.bytes = c->bytes_out};
	if (c->too_long && body.n)
		dialect_error_inband_body(d, c->view.stream, body, &at, out);
	else
		dialect_error_inband(d, c->view.stream, status, message, &at, out);
}

/* The status of a stream whose clients look for such an error in it. */
static void begin_overflow(struct chat *c)
{
	enum dialect d = c->base.dialect;
	if (c->head_sent || !c->too_long || !c->view.stream || !dialect_streams_overflow(d))
		return;
	add_headers(c, true);
	exchange_add_header(
		c->base.exchange, "Content-Type", slice_str(dialect_content_type(d, true)));
	exchange_head(c->base.exchange, 200, -1);
	c->head_sent = true;
}

void chat_answer_error(struct chat *c, int status, struct slice message, struct slice body,
	struct slice content_type, int retry_after_s)
{
	struct chat *m;
	while ((m = TAILQ_FIRST(&c->joined))) {
		audience_mirror(m);
		chat_answer_error(m, status, message, body, content_type, retry_after_s);
	}
	struct exchange *x = c->base.exchange;
	struct buf own, named;
	buf_init(&own, 0);
	buf_init(&named, 0);
	status = dialect_status(c->base.dialect, status);
	const struct chat *by = c->lead ? c->lead : c;
	int cause = by->failure ? by->failure->cause : FAIL_NONE;
	request_count_error(&c->base, status);
	log_line(LOG_WARN, "request_failed", LOG_STR("req", c->base.id), LOG_INT("status", status),
		LOG_SLICE("message", job_logged_message(cause, message)),
		LOG_INT("bytes_out", c->bytes_out), LOG_INT("ms", now_ms() - c->base.begun_ms),
		LOG_END);
	begin_overflow(c);
	if (!c->head_sent) {
		char seconds[16];
		add_headers(c, true);
		if (retry_after_s > 0) {
			snprintf(seconds, sizeof(seconds), "%d", retry_after_s);
			exchange_add_header(x, "Retry-After", slice_str(seconds));
		}
		char *type = content_type.n ? slice_dup(content_type) : NULL;
		if (body.n == 0) {
			dialect_error_body(c->base.dialect, status, message, &own);
			body = buf_slice(&own);
		}
		dialect_error_name(c->base.dialect, body, c->base.id, &named);
		exchange_reply(x, status, type ? type : "application/json", buf_slice(&named));
		free(type);
	} else if (c->bytes_out > 0 && !c->view.stream) {
		exchange_abort(x); /* half a JSON object cannot be mended: a broken body says so */
	} else {
		put_inband(c, status, message, body, &own);
		dialect_error_name(c->base.dialect, buf_slice(&own), c->base.id, &named);
		if (exchange_write(x, named.p, named.n))
			exchange_abort(x);
		else
			exchange_end(x);
	}
	buf_free(&own);
	buf_free(&named);
	chat_finish(c);
}

void chat_answer_overflow(struct chat *c)
{
	struct buf body;
	char text[96];
	bool told = c->overflow_tokens > 0 && c->overflow_window > 0;
	uint64_t tokens = told ? (uint64_t)c->overflow_tokens : c->facts.tokens;
	int64_t window = told ? c->overflow_window : c->facts.main.window;
	buf_init(&body, 0);
	c->too_long = true;
	chat_overflow_told(c, "refused");
	snprintf(c->note, sizeof(c->note), "refused: %llu tokens do not fit the window of %lld",
		(unsigned long long)tokens, (long long)window);
	dialect_overflow_body(c->base.dialect, tokens, (uint64_t)window, &body);
	snprintf(text, sizeof(text),
		"prompt of about %llu tokens exceeds the context window of %lld",
		(unsigned long long)tokens, (long long)window);
	chat_answer_error(c, 400, slice_str(text), buf_slice(&body), (struct slice){0}, 0);
	buf_free(&body);
}

/* False: none was wished. */
static bool compaction_of(const struct chat *c, struct explain_compaction *out)
{
	const struct chat_compact *p = &c->compact;
	if (!compact_is_wished(&p->want.wish))
		return false;
	*out = compact_told(&p->want, p->begun, p->result, p->after);
	out->messages = p->messages;
	return true;
}

static enum decide_outcome outcome_of(const struct chat *c)
{
	unsigned traits = device_traits(c->device);
	struct explain_compaction compaction;
	if (compaction_of(c, &compaction) && compaction.made && compaction.whole)
		return DECIDE_COMPACTED;
	if (!c->has_condense)
		return decide_plain(&c->facts, &c->plan, c->view.is_load, traits);
	return c->adaptive ? decide_weighed(c->prepared, c->weighed.form, traits)
			   : decide_laid_out(c->prepared, traits);
}

void chat_explain(struct chat *c)
{
	if (c->has_condense && c->prepared == CONDENSE_NOTHING)
		c->plan.strategy = STRATEGY_A; /* as when it is sent */
	struct explain_compaction compaction;
	struct explanation e = {.request = &c->view,
		.compaction = compaction_of(c, &compaction) ? &compaction : NULL,
		.facts = &c->facts,
		.plan = &c->plan,
		.condense = c->has_condense ? &c->condense : NULL,
		.weighed = c->adaptive ? &c->weighed : NULL,
		.rates = &c->device->foresight.rates,
		.outcome = outcome_of(c),
		.device = c->device->conf->name,
		.backend = backend_type_name(c->device->conf->backend.type),
		.num_ctx = chat_num_ctx(c, c->device)};
	struct buf body;
	if (c->explain_body && c->assembled == CONDENSE_OK)
		e.body = buf_slice(&c->rewritten);
	buf_init(&body, 2 * (size_t)job_body_bytes_max(c->base.all->config));
	if (explain_json(&e, &body)) {
		chat_answer_error(c, 503, SLICE("out of memory"), (struct slice){0},
			(struct slice){0}, CHAT_RETRY_AFTER_S);
	} else {
		c->sent_tokens = 0;
		add_headers(c, false);
		exchange_reply(c->base.exchange, 200, "application/json", buf_slice(&body));
		chat_finish(c);
	}
	buf_free(&body);
}

void chat_answer_count(struct chat *c)
{
	struct requests *s = c->base.all;
	struct buf body;
	uint64_t tokens = tokens_estimate(s->tokens, buf_slice(&c->model), &c->view.census);
	buf_init(&body, 0);
	dialect_count_body(c->base.dialect, tokens, &body);
	request_tell(c->base.exchange, &(struct request_story){.id = c->base.id,
					       .strategy = "pass",
					       .tokens_in = tokens,
					       .reason = "counted by the gateway"});
	request_name(&c->base);
	add_model(c, c);
	exchange_reply(c->base.exchange, 200, "application/json", buf_slice(&body));
	buf_free(&body);
	chat_finish(c);
}

static void reply_compaction(struct chat *c, uint64_t tokens_in, const struct buf *body)
{
	request_tell(c->base.exchange, &(struct request_story){.id = c->base.id,
					       .strategy = "pass",
					       .tokens_in = tokens_in,
					       .reason = "compacted by the gateway"});
	request_name(&c->base);
	add_model(c, c->lead ? c->lead : c);
	exchange_reply(c->base.exchange, 200, dialect_content_type(c->base.dialect, c->view.stream),
		buf_slice(body));
}

void chat_answer_compaction(struct chat *c)
{
	struct answer_event end = {.kind = ANSWER_END, .finish = FINISH_COMPACTION};
	struct slice model = buf_slice(c->alias.n ? &c->alias : &c->model);
	struct answer_writer *w =
		answer_writer_create(c->base.dialect, c->view.stream, model, c->base.id, false, 0);
	struct buf body;
	struct chat *m;
	buf_init(&body, 0);
	if (!w || answer_writer_read(w, &c->view) || answer_writer_put(w, &end, &body)) {
		chat_answer_error(c, 503, SLICE("out of memory"), (struct slice){0},
			(struct slice){0}, CHAT_RETRY_AFTER_S);
	} else {
		while ((m = TAILQ_FIRST(&c->joined))) {
			m->view.stream = c->view.stream;
			reply_compaction(m, c->compact.want.tokens, &body);
			chat_finish(m);
		}
		reply_compaction(c, c->compact.want.tokens, &body);
		chat_finish(c);
	}
	answer_writer_destroy(w);
	buf_free(&body);
}

/* The head of an answer without a stream waits for the object: until it is whole another worker
 * can still be asked. */
void chat_answer_kept_head(struct chat *c)
{
	int status = c->head.status ? c->head.status : 200;
	const char *type =
		c->head.type ? c->head.type : dialect_content_type(c->base.dialect, c->view.stream);
	chat_answer_head(c, status, type, c->head.body_bytes);
	struct chat *m;
	TAILQ_FOREACH(m, &c->joined, member) {
		if (m->head_sent)
			continue;
		audience_mirror(m);
		chat_answer_head(m, status, type, c->head.body_bytes);
	}
}

int chat_answer_pieces(struct chat *c, struct slice bytes)
{
	struct chat *next;
	for (struct chat *m = TAILQ_FIRST(&c->joined); m; m = next) {
		next = TAILQ_NEXT(m, member);
		if (exchange_write(m->base.exchange, bytes.p, bytes.n))
			break_off(m);
	}
	return exchange_write(c->base.exchange, bytes.p, bytes.n);
}

bool chat_answer_write(struct chat *c, struct slice bytes)
{
	chat_count_way(c);
	chat_answer_kept_head(c);
	if (chat_answer_pieces(c, bytes)) {
		/* Credit keeps us far from the cap: a worker that ignores it, or memory is out. The
		 * client must see a broken stream. */
		request_count(&c->base, MEASURE_FAILED);
		log_line(LOG_ERROR, "answer_overrun", LOG_STR("req", c->base.id), LOG_END);
		exchange_abort(c->base.exchange);
		chat_finish(c);
		return false;
	}
	c->bytes_out += bytes.n;
	c->tail[0] = bytes.n > 1 ? bytes.p[bytes.n - 2] : c->tail[1];
	c->tail[1] = bytes.p[bytes.n - 1];
	return true;
}

void chat_answer_poison(struct chat *c)
{
	/* A status that no client's library sends the request again for. */
	chat_answer_error(c, 422,
		SLICE("workers or backends died of this request; it is refused for ten minutes"),
		(struct slice){0}, (struct slice){0}, 0);
}

void chat_end_joined(struct chat *c)
{
	struct chat *m;
	while ((m = TAILQ_FIRST(&c->joined))) {
		exchange_end(m->base.exchange);
		log_line(LOG_INFO, "request_done", LOG_STR("req", m->base.id),
			LOG_STR("joined", m->joined_to), LOG_INT("bytes_out", c->bytes_out),
			LOG_INT("ms", now_ms() - m->base.begun_ms),
			LOG_STR("key", request_key(&m->base)), LOG_END);
		chat_finish(m);
	}
}

bool chat_hand_over(struct chat *c)
{
	struct chat *heir = TAILQ_FIRST(&c->joined);
	if (!heir)
		return false;
	audience_give_place(c, heir);
	chat_answer_readdress(c);
	log_line(LOG_INFO, "taken_over", LOG_STR("req", c->base.id), LOG_STR("from", heir->base.id),
		LOG_END);
	heir->left = true;
	chat_finish(heir);
	return true;
}
