/*
 * Another server of the OpenAI API, as vLLM is one: its key, its lists, its words for errors. The
 * answers are openai.c's.
 */
#include "tests/fake/dialect.h"

#include <stdio.h>

static const char *error_type(int status)
{
	switch (status) {
	case 400:
		return "BadRequestError";
	case 401:
		return "AuthenticationError";
	case 404:
		return "NotFoundError";
	case 429:
		return "RateLimitError";
	default:
		return "InternalServerError";
	}
}

void compat_error(struct request *r, int status, struct slice message)
{
	struct buf out;

	buf_init(&out, SCRIPT_TEXT_MAX);
	if (!message.n && (status == 404 || status == 405)) { /* its web framework's own */
		buf_printf(&out, "{\"detail\":\"%s\"}",
			status == 404 ? "Not Found" : "Method Not Allowed");
	} else {
		buf_add_str(&out, "{\"error\":{\"message\":");
		json_put_string(&out, message.n ? message : SLICE("Internal server error"));
		buf_printf(&out, ",\"type\":\"%s\",\"param\":null,\"code\":%d}}",
			error_type(status), status);
	}
	http_reply(r->x, status, "application/json", buf_slice(&out));
	buf_free(&out);
}

bool compat_admits(struct request *r)
{
	const char *key = r->fake->options.api_key;
	char want[512];

	if (!key || r->x->path.n < 3 || memcmp(r->x->path.p, "/v1", 3) != 0)
		return true;
	snprintf(want, sizeof(want), "Bearer %s", key);
	if (slice_eq(http_header(r->x, "Authorization"), slice_str(want)))
		return true;
	http_reply(r->x, 401, "application/json", SLICE("{\"error\":\"Unauthorized\"}"));
	return false;
}

/* Names are exact; there is no other model than those that are listed. */
struct gen *compat_gen_create(struct request *r, const struct gen_ops *gen_ops)
{
	static const char *const limits[] = {"max_tokens", "max_completion_tokens"};
	struct json_value name, kwargs;
	struct buf plain;
	struct model *m;
	struct gen *g;

	if (!api_object(r))
		return NULL;
	name = json_get(r->json, "model");
	buf_init(&plain, 4096);
	json_string_decode(name, &plain);
	m = engine_model(r->fake->engine, buf_slice(&plain));
	if (!m || !slice_eq(buf_slice(&plain), slice_str(m->name))) {
		api_errorf(r, 404, "The model `%.*s` does not exist.", (int)plain.n,
			plain.p ? plain.p : "");
		buf_free(&plain);
		return NULL;
	}
	buf_free(&plain);
	g = gen_create(r, gen_ops);
	g->model = m;
	g->name = name.raw;
	for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++)
		json_to_int(json_get(r->json, limits[i]), &g->max_tokens);
	kwargs = json_get(r->json, "chat_template_kwargs");
	g->thinks = !json_is(json_get(kwargs, "enable_thinking"), JSON_FALSE) &&
		    !json_string_is(json_get(r->json, "reasoning_effort"), "none");
	g->cache_prompt = true;
	g->id_slot = -1;
	g->stream = ask_streams(r);
	g->shift = false;
	return g;
}

void compat_submit(struct gen *g)
{
	struct request *r = g->r;
	size_t n = prompt_tokens(buf_slice(&g->prompt.text), r->fake->options.chars_per_token);
	int64_t window = g->model->num_ctx, most = g->max_tokens;

	if (prompt_error(&g->prompt) || g->max_tokens == 0) {
		gen_free(g);
		api_error(r, 400, SLICE("max_tokens must be at least 1, got 0."));
	} else if ((int64_t)n >= window) {
		gen_free(g);
		api_errorf(r, 400,
			"This model's maximum context length is %lld tokens. However, your request "
			"has "
			"%zu input tokens. Please reduce the length of the input messages.",
			(long long)window, n);
	} else if (most > 0 && (int64_t)n + most > window) {
		gen_free(g);
		api_errorf(r, 400,
			"'max_tokens' or 'max_completion_tokens' is too large: %lld. This model's "
			"maximum "
			"context length is %lld tokens and your request has %zu input tokens (%lld "
			"> %lld "
			"- %zu).",
			(long long)most, (long long)window, n, (long long)most, (long long)window,
			n);
	} else {
		engine_submit(g);
	}
}

static void health(struct request *r)
{
	http_reply(r->x, 200, NULL, SLICE(""));
}

static void version(struct request *r)
{
	http_reply(r->x, 200, "application/json", SLICE("{\"version\":\"0.11.0\"}"));
}

const struct route compat_routes[] = {
	{"GET", "/health", health, 0},
	{"GET", "/version", version, 0},
	{"GET", "/v1/models", openai_models, 0},
	{"POST", "/v1/chat/completions", openai_chat, ROUTE_GENERATES},
	{"POST", "/v1/completions", openai_completions, ROUTE_GENERATES},
	{"POST", "/v1/embeddings", openai_embeddings, 0},
	{0},
};
