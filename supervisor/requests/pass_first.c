#include "supervisor/requests/pass.h"

#include "common/base/log.h"

#include <stdio.h>

void pass_tell(struct pass *p)
{
	char reason[192];
	const struct pass_lane *l = &p->lane;
	int n = snprintf(reason, sizeof(reason), "passed through to %s", p->device->conf->name);
	if (l->what && (l->on || l->left))
		snprintf(reason + n, sizeof(reason) - (size_t)n, "; small: %s%s%s", l->what,
			l->left ? ", but the small device " : "", l->left ? l->left : "");
	request_tell(p->base.exchange, &(struct request_story){.id = p->base.id,
					       .strategy = "pass",
					       .tokens_in = p->base.tokens_in,
					       .tokens_sent = p->base.tokens_in,
					       .reason = reason});
	if (p->asked.n)
		exchange_add_header(p->base.exchange, "X-Tandem-Model", buf_slice(&p->peek.model));
}

static void on_tick(uv_timer_t *t)
{
	struct pass *p = t->data;
	if (!p->head_sent) {
		pass_tell(p);
		exchange_add_header(p->base.exchange, "Content-Type",
			slice_str(dialect_content_type(p->base.dialect, true)));
		exchange_head(p->base.exchange, 200, -1);
		p->head_sent = p->early = true;
	}
	struct slice beat = dialect_heartbeat(p->base.dialect, true);
	if (exchange_write(p->base.exchange, beat.p, beat.n) == 0)
		p->beat_bytes += beat.n;
	steps_again(request_steps(&p->base), STEP_HEARTBEAT, now_ms());
}

void pass_watch_first_byte(struct pass *p)
{
	const struct config *conf = p->base.all->config;
	/* The bytes must be at the client by then: a tenth of it is kept for the way. */
	uint64_t first = (uint64_t)(conf->deadlines.first_byte_ms -
				    conf->deadlines.first_byte_ms / 10),
		 age = now_ms() - p->base.begun_ms;
	uv_timer_start(&p->tick, on_tick, age < first ? first - age : 1,
		(uint64_t)conf->deadlines.heartbeat_ms);
}

void pass_end_in_band(struct pass *p, int status, struct slice message)
{
	const struct dialect_stream at = {0};
	struct buf event;
	buf_init(&event, 0);
	dialect_error_inband(p->base.dialect, true, status, message, &at, &event);
	if (buf_error(&event) || exchange_write(p->base.exchange, event.p, event.n))
		exchange_abort(p->base.exchange);
	else
		exchange_end(p->base.exchange);
	buf_free(&event);
}

void pass_refused_late(struct pass *p)
{
	struct buf text;
	buf_init(&text, DIALECT_ERROR_TEXT_BYTES);
	pass_peek_error(p->refused, buf_slice(&p->refusal), &text);
	request_count_error(&p->base, p->refused);
	log_line(LOG_WARN, "request_failed", LOG_STR("req", p->base.id),
		LOG_INT("status", p->refused),
		LOG_SLICE("message", job_logged_message(FAIL_STATUS, buf_slice(&text))), LOG_END);
	pass_end_in_band(p, p->refused, buf_slice(&text));
	buf_free(&text);
}
