#include "supervisor/devices/governor_private.h"

#include "common/base/log.h"
#include "supervisor/devices/devices.h"
#include "supervisor/devices/job.h"
#include "supervisor/devices/nvml.h"
#include "supervisor/devices/window.h"

#include <stdlib.h>

static void on_tick(uv_timer_t *t);

struct governor *governor_create(struct devices *s)
{
	struct governor *g = calloc(1, sizeof(*g));
	if (!g)
		return NULL;
	g->devices = s;
	LIST_INIT(&g->entries);
	uv_timer_init(s->loop, &g->timer);
	g->timer.data = g;
	return g;
}

static void entry_free(struct entry *e)
{
	if (e->job)
		job_cancel(e->job);
	if (e->governor->looking == e)
		e->governor->looking = NULL;
	e->governor->count--;
	LIST_REMOVE(e, link);
	buf_free(&e->body);
	buf_free(&e->answer);
	free((char *)e->model.p);
	free(e);
}

void governor_stop(struct governor *g)
{
	if (!g)
		return;
	while (!LIST_EMPTY(&g->entries))
		entry_free(LIST_FIRST(&g->entries));
	uv_close((uv_handle_t *)&g->timer, NULL);
}

void governor_destroy(struct governor *g)
{
	free(g);
}

void governor_forget(struct governor *g, const struct device *d)
{
	struct entry *e, *next;
	for (e = g ? LIST_FIRST(&g->entries) : NULL; e; e = next) {
		next = LIST_NEXT(e, link);
		if (e->device == d)
			entry_free(e);
	}
}

/* --- windows --- */

static bool governed(const struct device *d)
{
	return device_has(d, TRAIT_TAKES_NUM_CTX) && !d->conf->client_num_ctx &&
	       (d->conf->num_ctx == 0 || d->conf->num_ctx_max > d->conf->num_ctx);
}

static struct entry *find(const struct governor *g, const struct device *d, struct slice model)
{
	struct entry *e;
	LIST_FOREACH(e, &g->entries, link)
		if (e->device == d && device_same_model(e->model, model))
			return e;
	return NULL;
}

/* What Ollama has it loaded with; 0: not loaded, as far as the last look said. */
static int64_t loaded(const struct device *d, struct slice model)
{
	for (size_t i = 0; i < d->model_count; i++)
		if (device_same_model(slice_str(d->models[i].name), model))
			return d->models[i].window;
	return 0;
}

int64_t governor_num_ctx(const struct device *d, struct slice model)
{
	if (!device_has(d, TRAIT_TAKES_NUM_CTX))
		return 0;
	const struct entry *e = governed(d) ? find(d->all->governor, d, model) : NULL;
	if (e && e->set > 0)
		return e->set;
	return d->conf->num_ctx > 0 ? d->conf->num_ctx : loaded(d, model);
}

int64_t governor_window(const struct device *d, struct slice model)
{
	int64_t window = governor_num_ctx(d, model);
	return window > 0 ? window : device_window(d);
}

/* --- steps --- */

static bool is_idle(const struct device *d)
{
	return d->state == WORKER_READY && !device_hopeless(d) && d->inflight == 0 &&
	       queue_waiting(&d->queue) == 0 && TAILQ_EMPTY(&d->running) &&
	       TAILQ_EMPTY(&d->passing);
}

/* Free memory of the device's GPUs: of pinned ones together, else of the one that has most. */
static double free_bytes(const struct device *d, const struct nvml_sample *sample)
{
	double sum = 0, most = 0;
	bool any = false;
	for (size_t i = 0; i < sample->count; i++) {
		const struct nvml_gpu *gpu = &sample->gpu[i];
		if (gpu->memory_total == 0 || (d->conf->pin && !nvml_pinned(d->conf->pin, gpu)))
			continue;
		double room = gpu->memory_total > gpu->memory_used
				      ? (double)(gpu->memory_total - gpu->memory_used)
				      : 0;
		any = true;
		sum += room;
		most = room > most ? room : most;
	}
	return !any ? -1 : d->conf->pin ? sum : most;
}

static void on_sample(void *ctx, const struct nvml_sample *sample)
{
	struct governor *g = ctx;
	struct entry *e = g->looking;
	struct window_step step;
	g->looking = NULL;
	if (!e)
		return;
	e->phase = PHASE_WANTED;
	if (!is_idle(e->device))
		return; /* somebody came */
	struct window_facts f = {.current = governor_window(e->device, e->model),
		.needed = e->needed,
		.wished = e->wished,
		.trained = e->trained,
		.most = e->device->conf->num_ctx_max,
		.refused = e->refused,
		.kv_bytes = e->kv_bytes,
		.slots = device_slots(e->device),
		.free_bytes = free_bytes(e->device, sample)};
	window_decide(&f, &step);
	if (step.to > f.current) {
		governor_load(e, &step, f.current);
		return;
	}
	log_line(LOG_INFO, "window_kept", LOG_STR("device", e->device->conf->name),
		LOG_SLICE("model", e->model), LOG_INT("window", f.current),
		LOG_INT("needed", f.needed), LOG_INT("wished", f.wished),
		LOG_STR("reason", step.reason), LOG_END);
	e->denied = f.needed > f.wished ? f.needed : f.wished;
	e->until_ms = now_ms() + GOVERNOR_DENIED_MS;
	governor_quiet(e);
}

static void look(struct entry *e)
{
	struct governor *g = e->governor;
	if (g->looking)
		return; /* one after the other */
	g->looking = e;
	e->phase = PHASE_LOOKING;
	if (nvml_ask(g->devices->nvml, on_sample, g)) {
		g->looking = NULL;
		governor_quiet(e);
	}
}

static void advance(struct entry *e, uint64_t now)
{
	if (!is_idle(e->device)) {
		e->idle_since_ms = 0;
		return;
	}
	if (e->idle_since_ms == 0)
		e->idle_since_ms = now;
	if (now - e->idle_since_ms < GOVERNOR_IDLE_MS)
		return;
	if (e->known)
		look(e);
	else
		governor_ask_model(e);
}

static void on_tick(uv_timer_t *t)
{
	struct governor *g = t->data;
	struct entry *e;
	bool busy = false;
	LIST_FOREACH(e, &g->entries, link) {
		if (e->phase == PHASE_WANTED)
			advance(e, now_ms());
		busy = busy || e->phase != PHASE_QUIET;
	}
	if (!busy)
		uv_timer_stop(t);
}

/* --- needs --- */

/* As far as is known: a device that has not told its models may have it. */
static bool is_there(const struct entry *e)
{
	return e->device->model_count == 0 || device_serves(e->device, e->model);
}

static bool goes_before(const struct entry *a, const struct entry *b)
{
	bool there = is_there(a);
	return there != is_there(b) ? !there : a->used_ms < b->used_ms;
}

/* Names that no model has are wanted larger windows for, too: they go first, and then the one used longest ago. */
static bool make_room(struct governor *g)
{
	struct entry *old = NULL, *each;
	if (g->count < GOVERNOR_MODELS_MAX)
		return true;
	LIST_FOREACH(each, &g->entries, link)
		if (each->phase <= PHASE_WANTED && (!old || goes_before(each, old)))
			old = each;
	if (old)
		entry_free(old);
	return old != NULL;
}

static struct entry *add(struct governor *g, struct device *d, struct slice model)
{
	struct entry *e = make_room(g) ? calloc(1, sizeof(*e)) : NULL;
	char *name = e ? slice_dup(model) : NULL;
	if (!name) {
		free(e);
		return NULL;
	}
	*e = (struct entry){.governor = g, .device = d, .model = {name, model.n}};
	LIST_INSERT_HEAD(&g->entries, e, link);
	g->count++;
	return e;
}

void governor_need(struct device *d, struct slice model, int64_t needed, int64_t wished)
{
	struct governor *g = d->all->governor;
	if (!g || !governed(d) || model.n == 0)
		return;
	int64_t now = loaded(d, model), most = d->conf->num_ctx_max;
	struct entry *e = find(g, d, model);
	bool first = !e;
	if (!e)
		e = add(g, d, model);
	if (!e)
		return;
	e->used_ms = now_ms();
	/* Not loaded, and nobody has asked for it yet: the load that is due may as well be right.
	 */
	if (first && now == 0 && wished > d->conf->num_ctx && d->state == WORKER_READY) {
		e->set = most > 0 && wished > most ? most : wished;
		log_line(LOG_INFO, "window_begun", LOG_STR("device", d->conf->name),
			LOG_SLICE("model", model), LOG_INT("window", e->set), LOG_END);
	}
	int64_t window = governor_window(d, model);
	int64_t least = e->used_ms < e->until_ms && e->denied > window ? e->denied : window;
	if (window > 0 && needed > least && needed > e->needed)
		e->needed = needed;
	if (window > 0 && wished > least && wished > e->wished)
		e->wished = wished;
	if (e->phase == PHASE_QUIET && (e->needed > 0 || e->wished > 0)) {
		e->phase = PHASE_WANTED;
		e->idle_since_ms = 0;
		uv_timer_start(&g->timer, on_tick, GOVERNOR_TICK_MS, GOVERNOR_TICK_MS);
	}
}
