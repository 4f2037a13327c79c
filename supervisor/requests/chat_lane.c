/*
 * A small request (lane.h): it is found to be one, its body is made to name the small device's model, and it
 * is answered there under the name that the client asked for. Where it does not fit, where no device can take
 * it in time, and where it fails before the first byte, it goes to a main device as if there were no
 * other. Neither way is it a conversation to the guardian, or one to be read early.
 */
#include "supervisor/requests/chat.h"

#include "common/base/log.h"
#include "supervisor/devices/governor.h"
#include "supervisor/requests/aliases.h"
#include "supervisor/requests/small_ask.h"

#include <stdio.h>

/* --- who answers it otherwise --- */

/* The small device that a model's alias stands for, or NULL. */
static const struct device *alias_device(const struct chat *c)
{
	const struct device *d = c->pinned[0] ? device_find(c->base.all->devices, c->pinned) : NULL;
	return d && (d->conf->roles & ROLE_SMALL) && !(d->conf->roles & ROLE_MAIN) ? d : NULL;
}

static bool answers_to(const struct chat *c, const struct device *d)
{
	bool any = device_has(d, TRAIT_ANY_NAME) && !dialect_names_models(c->base.dialect);
	return any || device_serves(d, buf_slice(&c->model));
}

/* Would a main device answer it, and asked for which model? The one that is named, or where a rule or an
 * alias alone knows that name (by_name) its own. */
static bool main_answers(const struct chat *c, bool by_name, struct slice *model)
{
	const struct device *d = chat_alias_device(c);
	bool main = d && (d->conf->roles & ROLE_MAIN);
	*model = buf_slice(&c->model);
	if (!d || (!main && !alias_device(c)))
		return false; /* it is another device's own model */
	if (main && answers_to(c, d))
		return true;
	d = pick_role(c->base.all->devices, ROLE_MAIN);
	*model = slice_str(d ? device_model(d) : "");
	return by_name && model->n;
}

/* --- does it fit? --- */

static uint64_t tokens_for(const struct chat *c, const struct device *d)
{
	return tokens_estimate(c->base.all->tokens, slice_str(device_model(d)), &c->view.census);
}

static const char *fits(const void *ctx, const struct device *d)
{
	const struct chat *c = ctx;
	struct slice model = slice_str(device_model(d));
	if (d == chat_alias_device(c) && d != alias_device(c))
		return "answers it anyway";
	if (model.n == 0)
		return "has told of no model yet";
	if (!json_is(c->view.model, JSON_STRING) && !device_has(d, TRAIT_ANY_NAME))
		return "wants a model's name";
	return small_ask_fits(tokens_for(c, d), c->view.max_output, governor_window(d, model))
		       ? NULL
		       : "has no window for it";
}

/* --- there --- */

/* The body names that model from now on, and is read again. False: it does already, or names none. */
static bool become(struct chat *c, struct slice model)
{
	if (!json_is(c->view.model, JSON_STRING) || device_same_model(model, buf_slice(&c->model)))
		return false;
	if (c->alias.n == 0) {
		c->alias = c->model;
		c->model = (struct buf){.max = c->alias.max};
		c->lane.named = true;
	}
	chat_rename(c, model);
	return true;
}

static void take(struct chat *c, const struct device *d)
{
	const struct config *conf = c->base.all->config;
	c->lane.state = LANE_ON;
	c->guard.watched = false;
	c->facts.tokens = tokens_for(c, d);
	c->lane.wait_ms =
		chat_class(c) == CLASS_IDLE ? conf->small.idle_wait_ms : conf->small.wait_ms;
	if (!alias_device(c))
		memcpy(c->lane.pinned, c->pinned, sizeof(c->pinned));
	memcpy(c->pinned, d->conf->name, sizeof(c->pinned));
}

/* True: the body is being read again. */
static bool try_lane(struct chat *c, const char *what, const char *use, bool by_name)
{
	struct chat_lane *l = &c->lane;
	const char *why = NULL;
	struct slice back;
	if (!main_answers(c, by_name, &back))
		return false;
	buf_clear(&l->model);
	if (buf_add_slice(&l->model, back))
		return false;
	struct device *d = lane_find(c->base.all, use, fits, c, &why);
	if (d)
		snprintf(l->why, sizeof(l->why), "small: %s", what);
	else if (why)
		snprintf(l->why, sizeof(l->why), "small: %s, but the small device %s", what, why);
	log_line(LOG_INFO, "small", LOG_STR("req", c->base.id), LOG_STR("what", what),
		LOG_STR("device", d ? d->conf->name : ""), LOG_STR("why_not", d ? "" : why),
		LOG_END);
	if (d) {
		take(c, d);
		return become(c, slice_str(device_model(d)));
	}
	if (alias_device(c))
		c->pinned[0] = '\0';
	return become(c, buf_slice(&l->model));
}

static bool is_small(struct chat *c)
{
	const struct device *alias = alias_device(c);
	if (alias)
		return try_lane(c, "alias", c->pinned, true);
	struct small_ask ask;
	small_ask_init(&ask, &c->view, buf_slice(c->alias.n ? &c->alias : &c->model),
		exchange_path(c->base.exchange));
	const struct config_small_rule *rule = small_ask_rule(c->base.all->config, &ask);
	small_ask_fini(&ask);
	if (!rule || lane_stays(c->base.all, rule))
		return false;
	return try_lane(c, small_ask_what(rule), rule->use, rule->model != NULL);
}

/* What workers died of is refused as it came. */
static bool may_be_small(const struct chat *c)
{
	const struct requests *s = c->base.all;
	return !c->parse_result && !dialect_counts(c->base.dialect) && !c->view.is_load &&
	       !c->compact.begun && lane_is_there(s) &&
	       !exchange_header(c->base.exchange, "X-Tandem-Route") &&
	       !(c->hash_wanted && poison_has(&s->poison, c->hash, now_ms()));
}

bool chat_lane(struct chat *c)
{
	const struct device *d = NULL;
	switch (c->lane.state) {
	case LANE_UNSEEN:
		c->lane.state = LANE_OFF;
		return may_be_small(c) && is_small(c);
	case LANE_ON:
		d = device_find(c->base.all->devices, c->pinned);
		if (d && d->state == WORKER_READY && !device_hopeless(d))
			return false;
		chat_lane_leave(c, "is not ready any more");
		return true;
	default:
		return false;
	}
}

void chat_lane_plan(struct chat *c)
{
	c->plan = (struct plan){.strategy = STRATEGY_SMALL};
	snprintf(c->plan.reason, sizeof(c->plan.reason), "%s", c->lane.why);
}

/* --- and back --- */

bool chat_lane_waited(struct chat *c)
{
	const char *why = NULL;
	if (c->lane.state == LANE_ON && !chat_begun(c))
		why = lane_impatience(c->base.all, c->answer, c->lane.wait_ms);
	if (why)
		chat_lane_leave(c, why);
	return why != NULL;
}

/* The name that its client has for the model is the model's own again. */
static void forget_name(struct chat *c)
{
	if (!c->lane.named || !device_same_model(buf_slice(&c->alias), buf_slice(&c->lane.model)))
		return;
	buf_free(&c->alias);
	c->lane.named = false;
}

void chat_lane_leave(struct chat *c, const char *cause)
{
	char text[PLAN_REASON_BYTES / 2];
	snprintf(text, sizeof(text), "%s: %s", c->pinned, cause);
	chat_fallback(c, text, "the main device");
	uv_timer_stop(&c->wait);
	chat_forecast_cut(c);
	if (c->answer)
		job_cancel(c->answer);
	c->answer = NULL;
	if (c->resume.replay.again)
		chat_replay_drop(c); /* the small device's stream is nothing to another one */
	c->first_ms = -1;
	c->state = CHAT_PARSING;
	c->lane.state = LANE_LEFT;
	c->overflow_tokens = c->overflow_window = 0;
	c->queued_ms = -1;
	chat_resume_fini(c); /* none of what came is the client's */
	chat_resume_init(c);
	memcpy(c->pinned, c->lane.pinned, sizeof(c->pinned));
	forget_name(c);
	if (json_is(c->view.model, JSON_STRING))
		chat_rename(c, buf_slice(&c->lane.model));
	else
		chat_event(c, CHAT_PARSED);
}
