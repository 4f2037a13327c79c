#include "supervisor/ctl/explaining.h"

#include "supervisor/requests/route.h"
#include "supervisor/requests/small_ask.h"

#include <errno.h>
#include <stdio.h>

/* --- what a server has kept --- */

static void remember_window(void *ctx, uint64_t beginning, double window)
{
	layout_cache_set_window(ctx, beginning, window);
}

const char *explaining_state_dir(const struct explaining *w)
{
	const struct config *c = &w->conf;
	if (!w->asked.conf && !w->asked.run_dir)
		return NULL;
	return c->state_dir ? c->state_dir : w->asked.run_dir ? w->asked.run_dir : c->run_dir;
}

/* Missing is nothing to speak of: the explanation says that no rates are known. */
static void open_keep(struct explaining *w)
{
	const struct config *c = &w->conf;
	const char *dir = explaining_state_dir(w);
	if (!dir)
		return;
	int rc = keep_open(dir, (size_t)c->limits.state_bytes, &w->keep);
	if (rc && rc != -ENOENT)
		fprintf(stderr, "tandemctl: %s/" KEEP_FILE " is not read: %s\n", dir,
			rc == -EPROTO ? "damaged, or of another format" : strerror(-rc));
}

int explaining_learn(struct explaining *w)
{
	w->tokens = tokens_create();
	w->layouts = layout_cache_create((size_t)w->conf.limits.layout_bytes);
	predict_init(&w->foresight.rates);
	int rc = notes_table_init(&w->notes, (size_t)w->conf.limits.notes_bytes);
	if (rc || !w->tokens || !w->layouts)
		return -ENOMEM;
	open_keep(w);
	if (!w->keep)
		return 0;
	keep_teach(w->keep, w->tokens);
	keep_windows(w->keep, remember_window, w->layouts);
	notes_table_load(&w->notes, w->keep);
	if (w->main)
		keep_rates(w->keep, w->main->name, &w->foresight.rates);
	return 0;
}

/* --- the decision, as chat.c, chat_adaptive.c and chat_condense.c make it --- */

static struct plan_device device(const struct config_device *d, int64_t window)
{
	return (struct plan_device){
		.present = true, .ready = true, .window = window, .slots = d ? d->slots : 1};
}

static int64_t window_of(const struct explaining *w)
{
	const struct chat_request *r = &w->request;
	if (w->asked.window > 0)
		return w->asked.window;
	if (w->main && w->main->client_num_ctx && r->num_ctx > 0)
		return r->num_ctx < DECIDE_WINDOW_MAX ? r->num_ctx : DECIDE_WINDOW_MAX;
	return w->main ? w->main->num_ctx : 0;
}

/* --- the small lane, every device being ready and idle (lane.h) --- */

static bool takes_small(const struct config *c, const struct config_device *d)
{
	return (d->roles & ROLE_SMALL) || (c->small.condensers && notes_are_written_by(d->roles));
}

static const struct config_device *lane_of(
	const struct config *c, const struct config_small_rule *rule)
{
	const struct config_device *d = rule->use ? config_device(c, rule->use) : NULL,
				   *best = NULL;
	if (d)
		return (d->roles & ROLE_MAIN) && !(d->roles & ROLE_SMALL) ? NULL : d;
	if (rule->use && strcmp(rule->use, SMALL_ROLE) != 0)
		return NULL;
	for (size_t i = 0; i < c->device_count; i++) {
		d = &c->devices[i];
		if (takes_small(c, d) &&
			(!best || (d->roles & ROLE_SMALL) > (best->roles & ROLE_SMALL)))
			best = d;
	}
	return best;
}

/* A device's own model is known where the configuration names it. */
static struct slice model_of(const struct explaining *w, const struct config_device *d)
{
	return d->model ? slice_str(d->model) : buf_slice(&w->model);
}

static void fill_small(struct explaining *w, const struct config_device *d, const char *what)
{
	w->lane = d;
	w->backend = backend_profile(d->backend.type);
	w->facts.tokens = tokens_estimate(w->tokens, model_of(w, d), &w->request.census);
	w->facts.main = device(d, d->num_ctx);
	w->facts.to_main = false;
	w->plan = (struct plan){.strategy = STRATEGY_SMALL};
	snprintf(w->plan.reason, sizeof(w->plan.reason), "small: %s", what);
	predict_init(&w->foresight.rates);
	if (w->keep)
		keep_rates(w->keep, d->name, &w->foresight.rates);
	w->explanation.device = d->name;
	w->explanation.backend = w->backend->name;
	w->explanation.num_ctx = w->backend->traits & TRAIT_TAKES_NUM_CTX ? d->num_ctx : 0;
}

/* False: the main device answers. */
static bool is_small(struct explaining *w)
{
	const struct chat_request *r = &w->request;
	const char *path = route_of_chat(w->dialect);
	struct small_ask ask;
	small_ask_init(&ask, r, buf_slice(&w->model), slice_str(path ? path : ""));
	const struct config_small_rule *rule = small_ask_rule(&w->conf, &ask);
	small_ask_fini(&ask);
	const struct config_device *d = rule && !r->is_load ? lane_of(&w->conf, rule) : NULL;
	if (!d || d == w->main ||
		!small_ask_fits(tokens_estimate(w->tokens, model_of(w, d), &r->census),
			r->max_output, d->num_ctx))
		return false;
	fill_small(w, d, small_ask_what(rule));
	return true;
}

static void fill_facts(struct explaining *w)
{
	const struct chat_request *r = &w->request;
	int64_t window = window_of(w);
	decide_facts(&w->facts, &w->conf, r,
		tokens_estimate(w->tokens, buf_slice(&w->model), &r->census), true);
	w->facts.main = device(w->main, window);
	if (w->small)
		w->facts.small = device(w->small, w->small->num_ctx);
	w->explanation = (struct explanation){.request = r,
		.facts = &w->facts,
		.plan = &w->plan,
		.rates = &w->foresight.rates,
		.device = w->main ? w->main->name : "main",
		.backend = w->backend->name,
		.num_ctx = w->backend->traits & TRAIT_TAKES_NUM_CTX ? window : 0};
}

static struct weigh_facts weigh_facts(struct explaining *w)
{
	return (struct weigh_facts){.request = &w->request,
		.conf = &w->conf,
		.plan = &w->facts,
		.foresight = &w->foresight};
}

/* The layout is made: is it what goes? */
static int weigh(struct explaining *w)
{
	struct weigh_facts f = weigh_facts(w);
	struct weigh_other other = {.chains = w->condense.chains,
		.forced = w->condense.options.forced,
		.forced_count = w->condense.options.forced_count};
	struct prefix_chain chain = {0};
	struct chat_request view;
	struct dialect_error error;
	struct buf body;
	buf_init(&body, 0);
	int rc = condense_assemble(&w->condense, NULL, 0, &body) == CONDENSE_OK ? 0 : -ENOMEM;
	if (rc == 0)
		rc = chat_request_parse(w->dialect, buf_slice(&body), &view, &error);
	if (rc == 0) {
		rc = weigh_chain(&view, buf_slice(&w->model), &chain);
		other.chain = &chain;
		other.tokens = tokens_estimate(w->tokens, buf_slice(&w->model), &view.census);
		if (rc == 0)
			weigh_against(&f, &w->chain, &other, &w->weighed, &w->plan);
		chat_request_fini(&view);
	}
	prefix_chain_fini(&chain);
	buf_free(&body);
	return rc;
}

/* What a server would tell the layout of decisions and notes. */
static int tell_kept(struct explaining *w)
{
	struct layout_options *o = &w->condense.options;
	struct notes_models models = {.count = 0};
	size_t unit_bytes = w->conf.condense.idle_notes ? notes_unit_bytes(&w->conf) : 0;
	if (!w->by_time || !w->keep)
		return 0;
	for (size_t i = 0; i < w->conf.device_count && models.count < NOTES_MODELS_MAX; i++) {
		const struct config_device *d = &w->conf.devices[i];
		if (notes_are_written_by(d->roles) && d->model)
			models.name[models.count++] = slice_str(d->model);
	}
	o->forced = keep_decisions(w->keep, &o->forced_count);
	int rc = notes_offer_make(&w->offer, &w->notes, w->condense.request, w->condense.chains,
		w->condense.groups, &models, unit_bytes);
	notes_offer_tell(&w->offer, o);
	return rc;
}

static int lay_out(struct explaining *w)
{
	const struct chat_request *r = &w->request;
	double tokens = tokens_of(w->tokens, buf_slice(&w->model), &r->census);
	struct condense_facts f =
		decide_condense(&w->conf, &w->facts, &w->plan, r, tokens, false, w->by_time);
	int rc = condense_init(&w->condense, r);
	if (rc)
		return rc;
	condense_options(&w->condense, &f, w->layouts);
	rc = tell_kept(w);
	if (rc)
		return rc;
	enum condense_result result = condense_prepare(&w->condense);
	w->explanation.condense = &w->condense;
	if (w->by_time && result == CONDENSE_OK)
		rc = weigh(w);
	else if (w->by_time)
		weigh_alone(&w->weighed, &w->plan);
	w->explanation.outcome =
		w->by_time ? decide_weighed(result, w->weighed.form, w->backend->traits)
			   : decide_laid_out(result, w->backend->traits);
	if (result == CONDENSE_NOTHING)
		w->plan.strategy = STRATEGY_A; /* as the server says it */
	return rc;
}

static int decide(struct explaining *w)
{
	const struct chat_request *r = &w->request;
	struct weigh_facts f = weigh_facts(w);
	fill_facts(w);
	if (!w->compacts && is_small(w)) {
		w->explanation.outcome = DECIDE_ORIGINAL;
		return 0;
	}
	w->by_time =
		w->conf.routing.mode == ROUTING_ADAPTIVE && w->facts.condensable && !w->facts.bare;
	if (w->by_time) {
		int rc = weigh_chain(r, buf_slice(&w->model), &w->chain);
		if (rc)
			return rc;
		weigh_original(&f, &w->chain, &w->weighed, &w->plan);
		w->explanation.weighed = &w->weighed;
	} else {
		plan_decide(&w->facts, &w->plan);
	}
	if (w->plan.condense)
		return lay_out(w);
	w->explanation.outcome = decide_plain(&w->facts, &w->plan, r->is_load, w->backend->traits);
	return 0;
}

int explaining_decide(struct explaining *w, struct dialect_error *error)
{
	if (json_is(w->request.model, JSON_STRING))
		json_string_decode(w->request.model, &w->model);
	int rc = explaining_compact(w, window_of(w), error);
	if (rc == 0)
		rc = decide(w);
	if (!w->wished)
		return rc;
	w->explanation.compaction = &w->compaction;
	if (w->compaction.made && w->compaction.whole)
		w->explanation.outcome = DECIDE_COMPACTED;
	return rc;
}
