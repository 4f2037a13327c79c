/*
 * Routing by predicted time (routing.mode = "adaptive"), and what every answer teaches about its
 * device.
 *
 * The original is weighed against at most one other form: a session's layout, or the cut of a
 * one-shot prompt. That form is only made where it may matter: the prompt does not fit, or it comes
 * near the size at which a conversation freezes, or it is a one-shot prompt above a_max_tokens.
 * Nothing waits for the small device.
 */
#include "supervisor/chat.h"

#include "common/log.h"
#include "supervisor/choose.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Of the room: below, no conversation has been frozen (layout.h: low, and high of what is left). */
#define NEAR 0.5
#define SYSTEM_CHARS_MAX 8000 /* a longer system prompt is an agent's */
#define MESSAGE_CHARS 24      /* what a template puts around one message */
#define IMAGE_CHARS (TOKENS_PER_IMAGE * 4)

/* --- what a prompt begins with --- */

int chat_chain(const struct chat_request *r, struct slice model, struct prefix_chain *c)
{
	struct buf head;
	buf_init(&head, 0);
	buf_add_slice(&head, model);
	buf_add_char(&head, '\n');
	buf_add_slice(&head, r->tools.raw);
	int rc = buf_error(&head);
	prefix_chain_fini(c);
	if (rc == 0)
		rc = prefix_add(c, buf_slice(&head), MESSAGE_CHARS + (double)r->tools_bytes);
	buf_free(&head);
	for (size_t i = 0; i < r->count && rc == 0; i++) {
		const struct chat_message *m = &r->messages[i];
		rc = prefix_add(c, m->raw.raw,
			MESSAGE_CHARS + (double)m->chars + (double)m->images * IMAGE_CHARS);
	}
	if (rc)
		prefix_chain_fini(c); /* nothing is known then */
	return rc;
}

static struct forecast forecast_of(
	const struct device *d, struct prefix_chain *chain, uint64_t tokens)
{
	prefix_scale(chain, (double)tokens);
	if (chain->count)
		return foresee(&d->foresight, chain);
	struct forecast fc = {.match = {.fresh = (double)tokens}};
	fc.ms = predict_first_ms(&d->foresight.rates, 0, fc.match.fresh);
	return fc;
}

static void fill(struct choose_candidate *to, const struct forecast *fc, uint64_t tokens, bool fits)
{
	*to = (struct choose_candidate){.there = true,
		.fits = fits,
		.tokens = (double)tokens,
		.fresh = fc->match.fresh,
		.ms = fc->ms};
}

/* --- before anything is made --- */

/* Nothing of a conversation is cached yet, and it is not an agent's first request, which would be
 * sent again with every step: those have tools, or a system prompt that explains them. */
static bool is_one_shot(const struct chat *c)
{
	size_t texts = 0, system = 0;
	for (size_t i = 0; i < c->view.count; i++) {
		const struct chat_message *m = &c->view.messages[i];
		if (m->role == CHAT_ASSISTANT || m->role == CHAT_TOOL)
			return false;
		texts += m->role == CHAT_USER;
		system += m->role == CHAT_SYSTEM ? m->chars : 0;
	}
	return texts > 0 && system <= SYSTEM_CHARS_MAX && c->view.tools.raw.n <= 2;
}

/* The thread pool reads them while more may be decided. */
static void copy_decisions(struct chat *c)
{
	size_t n = 0;
	const uint64_t *all = c->base.sup->keep ? keep_decisions(c->base.sup->keep, &n) : NULL;
	free(c->forced);
	c->forced = n ? malloc(n * sizeof(*all)) : NULL;
	c->forced_count = c->forced ? n : 0;
	if (c->forced)
		memcpy(c->forced, all, n * sizeof(*all));
}

static void decide(struct chat *c)
{
	struct choice choice;
	choose(&c->ways, &choice);
	c->form = choice.form;
	c->plan.strategy = choice.strategy;
	snprintf(c->plan.reason, sizeof(c->plan.reason), "%s", choice.reason);
}

void chat_adaptive_plan(struct chat *c)
{
	const struct config *conf = &c->base.sup->config;
	const struct plan_facts *f = &c->facts;
	struct forecast fc = forecast_of(c->device, &c->chain, f->tokens);
	c->adaptive = true;
	c->one_shot = is_one_shot(c);
	c->plan = (struct plan){
		.must_shrink = !plan_fits(f) || c->overflowed, .room_tokens = plan_room(f)};
	c->ways = (struct choose_facts){.min_gain_ms = (double)conf->routing.min_gain_ms,
		.min_gain = conf->routing.min_gain,
		.a_max_tokens = f->a_max_tokens,
		.b_max_tokens = f->b_max_tokens,
		.queue_ms = jobs_wait_ms(c->device)};
	fill(&c->ways.form[FORM_ORIGINAL], &fc, f->tokens, !c->plan.must_shrink);
	decide(c);
	bool near =
		c->plan.room_tokens > 0 && (double)f->tokens > NEAR * (double)c->plan.room_tokens;
	c->plan.condense = c->plan.must_shrink ||
			   (f->tokens >= (uint64_t)f->a_max_tokens && (c->one_shot || near));
	if (c->one_shot)
		c->plan.keep_ratio =
			f->tokens <= (uint64_t)f->b_max_tokens ? f->keep_ratio_b : f->keep_ratio_c;
	if (c->plan.condense)
		copy_decisions(c);
}

/* --- once the other form is made --- */

/* Was it frozen early, or is it what the device was sent last of this conversation? */
static bool is_on_layout(
	const struct chat *c, const struct forecast *original, const struct forecast *layout)
{
	double of_original = 0, of_layout = 0;
	for (int age = 0; age < PREFIX_AGES; age++) {
		of_original = fmax(of_original, original->match.shared[age]);
		of_layout = fmax(of_layout, layout->match.shared[age]);
	}
	if (of_layout > of_original + PREFIX_LESSON_TOKENS)
		return true;
	for (size_t i = 0; i < c->view.count; i++)
		if (c->forced_count && bsearch(&c->condense.chains[i], c->forced, c->forced_count,
					       sizeof(*c->forced), keep_by_chain))
			return true;
	return false;
}

void chat_adaptive_choose(struct chat *c)
{
	enum choose_form form = c->one_shot ? FORM_CUT : FORM_LAYOUT;
	if (c->use_condensed) {
		uint64_t tokens =
			tokens_estimate(c->base.sup->tokens, buf_slice(&c->model), &c->sent_census);
		struct forecast original = forecast_of(c->device, &c->chain, c->facts.tokens);
		struct forecast other = forecast_of(c->device, &c->sent_chain, tokens);
		int64_t room = c->plan.room_tokens;
		/* What was made for that room fits it; the estimate of its tokens is another one.
		 */
		fill(&c->ways.form[form], &other, tokens,
			room <= 0 || tokens <= (uint64_t)room || c->plan.must_shrink);
		c->ways.on_layout = form == FORM_LAYOUT && is_on_layout(c, &original, &other);
		c->ways.queue_ms = jobs_wait_ms(c->device);
		decide(c);
	}
	if (c->form == FORM_ORIGINAL)
		c->use_condensed = c->use_rewritten = false;
	log_line(LOG_INFO, "chosen", LOG_STR("req", c->base.id),
		LOG_STR("form", choose_form_name(c->form)),
		LOG_STR("strategy", strategy_name(c->plan.strategy)),
		LOG_STR("reason", c->plan.reason), LOG_END);
}

/* --- what came of it --- */

static struct prefix_chain *chain_of(struct chat *c)
{
	return c->use_condensed ? &c->sent_chain : &c->chain;
}

void chat_forecast_make(struct chat *c)
{
	chat_forecast_cut(c);
	c->forecast = forecast_of(c->device, chain_of(c), c->sent_tokens);
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
	struct predictions *p = &c->base.sup->predictions;
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
	count_prediction(c);
	if (device_keep_rates(d, false))
		keep_tokens(c->base.sup->keep, c->base.sup->tokens, buf_slice(&c->model));
	log_line(LOG_INFO, "forecast", LOG_STR("req", c->base.id), LOG_STR("device", d->conf->name),
		LOG_MS("predicted_ms", c->predicted_ms), LOG_INT("first_byte_ms", c->first_byte_ms),
		LOG_INT("cached_expected", c->forecast.match.cached), LOG_INT("cached", cached),
		LOG_END);
}

void chat_forecast_cut(struct chat *c)
{
	struct device *d = c->forecast_on;
	const struct job *j = c->answer;
	c->forecast_on = NULL;
	if (d)
		foresight_cancelled(&d->foresight, &c->forecast,
			j && j->running ? (double)(now_ms() - j->started_ms) : 0);
}
