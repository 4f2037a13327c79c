/* Compaction as Anthropic's API has it: blocks of a message (docs/anthropic.md#compaction). */
#include "common/dialect/compaction_form.h"

#include "common/dialect/front_anthropic.h"
#include "common/dialect/pieces.h"

#include <stdio.h>

/* --- what is wished --- */

static struct json_value edit_of(struct json_value management)
{
	struct json_iter it = json_iter(json_get(management, "edits"));
	struct json_value edit, found = {.type = JSON_NONE};
	while (json_array_next(&it, &edit))
		if (json_string_is(json_get(edit, "type"), "compact_20260112"))
			found = edit;
	return found;
}

static int wished_alone(const struct chat_request *r, struct json_value compaction,
	struct json_value management, struct dialect_error *error, const char **code)
{
	if (!json_string_is(json_get(compaction, "type"), "summarize"))
		return compaction_refuse(
			error, code, NULL, "compaction.type: Input should be \"summarize\"");
	if (!is_absent(management))
		return compaction_refuse(error, code, NULL,
			"compaction: cannot be combined with context_management");
	if (!compaction_has_words(r))
		return compaction_refuse(error, code, COMPACTION_NOTHING,
			"compaction: messages holds nothing to summarize");
	if (compaction_is_incomplete(r))
		return compaction_refuse(error, code, COMPACTION_INCOMPLETE,
			"compaction: the last turn has a tool_use without its tool_result");
	return 0;
}

static int wished_edit(struct json_value edit, struct compaction_wish *out,
	struct dialect_error *error, const char **code)
{
	struct json_value trigger, type, value, pause;
	FIELDS_GET(edit, {"trigger", &trigger}, {"pause_after_compaction", &pause});
	FIELDS_GET(trigger, {"type", &type}, {"value", &value});
	out->edit = true;
	out->trigger = COMPACTION_TRIGGER;
	out->pause = pause.type == JSON_TRUE;
	if (is_absent(trigger))
		return 0;
	if (!json_string_is(type, "input_tokens") || !json_to_int(value, &out->trigger) ||
		out->trigger < 1)
		return compaction_refuse(error, code, NULL,
			"context_management.edits: trigger should be {\"type\": "
			"\"input_tokens\", \"value\": a number of tokens}");
	return 0;
}

static int wished(const struct chat_request *r, struct compaction_wish *out,
	struct dialect_error *error, const char **code)
{
	struct json_value compaction, management;
	FIELDS_GET(r->root, {"compaction", &compaction}, {"context_management", &management});
	if (!is_absent(compaction)) {
		out->alone = true;
		return wished_alone(r, compaction, management, error, code);
	}
	struct json_value edit = edit_of(management);
	return edit.type == JSON_OBJECT ? wished_edit(edit, out, error, code) : 0;
}

/* --- a block that is there --- */

static bool block_with_content(struct json_value block, struct compaction_found *f)
{
	struct json_value type, content, signature;
	FIELDS_GET(block, {"type", &type}, {"content", &content}, {"signature", &signature});
	if (!json_string_is(type, "compaction") || content.type != JSON_STRING)
		return false; /* null: a compaction that failed */
	f->content = content;
	f->signature = signature;
	return true;
}

static bool find(const struct chat_request *r, struct compaction_found *out, int *rc,
	struct dialect_error *error, const char **code)
{
	struct json_iter messages = json_iter(r->messages_array), blocks;
	struct json_value message, content, block;
	bool found = false;
	while (json_array_next(&messages, &message)) {
		content = json_get(message, "content");
		blocks = json_iter(content);
		while (content.type == JSON_ARRAY && json_array_next(&blocks, &block)) {
			if (!block_with_content(block, out))
				continue;
			found = true;
			out->message = message;
			out->behind = blocks;
			out->next = messages;
		}
	}
	if (found && json_string_is(json_get(out->message, "role"), "system"))
		*rc = compaction_refuse(error, code, COMPACTION_MISPLACED,
			"messages: a compaction block cannot stand in a system message");
	else if (found && !value_filled(out->content))
		*rc = compaction_refuse(
			error, code, NULL, "messages: a compaction block's content is empty");
	return found;
}

static int open_block(const struct compaction_found *f, struct buf *content, struct slice *text,
	struct buf *signature)
{
	json_string_decode(f->content, content);
	if (json_is(f->signature, JSON_STRING))
		json_string_decode(f->signature, signature);
	*text = buf_slice(content);
	return buf_error(content) ? buf_error(content) : buf_error(signature);
}

static int disown(bool altered, struct dialect_error *error, const char **code)
{
	if (altered)
		return compaction_refuse(error, code, COMPACTION_CONTENT_MISMATCH,
			"messages: the compaction block's content is not what its signature was "
			"made for");
	return compaction_refuse(error, code, COMPACTION_SIGNATURE_INVALID,
		"messages: the compaction block's signature does not verify: it was not made "
		"here, or its key is gone");
}

/* --- messages as sections --- */

static void put_string(
	struct buf *out, const char *head, struct json_value string, struct buf *scratch)
{
	buf_clear(scratch);
	json_string_decode(string, scratch);
	compaction_put_section(out, head, buf_slice(scratch));
}

static void put_call(struct buf *out, struct json_value block)
{
	struct json_value id, name, input;
	FIELDS_GET(block, {"id", &id}, {"name", &name}, {"input", &input});
	compaction_put_call(out, id, name, input.type == JSON_OBJECT ? input.raw : SLICE("{}"));
}

static void put_picture(struct buf *out, const char *role)
{
	compaction_put_section(out, role, SLICE("[1 picture left out]"));
}

static void put_content(
	struct buf *out, const char *role, struct json_value content, struct buf *scratch)
{
	struct json_iter it = json_iter(content);
	struct json_value block, value;
	if (content.type == JSON_STRING)
		put_string(out, role, content, scratch);
	while (content.type == JSON_ARRAY && json_array_next(&it, &block))
		switch (anthropic_block_of(block, &value)) {
		case BLOCK_TEXT:
			put_string(out, role, value, scratch);
			break;
		case BLOCK_CALL:
			put_call(out, block);
			break;
		case BLOCK_IMAGE:
			put_picture(out, role);
			break;
		default: /* thinking, and what nobody here can read */
			break;
		}
}

/* One block of several messages' is no list. */
static void put_message(
	const struct chat_request *r, size_t i, struct buf *out, struct buf *scratch)
{
	const struct chat_message *m = &r->messages[i];
	const char *role = m->role == CHAT_ASSISTANT ? "assistant"
			   : m->role == CHAT_SYSTEM  ? "system"
						     : "user";
	if (m->role == CHAT_TOOL)
		compaction_put_result(out, m, scratch);
	else if (m->content.type == JSON_NONE && m->images)
		put_picture(out, role);
	else
		put_content(out, role, m->content, scratch);
}

/* --- sections as messages --- */

/* The system prompt stands beside the list. */
static void put_head(const struct chat_request *r, struct compaction_messages *m)
{
	(void)r;
	(void)m;
}

static void close_message(struct compaction_messages *m)
{
	if (m->role[0])
		buf_add_str(m->out, "]}");
	m->role[0] = '\0';
}

/* A block for that role follows: its JSON is the caller's to append. */
static void begin_block(struct compaction_messages *m, const char *role)
{
	if (strcmp(m->role, role) != 0) {
		close_message(m);
		buf_printf(m->out, "%s{\"role\":\"%s\",\"content\":[", m->some ? "," : "", role);
		snprintf(m->role, sizeof(m->role), "%s", role);
		m->some = true;
		m->blocks = false;
	}
	if (m->blocks)
		buf_add_char(m->out, ',');
	m->blocks = true;
}

static void words(struct compaction_messages *m, const char *role, struct slice body)
{
	begin_block(m, role);
	buf_add_str(m->out, "{\"type\":\"text\",\"text\":");
	json_put_string(m->out, body);
	buf_add_char(m->out, '}');
}

static void call(
	struct compaction_messages *m, struct slice id, struct slice name, struct slice body)
{
	begin_block(m, "assistant");
	buf_add_str(m->out, "{\"type\":\"tool_use\",\"id\":");
	compaction_put_json(m->out, id, JSON_STRING, "\"\"");
	buf_add_str(m->out, ",\"name\":");
	compaction_put_json(m->out, name, JSON_STRING, "\"\"");
	buf_add_str(m->out, ",\"input\":");
	compaction_put_json(m->out, body, JSON_OBJECT, "{}");
	buf_add_char(m->out, '}');
}

static void result(struct compaction_messages *m, struct slice id, struct slice body, bool failed)
{
	begin_block(m, "user");
	buf_add_str(m->out, "{\"type\":\"tool_result\",\"tool_use_id\":");
	compaction_put_json(m->out, id, JSON_STRING, "\"\"");
	buf_add_str(m->out, failed ? ",\"is_error\":true,\"content\":" : ",\"content\":");
	json_put_string(m->out, body);
	buf_add_char(m->out, '}');
}

/* --- bodies --- */

static void put_block(struct slice text, struct slice signature, struct buf *out)
{
	json_put_key(out, "content");
	json_put_string(out, text);
	json_put_key(out, "signature");
	json_put_string(out, signature);
}

static void put_blocks(struct compaction_messages *m, const char *role, struct json_iter blocks)
{
	struct json_value block;
	while (json_array_next(&blocks, &block)) {
		begin_block(m, role);
		buf_add_slice(m->out, block.raw);
	}
}

static const char *role_of(struct json_value message)
{
	struct json_value role = json_get(message, "role");
	return json_string_is(role, "assistant") ? "assistant"
	       : json_string_is(role, "system")	 ? "system"
						 : "user";
}

/* The message that follows belongs to the one that is open where both are of one role: chat templates
 * want them to alternate. */
static void put_first(struct compaction_messages *m, struct json_value message)
{
	struct json_value content = json_get(message, "content");
	const char *role = role_of(message);
	if (strcmp(m->role, role) != 0) {
		close_message(m);
		buf_add_str(m->out, m->some ? "," : "");
		buf_add_slice(m->out, message.raw);
	} else if (content.type == JSON_STRING) {
		begin_block(m, role);
		buf_add_str(m->out, "{\"type\":\"text\",\"text\":");
		buf_add_slice(m->out, content.raw);
		buf_add_char(m->out, '}');
	} else {
		put_blocks(m, role, json_iter(content));
		close_message(m);
	}
	m->some = true;
}

static int apply(const struct chat_request *r, const struct compaction_found *f, struct slice text,
	struct buf *out)
{
	struct slice list = r->messages_array.raw;
	struct compaction_messages m = {.form = &compaction_anthropic, .out = out};
	struct json_iter next = f->next;
	struct json_value message;
	buf_add(out, r->body.p, (size_t)(list.p + 1 - r->body.p));
	compaction_expand(&m, text);
	put_blocks(&m, role_of(f->message), f->behind);
	bool first = json_array_next(&next, &message);
	if (first)
		put_first(&m, message);
	close_message(&m);
	while (first && json_array_next(&next, &message)) {
		buf_add_char(out, ',');
		buf_add_slice(out, message.raw);
	}
	buf_add_char(out, ']');
	const char *behind = list.p + list.n;
	buf_add(out, behind, (size_t)(r->body.p + r->body.n - behind));
	return buf_error(out);
}

/* {"type":"error","error":{...}}: into the inner one. */
static int name_error(const char *code, struct buf *out)
{
	out->n -= 2;
	return buf_printf(out, ",\"details\":{\"error_code\":\"%s\"}}}", code);
}

const struct compaction_form compaction_anthropic = {
	.wished = wished,
	.find = find,
	.open = open_block,
	.disown = disown,
	.apply = apply,
	.name_error = name_error,
	.put_message = put_message,
	.put_block = put_block,
	.put_head = put_head,
	.words = words,
	.call = call,
	.result = result,
	.close = close_message,
};
