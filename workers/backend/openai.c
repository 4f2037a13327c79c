/*
 * Any server of the OpenAI API: vLLM, SGLang, LM Studio, llama-cpp-python, a remote service. All of
 * them have /v1/models, and that alone: it says that the server is there, whether it takes the key,
 * and what it serves. How long a prompt may be is no part of the API; most tell it all the same,
 * each under a name of its own. Where none does, the device's num_ctx counts.
 */
#include "workers/backend/backend.h"

#include "common/base/json.h"
#include "common/dialect/embed.h"
#include "workers/backend/as_ollama.h"
#include "workers/backend/command.h"

#include <errno.h>
#include <string.h>

static const char *const steps[] = {"/v1/models", NULL};

/* Tokens that a prompt and its answer may have together; 0: it does not say. */
static int64_t window_of(struct json_value model)
{
	static const char *const names[] = {
		"max_model_len",	 /* vLLM, SGLang */
		"loaded_context_length", /* LM Studio */
		"context_length",	 /* OpenRouter, Together */
		"context_window",	 /* Groq */
		"max_context_length",	 /* Mistral, LM Studio */
		NULL,
	};
	int64_t window;
	for (const char *const *n = names; *n; n++)
		if (json_to_int(json_get(model, *n), &window) && window > 0)
			return window;
	/* llama-server asked as any other */
	return json_to_int(json_get(json_get(model, "meta"), "n_ctx"), &window) && window > 0
		       ? window
		       : 0;
}

static bool takes_images(struct json_value model)
{
	struct json_value kinds = json_get(json_get(model, "architecture"), "input_modalities"),
			  kind;
	for (struct json_iter it = json_iter(kinds); json_array_next(&it, &kind);)
		if (json_string_is(kind, "image"))
			return true;
	return json_is(json_get(json_get(model, "capabilities"), "vision"), JSON_TRUE);
}

static enum probe_verdict learn_models(
	const struct settings *s, struct backend_view *v, struct json_value root)
{
	struct json_value data = json_get(root, "data"), model;
	if (!json_is(data, JSON_ARRAY))
		return PROBE_WRONG;
	v->modified = s->started_s; /* nobody says when a model changed */
	v->tools = true;	    /* nor what it can do: its own error says so then */
	for (struct json_iter it = json_iter(data); json_array_next(&it, &model);) {
		struct backend_model m = {0};
		v->vision = takes_images(model);
		if (as_ollama_model(v, model, window_of(model), &m) == 0)
			backend_view_add(v, &m); /* one that does not fit is left out */
	}
	const char *served = backend_view_default(s, v);
	v->model = served ? strdup(served) : NULL;
	for (size_t i = 0; served && i < v->count; i++)
		if (backend_same_model(v->models[i].name, served))
			v->window = v->models[i].window;
	return PROBE_OK;
}

static enum probe_verdict openai_learn(const struct settings *s, struct backend_view *v,
	unsigned step, int status, struct slice body)
{
	struct json_value root;
	(void)step;
	if (status != 200 || json_parse(body, JSON_MAX_DEPTH, &root, NULL))
		return PROBE_WRONG;
	return learn_models(s, v, root);
}

const struct backend_kind openai_kind = {
	.steps = steps,
	.learn = openai_learn,
	.owns = as_ollama_owns,
	.embeds = 1u << EMBED_OLLAMA | 1u << EMBED_OLLAMA_OLDER,
	.answer = as_ollama_answer,
	.listen = command_add_address,
	.gpu_share = -1,
};
