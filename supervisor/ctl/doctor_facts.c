/* From tandemd's documents to facts. What a document lacks stays unknown. */
#include "supervisor/ctl/ctl.h"
#include "supervisor/ctl/doctor.h"

static int64_t number(struct json_value object, const char *name, int64_t unknown)
{
	int64_t value;
	return json_to_int(json_get(object, name), &value) ? value : unknown;
}

static double real(struct json_value object, const char *name, double unknown)
{
	double value;
	return json_to_double(json_get(object, name), &value) ? value : unknown;
}

static bool truth(struct json_value object, const char *name)
{
	bool value;
	return json_to_bool(json_get(object, name), &value) && value;
}

/* As ctl_text(), but "" where there is none. */
static void text(struct json_value object, const char *name, char *out, size_t size)
{
	out[0] = '\0';
	if (json_is(json_get(object, name), JSON_STRING))
		ctl_text(object, name, out, size);
}

#define TEXT(object, name, member) text((object), (name), (member), sizeof(member))

static struct doctor_device *device_of(struct doctor_facts *f, struct json_value row)
{
	for (size_t i = 0; i < f->devices; i++) {
		char name[DOCTOR_NAME_BYTES];
		TEXT(row, "device", name);
		if (strcmp(f->device[i].name, name) == 0)
			return &f->device[i];
	}
	return NULL;
}

void doctor_facts_init(struct doctor_facts *f)
{
	*f = (struct doctor_facts){.uptime_s = -1, .notes_mean_ms = -1};
}

void doctor_device_init(struct doctor_device *d)
{
	*d = (struct doctor_device){.slots = -1,
		.reported_slots = -1,
		.window = -1,
		.loaded_window = -1,
		.prefill = -1,
		.decode = -1,
		.model_bytes = -1,
		.weight_bytes = -1,
		.gpu_bytes = -1,
		.gpu_percent = -1,
		.gpus = -1,
		.models = -1,
		.keep_s = -1,
		.own_window = -1,
		.flash = -1,
		.speculation = -1,
		.pinned_used = -1};
}

/* --- status --- */

static void take_roles(struct doctor_device *d, struct json_value roles)
{
	struct json_value role;
	for (struct json_iter it = json_iter(roles); json_array_next(&it, &role);) {
		d->main |= json_string_is(role, "main");
		d->condense |= json_string_is(role, "condense");
	}
}

static void take_device(struct doctor_device *d, struct json_value row)
{
	struct json_value jobs = json_get(row, "jobs"), backend = json_get(row, "backend");
	doctor_device_init(d);
	TEXT(row, "name", d->name);
	TEXT(row, "state", d->state);
	TEXT(row, "last_exit", d->last_exit);
	take_roles(d, json_get(row, "roles"));
	TEXT(backend, "type", d->type);
	TEXT(backend, "url", d->url);
	TEXT(backend, "model", d->model);
	TEXT(backend, "state", d->backend_state);
	TEXT(backend, "detail", d->why);
	d->window = number(backend, "window", -1);
	d->slots = number(row, "slots", -1);
	d->restarts = number(row, "restarts", 0);
	d->waiting = number(row, "waiting", 0);
	d->done = number(jobs, "done", 0);
	d->failed = number(jobs, "failed", 0);
	d->loads = number(jobs, "loads", 0);
	d->load_ms = number(jobs, "load_ms", 0);
	d->prefill = real(row, "prefill_tok_s", -1);
	d->decode = real(row, "decode_tok_s", -1);
}

void doctor_take_status(struct doctor_facts *f, struct json_value root)
{
	struct json_value row, requests = json_get(root, "requests"),
			       by = json_get(requests, "by_strategy");
	f->running = true;
	TEXT(root, "version", f->version);
	TEXT(root, "listen", f->listen);
	TEXT(root, "routing", f->routing);
	f->uptime_s = real(root, "uptime_s", -1);
	f->requests = number(requests, "total", 0);
	f->chats = number(by, "A", 0) + number(by, "B", 0) + number(by, "C", 0);
	f->notes_models_off = number(json_get(root, "notes"), "models_off", 0);
	for (struct json_iter it = json_iter(json_get(root, "devices"));
		f->devices < CONFIG_DEVICES_MAX && json_array_next(&it, &row);)
		take_device(&f->device[f->devices++], row);
}

/* --- backends --- */

/* The window that the backend said its own model has. */
static int64_t loaded_window(const struct doctor_device *d, struct json_value models)
{
	struct json_value model;
	char name[DOCTOR_URL_BYTES];
	for (struct json_iter it = json_iter(models); json_array_next(&it, &model);) {
		TEXT(model, "name", name);
		size_t n = strlen(d->model);
		if (strncasecmp(name, d->model, n) == 0 &&
			(!name[n] || strcasecmp(name + n, ":latest") == 0))
			return number(model, "window", -1) > 0 ? number(model, "window", -1) : -1;
	}
	return -1;
}

/* -1: not told */
static int truth_or_unknown(struct json_value object, const char *name)
{
	bool value;
	return json_to_bool(json_get(object, name), &value) ? value : -1;
}

static void take_serving(struct doctor_device *d, struct json_value s)
{
	d->model_bytes = number(s, "model_bytes", -1);
	d->weight_bytes = number(s, "weight_bytes", -1);
	d->gpu_bytes = number(s, "gpu_bytes", -1);
	d->gpu_percent = number(s, "gpu_percent", -1);
	d->gpus = number(s, "gpus", -1);
	d->models = number(s, "models", -1);
	d->keep_s = number(s, "keep_s", -1);
	d->own_window = number(s, "own_window", -1);
	d->flash = truth_or_unknown(s, "flash_attention");
	d->speculation = truth_or_unknown(s, "speculation");
	TEXT(s, "cache_type", d->cache_type);
}

void doctor_take_backends(struct doctor_facts *f, struct json_value root)
{
	struct json_value row;
	for (struct json_iter it = json_iter(json_get(root, "backends"));
		json_array_next(&it, &row);) {
		struct doctor_device *d = device_of(f, row);
		if (!d)
			continue;
		d->started = truth(row, "started");
		d->has_key = truth(row, "has_key");
		d->client_num_ctx = truth(row, "client_num_ctx");
		d->reported_slots = number(row, "reported_slots", -1);
		d->loaded_window = loaded_window(d, json_get(row, "model_list"));
		take_serving(d, json_get(row, "serving"));
	}
}

/* --- GPUs --- */

/* Its memory counts for each device that is pinned to it. */
static void take_pinned(struct doctor_facts *f, struct doctor_gpu *g, struct json_value pinned)
{
	struct json_value name;
	for (struct json_iter it = json_iter(pinned); json_array_next(&it, &name);) {
		g->pinned = true;
		for (size_t i = 0; i < f->devices && g->used >= 0; i++) {
			struct doctor_device *d = &f->device[i];
			if (json_string_is(name, d->name))
				d->pinned_used =
					g->used + (d->pinned_used > 0 ? d->pinned_used : 0);
		}
	}
}

void doctor_take_gpus(struct doctor_facts *f, struct json_value root)
{
	struct json_value row;
	for (struct json_iter it = json_iter(json_get(root, "gpus"));
		f->gpus < DOCTOR_GPUS_MAX && json_array_next(&it, &row);) {
		struct doctor_gpu *g = &f->gpu[f->gpus++];
		TEXT(row, "name", g->name);
		g->index = number(row, "index", -1);
		g->used = number(row, "memory_used_bytes", -1);
		g->total = number(row, "memory_total_bytes", -1);
		g->load = number(row, "load_percent", -1);
		take_pinned(f, g, json_get(row, "pinned"));
	}
	f->knows_gpus = f->gpus > 0;
}

/* --- conversations --- */

/* A prompt that short is read in no time. */
#define COLD_TOKENS_LEAST 1000

static void take_session(struct doctor_facts *f, struct json_value row)
{
	struct doctor_device *d = device_of(f, row);
	int64_t tokens = number(row, "tokens", -1), lost = number(row, "lost_tokens", 0);
	if (lost > f->worst_lost) {
		f->worst_lost = lost;
		TEXT(row, "client", f->worst_client);
	}
	if (!d || tokens < 0 || number(row, "idle_ms", INT64_MAX) > DOCTOR_RECENT_MS)
		return;
	d->sessions++;
	if (tokens >= COLD_TOKENS_LEAST && number(row, "warm_tokens", tokens) < tokens / 2) {
		d->cold++;
		d->cold_tokens += tokens;
	}
}

void doctor_take_sessions(struct doctor_facts *f, struct json_value root)
{
	struct json_value row;
	for (struct json_iter it = json_iter(json_get(root, "sessions"));
		json_array_next(&it, &row);)
		take_session(f, row);
	f->knows_sessions = true;
}

/* --- sums --- */

static void take_kind(struct doctor_facts *f, struct json_value row)
{
	int64_t broken = number(row, "broken", 0);
	if (json_string_is(json_get(row, "kind"), "num_ctx")) {
		f->other_windows = broken + number(row, "repaired", 0);
		return; /* that breaks no prefix where tandem asks for its own window */
	}
	if (broken <= f->worst_kind_count)
		return;
	f->worst_kind_count = broken;
	TEXT(row, "kind", f->worst_kind);
}

void doctor_take_counters(struct doctor_facts *f, struct json_value root)
{
	struct json_value row;
	f->shortened_to_fit = number(root, "shortened_to_fit", 0);
	f->too_long = number(root, "too_long", 0);
	f->largest_prompt = number(root, "largest_prompt_tokens", 0);
	f->broken = number(root, "prefix_broken", 0);
	f->lost_tokens = number(root, "prefix_lost_tokens", 0);
	f->lost_ms = number(root, "prefix_lost_ms", 0);
	f->notes_written = number(root, "notes_written", 0);
	f->notes_used = number(root, "notes_used", 0);
	for (struct json_iter it = json_iter(json_get(root, "prefix_kinds"));
		json_array_next(&it, &row);)
		take_kind(f, row);
	f->knows_sums = true;
}

void doctor_take_histograms(struct doctor_facts *f, struct json_value root)
{
	static const char *const ways[] = {"A", "B", "C"};
	struct json_value first = json_get(root, "first_byte"),
			  notes = json_get(json_get(root, "backend"), "notes");
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		f->first_byte_ms += real(json_get(first, ways[i]), "sum_ms", 0);
	double count = real(notes, "count", 0);
	if (count > 0)
		f->notes_mean_ms = real(notes, "sum_ms", 0) / count;
}

void doctor_take_keys(struct doctor_facts *f, struct json_value root)
{
	f->needs_key = truth(root, "needed");
	f->knows_keys = true;
}
