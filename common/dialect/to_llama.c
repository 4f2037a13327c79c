/* Ollama's chat and generate requests as llama-server's /v1/chat/completions, /v1/completions and
 * /infill. */
#include "common/dialect/translate.h"

#include <errno.h>

struct message_fields {
	struct json_value role, thinking, tool_call_id, tool_name, name, images;
};

struct top_fields {
	struct json_value options, format, think, suffix, context, template, raw, images, logprobs,
		top_logprobs, tool_choice;
};

/* --- content --- */

/* llama-server looks at the data, not at the type; the type only has to be an image's. */
static void put_image(struct buf *out, struct json_value image)
{
	static const struct {
		const char *start, *type;
	} known[] = {{"/9j/", "jpeg"}, {"R0lGOD", "gif"}, {"UklGR", "webp"}};
	struct slice data = string_inner(image);
	const char *type = "png";
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		size_t n = strlen(known[i].start);
		if (data.n >= n && memcmp(data.p, known[i].start, n) == 0)
			type = known[i].type;
	}
	buf_add_str(out, "{\"type\":\"image_url\",\"image_url\":{\"url\":\"");
	/* Older clients send whole URIs where Ollama takes bare data. */
	if (data.n < strlen("data:") || memcmp(data.p, "data:", strlen("data:")) != 0)
		buf_printf(out, "data:image/%s;base64,", type);
	buf_add_slice(out, data);
	buf_add_str(out, "\"}}");
}

/* Images stand before the text, as Ollama renders them. */
static void put_content(struct buf *out, struct json_value content, struct json_value images)
{
	struct json_iter it = json_iter(images);
	struct json_value image;
	if (array_count(images) == 0) {
		buf_add_slice(out, is_absent(content) ? SLICE("\"\"") : content.raw);
		return;
	}
	buf_add_char(out, '[');
	for (bool first = true; json_array_next(&it, &image); first = false) {
		if (!first)
			buf_add_char(out, ',');
		put_image(out, image);
	}
	if (value_filled(content) && content.type == JSON_STRING) {
		buf_add_str(out, ",{\"type\":\"text\",\"text\":");
		buf_add_slice(out, content.raw);
		buf_add_char(out, '}');
	}
	buf_add_char(out, ']');
}

/* --- tool calls and their results --- */

/* The call's own id, or one made of its place: the result that follows finds the same. */
static void put_call_id(struct buf *out, struct json_value id, size_t message, size_t call)
{
	if (value_filled(id) && id.type == JSON_STRING)
		buf_add_slice(out, id.raw);
	else
		buf_printf(out, "\"call_%zu_%zu\"", message, call);
}

static void put_calls(struct buf *out, struct json_value calls, size_t message)
{
	struct json_iter it = json_iter(calls);
	struct json_value element;
	json_put_key(out, "tool_calls");
	buf_add_char(out, '[');
	for (size_t i = 0; json_array_next(&it, &element); i++) {
		struct tool_call call = tool_call_read(element);
		buf_add_str(out, i ? ",{\"id\":" : "{\"id\":");
		put_call_id(out, call.id, message, i);
		buf_add_str(out, ",\"type\":\"function\",\"function\":{\"name\":");
		buf_add_slice(out, call.name.type == JSON_STRING ? call.name.raw : SLICE("\"\""));
		buf_add_str(out, ",\"arguments\":");
		if (call.arguments.type == JSON_STRING)
			buf_add_slice(out, call.arguments.raw);
		else
			json_put_string(
				out, is_absent(call.arguments) ? SLICE("{}") : call.arguments.raw);
		buf_add_str(out, "}}");
	}
	buf_add_char(out, ']');
}

static struct json_value result_name(const struct chat_message *m)
{
	struct json_value tool_name, name;
	FIELDS_GET(m->raw, {"tool_name", &tool_name}, {"name", &name});
	return string_or(tool_name, name);
}

static bool same_string(struct json_value a, struct json_value b)
{
	return a.type == JSON_STRING && b.type == JSON_STRING &&
	       slice_eq(string_inner(a), string_inner(b));
}

/*
 * Which call a result without an id answers: the results after an assistant's message answer its
 * calls in order, or in order among those of one name where results are named.
 */
static void put_answered_id(struct buf *out, const struct chat_request *r, size_t message)
{
	struct json_value name = result_name(&r->messages[message]), element;
	size_t i = message, nth = 0;
	while (i > 0 && r->messages[i - 1].role == CHAT_TOOL && message - i < CALL_LOOKBACK) {
		i--;
		if (name.type != JSON_STRING || same_string(result_name(&r->messages[i]), name))
			nth++;
	}
	if (i == 0)
		return;
	struct json_iter it = json_iter(r->messages[i - 1].tool_calls);
	for (size_t at = 0; json_array_next(&it, &element); at++) {
		struct tool_call call = tool_call_read(element);
		if (name.type == JSON_STRING && !same_string(call.name, name))
			continue;
		if (nth-- > 0)
			continue;
		json_put_key(out, "tool_call_id");
		put_call_id(out, call.id, i - 1, at);
		return;
	}
}

/* --- messages --- */

static bool has_same_shape(const struct chat_message *m, const struct message_fields *f)
{
	static const char *const lower[] = {"user", "assistant", "system", "tool"};
	bool known = false;
	for (size_t i = 0; i < sizeof(lower) / sizeof(lower[0]); i++)
		known = known || json_string_is(f->role, lower[i]);
	return known && m->content.type == JSON_STRING && !array_count(f->images) &&
	       is_absent(m->tool_calls) && is_absent(f->thinking) &&
	       (m->role != CHAT_TOOL || (value_filled(f->tool_call_id) && is_absent(f->tool_name)));
}

static void put_role(struct buf *out, enum chat_role role)
{
	static const char *const names[] = {
		[CHAT_SYSTEM] = "system",
		[CHAT_USER] = "user",
		[CHAT_ASSISTANT] = "assistant",
		[CHAT_TOOL] = "tool",
	};
	buf_add_str(out, "{\"role\":\"");
	buf_add_str(out, names[role]);
	buf_add_str(out, "\",\"content\":");
}

static void put_message(struct buf *out, const struct chat_request *r, size_t i)
{
	const struct chat_message *m = &r->messages[i];
	struct message_fields f;
	FIELDS_GET(m->raw, {"role", &f.role}, {"thinking", &f.thinking},
		{"tool_call_id", &f.tool_call_id}, {"tool_name", &f.tool_name}, {"name", &f.name},
		{"images", &f.images});
	if (has_same_shape(m, &f)) {
		buf_add_slice(out, m->raw.raw);
		return;
	}
	put_role(out, m->role);
	put_content(out, m->content, f.images);
	if (f.thinking.type == JSON_STRING)
		member_copy(out, "reasoning_content", f.thinking);
	if (array_count(m->tool_calls))
		put_calls(out, m->tool_calls, i);
	if (m->role == CHAT_TOOL) {
		if (value_filled(f.tool_call_id))
			member_copy(out, "tool_call_id", f.tool_call_id);
		else
			put_answered_id(out, r, i);
		member_copy(out, "name", string_or(f.tool_name, f.name));
	}
	buf_add_char(out, '}');
}

static void put_messages(struct translation *t, const struct top_fields *f)
{
	const struct chat_request *r = t->r;
	json_put_key(t->out, "messages");
	buf_add_char(t->out, '[');
	for (size_t i = 0; i < r->count; i++) {
		if (i)
			buf_add_char(t->out, ',');
		if (r->dialect == DIALECT_OLLAMA_CHAT) {
			put_message(t->out, r, i);
			continue;
		}
		put_role(t->out, r->messages[i].role);
		put_content(t->out, r->messages[i].content,
			r->messages[i].role == CHAT_USER ? f->images
							 : (struct json_value){.type = JSON_NONE});
		buf_add_char(t->out, '}');
	}
	buf_add_char(t->out, ']');
}

/* --- what stands beside the messages --- */

/* limit: the name that the path uses for the most tokens to generate. */
static void put_options(struct translation *t, struct json_value options, const char *limit)
{
	static const struct rename numbers[] = {
		{"temperature", "temperature"},
		{"top_k", "top_k"},
		{"top_p", "top_p"},
		{"min_p", "min_p"},
		{"typical_p", "typical_p"},
		{"repeat_last_n", "repeat_last_n"},
		{"repeat_penalty", "repeat_penalty"},
		{"presence_penalty", "presence_penalty"},
		{"frequency_penalty", "frequency_penalty"},
		{"mirostat", "mirostat"},
		{"mirostat_tau", "mirostat_tau"},
		{"mirostat_eta", "mirostat_eta"},
		{"seed", "seed"},
		{"num_keep", "n_keep"},
	};
	translate_numbers(t->out, options, numbers, sizeof(numbers) / sizeof(numbers[0]));
	if (t->r->max_output >= 0) {
		json_put_key(t->out, limit);
		json_put_int(t->out, t->r->max_output);
	}
	struct json_value stop = options.type == JSON_OBJECT
					 ? json_get(options, "stop")
					 : (struct json_value){.type = JSON_NONE};
	member_copy(t->out, "stop", stop);
}

static int put_format(struct translation *t, struct json_value format, bool chat)
{
	if (!value_filled(format) && format.type != JSON_OBJECT)
		return 0;
	if (json_string_is(format, "json"))
		return buf_add_str(t->out, chat ? ",\"response_format\":{\"type\":\"json_object\"}"
						: ",\"json_schema\":{}");
	if (format.type != JSON_OBJECT)
		return translate_refuse(
			t, "invalid format: expected \"json\" or a JSON schema object");
	if (!chat) {
		member_copy(t->out, "json_schema", format);
		return 0;
	}
	buf_add_str(t->out, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
			    "\"name\":\"format\","
			    "\"schema\":");
	buf_add_slice(t->out, format.raw);
	return buf_add_str(t->out, "}}");
}

static void put_think(struct translation *t, struct json_value think)
{
	const struct chat_request *r = t->r;
	bool on;
	if (json_to_bool(think, &on)) {
		json_put_key(t->out, "chat_template_kwargs");
		buf_add_str(
			t->out, on ? "{\"enable_thinking\":true}" : "{\"enable_thinking\":false}");
	} else if (value_filled(think) && think.type == JSON_STRING) {
		json_put_key(t->out, "chat_template_kwargs");
		buf_add_str(t->out, "{\"enable_thinking\":true,\"reasoning_effort\":");
		buf_add_slice(t->out, think.raw);
		buf_add_char(t->out, '}');
	} else if (r->count && r->messages[r->count - 1].role == CHAT_ASSISTANT) {
		/* llama-server refuses to continue an answer while thinking is on. */
		json_put_key(t->out, "chat_template_kwargs");
		buf_add_str(t->out, "{\"enable_thinking\":false}");
	}
}

static void put_stream(struct translation *t)
{
	buf_add_str(t->out, t->r->stream
				    ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"
				    : ",\"stream\":false");
}

/* --- the three paths --- */

static int chat_body(struct translation *t, const struct top_fields *f)
{
	put_messages(t, f);
	put_stream(t);
	member_copy(t->out, "tools", t->r->tools);
	if (f->tool_choice.type == JSON_STRING)
		member_copy(t->out, "tool_choice", f->tool_choice);
	int rc = put_format(t, f->format, true);
	put_think(t, f->think);
	if (f->logprobs.type == JSON_TRUE) {
		member_copy(t->out, "logprobs", f->logprobs);
		member_copy(t->out, "top_logprobs", f->top_logprobs);
	}
	put_options(t, f->options, "max_tokens");
	return rc;
}

static int raw_body(struct translation *t, const struct top_fields *f)
{
	json_put_key(t->out, "prompt");
	buf_add_slice(t->out, t->r->messages[t->r->count - 1].content.raw);
	put_stream(t);
	put_options(t, f->options, "max_tokens");
	return put_format(t, f->format, false);
}

static int infill_body(struct translation *t, const struct top_fields *f)
{
	json_put_key(t->out, "input_prefix");
	buf_add_slice(t->out, t->r->messages[t->r->count - 1].content.raw);
	member_copy(t->out, "input_suffix", f->suffix);
	buf_add_str(t->out, t->r->stream ? ",\"stream\":true" : ",\"stream\":false");
	put_options(t, f->options, "n_predict");
	return put_format(t, f->format, false);
}

static int check(struct translation *t, const struct top_fields *f)
{
	const struct chat_request *r = t->r;
	bool raw = f->raw.type == JSON_TRUE;
	if (r->dialect != DIALECT_OLLAMA_GENERATE)
		return 0;
	if (raw && (value_filled(f->template) || value_filled(f->context) ||
			   r->messages[0].role == CHAT_SYSTEM))
		return translate_refuse(
			t, "raw mode does not support template, system, or context");
	if (value_filled(f->template))
		return translate_refuse(t, "this backend does not support template");
	if (value_filled(f->context))
		return translate_refuse(t, "this backend does not support context");
	if (array_count(f->images) && (raw || value_filled(f->suffix)))
		return translate_refuse(
			t, "this backend does not support images with raw or suffix");
	return 0;
}

int translate_to_llama(struct translation *t, struct backend_call *call)
{
	struct top_fields f;
	FIELDS_GET(t->r->root, {"options", &f.options}, {"format", &f.format}, {"think", &f.think},
		{"suffix", &f.suffix}, {"context", &f.context}, {"template", &f.template},
		{"raw", &f.raw}, {"images", &f.images}, {"logprobs", &f.logprobs},
		{"top_logprobs", &f.top_logprobs}, {"tool_choice", &f.tool_choice});
	int rc = check(t, &f);
	if (rc)
		return rc;
	bool generate = t->r->dialect == DIALECT_OLLAMA_GENERATE;
	buf_add_char(t->out, '{');
	member_copy(t->out, "model", t->r->model);
	if (generate && value_filled(f.suffix) && f.suffix.type == JSON_STRING) {
		call->path = "/infill";
		call->format = ANSWER_LLAMA_INFILL;
		rc = infill_body(t, &f);
	} else if (generate && f.raw.type == JSON_TRUE) {
		call->path = "/v1/completions";
		call->format = ANSWER_OPENAI_TEXT;
		rc = raw_body(t, &f);
	} else {
		call->path = "/v1/chat/completions";
		call->format = ANSWER_OPENAI_CHAT;
		rc = chat_body(t, &f);
	}
	buf_add_char(t->out, '}');
	return rc;
}
