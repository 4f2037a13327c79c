/*
 * llama-server's own routes: protocols.md 2.5 and 2.6.
 */
#include "tests/fake/dialect.h"

#include <stdio.h>
#include <stdlib.h>

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
		prompt_ms > 0 ? (double)fresh * 1000 / prompt_ms : 0, g->emitted, predicted_ms,
		g->emitted ? predicted_ms / (double)g->emitted : 0,
		predicted_ms > 0 ? (double)g->emitted * 1000 / predicted_ms : 0);
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
		g->slot_id, g->emitted, g->prompt_n);
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
		(unsigned long long)((clock_now() - g->started) / MS_NS));
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
		g->slot_id, g->model->name, g->emitted, g->prompt_n,
		g->window_full ? "true" : "false", g->reason == REASON_LENGTH ? "limit" : "eos",
		g->prompt_n + g->emitted);
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

static void completion(struct request *r)
{
	struct gen *g = llama_gen_create(r, &completion_ops);

	if (!g)
		return;
	ask_completion(g, r->json);
	llama_submit(g);
}

/* --- what it tells about itself --- */

static void health(struct request *r)
{
	http_reply(r->x, 200, api_json_type(r), SLICE("{\"status\":\"ok\"}"));
}

static void root(struct request *r)
{
	http_reply(r->x, 200, "text/html; charset=utf-8",
		SLICE("<html><body>llama.cpp</body></html>"));
}

static void props(struct request *r)
{
	const struct model *m = r->fake->engine->models;
	struct buf out;

	buf_init(&out, 1u << 20);
	buf_printf(&out,
		"{\"default_generation_settings\":{\"id\":0,\"n_ctx\":%u,\"params\":{\"n_predict\":"
		"-1,\"temperature\":0.8}},"
		"\"total_slots\":%u,\"model_alias\":",
		m->num_ctx, m->slot_count);
	json_put_string(&out, slice_str(m->name));
	json_put_key(&out, "model_path");
	json_put_string(&out, slice_str(r->fake->options.model_path));
	buf_add_str(&out,
		",\"modalities\":{\"vision\":false,\"audio\":false,\"video\":false},"
		"\"chat_template\":\"{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% "
		"endfor %}\","
		"\"chat_template_caps\":{\"supports_tools\":true,\"supports_tool_calls\":true},"
		"\"bos_token\":\"<s>\",\"eos_token\":\"</"
		"s>\",\"build_info\":\"b10434-fake\",\"is_sleeping\":false}");
	api_reply(r, 200, &out);
}

static void slots(struct request *r)
{
	const struct model *m = r->fake->engine->models;
	bool must_be_free = memmem(r->x->query.p, r->x->query.n, "fail_on_no_slot=1", 17) != NULL;
	struct buf out;

	if (must_be_free && m->active == m->slot_count) {
		llama_error(r, 503, SLICE("no slot available"));
		return;
	}
	buf_init(&out, SCRIPT_TEXT_MAX);
	buf_add_char(&out, '[');
	for (unsigned i = 0; i < m->slot_count; i++) {
		const struct gen *g = m->slots[i].gen;

		buf_printf(&out,
			"%s{\"id\":%u,\"id_task\":%d,\"n_ctx\":%u,\"speculative\":false,\"is_"
			"processing\":%s,"
			"\"params\":{\"n_predict\":%lld},\"next_token\":{\"has_next_token\":%s,\"n_"
			"remain\":%lld,"
			"\"n_decoded\":%zu}}",
			i ? "," : "", i, g ? (int)g->r->seq : -1, m->num_ctx, g ? "true" : "false",
			g ? (long long)g->max_tokens : -1ll, g ? "true" : "false",
			g ? (long long)(g->total - g->emitted) : -1ll, g ? g->emitted : 0);
	}
	buf_add_char(&out, ']');
	api_reply(r, 200, &out);
}

static void metrics(struct request *r)
{
	const struct engine_count *c = &r->fake->engine->count;
	char text[1024];
	int n;

	if (!r->fake->options.metrics) {
		llama_error(r, 501,
			SLICE("This server does not support metrics endpoint. Start it with "
			      "`--metrics`"));
		return;
	}
	n = snprintf(text, sizeof(text),
		"# TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total %llu\n"
		"# TYPE llamacpp:tokens_predicted_total counter\nllamacpp:tokens_predicted_total "
		"%llu\n"
		"# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing %u\n"
		"# TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred %u\n",
		(unsigned long long)c->prefilled, (unsigned long long)c->generated, c->active,
		c->waiting);
	http_reply(r->x, 200, "text/plain; version=0.0.4", (struct slice){text, (size_t)n});
}

/* --- tokens and templates --- */

static void tokenize(struct request *r)
{
	double f = r->fake->options.chars_per_token;
	bool pieces = false;
	struct buf text, out;
	size_t n, at = 0;

	if (!api_object(r))
		return;
	buf_init(&text, FAKE_BODY_MAX);
	buf_init(&out, FAKE_BODY_MAX);
	json_to_bool(json_get(r->json, "with_pieces"), &pieces);
	json_string_decode(json_get(r->json, "content"), &text);
	n = prompt_tokens(buf_slice(&text), f);
	buf_add_str(&out, "{\"tokens\":[");
	for (size_t k = 0; k < n; k++) {
		struct slice rest = {text.p + at, text.n - at};
		struct slice piece = {rest.p, k + 1 < n ? prompt_prefix(rest, 1, f) : rest.n};
		unsigned id = 1;

		for (size_t i = 0; i < piece.n; i++)
			id = (id * 31 + (unsigned char)piece.p[i]) % 31997;
		buf_printf(&out, "%s%s%u", k ? "," : "", pieces ? "{\"id\":" : "", id);
		if (pieces) {
			json_put_key(&out, "piece");
			json_put_string(&out, piece);
			buf_add_char(&out, '}');
		}
		at += piece.n;
	}
	buf_add_str(&out, "]}");
	buf_free(&text);
	api_reply(r, 200, &out);
}

static void apply_template(struct request *r)
{
	struct json_iter it = json_iter(json_get(r->json, "messages"));
	struct json_value message;
	struct buf text, out;

	if (!api_object(r))
		return;
	buf_init(&text, FAKE_BODY_MAX);
	buf_init(&out, FAKE_BODY_MAX);
	while (json_array_next(&it, &message)) {
		json_string_decode(json_get(message, "role"), &text);
		buf_add_str(&text, ": ");
		json_string_decode(json_get(message, "content"), &text);
		buf_add_char(&text, '\n');
	}
	buf_add_str(&out, "{\"prompt\":");
	json_put_string(&out, buf_slice(&text));
	buf_add_char(&out, '}');
	buf_free(&text);
	api_reply(r, 200, &out);
}

static void input_tokens(struct request *r)
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

/* --- POST /slots/N?action=save|restore|erase --- */

/* Opens DIR/filename; the name must be a plain one. */
static FILE *open_save(struct request *r, struct slice name, const char *mode)
{
	char path[4096];

	if (!name.n || memchr(name.p, '/', name.n) || memchr(name.p, 0, name.n))
		return NULL;
	snprintf(path, sizeof(path), "%s/%.*s", r->fake->options.slot_save_path, (int)name.n,
		name.p);
	return fopen(path, mode);
}

/* Bytes moved, or -1. */
static long move_slot(struct request *r, struct slot *s, struct slice name, bool save)
{
	FILE *file = open_save(r, name, save ? "w" : "r");
	char piece[65536];
	size_t n;
	bool bad;

	if (!file)
		return -1;
	if (save) {
		fwrite(s->kv.p, 1, s->kv.n, file);
	} else {
		buf_clear(&s->kv);
		while ((n = fread(piece, 1, sizeof(piece), file)))
			buf_add(&s->kv, piece, n);
	}
	bad = ferror(file) || buf_error(&s->kv);
	return fclose(file) || bad ? -1 : (long)s->kv.n;
}

static void slot_action(struct request *r)
{
	struct model *m = r->fake->engine->models;
	unsigned long id = strtoul(r->x->path.p + 7, NULL, 10); /* past "/slots/" */
	struct slice action = r->x->query;
	struct buf name, out;
	size_t tokens;
	long bytes = 0;

	buf_init(&name, 4096);
	if (!r->fake->options.slot_save_path) {
		llama_error(r, 501,
			SLICE("This server does not support slots action. Start it with "
			      "`--slot-save-path`"));
		return;
	}
	if (id >= m->slot_count || (!slice_eq(action, SLICE("action=save")) &&
					   !slice_eq(action, SLICE("action=restore")) &&
					   !slice_eq(action, SLICE("action=erase")))) {
		llama_error(r, 400, SLICE("Invalid action"));
		return;
	}
	json_string_decode(json_get(r->json, "filename"), &name);
	tokens = prompt_tokens(buf_slice(&m->slots[id].kv), r->fake->options.chars_per_token);
	if (slice_eq(action, SLICE("action=erase")))
		buf_clear(&m->slots[id].kv);
	else
		bytes = move_slot(
			r, &m->slots[id], buf_slice(&name), slice_eq(action, SLICE("action=save")));
	buf_init(&out, 8192);
	if (bytes < 0) {
		llama_error(r, 400, SLICE("Invalid filename"));
	} else {
		buf_printf(&out, "{\"id_slot\":%lu", id);
		if (slice_eq(action, SLICE("action=erase"))) {
			buf_printf(&out, ",\"n_erased\":%zu}", tokens);
		} else {
			bool save = slice_eq(action, SLICE("action=save"));

			json_put_key(&out, "filename");
			json_put_string(&out, buf_slice(&name));
			tokens = prompt_tokens(
				buf_slice(&m->slots[id].kv), r->fake->options.chars_per_token);
			buf_printf(&out, ",\"%s\":%zu,\"%s\":%ld,\"timings\":{\"%s\":1.0}}",
				save ? "n_saved" : "n_restored", tokens,
				save ? "n_written" : "n_read", bytes,
				save ? "save_ms" : "restore_ms");
		}
		api_reply(r, 200, &out);
	}
	buf_free(&name);
}

const struct route llama_routes[] = {
	{"GET", "/", root, 0},
	{"GET", "/health", health, 0},
	{"GET", "/v1/health", health, 0},
	{"GET", "/props", props, 0},
	{"GET", "/slots", slots, 0},
	{"POST", "/slots/*", slot_action, 0},
	{"GET", "/metrics", metrics, 0},
	{"GET", "/models", openai_models, 0},
	{"GET", "/v1/models", openai_models, 0},
	{"POST", "/tokenize", tokenize, 0},
	{"POST", "/apply-template", apply_template, 0},
	{"POST", "/v1/chat/completions/input_tokens", input_tokens, 0},
	{"POST", "/v1/chat/completions", openai_chat, ROUTE_GENERATES},
	{"POST", "/chat/completions", openai_chat, ROUTE_GENERATES},
	{"POST", "/v1/completions", openai_completions, ROUTE_GENERATES},
	{"POST", "/completion", completion, ROUTE_GENERATES},
	{"POST", "/completions", completion, ROUTE_GENERATES},
	{"POST", "/v1/embeddings", openai_embeddings, 0},
	{"POST", "/embeddings", openai_embeddings, 0},
	{0},
};
