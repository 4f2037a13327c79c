/* Reading a body into a view: what the front dialects share. */
#include "common/dialect/reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_MESSAGES 16

int reader_refuse(struct request_reader *in, int status, const char *text)
{
	in->error->status = status;
	in->error->code = NULL;
	snprintf(in->error->text, sizeof(in->error->text), "%s", text);
	return -EINVAL;
}

enum chat_role reader_role(struct json_value role)
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

size_t reader_count(struct request_reader *in, struct json_value v)
{
	if (is_absent(v) || !in->counts)
		return 0;
	struct slice text = v.type == JSON_STRING ? string_inner(v) : v.raw;
	if (v.type == JSON_STRING && text.n && memchr(text.p, '\\', text.n)) {
		buf_clear(&in->scratch);
		/* Without memory the escapes count as they stand: an estimate is no reason
		 * to fail. */
		if (json_string_decode(v, &in->scratch) == 0)
			text = buf_slice(&in->scratch);
	}
	struct token_census census = {0};
	token_census_add(&census, text);
	token_census_sum(&in->r->census, &census);
	if (in->system)
		token_census_sum(&in->r->system_census, &census);
	in->r->text_bytes += text.n;
	return utf8_chars(text);
}

size_t reader_count_string(struct request_reader *in, struct json_value v)
{
	return v.type == JSON_STRING ? reader_count(in, v) : 0;
}

void reader_count_tools(struct request_reader *in, struct json_value tools)
{
	struct chat_request *r = in->r;
	if (is_absent(tools) || !in->counts)
		return;
	token_census_add(&r->tools_census, tools.raw);
	token_census_sum(&r->census, &r->tools_census);
	r->text_bytes += tools.raw.n;
}

static void count_content(struct request_reader *in, struct chat_message *m)
{
	m->chars += reader_count_string(in, m->content);
	struct json_iter it = json_iter(m->content);
	struct json_value part, value;
	while (json_array_next(&it, &part)) {
		switch (part_classify(part, &value)) {
		case PART_TEXT:
			m->chars += reader_count_string(in, value);
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

static void count_call(struct request_reader *in, struct chat_message *m, struct json_value value)
{
	struct tool_call call = tool_call_read(value);
	m->chars += reader_count_string(in, call.name);
	m->chars += reader_count(in, call.arguments);
}

static void parse_message(
	struct request_reader *in, struct json_value value, struct chat_message *m)
{
	struct json_value role, thinking, reasoning_content, reasoning, images, function_call, call;
	*m = (struct chat_message){.raw = value};
	in->r->other_case |= FIELDS_GET(value, {"role", &role}, {"content", &m->content},
		{"tool_calls", &m->tool_calls}, {"thinking", &thinking},
		{"reasoning_content", &reasoning_content}, {"reasoning", &reasoning},
		{"images", &images}, {"function_call", &function_call},
		{"tool_call_id", &m->call_id});
	m->role = reader_role(role);
	m->images = (unsigned)array_count(images);
	in->system = m->role == CHAT_SYSTEM;
	if (is_absent(m->content)) /* as it is sent (front_openai.c) */
		m->chars += reader_count_string(in, json_get(value, "refusal"));
	count_content(in, m);
	m->thinking = reader_count_string(
		in, string_or(thinking, string_or(reasoning_content, reasoning)));
	m->chars += m->thinking;
	if (m->tool_calls.type == JSON_ARRAY) {
		struct json_iter it = json_iter(m->tool_calls);
		while (json_array_next(&it, &call))
			count_call(in, m, call);
	} else if (function_call.type == JSON_OBJECT) {
		count_call(in, m, function_call);
	}
	in->system = false;
}

struct chat_message *reader_add(struct request_reader *in)
{
	struct chat_request *r = in->r;
	if (r->count == CHAT_MAX_MESSAGES) {
		reader_refuse(in, 400, "too many messages");
		return NULL;
	}
	if (r->count == in->room) {
		size_t more = in->room ? in->room * 2 : FIRST_MESSAGES;
		struct chat_message *p = realloc(r->messages, more * sizeof(*p));
		if (!p)
			return NULL;
		r->messages = p;
		in->room = more;
	}
	return &r->messages[r->count++];
}

/* Why reader_add() gave nothing. */
static int no_message(const struct request_reader *in)
{
	return in->r->count == CHAT_MAX_MESSAGES ? -EINVAL : -ENOMEM;
}

int reader_add_string(struct request_reader *in, enum chat_role role, struct json_value string)
{
	struct chat_message *m = reader_add(in);
	if (!m)
		return no_message(in);
	in->system = role == CHAT_SYSTEM;
	*m = (struct chat_message){
		.role = role, .raw = string, .content = string, .chars = reader_count(in, string)};
	in->system = false;
	return 0;
}

int reader_add_messages(
	struct request_reader *in, struct json_value array, const struct reader_words *words)
{
	struct json_iter it = json_iter(array);
	struct json_value value;
	if (array.type != JSON_ARRAY)
		return reader_refuse(in, 400, words->no_array);
	in->r->messages_array = array;
	while (json_array_next(&it, &value)) {
		if (value.type != JSON_OBJECT)
			return reader_refuse(in, 400, words->no_object);
		struct chat_message *m = reader_add(in);
		if (!m)
			return no_message(in);
		parse_message(in, value, m);
	}
	return 0;
}

int64_t reader_limit(struct json_value v)
{
	int64_t n;
	return json_to_int(v, &n) && n >= 0 ? n : -1;
}

bool reader_is_open(const struct chat_request *r)
{
	return !r->is_load && r->count && r->messages[r->count - 1].role != CHAT_ASSISTANT;
}
