/*
 * Small requests that pass through (lane.h): vectors of a model that a small device has as well, and
 * llama-server's /infill. A vector is its model's alone, so no other one stands in for that; what is filled in may be
 * another model's. What comes back with an error, or not at all, is asked of the main device.
 */
#include "supervisor/requests/pass.h"

#include "common/base/log.h"
#include "supervisor/devices/governor.h"
#include "supervisor/requests/small_ask.h"

#include <stdio.h>

/* --- is it one? --- */

static enum small_kind kind_of(const struct route *route)
{
	static const struct {
		const char *path;
		enum small_kind kind;
	} kinds[] = {{"/api/embed", SMALL_EMBEDDINGS}, {"/api/embeddings", SMALL_EMBEDDINGS},
		{"/v1/embeddings", SMALL_EMBEDDINGS}, {"/embeddings", SMALL_EMBEDDINGS},
		{"/embedding", SMALL_EMBEDDINGS}, {"/infill", SMALL_AUTOCOMPLETE}};
	for (size_t i = 0; route->path && i < sizeof(kinds) / sizeof(*kinds); i++)
		if (strcmp(route->path, kinds[i].path) == 0)
			return kinds[i].kind;
	return SMALL_ANY;
}

static bool is_infill(const struct pass *p)
{
	return kind_of(&p->route) == SMALL_AUTOCOMPLETE;
}

/* It answers with the model that it serves by default. */
static const char *fits_infill(const struct pass *p, const struct device *d)
{
	struct slice model = slice_str(device_model(d));
	uint64_t tokens = tokens_estimate(p->base.all->tokens, model, &p->peek.census);
	if (d->conf->backend.type != p->device->conf->backend.type)
		return "has another kind of backend";
	if (model.n == 0)
		return "has told of no model yet";
	return small_ask_fits(tokens, -1, governor_window(d, model)) ? NULL
								     : "has no window for it";
}

static const char *fits(const void *ctx, const struct device *d)
{
	const struct pass *p = ctx;
	if (d == p->device)
		return "answers it anyway";
	if (is_infill(p))
		return fits_infill(p, d);
	return device_serves(d, buf_slice(&p->peek.model)) ? NULL : "does not have its model";
}

static const struct config_small_rule *rule_of(const struct pass *p)
{
	struct small_facts f = {.kind = kind_of(&p->route),
		.model = buf_slice(p->asked.n ? &p->asked : &p->peek.model),
		.path = exchange_path(p->base.exchange)};
	return small_rule(p->base.all->config, &f);
}

/* --- there --- */

/* The body names another model from now on; the client's own name is told in the answer. */
static int rename_to(struct pass *p, struct slice model)
{
	struct slice named = p->peek.named;
	if (!p->peek.model.n || device_same_model(model, buf_slice(&p->peek.model)))
		return 0;
	int rc = json_replace_string(&p->body, named, model);
	if (rc)
		return rc;
	if (!p->asked.n) {
		p->asked = p->peek.model;
		p->lane.named = true;
	} else {
		buf_free(&p->peek.model);
	}
	bool stream = p->peek.stream, tools = p->peek.tools;
	struct token_census census = p->peek.census;
	pass_peek_init(&p->peek);
	pass_peek(&p->peek, buf_slice(&p->body)); /* where the name stands now */
	p->peek.stream = stream;
	p->peek.tools = tools;
	p->peek.census = census;
	pass_recount(p);
	return 0;
}

static void take(struct pass *p, struct device *d)
{
	const struct config *conf = p->base.all->config;
	struct pass_lane *l = &p->lane;
	/* Many texts to embed are as patient as what nobody waits for: the main device would have to load
	 * their model. */
	bool patient = !is_infill(p) || pass_class(p) == CLASS_IDLE;
	l->back = p->device;
	l->wait_ms = patient ? conf->small.idle_wait_ms : conf->small.wait_ms;
	if (!is_infill(p) || (buf_add_slice(&l->model, buf_slice(&p->peek.model)) == 0 &&
				     rename_to(p, slice_str(device_model(d))) == 0)) {
		p->device = d;
		l->on = true;
	}
}

void pass_lane(struct pass *p)
{
	const struct requests *s = p->base.all;
	const char *why = NULL;
	if (!p->route.works || !(p->device->conf->roles & ROLE_MAIN) || !lane_is_there(s) ||
		(!is_infill(p) && !p->peek.model.n))
		return;
	const struct config_small_rule *rule = rule_of(p);
	if (!rule || lane_stays(s, rule))
		return;
	struct device *d = lane_find(s, rule->use, fits, p, &why);
	p->lane.what = small_ask_what(rule);
	log_line(LOG_INFO, "small", LOG_STR("req", p->base.id), LOG_STR("what", p->lane.what),
		LOG_STR("device", d ? d->conf->name : ""), LOG_STR("why_not", d ? "" : why),
		LOG_END);
	if (d)
		take(p, d);
}

void pass_lane_fini(struct pass *p)
{
	buf_free(&p->lane.model);
}

/* --- and back --- */

/* The name that its client has for the model is the model's own again. */
static void forget_name(struct pass *p)
{
	if (p->lane.named)
		buf_free(&p->asked);
	p->lane.named = false;
}

bool pass_lane_leave(struct pass *p, const char *cause)
{
	struct pass_lane *l = &p->lane;
	if (!l->on || p->first_byte_ms || p->base.all->ending ||
		(l->model.n && rename_to(p, buf_slice(&l->model))))
		return false;
	p->base.all->count.fallbacks++;
	log_line(LOG_WARN, "fallback", LOG_STR("req", p->base.id), LOG_STR("cause", cause),
		LOG_STR("to", l->back->conf->name), LOG_END);
	uv_timer_stop(&p->wait);
	if (p->job)
		job_cancel(p->job);
	p->job = NULL;
	l->on = false;
	l->left = cause;
	forget_name(p);
	p->device = l->back;
	pass_submit(p);
	return true;
}

bool pass_lane_waited(struct pass *p)
{
	const char *why = p->lane.on ? lane_impatience(p->base.all, p->job, p->lane.wait_ms) : NULL;
	return why && pass_lane_leave(p, why);
}
