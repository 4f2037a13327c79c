/*
 * llama-server (docs/protocols.md#health-and-facts): /health says whether it is loaded,
 * /props the window and slots, /v1/stream whether it keeps streams, /v1/models the models.
 */
#include "workers/backend/backend.h"

#include "common/base/json.h"
#include "common/dialect/embed.h"
#include "workers/backend/as_ollama.h"
#include "workers/backend/command.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

enum step { STEP_HEALTH, STEP_PROPS, STEP_STREAM, STEP_MODELS };

static const char *const steps[] = {"/health", "/props", "/v1/stream", "/v1/models", NULL};

static bool flag(struct json_value object, const char *name)
{
	bool b = false;
	return json_to_bool(json_get(object, name), &b) && b;
}

static void learn_props(const struct settings *s, struct backend_view *v, struct json_value root)
{
	struct json_value caps = json_get(root, "chat_template_caps"),
			  modalities = json_get(root, "modalities");
	if (!json_to_int(
		    json_get(json_get(root, "default_generation_settings"), "n_ctx"), &v->window))
		v->window = 0;
	if (!json_to_int(json_get(root, "total_slots"), &v->slots))
		v->slots = 0;
	v->format = "gguf";
	/* The default of requests, whatever the server was started with: only that it knows them. */
	v->guesses =
		!json_is(json_get(json_get(json_get(root, "default_generation_settings"), "params"),
				 "speculative.types"),
			JSON_NONE);
	v->tools = flag(caps, "supports_tools") || flag(caps, "supports_tool_calls");
	v->vision = flag(modalities, "vision");
	v->audio = flag(modalities, "audio");
	v->model_path = json_string_dup(json_get(root, "model_path"));
	v->chat_template = json_string_dup(json_get(root, "chat_template"));
	struct stat st; /* it may run on another machine: then nothing, or little, is known */
	v->modified = v->model_path && stat(v->model_path, &st) == 0 && S_ISREG(st.st_mode)
			      ? st.st_mtime
			      : s->started_s;
	/* no cap says so, but templates that can think know the switch or the tag */
	v->thinking = v->chat_template && (strstr(v->chat_template, "enable_thinking") ||
						  strstr(v->chat_template, "<think>"));
}

static enum probe_verdict learn_models(
	const struct settings *s, struct backend_view *v, struct json_value root)
{
	struct json_value data = json_get(root, "data"), model;
	if (!json_is(data, JSON_ARRAY))
		return PROBE_WRONG;
	for (struct json_iter it = json_iter(data); json_array_next(&it, &model);) {
		struct backend_model m = {0};
		struct json_value meta = json_get(model, "meta");
		if (v->count == 0) {
			backend_learn_number(json_get(meta, "size"), &v->serving.weight_bytes);
			backend_learn_number(json_get(meta, "n_ctx_train"), &v->serving.own_window);
		}
		if (as_ollama_model(v, model, v->window, &m) == 0)
			backend_view_add(v, &m); /* one that does not fit is left out */
	}
	if (v->count)
		v->model = strdup(backend_view_default(s, v));
	return PROBE_OK;
}

static enum probe_verdict llama_learn(const struct settings *s, struct backend_view *v,
	unsigned step, int status, struct slice body)
{
	struct json_value root;
	if (status == 503)
		return PROBE_LOADING;
	bool json =
		json_parse(body, JSON_MAX_DEPTH, &root, NULL) == 0 && json_is(root, JSON_OBJECT);
	switch ((enum step)step) {
	case STEP_HEALTH:
		return status == 200 && json && json_string_is(json_get(root, "status"), "ok")
			       ? PROBE_OK
			       : PROBE_WRONG;
	case STEP_PROPS:
		if (status == 200 && json)
			learn_props(s, v, root); /* a router without a model has none */
		return PROBE_OK;
	case STEP_STREAM:
		/* It misses the name of a stream there; others have no such path. A router's streams
		 * are its models' own, which it need not find again. */
		v->replays = status == 400 && v->slots > 0;
		return PROBE_OK;
	case STEP_MODELS:
		return status == 200 && json ? learn_models(s, v, root) : PROBE_WRONG;
	}
	return PROBE_WRONG;
}

/* Each slot says whether it guesses ahead. */
static int llama_learn_aside(int status, struct slice body)
{
	struct json_value root, slot;
	bool guesses;
	if (status != 200 || json_parse(body, JSON_MAX_DEPTH, &root, NULL))
		return -1;
	struct json_iter it = json_iter(root);
	if (!json_array_next(&it, &slot) || !json_to_bool(json_get(slot, "speculative"), &guesses))
		return -1;
	return guesses;
}

const struct backend_kind llama_server_kind = {
	.steps = steps,
	.optional = 1u << STEP_STREAM,
	.learn = llama_learn,
	.owns = as_ollama_owns,
	.embeds = 1u << EMBED_OLLAMA | 1u << EMBED_OLLAMA_OLDER | 1u << EMBED_OPENAI,
	.answer = as_ollama_answer,
	.listen = command_add_address,
	.aside = "/slots",
	.learn_aside = llama_learn_aside,
	/* llama.cpp counts the layers whenever it was built with a GPU's library. */
	.gpu_share = 0,
};
