/*
 * Ollama (docs/protocols.md#lists-and-details): /api/version says that it is one,
 * /api/tags what it has, /api/ps the window of what is loaded.
 */
#include "workers/backend/backend.h"

#include "common/base/json.h"
#include "common/dialect/embed.h"
#include "workers/backend/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define KEEP_STEP_S 60 /* of what is told of the time that a model stays loaded */

enum step { STEP_VERSION, STEP_TAGS, STEP_PS };

static const char *const steps[] = {"/api/version", "/api/tags", "/api/ps", NULL};

/* "2026-08-21T10:00:00.5+02:00" as seconds; 0 when it is no such thing. */
static int64_t parse_time(struct json_value v)
{
	struct tm tm = {0};
	char *text = json_string_dup(v);
	const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	int64_t seconds = rest ? (int64_t)timegm(&tm) : 0;
	int hours, minutes;
	char sign;
	if (rest && *rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (rest && sscanf(rest, "%c%2d:%2d", &sign, &hours, &minutes) == 3 &&
		(sign == '+' || sign == '-'))
		seconds -= (sign == '+' ? 1 : -1) * (hours * 3600 + minutes * 60);
	free(text);
	return seconds;
}

/* The model's object in a /v1/models answer (docs/protocols.md). */
static char *openai_object(struct json_value model, struct json_value name)
{
	struct buf b;
	buf_init(&b, BACKEND_MODEL_JSON_BYTES);
	buf_add_str(&b, "{\"id\":");
	buf_add_slice(&b, name.raw);
	buf_add_str(&b, ",\"object\":\"model\",\"created\":");
	json_put_int(&b, parse_time(json_get(model, "modified_at")));
	buf_add_str(&b, ",\"owned_by\":\"library\"}");
	char *text = buf_error(&b) ? NULL : slice_dup(buf_slice(&b));
	buf_free(&b);
	return text;
}

static enum probe_verdict learn_tags(struct backend_view *v, struct json_value root)
{
	struct json_value models = json_get(root, "models"), model;
	if (!json_is(models, JSON_ARRAY) && !json_is(models, JSON_NULL))
		return PROBE_WRONG;
	for (struct json_iter it = json_iter(models); json_array_next(&it, &model);) {
		struct json_value name = json_get(model, "name");
		char *plain = json_string_dup(name);
		if (!plain)
			continue;
		struct backend_model m = {.name = plain,
			.ollama_json = slice_dup(model.raw),
			.openai_json = openai_object(model, name)};
		backend_view_add(v, &m); /* one that does not fit is left out */
	}
	return PROBE_OK;
}

/* What a model takes and where, and how long it stays; what is told is not there in every version. */
static void learn_serving(
	struct backend_view *v, const struct backend_model *m, struct json_value loaded)
{
	struct proto_serving *s = &v->serving;
	struct json_value listed;
	int64_t left = parse_time(json_get(loaded, "expires_at")) - (int64_t)time(NULL);
	backend_learn_number(json_get(loaded, "size"), &s->model_bytes);
	backend_learn_number(json_get(loaded, "size_vram"), &s->gpu_bytes);
	if (s->model_bytes == 0) /* 0.33 tells that where its engine did not say */
		s->model_bytes = s->gpu_bytes = -1;
	if (json_parse(slice_str(m->ollama_json), JSON_MAX_DEPTH, &listed, NULL) == 0)
		backend_learn_number(json_get(listed, "size"), &s->weight_bytes);
	if (left > 0) /* rounded up: it is less by the time since the last request */
		s->keep_s = left < INT32_MAX - KEEP_STEP_S
				    ? (left + KEEP_STEP_S - 1) / KEEP_STEP_S * KEEP_STEP_S
				    : INT32_MAX;
	if (s->model_bytes > 0 && s->gpu_bytes >= 0)
		s->gpu_percent =
			s->gpu_bytes >= s->model_bytes
				? 100
				: (int64_t)((double)s->gpu_bytes * 100 / (double)s->model_bytes);
}

/* The allocated window of what is loaded; older versions do not tell it. */
static void learn_ps(const struct settings *s, struct backend_view *v, struct json_value root)
{
	const char *served = backend_view_default(s, v);
	struct json_value loaded;
	v->serving.models = 0;
	for (struct json_iter it = json_iter(json_get(root, "models"));
		json_array_next(&it, &loaded);) {
		char *name = json_string_dup(json_get(loaded, "name"));
		int64_t window;
		v->serving.models++;
		for (size_t i = 0; name && served && i < v->count; i++)
			if (backend_same_model(name, served) &&
				backend_same_model(name, v->models[i].name))
				learn_serving(v, &v->models[i], loaded);
		if (name && json_to_int(json_get(loaded, "context_length"), &window) &&
			window > 0) {
			for (size_t i = 0; i < v->count; i++)
				if (backend_same_model(name, v->models[i].name))
					v->models[i].window = window;
			if (served && backend_same_model(name, served))
				v->window = window;
		}
		free(name);
	}
}

static enum probe_verdict ollama_learn(const struct settings *s, struct backend_view *v,
	unsigned step, int status, struct slice body)
{
	struct json_value root;
	bool json = status == 200 && json_parse(body, JSON_MAX_DEPTH, &root, NULL) == 0 &&
		    json_is(root, JSON_OBJECT);
	switch ((enum step)step) {
	case STEP_VERSION:
		return json && json_is(json_get(root, "version"), JSON_STRING) ? PROBE_OK
									       : PROBE_WRONG;
	case STEP_TAGS:
		return json ? learn_tags(v, root) : PROBE_WRONG;
	case STEP_PS:
		if (json)
			learn_ps(s, v, root);
		if (v->count)
			v->model = strdup(backend_view_default(s, v));
		return PROBE_OK;
	}
	return PROBE_WRONG;
}

static int ollama_listen(struct command *c, int port)
{
	char host[32];
	snprintf(host, sizeof(host), "127.0.0.1:%d", port);
	int rc = command_set(c, "OLLAMA_HOST", host);
	if (rc || getenv("OLLAMA_NOPRUNE"))
		return rc;
	/* Several serve one folder of models (docs/protocols.md#environment). */
	return command_set(c, "OLLAMA_NOPRUNE", "1");
}

const struct backend_kind ollama_kind = {
	.steps = steps,
	.learn = ollama_learn,
	.embeds = 1u << EMBED_OPENAI,
	.listen = ollama_listen,
	.gpu_share = -1,
};
