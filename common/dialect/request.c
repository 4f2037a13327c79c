#include "common/dialect/request.h"

#include "common/dialect/pieces.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_MESSAGES 16

struct body_fields {
	struct json_value model, stream, messages, prompt, system, images, tools, functions, format,
		response_format, options, keep_alive, max_tokens, max_completion_tokens, raw,
		suffix, context, template, n;
};

static int refuse(struct dialect_error *error, int status, const char *text)
{
	error->status = status;
	snprintf(error->text, sizeof(error->text), "%s", text);
	return -EINVAL;
}

static enum chat_role role_of(struct json_value role)
{
	static const struct {
		const char *name;
		enum chat_role role;
	} names[] = {
		{"user", CHAT_USER},
		{"assistant", CHAT_ASSISTANT},
		{"tool", CHAT_TOOL},
		{"system", CHAT_SYSTEM},
		{"developer", CHAT_SYSTEM},
		{"function", CHAT_TOOL},
	};
	/* Ollama lowers the case of roles. */
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (slice_ieq(string_inner(role), slice_str(names[i].name)) ||
			json_string_is(role, names[i].name))
			return names[i].role;
	}
	return CHAT_USER;
}

/* Counts what the model will read of a value: a string's text, anything else as it is written.
 * Its code points. */
static size_t count(struct chat_request *r, struct json_value v, struct buf *scratch)
{
	if (is_absent(v))
		return 0;
	struct slice text = v.type == JSON_STRING ? string_inner(v) : v.raw;
	if (v.type == JSON_STRING && text.n && memchr(text.p, '\\', text.n)) {
		buf_clear(scratch);
		/* Without memory the escapes count as they stand: an estimate is no reason to fail.
		 */
		if (json_string_decode(v, scratch) == 0)
			text = buf_slice(scratch);
	}
	token_census_add(&r->census, text);
	r->text_bytes += text.n;
	return utf8_chars(text);
}

static size_t count_string(struct chat_request *r, struct json_value v, struct buf *scratch)
{
	return v.type == JSON_STRING ? count(r, v, scratch) : 0;
}

static void count_content(struct chat_request *r, struct chat_message *m, struct buf *scratch)
{
	m->chars += count_string(r, m->content, scratch);
	struct json_iter it = json_iter(m->content);
	struct json_value part, value;
	while (json_array_next(&it, &part)) {
		switch (part_classify(part, &value)) {
		case PART_TEXT:
			m->chars += count_string(r, value, scratch);
			break;
		case PART_IMAGE:
			m->images++;
			break;
		case PART_OTHER:
			m->others++;
			break;
		}
	}
}

static void count_call(struct chat_request *r, struct chat_message *m, struct json_value value,
	struct buf *scratch)
{
	struct tool_call call = tool_call_read(value);
	m->chars += count_string(r, call.name, scratch);
	m->chars += count(r, call.arguments, scratch);
}

static void parse_message(struct chat_request *r, struct json_value value, struct chat_message *m,
	struct buf *scratch)
{
	struct json_value role, thinking, reasoning_content, reasoning, images, function_call, call;
	*m = (struct chat_message){.raw = value};
	r->other_case |= FIELDS_GET(value, {"role", &role}, {"content", &m->content},
		{"tool_calls", &m->tool_calls}, {"thinking", &thinking},
		{"reasoning_content", &reasoning_content}, {"reasoning", &reasoning},
		{"images", &images}, {"function_call", &function_call},
		{"tool_call_id", &m->call_id});
	m->role = role_of(role);
	m->images = (unsigned)array_count(images);
	count_content(r, m, scratch);
	m->thinking = count_string(
		r, string_or(thinking, string_or(reasoning_content, reasoning)), scratch);
	m->chars += m->thinking;
	if (m->tool_calls.type == JSON_ARRAY) {
		struct json_iter it = json_iter(m->tool_calls);
		while (json_array_next(&it, &call))
			count_call(r, m, call, scratch);
	} else if (function_call.type == JSON_OBJECT) {
		count_call(r, m, function_call, scratch);
	}
}

static struct chat_message *add_message(struct chat_request *r, size_t *room)
{
	if (r->count == *room) {
		size_t more = *room ? *room * 2 : FIRST_MESSAGES;
		struct chat_message *p = realloc(r->messages, more * sizeof(*p));
		if (!p)
			return NULL;
		r->messages = p;
		*room = more;
	}
	return &r->messages[r->count++];
}

static int parse_messages(struct chat_request *r, struct json_value array, struct buf *scratch,
	struct dialect_error *error)
{
	bool ollama = dialect_is_ollama(r->dialect);
	if (is_absent(array) && ollama)
		return 0;
	if (is_absent(array))
		return refuse(error, 400, "'messages' is required");
	if (array.type != JSON_ARRAY)
		return refuse(error, 400,
			ollama ? "json: cannot unmarshal value into Go struct field "
				 "ChatRequest.messages of type []api.Message"
			       : "Expected 'messages' to be an array");
	r->messages_array = array;
	struct json_iter it = json_iter(array);
	struct json_value value;
	size_t room = 0;
	while (json_array_next(&it, &value)) {
		if (value.type != JSON_OBJECT)
			return refuse(error, 400,
				ollama ? "json: cannot unmarshal value into Go struct field "
					 "ChatRequest.messages of type api.Message"
				       : "Expected 'messages' to hold objects");
		if (r->count == CHAT_MAX_MESSAGES)
			return refuse(error, 400, "too many messages");
		struct chat_message *m = add_message(r, &room);
		if (!m)
			return -ENOMEM;
		parse_message(r, value, m, scratch);
	}
	if (r->count == 0 && !ollama)
		return refuse(error, 400, "[] is too short - 'messages'");
	return 0;
}

static int parse_generate(struct chat_request *r, const struct body_fields *f, struct buf *scratch,
	struct dialect_error *error)
{
	if (!is_absent(f->prompt) && f->prompt.type != JSON_STRING)
		return refuse(error, 400,
			"json: cannot unmarshal value into Go struct field "
			"GenerateRequest.prompt of type string");
	if (!is_absent(f->system) && f->system.type != JSON_STRING)
		return refuse(error, 400,
			"json: cannot unmarshal value into Go struct field "
			"GenerateRequest.system of type string");
	r->messages = calloc(2, sizeof(*r->messages));
	if (!r->messages)
		return -ENOMEM;
	if (value_filled(f->system))
		r->messages[r->count++] = (struct chat_message){.role = CHAT_SYSTEM,
			.raw = f->system,
			.content = f->system,
			.chars = count(r, f->system, scratch)};
	if (f->prompt.type == JSON_STRING)
		r->messages[r->count++] = (struct chat_message){.role = CHAT_USER,
			.raw = f->prompt,
			.content = f->prompt,
			.images = (unsigned)array_count(f->images),
			.chars = count(r, f->prompt, scratch)};
	return 0;
}

/* keep_alive: a number of seconds or a Go duration; zero unloads. */
static bool is_zero_duration(struct json_value v)
{
	double seconds;
	if (json_to_double(v, &seconds))
		return seconds == 0;
	return json_string_is(v, "0") || json_string_is(v, "0s") || json_string_is(v, "0m") ||
	       json_string_is(v, "0h");
}

static int64_t limit_of(struct json_value v)
{
	int64_t n;
	return json_to_int(v, &n) && n >= 0 ? n : -1;
}

/* All that is not one message's. */
static void count_rest(struct chat_request *r, const struct body_fields *f, struct buf *scratch)
{
	count(r, f->tools, scratch);
	if (dialect_is_ollama(r->dialect)) {
		if (value_filled(f->format))
			count(r, f->format, scratch);
	} else {
		count(r, f->functions, scratch);
		count(r, f->response_format, scratch);
	}
	token_census_messages(&r->census, r->count);
	for (size_t i = 0; i < r->count; i++)
		r->census.images += r->messages[i].images;
}

static void note_limits(struct chat_request *r, const struct body_fields *f)
{
	if (dialect_is_ollama(r->dialect)) {
		struct json_value num_ctx, num_predict;
		FIELDS_GET(f->options, {"num_ctx", &num_ctx}, {"num_predict", &num_predict});
		r->max_output = limit_of(num_predict);
		int64_t n = limit_of(num_ctx);
		r->num_ctx = n > 0 ? n : 0;
		r->tools_bytes = f->tools.raw.n + (value_filled(f->format) ? f->format.raw.n : 0);
	} else {
		r->max_output =
			limit_of(is_absent(f->max_completion_tokens) ? f->max_tokens
								     : f->max_completion_tokens);
		r->tools_bytes = f->tools.raw.n + f->functions.raw.n + f->response_format.raw.n;
	}
}

static bool is_condensable(const struct chat_request *r, const struct body_fields *f)
{
	bool raw = false;
	int64_t n = 1;
	json_to_bool(f->raw, &raw);
	json_to_int(f->n, &n);
	if (r->is_load || r->count == 0 || r->messages[r->count - 1].role == CHAT_ASSISTANT ||
		n > 1)
		return false;
	if (r->dialect != DIALECT_OLLAMA_GENERATE)
		return true;
	return !raw && !value_filled(f->suffix) && !value_filled(f->context) &&
	       !value_filled(f->template);
}

static int check_model(const struct chat_request *r, struct dialect_error *error)
{
	/* llama-server serves one model and asks for no name. */
	if (!dialect_is_ollama(r->dialect) || value_filled(r->model))
		return 0;
	if (r->dialect == DIALECT_OLLAMA_GENERATE)
		return refuse(error, 404, "model '' not found");
	return refuse(error, 400, "model is required");
}

static int parse_fields(struct chat_request *r, struct dialect_error *error)
{
	struct body_fields f;
	r->other_case = FIELDS_GET(r->root, {"model", &f.model}, {"stream", &f.stream},
		{"messages", &f.messages}, {"prompt", &f.prompt}, {"system", &f.system},
		{"images", &f.images}, {"tools", &f.tools}, {"functions", &f.functions},
		{"format", &f.format}, {"response_format", &f.response_format},
		{"options", &f.options}, {"keep_alive", &f.keep_alive},
		{"max_tokens", &f.max_tokens}, {"max_completion_tokens", &f.max_completion_tokens},
		{"raw", &f.raw}, {"suffix", &f.suffix}, {"context", &f.context},
		{"template", &f.template}, {"n", &f.n});
	bool generate = r->dialect == DIALECT_OLLAMA_GENERATE;
	if (f.model.type == JSON_STRING)
		r->model = f.model;
	int rc = check_model(r, error);
	if (rc)
		return rc;
	r->tools = f.tools;
	r->stream = dialect_is_ollama(r->dialect);
	json_to_bool(f.stream, &r->stream);
	struct buf scratch;
	buf_init(&scratch, 0);
	rc = generate ? parse_generate(r, &f, &scratch, error)
		      : parse_messages(r, f.messages, &scratch, error);
	if (rc == 0)
		count_rest(r, &f, &scratch);
	buf_free(&scratch);
	if (rc)
		return rc;
	r->is_load = generate ? !value_filled(f.prompt) : r->count == 0;
	r->is_unload = r->is_load && is_zero_duration(f.keep_alive);
	note_limits(r, &f);
	r->condensable = is_condensable(r, &f);
	return 0;
}

int chat_request_parse(enum dialect dialect, struct slice body, struct chat_request *out,
	struct dialect_error *error)
{
	struct json_error where = {0};
	*out = (struct chat_request){.dialect = dialect, .body = body, .max_output = -1};
	if (dialect == DIALECT_OLLAMA_OTHER || dialect == DIALECT_OPENAI_OTHER)
		return refuse(error, 404, "no chat request");
	if (body.n == 0)
		return refuse(error, 400, "missing request body");
	if (json_parse(body, JSON_MAX_DEPTH, &out->root, &where)) {
		error->status = 400;
		snprintf(error->text, sizeof(error->text),
			"invalid JSON in the request body at byte %zu: %s", where.offset,
			where.what ? where.what : "not JSON");
		return -EINVAL;
	}
	if (out->root.type != JSON_OBJECT)
		return refuse(error, 400, "the request body is no JSON object");
	int rc = parse_fields(out, error);
	if (rc)
		chat_request_fini(out);
	return rc;
}

/* Makes the keys of what Ollama reads into structs lower case: not those of its maps (options, the
 * arguments of a call, the parameters of a tool). The body keeps its length. */
static void lower_keys(char *body, const char *from, struct json_value v)
{
	static const char *const structs[] = {
		"messages", "content", "image_url", "tool_calls", "function", "tools"};
	struct json_iter it = json_iter(v);
	struct json_value key, value;
	if (v.type == JSON_ARRAY)
		while (json_array_next(&it, &value))
			lower_keys(body, from, value);
	while (v.type == JSON_OBJECT && json_object_next(&it, &key, &value)) {
		struct slice inner = string_inner(key);
		char *p = body + (inner.p - from);
		for (size_t i = 0; i < inner.n && !memchr(inner.p, '\\', inner.n); i++)
			if (p[i] >= 'A' && p[i] <= 'Z')
				p[i] = (char)(p[i] | 0x20);
		for (size_t i = 0; i < sizeof(structs) / sizeof(*structs); i++)
			if (json_string_is(key, structs[i]))
				lower_keys(body, from, value);
	}
}

void chat_body_lower_keys(struct buf *body, struct json_value root)
{
	lower_keys(body->p, body->p, root);
}

int chat_request_take(enum dialect dialect, struct buf *body, struct chat_request *out,
	struct dialect_error *error)
{
	int rc = chat_request_parse(dialect, buf_slice(body), out, error);
	if (rc == -EINVAL && out->root.type == JSON_NONE) {
		bool mended = json_mend_body(body);
		if (json_mend_tail(body) || mended)
			rc = chat_request_parse(dialect, buf_slice(body), out, error);
	}
	if (!out->other_case || rc == -ENOMEM)
		return rc;
	chat_body_lower_keys(body, out->root);
	chat_request_fini(out);
	return chat_request_parse(dialect, buf_slice(body), out, error);
}

void chat_request_fini(struct chat_request *r)
{
	free(r->messages);
	r->messages = NULL;
	r->count = 0;
}
