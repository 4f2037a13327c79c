/*
 * Routing by predicted time (routing.mode = "adaptive"; the decision itself is weigh.h's), and what
 * every answer teaches about its device. Nothing waits for the small device.
 */
#include "supervisor/requests/chat.h"

#include "common/base/log.h"

#include <math.h>
#include <stdlib.h>

/* --- before anything is made --- */

/* The thread pool reads them while more may be decided. */
static void copy_decisions(struct chat *c)
{
	size_t n = 0;
	const uint64_t *all =
		c->base.all->devices->keep ? keep_decisions(c->base.all->devices->keep, &n) : NULL;
	free(c->forced);
	c->forced = n ? malloc(n * sizeof(*all)) : NULL;
	c->forced_count = c->forced ? n : 0;
	if (c->forced)
		memcpy(c->forced, all, n * sizeof(*all));
}

/* This request has it read: there is nothing to put off any more. */
static void used(struct chat *c, uint64_t freeze)
{
	if (!c->explain)
		unread_done(&c->base.all->unread, freeze);
}

/* Is an early freeze of this conversation better left for later? Then it is none of the decisions. */
static void put_off(struct chat *c)
{
	const struct unread_freeze *f =
		unread_find(&c->base.all->unread, c->condense.chains, c->view.count);
	struct unread_facts now = {.foresight = &c->device->foresight,
		.plan = &c->facts,
		.gain_ms = (double)c->base.all->config->routing.min_gain_ms};
	c->put_off = 0;
	if (!f || f->device != c->device->number)
		return;
	if (c->overflowed || !unread_is_later(f, &now)) {
		used(c, f->chain);
		return;
	}
	uint64_t *at = c->forced_count ? bsearch(&f->chain, c->forced, c->forced_count,
						 sizeof(*c->forced), keep_by_chain)
				       : NULL;
	if (!at)
		return;
	memmove(at, at + 1, (size_t)(c->forced + --c->forced_count - at) * sizeof(*at));
	c->put_off = f->chain;
	c->put_off_window = f->window;
}

void chat_adaptive_freeze(struct chat *c)
{
	used(c, c->put_off);
	c->put_off = 0;
	copy_decisions(c);
}

static struct weigh_facts weigh_facts(struct chat *c)
{
	return (struct weigh_facts){.request = &c->view,
		.conf = c->base.all->config,
		.plan = &c->facts,
		.foresight = &c->device->foresight,
		.queue_ms = jobs_wait_ms(c->device),
		.overflowed = c->overflowed};
}

void chat_adaptive_plan(struct chat *c)
{
	struct weigh_facts f = weigh_facts(c);
	c->adaptive = true;
	weigh_original(&f, &c->chain, &c->weighed, &c->plan);
	if (c->plan.condense) {
		copy_decisions(c);
		put_off(c);
	}
}

/* --- once the other form is made --- */

void chat_adaptive_choose(struct chat *c)
{
	if (c->use_condensed) {
		struct weigh_facts f = weigh_facts(c);
		struct weigh_other other = {.chain = &c->sent_chain,
			.tokens = tokens_estimate(
				c->base.all->tokens, buf_slice(&c->model), &c->sent_census),
			.chains = c->condense.chains,
			.forced = c->forced,
			.forced_count = c->forced_count};
		weigh_against(&f, &c->chain, &other, &c->weighed, &c->plan);
	} else {
		weigh_alone(&c->weighed, &c->plan);
	}
	if (c->weighed.form == FORM_ORIGINAL)
		c->use_condensed = c->use_rewritten = false;
	log_line(LOG_INFO, "chosen", LOG_STR("req", c->base.id),
		LOG_STR("form", choose_form_name(c->weighed.form)),
		LOG_STR("strategy", strategy_name(c->plan.strategy)),
		LOG_STR("reason", c->plan.reason), LOG_INT("put_off", c->put_off != 0), LOG_END);
}

/* --- what came of it --- */

static struct prefix_chain *chain_of(struct chat *c)
{
	return c->use_condensed ? &c->sent_chain : &c->chain;
}

void chat_forecast_make(struct chat *c)
{
	chat_forecast_cut(c);
	c->forecast = weigh_forecast(&c->device->foresight, chain_of(c), c->sent_tokens);
	c->predicted_ms =
		c->forecast.ms + jobs_wait_ms(c->device) + (double)(now_ms() - c->base.begun_ms);
}

void chat_forecast_sent(struct chat *c)
{
	foresight_sent(&c->device->foresight, &c->forecast, chain_of(c));
	c->forecast_on = c->device;
}

static void count_prediction(struct chat *c)
{
	struct predictions *p = &c->base.all->predictions;
	double measured = (double)c->first_byte_ms;
	if (!c->view.stream || c->first_ms < 0 || c->predicted_ms <= 0)
		return;
	histogram_add(&p->error[c->plan.strategy], (uint64_t)fabs(measured - c->predicted_ms));
	histogram_add(&p->percent[c->plan.strategy],
		(uint64_t)fmin(100 * measured / fmax(c->predicted_ms, 1), 1e6));
}

void chat_forecast_ended(struct chat *c, const struct proto_usage *u)
{
	struct device *d = c->forecast_on;
	if (!d)
		return;
	c->forecast_on = NULL;
	double load = u->load_ms > 0 ? u->load_ms : 0;
	struct outcome o = {.prompt = (double)u->prompt_tokens,
		.cached = (double)u->cached_tokens,
		.output = (double)u->output_tokens,
		.prompt_ms = u->prompt_ms,
		/* Without a stream the first byte is the last one, too. */
		.first_ms = c->view.stream && c->first_ms >= load ? c->first_ms - load : -1};
	double cached = foresight_ended(&d->foresight, &c->forecast, &o);
	if (!c->bench)
		count_prediction(c);
	if (device_keep_rates(d, false))
		keep_tokens(c->base.all->devices->keep, c->base.all->tokens, buf_slice(&c->model));
	chat_guard_ended(c, d, u, cached);
	log_line(LOG_INFO, "forecast", LOG_STR("req", c->base.id), LOG_STR("device", d->conf->name),
		LOG_MS("predicted_ms", c->predicted_ms), LOG_INT("first_byte_ms", c->first_byte_ms),
		LOG_INT("cached_expected", c->forecast.match.cached), LOG_INT("cached", cached),
		LOG_END);
}

void chat_forecast_cut(struct chat *c)
{
	struct device *d = c->forecast_on;
	c->forecast_on = NULL;
	if (d)
		foresight_cancelled(&d->foresight, &c->forecast, c->first_ms >= 0);
}
