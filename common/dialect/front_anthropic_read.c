/* Anthropic's /v1/messages: a body as a view (docs/anthropic.md). */
#include "common/dialect/front_anthropic.h"
#include "common/dialect/pieces.h"
#include "common/dialect/reader.h"

#include <errno.h>
#include <stdio.h>

/* --- blocks --- */

static enum anthropic_block image_of(struct json_value block, struct json_value *value)
{
	struct json_value source, data, url;
	FIELDS_GET(block, {"source", &source});
	FIELDS_GET(source, {"data", &data}, {"url", &url});
	*value = string_or(data, url);
	return value->type == JSON_STRING ? BLOCK_IMAGE : BLOCK_OTHER; /* a file of its store */
}

/* What a search of the client's has found: a tool that is offered anyway. */
static enum anthropic_block reference_of(struct json_value block, struct json_value *value)
{
	*value = json_get(block, "tool_name");
	return value->type == JSON_STRING ? BLOCK_TEXT : BLOCK_OTHER;
}

static enum anthropic_block document_of(struct json_value block, struct json_value *value)
{
	struct json_value source = json_get(block, "source");
	if (!json_string_is(json_get(source, "type"), "text"))
		return BLOCK_OTHER;
	*value = json_get(source, "data");
	return value->type == JSON_STRING ? BLOCK_TEXT : BLOCK_OTHER;
}

enum anthropic_block anthropic_block_of(struct json_value block, struct json_value *value)
{
	struct json_value type, text, thinking;
	FIELDS_GET(block, {"type", &type}, {"text", &text}, {"thinking", &thinking});
	*value = (struct json_value){.type = JSON_NONE};
	if (json_string_is(type, "text") && text.type == JSON_STRING) {
		*value = text;
		return BLOCK_TEXT;
	}
	if (json_string_is(type, "thinking") && thinking.type == JSON_STRING) {
		*value = thinking;
		return BLOCK_THINKING;
	}
	if (json_string_is(type, "redacted_thinking") || json_string_is(type, "compaction") ||
		json_string_is(type, "fallback"))
		return BLOCK_NOTHING;
	if (json_string_is(type, "tool_use"))
		return BLOCK_CALL;
	if (json_string_is(type, "tool_result"))
		return BLOCK_RESULT;
	if (json_string_is(type, "image"))
		return image_of(block, value);
	if (json_string_is(type, "tool_reference"))
		return reference_of(block, value);
	return json_string_is(type, "document") ? document_of(block, value) : BLOCK_OTHER;
}

static bool has_block(struct json_value content, enum anthropic_block kind)
{
	struct json_iter it = json_iter(content);
	struct json_value block, value;
	if (content.type != JSON_ARRAY)
		return false;
	while (json_array_next(&it, &block))
		if (anthropic_block_of(block, &value) == kind)
			return true;
	return false;
}

/* --- the walk --- */

void anthropic_walk_begin(struct anthropic_walk *w, struct json_value messages)
{
	*w = (struct anthropic_walk){.messages = json_iter(messages)};
}

static void take_block(struct anthropic_piece *at, struct json_value block)
{
	struct json_value value, content;
	at->raw = block;
	at->role = CHAT_USER;
	at->call_id = (struct json_value){.type = JSON_NONE};
	switch (anthropic_block_of(block, &value)) {
	case BLOCK_RESULT:
		at->role = CHAT_TOOL;
		FIELDS_GET(block, {"content", &content}, {"tool_use_id", &at->call_id});
		at->content = content;
		break;
	case BLOCK_TEXT:
		at->content = value;
		break;
	default:
		at->content = (struct json_value){.type = JSON_NONE};
	}
}

bool anthropic_next(struct anthropic_walk *w, struct anthropic_piece *out)
{
	struct anthropic_piece *at = &w->at;
	struct json_value next, role;
	if (at->split && json_array_next(&w->blocks, &next)) {
		take_block(at, next);
		*out = *at;
		return true;
	}
	if (!json_array_next(&w->messages, &next))
		return false;
	size_t number = at->message.type == JSON_NONE ? 0 : at->number + 1;
	*at = (struct anthropic_piece){.message = next, .raw = next, .number = number};
	FIELDS_GET(next, {"role", &role}, {"content", &at->content});
	at->role = json_string_is(role, "assistant") ? CHAT_ASSISTANT
		   : json_string_is(role, "system")  ? CHAT_SYSTEM
						     : CHAT_USER;
	at->split = at->role == CHAT_USER && has_block(at->content, BLOCK_RESULT);
	if (at->split) {
		w->blocks = json_iter(at->content);
		json_array_next(&w->blocks, &next); /* there is one */
		take_block(at, next);
	}
	*out = *at;
	return true;
}

/* --- the view --- */

/* A document's name and what is said about it are sent, too (front_anthropic_order.c). */
static size_t count_text(
	struct request_reader *in, struct json_value block, struct json_value value)
{
	struct json_value type, title, context;
	FIELDS_GET(block, {"type", &type}, {"title", &title}, {"context", &context});
	size_t chars = reader_count_string(in, value);
	if (json_string_is(type, "document"))
		chars += reader_count_string(in, title) + reader_count_string(in, context);
	return chars;
}

static void count_block(struct request_reader *in, struct chat_message *m, struct json_value block)
{
	struct json_value value, name, input;
	switch (anthropic_block_of(block, &value)) {
	case BLOCK_TEXT:
		m->chars += count_text(in, block, value);
		break;
	case BLOCK_THINKING:
		m->thinking += reader_count_string(in, value);
		break;
	case BLOCK_CALL:
		FIELDS_GET(block, {"name", &name}, {"input", &input});
		m->chars += reader_count_string(in, name) + reader_count(in, input);
		break;
	case BLOCK_IMAGE:
		m->images++;
		break;
	case BLOCK_NOTHING:
	case BLOCK_RESULT: /* one in the wrong place is told of when it is ordered */
		break;
	case BLOCK_OTHER:
		m->others++;
	}
}

static void count_content(struct request_reader *in, struct chat_message *m)
{
	struct json_iter it = json_iter(m->content);
	struct json_value block;
	m->chars += reader_count_string(in, m->content);
	while (json_array_next(&it, &block))
		count_block(in, m, block);
	m->chars += m->thinking;
}

static int add_message(struct request_reader *in, const struct anthropic_piece *p)
{
	struct chat_message *m = reader_add(in);
	if (!m)
		return in->r->count == CHAT_MAX_MESSAGES ? -EINVAL : -ENOMEM;
	*m = (struct chat_message){
		.role = p->role, .raw = p->raw, .content = p->content, .call_id = p->call_id};
	in->system = p->role == CHAT_SYSTEM;
	if (p->split && p->role == CHAT_USER)
		count_block(in, m, p->raw);
	else
		count_content(in, m);
	in->system = false;
	if (p->role == CHAT_ASSISTANT && has_block(p->content, BLOCK_CALL))
		m->tool_calls = p->content;
	return 0;
}

static const char *wrong_message(struct json_value message)
{
	struct json_value role, content;
	FIELDS_GET(message, {"role", &role}, {"content", &content});
	if (message.type != JSON_OBJECT)
		return "messages: each must be an object";
	if (!json_string_is(role, "user") && !json_string_is(role, "assistant") &&
		!json_string_is(role, "system"))
		return "messages: role must be \"user\", \"assistant\" or \"system\"";
	if (content.type != JSON_STRING && content.type != JSON_ARRAY)
		return "messages: content must be a string or a list of blocks";
	return NULL;
}

static int read_messages(struct request_reader *in, struct json_value messages)
{
	struct json_iter it = json_iter(messages);
	struct anthropic_walk walk;
	struct anthropic_piece piece;
	struct json_value message;
	int rc = 0;
	if (messages.type != JSON_ARRAY)
		return reader_refuse(in, 400,
			is_absent(messages) ? "messages: Field required"
					    : "messages: Input should be a list");
	if (!value_filled(messages))
		return reader_refuse(in, 400, "messages: at least one message is required");
	while (json_array_next(&it, &message)) {
		const char *wrong = wrong_message(message);
		if (wrong)
			return reader_refuse(in, 400, wrong);
	}
	in->r->messages_array = messages;
	anthropic_walk_begin(&walk, messages);
	while (rc == 0 && anthropic_next(&walk, &piece))
		rc = add_message(in, &piece);
	return rc;
}

static int read_system(struct request_reader *in, struct json_value system)
{
	if (is_absent(system))
		return 0;
	if (system.type != JSON_STRING && system.type != JSON_ARRAY)
		return reader_refuse(in, 400, "system: must be a string or a list of text blocks");
	return add_message(in,
		&(struct anthropic_piece){.role = CHAT_SYSTEM, .raw = system, .content = system});
}

/* --- tools --- */

/* Tools that Anthropic's own servers run, or whose description only its models know. */
static int refuse_tool(struct request_reader *in, struct json_value name, struct json_value type)
{
	struct slice n = string_beginning(name), t = string_beginning(type);
	char text[DIALECT_ERROR_TEXT_BYTES];
	snprintf(text, sizeof(text),
		"tools: \"%.*s\" of type \"%.*s\" is not available here: this server runs no tools "
		"of its own, and a local model knows only tools with an input_schema",
		(int)n.n, n.p, (int)t.n, t.p);
	return reader_refuse(in, 400, text);
}

static int read_tools(struct request_reader *in, struct json_value tools)
{
	struct json_iter it = json_iter(tools);
	struct json_value tool, name, type, schema;
	if (is_absent(tools))
		return 0;
	if (tools.type != JSON_ARRAY)
		return reader_refuse(in, 400, "tools: Input should be a list");
	while (json_array_next(&it, &tool)) {
		FIELDS_GET(tool, {"name", &name}, {"type", &type}, {"input_schema", &schema});
		if (schema.type == JSON_OBJECT && value_filled(name) && name.type == JSON_STRING)
			continue;
		if (type.type == JSON_STRING && !json_string_is(type, "custom"))
			return refuse_tool(in, name, type);
		return reader_refuse(in, 400, "tools: each needs a name and an input_schema");
	}
	in->r->tools = tools;
	return 0;
}

/* --- the whole --- */

/* Anthropic's packages use one by themselves where they run tools, and go on without it where a server says so. */
static int refuse_thread(struct request_reader *in)
{
	reader_refuse(in, 400, "thread: no conversation is kept here; send all of its messages");
	in->error->code = "thread_unsupported_request";
	return -EINVAL;
}

static int read_body(struct request_reader *in)
{
	struct chat_request *r = in->r;
	struct json_value system, messages, tools, config, format, max_tokens, servers, container,
		thread;
	FIELDS_GET(r->root, {"system", &system}, {"messages", &messages}, {"tools", &tools},
		{"output_config", &config}, {"max_tokens", &max_tokens}, {"mcp_servers", &servers},
		{"container", &container}, {"thread", &thread});
	FIELDS_GET(config, {"format", &format});
	r->max_output = reader_limit(max_tokens);
	if (value_filled(servers) || !is_absent(container))
		return reader_refuse(
			in, 400, "mcp_servers, container: this server runs no tools of its own");
	if (!is_absent(thread))
		return refuse_thread(in);
	int rc = read_system(in, system);
	if (rc == 0)
		rc = read_messages(in, messages);
	if (rc == 0)
		rc = read_tools(in, tools);
	if (rc)
		return rc;
	reader_count_tools(in, r->tools);
	reader_count(in, format);
	r->tools_bytes = r->tools.raw.n + format.raw.n;
	r->condensable = reader_is_open(r);
	return 0;
}

int anthropic_read_count(struct request_reader *in)
{
	return read_body(in);
}

int anthropic_read(struct request_reader *in)
{
	struct json_value max_tokens = json_get(in->r->root, "max_tokens");
	if (is_absent(max_tokens))
		return reader_refuse(in, 400, "max_tokens: Field required");
	if (reader_limit(max_tokens) < 1)
		return reader_refuse(
			in, 400, "max_tokens: Input should be a whole number, 1 or more");
	return read_body(in);
}
