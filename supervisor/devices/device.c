#include "supervisor/devices/device.h"

#include "common/base/json.h"
#include "common/base/log.h"
#include "common/tokens.h"
#include "supervisor/devices/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define RATES_KEPT_MS 10000 /* between writes of a device's rates */

static void models_free(struct device_model *m, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(m[i].name);
		free(m[i].ollama_json);
		free(m[i].openai_json);
	}
	free(m);
}

void device_models_free(struct device *d)
{
	models_free(d->models, d->model_count);
	models_free(d->incoming, d->incoming_count);
}

struct device *device_find(struct devices *s, const char *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (strcmp(s->of[i]->conf->name, name) == 0)
			return s->of[i];
	return NULL;
}

struct device_totals device_totals(const struct device *d)
{
	struct device_totals t = {.jobs_done = d->jobs_done,
		.jobs_failed = d->jobs_failed,
		.jobs_preempted = d->jobs_preempted,
		.starts = d->generation,
		.restarts = d->restarts,
		.heartbeats = d->sums.heartbeats,
		.warmed = d->warmed,
		.warmings_cancelled = d->warmings_cancelled,
		.noted = d->noted,
		.notings_cancelled = d->notings_cancelled,
		.kept_saved = d->foresight.saved.saves,
		.kept_restored = d->foresight.saved.restores,
		.kept_wrong = d->foresight.saved.wrong,
		.bytes_in = d->sums.bytes_in,
		.bytes_out = d->sums.bytes_out};
	snprintf(t.device, sizeof(t.device), "%s", d->conf->name);
	return t;
}

const char *device_state_name(const struct device *d)
{
	return device_drained(d) && d->state == WORKER_STOPPED ? "drained"
							       : worker_state_name(d->state);
}

const char *device_absence(const struct device *d)
{
	const struct worker_backend *b = device_backend(d);
	if (b->detail[0] == '\0')
		return "its worker is restarting";
	return b->state == STATE_LOADING ? "its backend is loading its model"
					 : "its backend does not answer";
}

unsigned device_traits(const struct device *d)
{
	const struct worker_backend *b = &d->current->backend;
	unsigned told = b->traits;
	/* Some are found out by asking: a worker that has just come does not know them yet. */
	if (b->state != STATE_READY && d->traits && d->traits_of == d->conf->backend.type)
		told = d->traits;
	return told ? told : backend_profile(d->conf->backend.type)->traits;
}

double device_similarity(const struct device *d)
{
	const struct config_backend *b = &d->conf->backend;
	if (!device_has(d, TRAIT_PUTS_ASIDE) || d->conf->slots != 1)
		return 0;
	return b->slot_similarity > 0 || !b->command ? b->slot_similarity
						     : backend_similarity(b->command);
}

/* llama-server's --cache-ram 0. */
static bool has_no_host_cache(const struct config_device *conf)
{
	for (char **arg = conf->backend.command; arg && *arg && arg[1]; arg++)
		if (strcmp(*arg, "--cache-ram") == 0 || strcmp(*arg, "-cram") == 0)
			return strcmp(arg[1], "0") == 0;
	return false;
}

void device_foresees(struct device *d)
{
	foresight_slots(&d->foresight, (unsigned)d->conf->slots);
	d->foresight.no_host_cache = has_no_host_cache(d->conf);
}

int device_slots(const struct device *d)
{
	return d->conf->slots;
}

int64_t device_window(const struct device *d)
{
	/* What is reported is a fact, or num_ctx is what we ask for. */
	if (device_has(d, TRAIT_WINDOW_IS_FACT) && d->current->backend.window > 0 &&
		(d->conf->num_ctx == 0 || d->current->backend.window < d->conf->num_ctx))
		return d->current->backend.window;
	return d->conf->num_ctx ? d->conf->num_ctx : d->current->backend.window;
}

bool device_keep_rates(struct device *d, bool now)
{
	const struct predict_rates *r = &d->foresight.rates;
	if (!d->all->keep || r->prefills == 0 ||
		(!now && d->rates_saved_ms && now_ms() - d->rates_saved_ms < RATES_KEPT_MS))
		return false;
	d->rates_saved_ms = now_ms();
	keep_save_rates(d->all->keep, d->conf->name, r);
	return true;
}

/* "Name:latest" and "name" are the same model to Ollama. */
static struct slice without_latest(struct slice s)
{
	struct slice tail = SLICE(":latest");
	if (s.n > tail.n && slice_ieq((struct slice){s.p + s.n - tail.n, tail.n}, tail))
		s.n -= tail.n;
	return s;
}

bool device_same_model(struct slice a, struct slice b)
{
	return slice_ieq(without_latest(a), without_latest(b));
}

bool device_serves(const struct device *d, struct slice model)
{
	if (model.n == 0)
		return false;
	if (d->conf->model && device_same_model(model, slice_str(d->conf->model)))
		return true;
	for (size_t i = 0; i < d->model_count; i++)
		if (device_same_model(model, slice_str(d->models[i].name)))
			return true;
	return false;
}

void device_asked(struct device *d, struct slice model)
{
	if (model.n == 0 || model.n >= sizeof(d->asked_model))
		return;
	memcpy(d->asked_model, model.p, model.n);
	d->asked_model[model.n] = '\0';
	d->asked_ms = now_ms();
}

const char *device_model(const struct device *d)
{
	if (d->conf->model)
		return d->conf->model;
	if (d->current->backend.model[0])
		return d->current->backend.model;
	return d->model_count ? d->models[0].name : "";
}

static bool model_copy(
	struct device_model *to, const struct proto_model *from, struct tokens *tokens)
{
	to->name = slice_dup(from->name);
	to->ollama_json = slice_dup(from->ollama_json);
	to->openai_json = slice_dup(from->openai_json);
	to->window = from->window;
	struct json_value root;
	int64_t entries;
	if (json_parse(from->openai_json, JSON_MAX_DEPTH, &root, NULL) == 0 &&
		json_to_int(json_get(json_get(root, "meta"), "n_vocab"), &entries) && entries > 0)
		tokens_vocabulary(tokens, from->name, (uint64_t)entries);
	return to->name && to->ollama_json && to->openai_json;
}

void device_models(struct device *d, const struct proto_models *m)
{
	if (m->first) {
		models_free(d->incoming, d->incoming_count);
		d->incoming = NULL;
		d->incoming_count = 0;
	}
	/* A list that goes on past the cap keeps its first part. */
	size_t most = (size_t)d->all->config->limits.models;
	size_t room = most > d->incoming_count ? most - d->incoming_count : 0;
	size_t n = m->count < room ? m->count : room;
	if (n < m->count)
		log_line(LOG_WARN, "models_left_out", LOG_STR("device", d->conf->name),
			LOG_INT("of_record", m->count - n), LOG_STR("limit", "limits.models"),
			LOG_END);
	struct device_model *grown =
		n ? realloc(d->incoming, (d->incoming_count + n) * sizeof(*grown)) : NULL;
	if (n && grown) {
		d->incoming = grown;
		memset(d->incoming + d->incoming_count, 0, n * sizeof(*grown));
		for (size_t i = 0; i < n; i++) {
			d->incoming_count++;
			if (!model_copy(&d->incoming[d->incoming_count - 1], &m->items[i],
				    d->all->tokens))
				break;
		}
		/* A half-copied last entry (memory out) is dropped: names are never NULL in a list.
		 */
		struct device_model *last = &d->incoming[d->incoming_count - 1];
		if (!last->name || !last->ollama_json || !last->openai_json) {
			free(last->name);
			free(last->ollama_json);
			free(last->openai_json);
			d->incoming_count--;
		}
	}
	if (!m->last)
		return;
	models_free(d->models, d->model_count);
	d->models = d->incoming;
	d->model_count = d->incoming_count;
	d->incoming = NULL;
	d->incoming_count = 0;
}
