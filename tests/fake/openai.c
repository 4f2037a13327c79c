/*
 * The OpenAI routes, in llama-server's manner and in Ollama's: docs/protocols.md#chat-stream.
 */
#include "tests/fake/dialect.h"

#include <stdio.h>
#include <time.h>

#define LINE_MAX_BYTES (256u << 20)

static struct buf line = {
	.max = LINE_MAX_BYTES}; /* the event being built; one thread, one at a time */

static bool is_llama(const struct gen *g)
{
	return g->r->fake->options.type == TYPE_LLAMA;
}

static bool is_ollama(const struct gen *g)
{
	return g->r->fake->options.type == TYPE_OLLAMA;
}

static bool is_chat(const struct gen *g)
{
	return slice_eq(g->r->x->path, SLICE("/v1/chat/completions")) ||
	       slice_eq(g->r->x->path, SLICE("/chat/completions"));
}

static const char *finish_reason(const struct gen *g)
{
	return g->reason == REASON_LENGTH  ? "length"
	       : g->reason == REASON_TOOLS ? "tool_calls"
					   : "stop";
}

/* Members that every object of one answer shares; the dialects put them in different places. */
static void put_identity(const struct gen *g, const char *object)
{
	buf_printf(&line, "\"id\":\"%s-%u\",\"object\":\"%s\",\"created\":%lld,\"model\":",
		is_chat(g) ? "chatcmpl" : "cmpl", g->r->seq, object, (long long)time(NULL));
	if (g->name.n)
		buf_add_slice(&line, g->name);
	else
		json_put_string(&line, slice_str(g->model->name));
	if (is_llama(g))
		buf_add_str(&line, ",\"system_fingerprint\":\"b10434-fake\"");
	else if (is_ollama(g))
		buf_add_str(&line, ",\"system_fingerprint\":\"fp_ollama\"");
}

static const char *chunk_object(const struct gen *g)
{
	return is_chat(g) ? "chat.completion.chunk" : "text_completion";
}

/* data: {"choices":[{"index":0, — then the caller's members, then close_chunk(). */
static void open_chunk(const struct gen *g)
{
	buf_clear(&line);
	buf_add_str(&line, "data: {");
	put_identity(g, chunk_object(g));
	buf_add_str(&line, ",\"choices\":[{\"index\":0,");
}

static void close_chunk(const char *reason)
{
	if (reason)
		buf_printf(&line, ",\"finish_reason\":\"%s\"}]", reason);
	else
		buf_add_str(&line, ",\"finish_reason\":null}]");
}

static void send_chunk(struct gen *g)
{
	buf_add_str(&line, "}\n\n");
	http_data(g->r->x, buf_slice(&line));
}

static void begin(struct gen *g)
{
	http_begin(g->r->x, 200, "text/event-stream", -1);
	if (is_ollama(g) || !is_chat(g))
		return;
	open_chunk(g);
	buf_printf(&line, "\"delta\":{\"role\":\"assistant\",\"content\":%s}",
		is_llama(g) ? "null" : "\"\"");
	close_chunk(NULL);
	send_chunk(g);
}

/* Opens a chunk and, in chat, its delta; Ollama repeats the role only on the first one. */
static void open_delta(struct gen *g)
{
	bool first = !g->r->x->status;

	if (first)
		begin(g);
	open_chunk(g);
	if (is_chat(g))
		buf_add_str(&line, first && is_ollama(g) ? "\"delta\":{\"role\":\"assistant\","
							 : "\"delta\":{");
}

static void on_text(struct gen *g, bool thinking, struct slice text)
{
	open_delta(g);
	if (g->echo.n && !thinking) {
		buf_add_slice(&g->echo, text);
		text = buf_slice(&g->echo);
		g->echo.n = 0; /* its bytes stay until they are written */
	}
	if (!is_chat(g))
		buf_add_str(&line, "\"text\":");
	else if (!thinking)
		buf_add_str(&line, "\"content\":");
	else if (!is_ollama(g))
		buf_add_str(&line, "\"reasoning_content\":");
	else
		buf_add_str(&line, "\"content\":\"\",\"reasoning\":");
	json_put_string(&line, text);
	if (is_chat(g))
		buf_add_char(&line, '}');
	close_chunk(NULL);
	if (!is_chat(g) && g->include_usage && is_ollama(g))
		buf_add_str(&line, ",\"usage\":{}");
	send_chunk(g);
}

static void put_call_head(const struct gen *g, size_t i)
{
	buf_printf(&line,
		"{\"index\":%zu,\"id\":\"call_%08zx\",\"type\":\"function\",\"function\":{"
		"\"name\":",
		i, g->r->seq * 16 + i);
	json_put_string(&line, buf_slice(&g->r->script.tools[i].name));
	buf_add_str(&line, ",\"arguments\":");
}

static void on_tool(struct gen *g, size_t i, struct slice fragment, bool first, bool last)
{
	if (!is_chat(g) || (is_ollama(g) && !last))
		return;
	if (is_ollama(g)) { /* whole, in one delta */
		open_delta(g);
		buf_add_str(&line, "\"content\":\"\",\"tool_calls\":[");
		put_call_head(g, i);
		json_put_string(&line, buf_slice(&g->r->script.tools[i].args));
	} else {
		if (first) {
			open_delta(g);
			buf_add_str(&line, "\"tool_calls\":[");
			put_call_head(g, i);
			buf_add_str(&line, "\"\"}}]}");
			close_chunk(NULL);
			send_chunk(g);
		}
		open_delta(g);
		buf_printf(&line, "\"tool_calls\":[{\"index\":%zu,\"function\":{\"arguments\":", i);
		json_put_string(&line, fragment);
	}
	buf_add_str(&line, "}}]}");
	close_chunk(NULL);
	send_chunk(g);
}

static void on_progress(struct gen *g)
{
	if (!is_llama(g))
		return;
	if (!g->r->x->status)
		http_begin(g->r->x, 200, "text/event-stream", -1);
	open_chunk(g);
	buf_add_str(&line, is_chat(g) ? "\"delta\":{\"role\":\"assistant\",\"content\":null}"
				      : "\"text\":\"\"");
	close_chunk(NULL);
	buf_printf(&line,
		",\"prompt_progress\":{\"total\":%zu,\"cache\":%zu,\"processed\":%zu,\"time_ms\":%"
		"llu}",
		g->prompt_n, g->cached_n, g->processed, (unsigned long long)gen_progress_ms(g));
	send_chunk(g);
}

static void on_error(struct gen *g, struct slice message)
{
	if (!g->r->x->status) {
		api_error(g->r, 500, message);
		return;
	}
	if (is_ollama(g)) { /* what Ollama makes of it: an empty chunk, then silence
			       (docs/protocols.md#errors-of-ollama) */
		g->name = SLICE("\"\"");
		open_delta(g);
		buf_add_str(&line, "\"content\":\"\"}");
		close_chunk(NULL);
		send_chunk(g);
		http_end(g->r->x);
		return;
	}
	buf_clear(&line);
	buf_add_str(&line, "data: {\"error\":{\"code\":500,\"message\":");
	json_put_string(&line, message);
	buf_printf(
		&line, ",\"type\":\"%s\"}", is_llama(g) ? "server_error" : "InternalServerError");
	send_chunk(g);
	if (!is_llama(g))
		http_data(g->r->x, SLICE("data: [DONE]\n\n"));
	http_end(g->r->x);
}

static void put_usage(const struct gen *g)
{
	buf_printf(&line,
		",\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu",
		g->prompt_n, gen_new_tokens(g), g->prompt_n + gen_new_tokens(g));
	if (is_llama(g))
		buf_printf(
			&line, ",\"prompt_tokens_details\":{\"cached_tokens\":%zu}", g->cached_n);
	buf_add_char(&line, '}');
}

static void finish_stream(struct gen *g)
{
	bool usage = g->include_usage;

	if (!g->r->x->status)
		begin(g);
	open_chunk(g);
	buf_add_str(&line, is_chat(g) ? "\"delta\":{}" : "\"text\":\"\"");
	close_chunk(finish_reason(g));
	if (is_llama(g) && !usage)
		llama_put_timings(&line, g);
	send_chunk(g);
	if (usage) {
		buf_clear(&line);
		buf_add_str(&line, "data: {");
		put_identity(g, chunk_object(g));
		buf_add_str(&line, ",\"choices\":[]");
		put_usage(g);
		if (is_llama(g))
			llama_put_timings(&line, g);
		send_chunk(g);
	}
	http_data(g->r->x, SLICE("data: [DONE]\n\n"));
	http_end(g->r->x);
}

static void put_message(const struct gen *g)
{
	const struct script *s = &g->r->script;

	buf_add_str(&line, "\"message\":{\"role\":\"assistant\",\"content\":");
	if (g->reason == REASON_TOOLS && !g->text.n && !is_ollama(g))
		buf_add_str(&line, "null");
	else
		json_put_string(&line, buf_slice(&g->text));
	if (g->thought.n) {
		json_put_key(&line, is_ollama(g) ? "reasoning" : "reasoning_content");
		json_put_string(&line, buf_slice(&g->thought));
	}
	if (g->reason == REASON_TOOLS) {
		buf_add_str(&line, ",\"tool_calls\":[");
		for (size_t i = 0; i < s->tool_count; i++) {
			if (i)
				buf_add_char(&line, ',');
			put_call_head(g, i);
			json_put_string(&line, buf_slice(&s->tools[i].args));
			buf_add_str(&line, "}}");
		}
		buf_add_char(&line, ']');
	}
	buf_add_char(&line, '}');
}

static void on_finish(struct gen *g)
{
	struct buf whole;

	if (g->stream) {
		finish_stream(g);
		return;
	}
	buf_clear(&line);
	buf_add_char(&line, '{');
	put_identity(g, is_chat(g) ? "chat.completion" : "text_completion");
	buf_add_str(&line, ",\"choices\":[{\"index\":0,");
	if (is_chat(g)) {
		put_message(g);
	} else {
		buf_add_str(&line, "\"text\":");
		json_put_string(&line, buf_slice(&g->text));
	}
	close_chunk(finish_reason(g));
	put_usage(g);
	if (is_llama(g))
		llama_put_timings(&line, g);
	buf_add_char(&line, '}');
	buf_init(&whole, LINE_MAX_BYTES);
	buf_add_slice(&whole, buf_slice(&line));
	api_reply(g->r, 200, &whole);
}

static const struct gen_ops ops = {begin, on_progress, on_text, on_tool, on_error, on_finish};

static void run(struct request *r, bool chat)
{
	static struct gen *(*const create[])(struct request *, const struct gen_ops *) = {
		[TYPE_OLLAMA] = ollama_gen_create,
		[TYPE_LLAMA] = llama_gen_create,
		[TYPE_OPENAI] = compat_gen_create};
	static void (*const submit[])(struct gen *) = {[TYPE_OLLAMA] = ollama_submit,
		[TYPE_LLAMA] = llama_submit,
		[TYPE_OPENAI] = compat_submit};
	enum fake_type type = r->fake->options.type;
	struct gen *g = create[type](r, &ops);

	if (!g)
		return;
	if (type ==
		TYPE_OLLAMA) { /* of the limits Ollama's /v1 knows max_tokens only, and no options
			 (docs/protocols.md#openais-fields) */
		g->max_tokens = -1;
		json_to_int(json_get(r->json, "max_tokens"), &g->max_tokens);
		g->num_ctx = 0;
		g->thinks = !json_string_is(json_get(r->json, "reasoning_effort"), "none");
	}
	json_to_bool(
		json_get(json_get(r->json, "stream_options"), "include_usage"), &g->include_usage);
	if (chat)
		ask_chat(g, r->json);
	else
		ask_completion(g, r->json);
	if (answer_refuses_begun(g))
		return;
	submit[type](g);
}

void openai_chat(struct request *r)
{
	struct json_value messages = json_get(r->json, "messages"), first;
	struct json_iter it = json_iter(messages);

	if (!api_object(r))
		return;
	if (!json_array_next(&it, &first)) {
		api_error(r, 400,
			r->fake->options.type == TYPE_OLLAMA ? SLICE("[] is too short - 'messages'")
							     : SLICE("'messages' is required"));
		return;
	}
	run(r, true);
}

/* What llama-server's /v1/completions refuses (server-common.cpp, oaicompat_completion_params_parse).
 */
static const char *unsupported(struct json_value body)
{
	if (!json_is(json_get(body, "best_of"), JSON_NONE))
		return "Unsupported param: best_of";
	if (!json_is(json_get(body, "suffix"), JSON_NONE))
		return "Unsupported param: suffix";
	if (json_is(json_get(body, "echo"), JSON_TRUE))
		return "Only no echo is supported";
	return json_is(json_get(body, "prompt"), JSON_NONE) ? "\"prompt\" is required" : NULL;
}

void openai_completions(struct request *r)
{
	if (!api_object(r))
		return;
	if (r->fake->options.type == TYPE_OLLAMA &&
		!json_is(json_get(r->json, "prompt"), JSON_STRING)) {
		api_error(r, 400,
			SLICE("json: cannot unmarshal into Go struct field "
			      "CompletionRequest.prompt of type string"));
		return;
	}
	if (r->fake->options.type == TYPE_LLAMA && unsupported(r->json)) {
		api_error(r, 400, slice_str(unsupported(r->json)));
		return;
	}
	run(r, false);
}
