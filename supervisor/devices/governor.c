#include "supervisor/devices/governor.h"

#include "common/base/json.h"
#include "common/base/log.h"
#include "common/dialect/dialect.h"
#include "supervisor/devices/devices.h"
#include "supervisor/devices/job.h"
#include "supervisor/devices/nvml.h"
#include "supervisor/devices/window.h"

#include <stdlib.h>

enum phase {
	PHASE_QUIET,   /* nothing is wanted */
	PHASE_WANTED,  /* waits for the device to be idle */
	PHASE_ASKING,  /* /api/show */
	PHASE_LOOKING, /* the GPU's memory */
	PHASE_LOADING,
};

struct entry {
	LIST_ENTRY(entry) link;
	struct governor *governor;
	struct device *device;
	struct slice model; /* owned */
	enum phase phase;
	int64_t set;	/* the window in force; 0: the device's */
	int64_t before; /* ... before the step under way */
	int64_t needed, wished, refused;
	int64_t denied;	   /* so much was wanted when it last stayed as it was */
	uint64_t until_ms; /* ... and is not looked at again before */
	bool known;	   /* kv_bytes, trained */
	double kv_bytes;
	int64_t trained;
	struct job *job;
	struct buf body, answer; /* of the job */
	uint64_t used_ms, idle_since_ms, began_ms;
};

struct governor {
	struct devices *devices;
	LIST_HEAD(, entry) entries;
	size_t count;
	struct entry *looking; /* waits for the GPU's figures */
	uv_timer_t timer;
};

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

static void quiet(struct entry *e)
{
	e->phase = PHASE_QUIET;
	e->needed = e->wished = 0;
}

static bool is_idle(const struct device *d)
{
	return d->state == WORKER_READY && !device_hopeless(d) && d->inflight == 0 &&
	       queue_waiting(&d->queue) == 0 && TAILQ_EMPTY(&d->running) &&
	       TAILQ_EMPTY(&d->passing);
}

static void job_over(struct entry *e)
{
	e->job = NULL;
	buf_free(&e->body);
	buf_free(&e->answer);
}

static void on_start(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)ctx, (void)j, (void)r;
}

static void on_delta(void *ctx, struct job *j, const struct proto_record *r)
{
	struct entry *e = ctx;
	buf_add_slice(&e->answer, r->u.delta.bytes); /* over its cap nothing is learned */
	job_credit(j, r->u.delta.bytes.n);
}

static void on_shown(void *ctx, struct job *j, const struct proto_record *r)
{
	struct entry *e = ctx;
	(void)j, (void)r;
	if (buf_error(&e->answer) == 0)
		window_read_model(buf_slice(&e->answer), &e->kv_bytes, &e->trained);
	e->known = true;
	e->phase = PHASE_WANTED;
	job_over(e);
}

static void on_not_shown(void *ctx, struct job *j, const struct job_failure *f)
{
	struct entry *e = ctx;
	(void)j;
	log_line(LOG_WARN, "window_unknown", LOG_STR("device", e->device->conf->name),
		LOG_SLICE("model", e->model), LOG_STR("cause", job_cause_name(f->cause)), LOG_END);
	quiet(e); /* the next request that does not fit asks again */
	job_over(e);
}

static void on_loaded(void *ctx, struct job *j, const struct proto_record *r)
{
	struct entry *e = ctx;
	(void)j;
	log_line(LOG_INFO, "window_raised", LOG_STR("device", e->device->conf->name),
		LOG_SLICE("model", e->model), LOG_INT("from", e->before), LOG_INT("to", e->set),
		LOG_INT("load_ms", r->u.end.usage.load_ms > 0 ? r->u.end.usage.load_ms : 0),
		LOG_INT("ms", now_ms() - e->began_ms), LOG_STR("cost", "the model's cache is cold"),
		LOG_END);
	quiet(e);
	job_over(e);
}

static void on_not_loaded(void *ctx, struct job *j, const struct job_failure *f)
{
	struct entry *e = ctx;
	(void)j;
	log_line(LOG_WARN, "window_not_raised", LOG_STR("device", e->device->conf->name),
		LOG_SLICE("model", e->model), LOG_INT("from", e->before), LOG_INT("to", e->set),
		LOG_STR("cause", job_cause_name(f->cause)), LOG_SLICE("message", f->message),
		LOG_END);
	if (f->cause == FAIL_STATUS || f->cause == FAIL_TIMEOUT)
		e->refused = e->set; /* Ollama says no; anything else says nothing of the window */
	e->set = e->before;
	quiet(e);
	job_over(e);
}

static const struct job_events show_events = {
	.start = on_start, .delta = on_delta, .end = on_shown, .fail = on_not_shown};
static const struct job_events load_events = {
	.start = on_start, .delta = on_delta, .end = on_loaded, .fail = on_not_loaded};

static struct job_spec spec_of(struct entry *e, int64_t timeout_ms)
{
	struct job_spec spec = {
		.impatient = true, .class = CLASS_IDLE, .body = buf_slice(&e->body)};
	spec.message.request_id = SLICE("window");
	spec.message.body_bytes = (int64_t)e->body.n;
	spec.message.model = e->model;
	spec.message.timeout_ms = timeout_ms;
	return spec;
}

static void put_body(struct entry *e, const char *more)
{
	buf_init(&e->body, 0);
	buf_init(&e->answer, GOVERNOR_SHOW_BYTES);
	buf_add_str(&e->body, "{\"model\":");
	json_put_string(&e->body, e->model);
	buf_add_str(&e->body, more);
}

static void ask_model(struct entry *e)
{
	put_body(e, "}");
	struct job_spec spec = spec_of(e, GOVERNOR_ASK_MS);
	spec.message.kind = JOB_PASS;
	spec.message.method = SLICE("POST");
	spec.message.path = SLICE("/api/show");
	e->phase = PHASE_ASKING;
	if (buf_error(&e->body) || job_submit(e->device, &spec, &show_events, e, &e->job)) {
		quiet(e);
		job_over(e);
	}
}

static void load(struct entry *e, const struct window_step *step)
{
	log_line(LOG_INFO, "window_raise", LOG_STR("device", e->device->conf->name),
		LOG_SLICE("model", e->model), LOG_INT("from", governor_window(e->device, e->model)),
		LOG_INT("to", step->to), LOG_STR("reason", step->reason), LOG_END);
	put_body(e, ",\"prompt\":\"\",\"stream\":false}");
	struct job_spec spec = spec_of(e, GOVERNOR_LOAD_MS);
	spec.message.kind = JOB_CHAT;
	spec.message.dialect = DIALECT_OLLAMA_GENERATE;
	spec.message.num_ctx = step->to;
	spec.takes_slot = true; /* what comes meanwhile waits here and not in Ollama */
	e->before = governor_window(e->device, e->model);
	e->set = step->to;
	e->phase = PHASE_LOADING;
	e->began_ms = now_ms();
	if (buf_error(&e->body) || job_submit(e->device, &spec, &load_events, e, &e->job)) {
		e->set = e->before;
		quiet(e);
		job_over(e);
	}
}

/* Is this GPU one of the device's? "pin" holds numbers or names; without it each may be. */
static bool is_pinned(const char *pin, const struct nvml_gpu *gpu)
{
	char number[16];
	snprintf(number, sizeof(number), "%u", gpu->index);
	struct slice list = slice_str(pin);
	return !pin || slice_lists(list, slice_str(number)) ||
	       (gpu->uuid[0] && slice_lists(list, slice_str(gpu->uuid)));
}

/* Free memory of the device's GPUs: of pinned ones together, else of the one that has most. */
static double free_bytes(const struct device *d, const struct nvml_sample *sample)
{
	double sum = 0, most = 0;
	bool any = false;
	for (size_t i = 0; i < sample->count; i++) {
		const struct nvml_gpu *gpu = &sample->gpu[i];
		if (gpu->memory_total == 0 || !is_pinned(d->conf->pin, gpu))
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
		load(e, &step);
		return;
	}
	log_line(LOG_INFO, "window_kept", LOG_STR("device", e->device->conf->name),
		LOG_SLICE("model", e->model), LOG_INT("window", f.current),
		LOG_INT("needed", f.needed), LOG_INT("wished", f.wished),
		LOG_STR("reason", step.reason), LOG_END);
	e->denied = f.needed > f.wished ? f.needed : f.wished;
	e->until_ms = now_ms() + GOVERNOR_DENIED_MS;
	quiet(e);
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
		quiet(e);
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
		ask_model(e);
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

static struct entry *add(struct governor *g, struct device *d, struct slice model)
{
	struct entry *e = calloc(1, sizeof(*e)), *old = NULL, *each;
	char *name = slice_dup(model);
	if (!e || !name) {
		free(e);
		free(name);
		return NULL;
	}
	LIST_FOREACH(each, &g->entries, link)
		if (each->phase == PHASE_QUIET && (!old || each->used_ms < old->used_ms))
			old = each;
	if (g->count >= GOVERNOR_MODELS_MAX && old)
		entry_free(old);
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
