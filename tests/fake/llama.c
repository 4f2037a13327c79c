/*
 * llama-server's errors, request fields and POST /completion: docs/protocols.md#llama-server.
 */
#include "tests/fake/dialect.h"

#define LINE_MAX_BYTES (256u << 20)

static struct buf line = {.max = LINE_MAX_BYTES};

static const char *error_type(int status)
{
	switch (status) {
	case 400:
		return "invalid_request_error";
	case 401:
		return "authentication_error";
	case 403:
		return "permission_error";
	case 404:
		return "not_found_error";
	case 501:
		return "not_supported_error";
	case 503:
		return "unavailable_error";
	default:
		return "server_error";
	}
}

static const char *usual_message(int status)
{
	switch (status) {
	case 400:
		return "Invalid request";
	case 404:
		return "File Not Found";
	case 503:
		return "Loading model";
	default:
		return "Internal server error";
	}
}

void llama_error(struct request *r, int status, struct slice message)
{
	struct buf out;

	if (!message.n)
		message = slice_str(usual_message(status));
	buf_init(&out, SCRIPT_TEXT_MAX);
	buf_printf(&out, "{\"error\":{\"code\":%d,\"message\":", status);
	json_put_string(&out, message);
	buf_printf(&out, ",\"type\":\"%s\"}}", error_type(status));
	http_reply(r->x, status, api_json_type(r), buf_slice(&out));
	buf_free(&out);
}

void llama_put_timings(struct buf *out, const struct gen *g)
{
	size_t fresh = g->prompt_n - g->cached_n;
	double prompt_ms = (double)g->prefill_ns / MS_NS,
	       predicted_ms = (double)g->decode_ns / MS_NS;

	buf_printf(out,
		",\"timings\":{\"cache_n\":%zu,\"prompt_n\":%zu,\"prompt_ms\":%.6f,\"prompt_per_"
		"token_ms\":%.6f,"
		"\"prompt_per_second\":%.6f,\"predicted_n\":%zu,\"predicted_ms\":%.6f,\"predicted_"
		"per_token_ms\":%.6f,"
		"\"predicted_per_second\":%.6f}",
		g->cached_n, fresh, prompt_ms, fresh ? prompt_ms / (double)fresh : 0,
		prompt_ms > 0 ? (double)fresh * 1000 / prompt_ms : 0, gen_new_tokens(g),
		predicted_ms, gen_new_tokens(g) ? predicted_ms / (double)gen_new_tokens(g) : 0,
		predicted_ms > 0 ? (double)gen_new_tokens(g) * 1000 / predicted_ms : 0);
}

struct gen *llama_gen_create(struct request *r, const struct gen_ops *gen_ops)
{
	static const char *const limits[] = {
		"max_completion_tokens", "max_tokens", "n_predict"}; /* the last one wins */
	struct json_value name, template_args;
	int64_t id_slot = -1;
	struct gen *g;

	if (!api_object(r))
		return NULL;
	g = gen_create(r, gen_ops);
	g->model = r->fake->engine->models;
	name = json_get(r->json, "model");
	if (json_is(name, JSON_STRING))
		g->name = name.raw;
	for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++)
		json_to_int(json_get(r->json, limits[i]), &g->max_tokens);
	g->unread = g->max_tokens == 0;
	if (g->unread)
		g->max_tokens = 1; /* b10434 samples one token before it looks at the limit */
	json_to_int(json_get(r->json, "id_slot"), &id_slot);
	g->id_slot = id_slot < 0 || id_slot > ENGINE_SLOTS_MAX ? -1 : (int)id_slot;
	json_to_bool(json_get(r->json, "cache_prompt"), &g->cache_prompt);
	json_to_bool(json_get(r->json, "return_progress"), &g->progress);
	template_args = json_get(r->json, "chat_template_kwargs");
	g->thinks = !json_is(json_get(template_args, "enable_thinking"), JSON_FALSE) &&
		    !json_string_is(json_get(r->json, "reasoning_effort"), "none");
	g->stream = ask_streams(r);
	g->shift = false;
	return g;
}

void llama_submit(struct gen *g)
{
	struct request *r = g->r;
	size_t n = prompt_tokens(buf_slice(&g->prompt.text), r->fake->options.chars_per_token);
	unsigned n_ctx = g->model->num_ctx;
	struct buf out;

	if (prompt_error(&g->prompt)) {
		gen_free(g);
		llama_error(r, 500, SLICE("prompt too large"));
		return;
	}
	if (n < n_ctx) {
		engine_submit(g);
		return;
	}
	gen_free(g);
	buf_init(&out, 4096);
	buf_printf(&out,
		"{\"error\":{\"code\":400,\"message\":\"request (%zu tokens) exceeds the available "
		"context size (%u tokens), "
		"try increasing "
		"it\",\"type\":\"exceed_context_size_error\",\"n_prompt_tokens\":%zu,\"n_ctx\":%u}"
		"}",
		n, n_ctx, n, n_ctx);
	api_reply(r, 400, &out);
}

/* --- POST /completion --- */

static void begin(struct gen *g)
{
	http_begin(g->r->x, 200, "text/event-stream", -1);
}

static void open_event(struct gen *g, struct slice content)
{
	if (g->stream && !g->r->x->status)
		begin(g);
	buf_clear(&line);
	buf_add_str(
		&line, g->stream ? "data: {\"index\":0,\"content\":" : "{\"index\":0,\"content\":");
	json_put_string(&line, content);
}

static void send_event(struct gen *g)
{
	buf_add_str(&line, "}\n\n");
	http_data(g->r->x, buf_slice(&line));
}

static void on_text(struct gen *g, bool thinking, struct slice text)
{
	(void)thinking;
	open_event(g, text);
	buf_printf(&line,
		",\"tokens\":[],\"stop\":false,\"id_slot\":%u,\"tokens_predicted\":%zu,\"tokens_"
		"evaluated\":%zu",
		g->slot_id, gen_new_tokens(g), g->prompt_n);
	send_event(g);
}

static void on_tool(struct gen *g, size_t i, struct slice fragment, bool first, bool last)
{
	(void)i;
	(void)first;
	(void)last;
	on_text(g, false,
		fragment); /* raw completions know no tools: they see what the model writes */
}

static void on_progress(struct gen *g)
{
	open_event(g, SLICE(""));
	buf_printf(&line,
		",\"tokens\":[],\"stop\":false,\"id_slot\":%u,\"tokens_predicted\":0,\"tokens_"
		"evaluated\":%zu,"
		"\"prompt_progress\":{\"total\":%zu,\"cache\":%zu,\"processed\":%zu,\"time_ms\":%"
		"llu}",
		g->slot_id, g->prompt_n, g->prompt_n, g->cached_n, g->processed,
		(unsigned long long)gen_progress_ms(g));
	send_event(g);
}

static void on_error(struct gen *g, struct slice message)
{
	if (!g->r->x->status) {
		llama_error(g->r, 500, message);
		return;
	}
	buf_clear(&line);
	buf_add_str(&line, "data: {\"error\":{\"code\":500,\"message\":");
	json_put_string(&line, message);
	buf_add_str(&line, ",\"type\":\"server_error\"}");
	send_event(g);
	http_end(g->r->x);
}

static void on_finish(struct gen *g)
{
	struct buf whole;

	open_event(g, g->stream ? SLICE("") : buf_slice(&g->text));
	buf_printf(&line,
		",\"tokens\":[],\"id_slot\":%u,\"stop\":true,\"model\":\"%s\",\"tokens_predicted\":"
		"%zu,"
		"\"tokens_evaluated\":%zu,\"truncated\":%s,\"stop_type\":\"%s\",\"stopping_word\":"
		"\"\",\"tokens_cached\":%zu",
		g->slot_id, g->model->name, gen_new_tokens(g), g->prompt_n,
		g->window_full ? "true" : "false", g->reason == REASON_LENGTH ? "limit" : "eos",
		g->prompt_n + gen_new_tokens(g));
	llama_put_timings(&line, g);
	if (g->stream) {
		send_event(g);
		http_end(g->r->x);
		return;
	}
	buf_add_char(&line, '}');
	buf_init(&whole, LINE_MAX_BYTES);
	buf_add_slice(&whole, buf_slice(&line));
	api_reply(g->r, 200, &whole);
}

static const struct gen_ops completion_ops = {
	begin, on_progress, on_text, on_tool, on_error, on_finish};

void llama_completion(struct request *r)
{
	struct gen *g = llama_gen_create(r, &completion_ops);

	if (!g)
		return;
	ask_completion(g, r->json);
	llama_submit(g);
}

void llama_infill(struct request *r)
{
	struct gen *g;

	if (!api_object(r))
		return;
	if (!json_is(json_get(r->json, "input_prefix"), JSON_STRING) ||
		!json_is(json_get(r->json, "input_suffix"), JSON_STRING)) {
		llama_error(r, 400, SLICE("\"input_prefix\" and \"input_suffix\" are required"));
		return;
	}
	g = llama_gen_create(r, &completion_ops);
	if (!g)
		return;
	ask_infill(g, r->json);
	llama_submit(g);
}

void llama_input_tokens(struct request *r)
{
	struct gen *g = llama_gen_create(r, &completion_ops);
	struct buf out;

	if (!g)
		return;
	ask_chat(g, r->json);
	buf_init(&out, 4096);
	buf_printf(&out, "{\"object\":\"response.input_tokens\",\"input_tokens\":%zu}",
		prompt_tokens(buf_slice(&g->prompt.text), r->fake->options.chars_per_token));
	gen_free(g);
	api_reply(r, 200, &out);
}
