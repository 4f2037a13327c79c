/*
 * What a probe has learned of a backend: its models, and how they are told to the supervisor.
 */
#include "workers/backend/backend.h"

#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/log.h"

#include <errno.h>
#include <stdlib.h>

#define MODELS_BATCH 64
#define MODELS_BATCH_BYTES (PROTO_FRAME_MAX / 4)

static void model_fini(struct backend_model *m)
{
	free(m->name);
	free(m->ollama_json);
	free(m->openai_json);
	free(m->show_json);
}

int backend_view_add(struct backend_view *v, struct backend_model *m)
{
	int rc = 0;
	if (!m->name || !m->ollama_json || !m->openai_json)
		rc = -ENOMEM;
	else if (v->count >= BACKEND_MODELS_MAX ||
		 strlen(m->ollama_json) > BACKEND_MODEL_JSON_BYTES ||
		 strlen(m->openai_json) > BACKEND_MODEL_JSON_BYTES)
		rc = -E2BIG;
	if (rc == 0 && (v->count & (v->count - 1)) == 0) { /* full at every power of two */
		size_t cap = v->count ? v->count * 2 : 1;
		struct backend_model *models = realloc(v->models, cap * sizeof(*models));
		if (models)
			v->models = models;
		else
			rc = -ENOMEM;
	}
	if (rc)
		model_fini(m);
	else
		v->models[v->count++] = *m;
	*m = (struct backend_model){0};
	return rc;
}

void backend_view_fini(struct backend_view *v)
{
	for (size_t i = 0; i < v->count; i++)
		model_fini(&v->models[i]);
	free(v->models);
	free(v->model);
	free(v->model_path);
	free(v->chat_template);
	backend_view_init(v);
}

void backend_view_init(struct backend_view *v)
{
	*v = (struct backend_view){.serving = {.model_bytes = -1,
					   .weight_bytes = -1,
					   .gpu_bytes = -1,
					   .gpu_percent = -1,
					   .gpus = -1,
					   .models = -1,
					   .keep_s = -1,
					   .own_window = -1,
					   .flash_attention = -1,
					   .speculation = -1}};
}

void backend_learn_number(struct json_value v, int64_t *out)
{
	int64_t value;
	if (json_to_int(v, &value) && value >= 0)
		*out = value;
}

bool backend_same_model(const char *a, const char *b)
{
	static const char latest[] = ":latest";
	const size_t tail = sizeof(latest) - 1;
	size_t n = strlen(a), m = strlen(b);
	if (n > tail && strcasecmp(a + n - tail, latest) == 0)
		n -= tail;
	if (m > tail && strcasecmp(b + m - tail, latest) == 0)
		m -= tail;
	return n == m && strncasecmp(a, b, n) == 0;
}

/* Models for embeddings alone are listed among the others; where nothing is said, it answers. */
static bool can_answer(const struct backend_model *m)
{
	struct json_value root, capabilities, one;
	if (json_parse(slice_str(m->ollama_json), JSON_MAX_DEPTH, &root, NULL))
		return true;
	capabilities = json_get(root, "capabilities");
	bool any = false;
	for (struct json_iter it = json_iter(capabilities); json_array_next(&it, &one);) {
		if (json_string_is(one, "completion"))
			return true;
		any = true;
	}
	return !any;
}

const char *backend_view_default(const struct settings *s, const struct backend_view *v)
{
	if (s->model)
		return s->model;
	for (size_t i = 0; s->settled && i < v->count; i++)
		if (backend_same_model(v->models[i].name, s->settled))
			return v->models[i].name;
	for (size_t i = 0; i < v->count; i++)
		if (can_answer(&v->models[i]))
			return v->models[i].name;
	return v->count ? v->models[0].name : NULL;
}

/* llama-server puts the time of asking into openai_json: it does not count as a change. */
uint64_t backend_view_hash(const struct backend_view *v)
{
	uint64_t h = HASH_FNV_START;
	for (size_t i = 0; i < v->count; i++) {
		h = hash_fnv_text(h, v->models[i].name);
		h = hash_fnv_text(h, v->models[i].ollama_json);
		h = hash_fnv(h, &v->models[i].window, sizeof(v->models[i].window));
	}
	return h ? h : 1;
}

void backend_view_tell(const struct backend_view *v, struct worker_self *w)
{
	size_t at = 0;
	do {
		struct proto_model items[MODELS_BATCH];
		struct proto_record r = {.type = PROTO_MODELS};
		size_t n = 0, bytes = 0, first = at;
		for (; at < v->count && n < MODELS_BATCH && bytes < MODELS_BATCH_BYTES; at++, n++) {
			const struct backend_model *m = &v->models[at];
			items[n] = (struct proto_model){slice_str(m->name), m->window,
				slice_str(m->ollama_json), slice_str(m->openai_json)};
			bytes += items[n].name.n + items[n].ollama_json.n + items[n].openai_json.n;
		}
		r.u.models.first = first == 0;
		r.u.models.last = at == v->count;
		r.u.models.items = items;
		r.u.models.count = n;
		worker_put(w, &r);
	} while (at < v->count);
	log_line(LOG_INFO, "backend_models", LOG_INT("count", v->count), LOG_END);
}
