/*
 * Ollama's /api/chat and /api/generate: docs/protocols.md#ollama.
 */
#include "tests/fake/dialect.h"

#define LINE_MAX_BYTES (256u << 20)

static struct buf line = {
	.max = LINE_MAX_BYTES}; /* the object being built; one thread, one at a time */

/* Go's encoder writes these as escapes, too. */
static bool go_escapes(char c)
{
	return c == '<' || c == '>' || c == '&';
}

static void put_escaped(struct buf *out, struct slice text)
{
	while (text.n) {
		size_t plain = 0;

		while (plain < text.n && !go_escapes(text.p[plain]))
			plain++;
		json_put_escaped(out, (struct slice){text.p, plain});
		if (plain < text.n)
			buf_printf(out, "\\u%04x", text.p[plain++]);
		text.p += plain;
		text.n -= plain;
	}
}

static void put_text(struct buf *out, const char *key, struct slice text)
{
	json_put_key(out, key);
	buf_add_char(out, '"');
	put_escaped(out, text);
	buf_add_char(out, '"');
}

static bool is_chat(const struct gen *g)
{
	return slice_eq(g->r->x->path, SLICE("/api/chat"));
}

static void open_line(const struct gen *g)
{
	buf_clear(&line);
	buf_add_str(&line, "{\"model\":");
	buf_add_slice(&line, g->name);
	buf_add_str(&line, ",\"created_at\":");
	put_now(&line);
}

static void put_call(struct buf *out, const struct gen *g, size_t i)
{
	const struct script_tool *tool = &g->r->script.tools[i];

	buf_printf(out,
		"{\"id\":\"call_%08zx\",\"function\":{\"index\":%zu,\"name\":", g->r->seq * 16 + i,
		i);
	json_put_string(out, buf_slice(&tool->name));
	buf_add_str(out, ",\"arguments\":");
	buf_add_slice(out, buf_slice(&tool->args));
	buf_add_str(out, "}}");
}

/* The part of an object that differs between chat and generate. */
static void put_content(
	const struct gen *g, struct slice text, struct slice thought, size_t call, size_t calls)
{
	if (is_chat(g)) {
		buf_add_str(&line, ",\"message\":{\"role\":\"assistant\"");
		put_text(&line, "content", text);
	} else {
		put_text(&line, "response", text);
	}
	if (thought.n)
		put_text(&line, "thinking", thought);
	if (calls) {
		buf_add_str(&line, ",\"tool_calls\":[");
		for (size_t i = call; i < call + calls; i++) {
			if (i > call)
				buf_add_char(&line, ',');
			put_call(&line, g, i);
		}
		buf_add_char(&line, ']');
	}
	if (is_chat(g))
		buf_add_char(&line, '}');
}

static void begin(struct gen *g)
{
	http_begin(g->r->x, 200, "application/x-ndjson", -1);
}

/* One token with itself as the only alternative. */
static void put_logprob(struct buf *out, struct slice token)
{
	buf_add_str(out, "{\"token\":");
	json_put_string(out, token);
	buf_add_str(out, ",\"logprob\":-0.25,\"top_logprobs\":[{\"token\":");
	json_put_string(out, token);
	buf_add_str(out, ",\"logprob\":-0.25}]}");
}

/* Of a stream the chunk's token; an answer in one piece is shown as one. */
static void put_logprobs(struct gen *g, struct slice text)
{
	if (!json_is(json_get(g->r->json, "logprobs"), JSON_TRUE) || !text.n)
		return;
	buf_add_str(&line, ",\"logprobs\":[");
	put_logprob(&line, text);
	buf_add_char(&line, ']');
}

static void send_chunk(
	struct gen *g, struct slice text, struct slice thought, size_t call, size_t calls)
{
	if (!g->r->x->status)
		begin(g);
	open_line(g);
	put_content(g, text, thought, call, calls);
	put_logprobs(g, text);
	buf_add_str(&line, ",\"done\":false}\n");
	http_data(g->r->x, buf_slice(&line));
}

static void on_text(struct gen *g, bool thinking, struct slice text)
{
	static const struct slice none = {"", 0};

	send_chunk(g, thinking ? none : text, thinking ? text : none, 0, 0);
}

static void on_tool(struct gen *g, size_t i, struct slice fragment, bool first, bool last)
{
	(void)fragment;
	(void)first;
	if (last && !g->r->script.tools_in_final)
		send_chunk(g, SLICE(""), SLICE(""), i, 1);
}

static void on_error(struct gen *g, struct slice message)
{
	if (!g->r->x->status) {
		ollama_error(g->r, 500, message);
		return;
	}
	buf_clear(&line);
	buf_add_char(&line, '{');
	put_text(&line, "error", message);
	buf_add_str(&line, "}\n");
	http_data(g->r->x, buf_slice(&line));
	http_end(g->r->x);
}

static void put_context(const struct gen *g)
{
	buf_add_str(&line, ",\"context\":[");
	for (size_t i = 0; i < g->prompt_n + gen_new_tokens(g); i++)
		buf_printf(&line, i ? ",%zu" : "%zu", i % 32000);
	buf_add_char(&line, ']');
}

/* Tool calls said completely. */
static size_t calls_done(const struct gen *g)
{
	return g->reason == REASON_TOOLS ? g->r->script.tool_count : 0;
}

static void on_finish(struct gen *g)
{
	static const struct slice none = {"", 0};
	const char *reason = g->reason == REASON_LENGTH ? "length" : "stop";
	size_t calls = g->stream && !g->r->script.tools_in_final ? 0 : calls_done(g);
	bool stream = g->stream && !g->load_only;
	bool raw = false;
	struct buf whole;

	if (g->load_only)
		reason = g->unload_after ? "unload" : "load";
	open_line(g);
	put_content(g, stream ? none : buf_slice(&g->text), stream ? none : buf_slice(&g->thought),
		0, calls);
	put_logprobs(g, stream ? none : buf_slice(&g->text));
	buf_printf(&line, ",\"done\":true,\"done_reason\":\"%s\"", reason);
	json_to_bool(json_get(g->r->json, "raw"), &raw);
	if (!is_chat(g) && !raw && !g->load_only)
		put_context(g);
	if (!g->load_only) {
		put_count(&line, "total_duration", clock_now() - g->r->started_ns);
		put_count(&line, "load_duration", g->load_ns);
		put_count(&line, "prompt_eval_count", g->prompt_n);
		put_count(&line, "prompt_eval_duration", g->prefill_ns);
		put_count(&line, "eval_count", gen_new_tokens(g));
		put_count(&line, "eval_duration", g->decode_ns);
	}
	buf_add_char(&line, '}');
	if (!stream) {
		buf_init(&whole, LINE_MAX_BYTES);
		buf_add_slice(&whole, buf_slice(&line));
		api_reply(g->r, 200, &whole);
		return;
	}
	if (!g->r->x->status)
		begin(g);
	buf_add_char(&line, '\n');
	http_data(g->r->x, buf_slice(&line));
	http_end(g->r->x);
}

static const struct gen_ops ops = {begin, NULL, on_text, on_tool, on_error, on_finish};

static uint64_t hash(uint64_t h, struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (unsigned char)s.p[i]) * 1099511628211ull;
	return h;
}

/* What besides num_ctx makes Ollama reload (docs/protocols.md#options-and-reloads); 0 when nothing
 * of it is set. */
static uint64_t runner_hash(struct json_value body)
{
	static const char *const keys[] = {
		"num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict"};
	struct json_value options = json_get(body, "options");
	uint64_t h = 0;

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		struct slice raw = json_get(options, keys[i]).raw;

		if (raw.n)
			h = hash(hash(h, slice_str(keys[i])), raw);
	}
	if (json_is(json_get(body, "shift"), JSON_FALSE))
		h = hash(h, SLICE("shift"));
	return h;
}

static bool read_int(struct request *r, const char *key, int64_t *out)
{
	struct json_value v = json_get(json_get(r->json, "options"), key);

	if (json_is(v, JSON_NONE) || json_is(v, JSON_NULL) || json_to_int(v, out))
		return true;
	api_errorf(r, 500, "option \"%s\" must be of type integer", key);
	return false;
}

struct gen *ollama_gen_create(struct request *r, const struct gen_ops *gen_ops)
{
	struct json_value model, keep_alive, think;
	int64_t num_ctx = 0, num_predict = -1, keep = -1;
	struct model *m;
	struct buf name;
	struct gen *g;

	if (!api_object(r))
		return NULL;
	model = json_get(r->json, "model");
	buf_init(&name, 4096);
	json_string_decode(model, &name);
	m = engine_model(r->fake->engine, buf_slice(&name));
	if (!name.n)
		api_error(r, 400, SLICE("model is required"));
	else if (!m)
		api_errorf(r, 404, "model '%s' not found", buf_cstr(&name));
	buf_free(&name);
	if (!m || !read_int(r, "num_ctx", &num_ctx) || !read_int(r, "num_predict", &num_predict))
		return NULL;
	g = gen_create(r, gen_ops);
	g->model = m;
	g->name = model.raw;
	if (num_ctx)
		g->num_ctx = num_ctx < 4 ? 4 : num_ctx > TRAIN_CTX ? TRAIN_CTX : (unsigned)num_ctx;
	g->max_tokens = num_predict > 0
				? num_predict
				: -1; /* 0 means no limit: docs/protocols.md#options-and-reloads */
	g->runner = runner_hash(r->json);
	g->stream = ask_streams(r);
	g->shift = !json_is(json_get(r->json, "shift"), JSON_FALSE);
	think = json_get(r->json, "think");
	g->thinks = !json_is(think, JSON_FALSE);
	keep_alive = json_get(r->json, "keep_alive");
	g->unload_after = (json_to_int(keep_alive, &keep) && keep == 0) ||
			  json_string_is(keep_alive, "0") || json_string_is(keep_alive, "0s");
	return g;
}

/* What its llama-server says, as a string. */
static void refuse_long(struct request *r, size_t tokens, size_t window)
{
	api_errorf(r, 400,
		"{\"error\":{\"code\":400,\"message\":\"request (%zu tokens) exceeds the available "
		"context size (%zu tokens), try increasing "
		"it\",\"type\":\"exceed_context_size_error\""
		",\"n_prompt_tokens\":%zu,\"n_ctx\":%zu}}",
		tokens, window, tokens, window);
}

void ollama_submit(struct gen *g)
{
	struct request *r = g->r;
	double f = r->fake->options.chars_per_token;
	size_t window = g->num_ctx ? g->num_ctx : r->fake->options.num_ctx;
	size_t whole = prompt_tokens(buf_slice(&g->prompt.text), f);
	bool fits = whole <= window, cut = !fits;
	int64_t keep = 4;

	if (prompt_error(&g->prompt)) {
		gen_free(g);
		api_error(r, 500, SLICE("prompt too large"));
		return;
	}
	if (r->fake->options.max_ctx && window > r->fake->options.max_ctx) {
		gen_free(g);
		api_error(r, 500,
			SLICE("model requires more system memory (24.3 GiB) than is available (7.6 "
			      "GiB)"));
		return;
	}
	if (!fits && !r->fake->options.old && json_is(json_get(r->json, "truncate"), JSON_FALSE)) {
		gen_free(g);
		refuse_long(r, whole, window);
		return;
	}
	while (!fits && prompt_drop_oldest(&g->prompt))
		fits = prompt_tokens(buf_slice(&g->prompt.text), f) <= window;
	if (!fits && !g->shift) {
		gen_free(g);
		api_error(r, 400,
			SLICE("the prompt is longer than the context length currently available to "
			      "the model; "
			      "shorten the prompt or increase num_ctx"));
		return;
	}
	if (!fits) {
		json_to_int(json_get(json_get(r->json, "options"), "num_keep"), &keep);
		keep = keep < 0 || (size_t)keep > window / 4 ? 4 : keep;
		prompt_cut(&g->prompt, (size_t)keep, window / 2 - (size_t)keep, f);
	}
	r->fake->engine->count.truncated += cut;
	engine_submit(g);
}

/* A message's content must be a string; Go's decoder says where it is not. */
static bool contents_are_strings(struct request *r)
{
	struct json_iter it = json_iter(json_get(r->json, "messages"));
	struct json_value message;

	while (json_array_next(&it, &message)) {
		if (!json_is(json_get(message, "content"), JSON_ARRAY))
			continue;
		api_error(r, 400,
			SLICE("json: cannot unmarshal array into Go struct field "
			      "ChatRequest.messages.content "
			      "of type string"));
		return false;
	}
	return true;
}

/* _debug_render_only: what the template makes of the messages. This one closes each turn, the
 * beginning of an answer too. */
static bool render_only(struct request *r)
{
	struct buf text, out;
	bool asked = false;

	json_to_bool(json_get(r->json, "_debug_render_only"), &asked);
	if (!asked)
		return false;
	buf_init(&text, LINE_MAX_BYTES);
	buf_init(&out, LINE_MAX_BYTES);
	ask_render(r->json, true, &text);
	buf_add_str(&out, "{\"model\":\"\",\"message\":{\"role\":\"\",\"content\":\"\"},"
			  "\"done\":false,\"_debug_info\":{\"rendered_template\":");
	json_put_string(&out, buf_slice(&text));
	buf_add_str(&out, "}}");
	buf_free(&text);
	api_reply(r, 200, &out);
	return true;
}

void ollama_chat(struct request *r)
{
	struct json_iter messages;
	struct json_value first;
	struct gen *g;

	if (!contents_are_strings(r) || render_only(r))
		return;
	g = ollama_gen_create(r, &ops);
	if (!g)
		return;
	messages = json_iter(json_get(r->json, "messages"));
	g->load_only = !json_array_next(&messages, &first);
	ask_chat(g, r->json);
	if (!answer_refuses_begun(g))
		ollama_submit(g);
}

void ollama_generate(struct request *r)
{
	struct gen *g = ollama_gen_create(r, &ops);

	if (!g)
		return;
	g->load_only = json_string_chars(json_get(r->json, "prompt")) == 0;
	if (r->fake->options.no_insert && json_string_chars(json_get(r->json, "suffix"))) {
		api_errorf(r, 400, "registry.ollama.ai/library/%s does not support insert",
			g->model->name);
		gen_free(g);
		return;
	}
	ask_completion(g, r->json);
	ollama_submit(g);
}
