/* An OpenAI chat request as Ollama's /api/chat (never its /v1, which swallows errors in
 * mid-stream). */
#include "common/dialect/translate.h"

#include <errno.h>
#include <inttypes.h>

struct message_fields {
	struct json_value role, function_call, thinking, reasoning_content, reasoning, tool_call_id,
		tool_name, name;
};

/* --- content --- */

/* The base64 data of a data: URI; both forms have no escapes to decode except \/ which stays valid.
 */
static bool image_data(struct slice url, struct slice *data)
{
	static const char marker[] = ";base64,";
	const char *comma = url.n ? memchr(url.p, ',', url.n) : NULL;
	if (url.n < strlen("data:") || memcmp(url.p, "data:", strlen("data:")) != 0 || !comma)
		return false;
	const char *start = comma + 1 - strlen(marker);
	if (start < url.p || memcmp(start, marker, strlen(marker)) != 0)
		return false;
	*data = (struct slice){comma + 1, (size_t)(url.p + url.n - (comma + 1))};
	return true;
}

/* Text parts become one string. Their escapes are valid where they go, so nothing is decoded. */
static int put_text(struct translation *t, struct json_value content)
{
	if (content.type == JSON_STRING)
		return buf_add_slice(t->out, content.raw);
	buf_add_char(t->out, '"');
	struct json_iter it = json_iter(content);
	struct json_value part, value;
	bool first = true;
	while (json_array_next(&it, &part)) {
		enum part_kind kind = part_classify(part, &value);
		if (kind == PART_OTHER)
			return translate_refuse(t,
				"invalid message format: a content part is neither text nor image");
		if (kind == PART_IMAGE)
			continue;
		if (!first)
			buf_add_str(t->out, "\\n");
		first = false;
		buf_add_slice(t->out, string_inner(value));
	}
	return buf_add_char(t->out, '"');
}

static int put_images(struct translation *t, struct json_value content)
{
	struct json_iter it = json_iter(content);
	struct json_value part, url;
	bool first = true;
	buf_add_str(t->out, ",\"images\":[");
	while (json_array_next(&it, &part)) {
		struct slice data;
		if (part_classify(part, &url) != PART_IMAGE)
			continue;
		if (!image_data(string_inner(url), &data))
			return translate_refuse(
				t, "invalid image input: only base64 data: URIs are supported");
		buf_add_str(t->out, first ? "\"" : ",\"");
		first = false;
		buf_add_slice(t->out, data);
		buf_add_char(t->out, '"');
	}
	return buf_add_char(t->out, ']');
}

/* --- tool calls and their results --- */

static int put_call(struct translation *t, struct json_value value)
{
	struct tool_call call = tool_call_read(value);
	buf_add_char(t->out, '{');
	if (call.id.type == JSON_STRING)
		member_copy(t->out, "id", call.id);
	json_put_key(t->out, "function");
	buf_add_str(t->out, "{\"name\":");
	buf_add_slice(t->out, call.name.type == JSON_STRING ? call.name.raw : SLICE("\"\""));
	buf_add_str(t->out, ",\"arguments\":");
	int rc = arguments_put_object_from(t->out, call.arguments, &t->scratch);
	buf_add_str(t->out, "}}");
	return rc;
}

static int put_calls(
	struct translation *t, struct json_value calls, struct json_value function_call)
{
	struct json_iter it = json_iter(calls);
	struct json_value call;
	int rc = 0;
	buf_add_str(t->out, ",\"tool_calls\":[");
	if (calls.type == JSON_ARRAY) {
		for (bool first = true; rc == 0 && json_array_next(&it, &call); first = false) {
			if (!first)
				buf_add_char(t->out, ',');
			rc = put_call(t, call);
		}
	} else {
		rc = put_call(t, function_call);
	}
	buf_add_char(t->out, ']');
	return rc;
}

/* OpenAI's tool results carry only the call's id; Ollama's templates want the function's name. */
static struct json_value called_name(
	const struct chat_request *r, size_t message, struct json_value id)
{
	struct json_value element;
	size_t oldest = message > CALL_LOOKBACK ? message - CALL_LOOKBACK : 0;
	for (size_t i = message; id.type == JSON_STRING && i-- > oldest;) {
		struct json_iter it = json_iter(r->messages[i].tool_calls);
		while (json_array_next(&it, &element)) {
			struct tool_call call = tool_call_read(element);
			if (call.id.type == JSON_STRING &&
				slice_eq(string_inner(call.id), string_inner(id)))
				return call.name;
		}
	}
	return (struct json_value){.type = JSON_NONE};
}

/* --- messages --- */

static bool has_same_shape(const struct chat_message *m, const struct message_fields *f)
{
	return m->content.type != JSON_ARRAY && is_absent(m->tool_calls) &&
	       f->function_call.type != JSON_OBJECT && f->reasoning_content.type != JSON_STRING &&
	       f->reasoning.type != JSON_STRING && !json_string_is(f->role, "developer") &&
	       m->role != CHAT_TOOL;
}

static void put_role(struct translation *t, const struct chat_message *m, struct json_value role)
{
	buf_add_str(t->out, "{\"role\":");
	if (m->role == CHAT_SYSTEM)
		buf_add_str(t->out, "\"system\"");
	else if (m->role == CHAT_TOOL)
		buf_add_str(t->out, "\"tool\"");
	else
		buf_add_slice(t->out, role.type == JSON_STRING ? role.raw : SLICE("\"user\""));
}

static int put_message(struct translation *t, size_t i)
{
	const struct chat_message *m = &t->r->messages[i];
	struct message_fields f;
	FIELDS_GET(m->raw, {"role", &f.role}, {"function_call", &f.function_call},
		{"thinking", &f.thinking}, {"reasoning_content", &f.reasoning_content},
		{"reasoning", &f.reasoning}, {"tool_call_id", &f.tool_call_id},
		{"tool_name", &f.tool_name}, {"name", &f.name});
	if (has_same_shape(m, &f))
		return buf_add_slice(t->out, m->raw.raw);
	put_role(t, m, f.role);
	json_put_key(t->out, "content");
	int rc = put_text(t, m->content);
	if (rc == 0 && m->images)
		rc = put_images(t, m->content);
	member_copy(t->out, "thinking",
		string_or(f.thinking, string_or(f.reasoning_content, f.reasoning)));
	if (rc == 0 && (value_filled(m->tool_calls) || f.function_call.type == JSON_OBJECT))
		rc = put_calls(t, m->tool_calls, f.function_call);
	if (m->role == CHAT_TOOL) {
		member_copy(t->out, "tool_call_id", f.tool_call_id);
		member_copy(t->out, "tool_name",
			string_or(f.tool_name,
				string_or(f.name, called_name(t->r, i, f.tool_call_id))));
	}
	buf_add_char(t->out, '}');
	return rc;
}

/* --- what stands beside the messages --- */

static void put_tools(struct translation *t)
{
	struct json_value choice, function_call, functions, function;
	FIELDS_GET(t->r->root, {"tool_choice", &choice}, {"function_call", &function_call},
		{"functions", &functions});
	/* Ollama has no tool_choice; "none" is the one value that can be kept all the same. */
	if (json_string_is(choice, "none") ||
		(is_absent(choice) && json_string_is(function_call, "none")))
		return;
	if (!is_absent(t->r->tools)) {
		member_copy(t->out, "tools", t->r->tools);
		return;
	}
	if (functions.type != JSON_ARRAY)
		return;
	json_put_key(t->out, "tools");
	buf_add_char(t->out, '[');
	struct json_iter it = json_iter(functions);
	for (bool first = true; json_array_next(&it, &function); first = false) {
		buf_add_str(t->out, first ? "{\"type\":\"function\",\"function\":"
					  : ",{\"type\":\"function\",\"function\":");
		buf_add_slice(t->out, function.raw);
		buf_add_char(t->out, '}');
	}
	buf_add_char(t->out, ']');
}

static void put_format(struct translation *t, struct json_value response_format)
{
	struct json_value type, schema, json_schema;
	FIELDS_GET(response_format, {"type", &type}, {"schema", &schema},
		{"json_schema", &json_schema});
	if (json_schema.type == JSON_OBJECT)
		schema = json_get(json_schema, "schema");
	if (!json_string_is(type, "json_object") && !json_string_is(type, "json_schema"))
		return;
	if (schema.type == JSON_OBJECT)
		member_copy(t->out, "format", schema);
	else
		buf_add_str(t->out, ",\"format\":\"json\"");
}

/* Ollama refuses levels that it does not know, and before 0.30 it knew none above high. */
static void put_think(struct translation *t, struct json_value think, struct json_value effort,
	struct json_value kwargs)
{
	static const struct rename levels[] = {
		{"none", "false"},
		{"minimal", "\"low\""},
		{"low", "\"low\""},
		{"medium", "\"medium\""},
		{"high", "\"high\""},
		{"xhigh", "\"high\""},
		{"max", "\"high\""},
		{"ultra", "\"high\""},
	};
	bool enabled;
	if (!is_absent(think)) {
		member_copy(t->out, "think", think);
		return;
	}
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (!json_string_is(effort, levels[i].from))
			continue;
		json_put_key(t->out, "think");
		buf_add_str(t->out, levels[i].to);
		return;
	}
	if (kwargs.type == JSON_OBJECT &&
		json_to_bool(json_get(kwargs, "enable_thinking"), &enabled)) {
		json_put_key(t->out, "think");
		buf_add_str(t->out, enabled ? "true" : "false");
	}
}

static void put_options(struct translation *t, int64_t num_ctx)
{
	static const struct rename numbers[] = {
		{"temperature", "temperature"},
		{"top_p", "top_p"},
		{"top_k", "top_k"},
		{"min_p", "min_p"},
		{"typical_p", "typical_p"},
		{"seed", "seed"},
		{"presence_penalty", "presence_penalty"},
		{"frequency_penalty", "frequency_penalty"},
		{"repeat_penalty", "repeat_penalty"},
		{"repeat_last_n", "repeat_last_n"},
	};
	struct json_value stop;
	FIELDS_GET(t->r->root, {"stop", &stop});
	size_t before = t->out->n;
	json_put_key(t->out, "options");
	buf_add_char(t->out, '{');
	size_t empty = t->out->n;
	if (num_ctx > 0)
		buf_printf(t->out, "\"num_ctx\":%" PRId64, num_ctx);
	if (t->r->max_output >= 0) {
		json_put_key(t->out, "num_predict");
		json_put_int(t->out, t->r->max_output);
	}
	translate_numbers(t->out, t->r->root, numbers, sizeof(numbers) / sizeof(numbers[0]));
	if (stop.type == JSON_ARRAY) {
		member_copy(t->out, "stop", stop);
	} else if (stop.type == JSON_STRING) {
		json_put_key(t->out, "stop");
		buf_add_char(t->out, '[');
		buf_add_slice(t->out, stop.raw);
		buf_add_char(t->out, ']');
	}
	if (t->out->n == empty && !buf_error(t->out))
		t->out->n = before;
	else
		buf_add_char(t->out, '}');
}

int translate_to_ollama(struct translation *t, int64_t num_ctx)
{
	const struct chat_request *r = t->r;
	struct json_value response_format, think, effort, reasoning, kwargs, logprobs, top_logprobs;
	FIELDS_GET(r->root, {"response_format", &response_format}, {"think", &think},
		{"reasoning_effort", &effort}, {"reasoning", &reasoning},
		{"chat_template_kwargs", &kwargs}, {"logprobs", &logprobs},
		{"top_logprobs", &top_logprobs});
	if (reasoning.type == JSON_OBJECT)
		effort = string_or(effort, json_get(reasoning, "effort"));
	buf_add_char(t->out, '{');
	member_copy(t->out, "model", r->model);
	json_put_key(t->out, "messages");
	buf_add_char(t->out, '[');
	for (size_t i = 0; i < r->count; i++) {
		if (i)
			buf_add_char(t->out, ',');
		int rc = put_message(t, i);
		if (rc)
			return rc;
	}
	buf_add_str(t->out, r->stream ? "],\"stream\":true" : "],\"stream\":false");
	buf_add_str(t->out, ",\"truncate\":false"); /* too long is an error, not cut in silence */
	put_tools(t);
	put_format(t, response_format);
	put_think(t, think, effort, kwargs);
	member_copy(t->out, "logprobs", logprobs);
	member_copy(t->out, "top_logprobs", top_logprobs);
	put_options(t, num_ctx);
	return buf_add_char(t->out, '}');
}
