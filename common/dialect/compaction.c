#include "common/dialect/compaction.h"

#include "common/dialect/front.h"
#include "common/dialect/pieces.h"

#include <errno.h>
#include <stdio.h>

static int refuse(struct dialect_error *error, const char **code, const char *why, const char *text)
{
	error->status = 400;
	snprintf(error->text, sizeof(error->text), "%s", text);
	*code = why;
	return -EINVAL;
}

static bool compacts(const struct chat_request *r)
{
	return front_of(r->dialect)->compacts;
}

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

/* A call of the last message has no answer yet. */
static bool is_incomplete(const struct chat_request *r)
{
	const struct chat_message *last = r->count ? &r->messages[r->count - 1] : NULL;
	return last && last->role == CHAT_ASSISTANT && last->tool_calls.type == JSON_ARRAY;
}

static int wished_alone(const struct chat_request *r, struct json_value compaction,
	struct json_value management, struct dialect_error *error, const char **code)
{
	bool words = false;
	if (!json_string_is(json_get(compaction, "type"), "summarize"))
		return refuse(error, code, NULL, "compaction.type: Input should be \"summarize\"");
	if (!is_absent(management))
		return refuse(error, code, NULL,
			"compaction: cannot be combined with context_management");
	for (size_t i = 0; i < r->count; i++)
		words = words || (r->messages[i].role != CHAT_SYSTEM &&
					 r->messages[i].chars > r->messages[i].thinking);
	if (!words)
		return refuse(error, code, COMPACTION_NOTHING,
			"compaction: messages holds nothing to summarize");
	if (is_incomplete(r))
		return refuse(error, code, COMPACTION_INCOMPLETE,
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
		return refuse(error, code, NULL,
			"context_management.edits: trigger should be {\"type\": "
			"\"input_tokens\", \"value\": a number of tokens}");
	return 0;
}

int compaction_wished(const struct chat_request *r, struct compaction_wish *out,
	struct dialect_error *error, const char **code)
{
	struct json_value compaction, management;
	*out = (struct compaction_wish){0};
	*code = NULL;
	if (!compacts(r) || dialect_counts(r->dialect))
		return 0;
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

bool compaction_find(const struct chat_request *r, struct compaction_found *out, int *rc,
	struct dialect_error *error, const char **code)
{
	struct json_iter messages = json_iter(r->messages_array), blocks;
	struct json_value message, content, block;
	bool found = false;
	*rc = 0;
	*code = NULL;
	if (!compacts(r) || !memmem(r->body.p, r->body.n, "\"compaction\"", 12))
		return false;
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
		*rc = refuse(error, code, COMPACTION_MISPLACED,
			"messages: a compaction block cannot stand in a system message");
	else if (found && !value_filled(out->content))
		*rc = refuse(error, code, NULL, "messages: a compaction block's content is empty");
	return found;
}

/* --- bodies --- */

static void put_blocks(struct compaction_messages *m, const char *role, struct json_iter blocks)
{
	struct json_value block;
	while (json_array_next(&blocks, &block)) {
		compaction_block(m, role);
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
		compaction_close(m);
		buf_add_str(m->out, m->some ? "," : "");
		buf_add_slice(m->out, message.raw);
	} else if (content.type == JSON_STRING) {
		compaction_block(m, role);
		buf_add_str(m->out, "{\"type\":\"text\",\"text\":");
		buf_add_slice(m->out, content.raw);
		buf_add_char(m->out, '}');
	} else {
		put_blocks(m, role, json_iter(content));
		compaction_close(m);
	}
	m->some = true;
}

int compaction_apply(const struct chat_request *r, const struct compaction_found *f,
	struct slice text, struct buf *out)
{
	struct slice list = r->messages_array.raw;
	struct compaction_messages m = {.out = out};
	struct json_iter next = f->next;
	struct json_value message;
	buf_add(out, r->body.p, (size_t)(list.p + 1 - r->body.p));
	compaction_expand(&m, text);
	put_blocks(&m, role_of(f->message), f->behind);
	bool first = json_array_next(&next, &message);
	if (first)
		put_first(&m, message);
	compaction_close(&m);
	while (first && json_array_next(&next, &message)) {
		buf_add_char(out, ',');
		buf_add_slice(out, message.raw);
	}
	buf_add_char(out, ']');
	const char *behind = list.p + list.n;
	buf_add(out, behind, (size_t)(r->body.p + r->body.n - behind));
	return buf_error(out);
}

int compaction_put(
	const struct chat_request *r, struct slice text, struct slice signature, struct buf *out)
{
	struct slice list = r->messages_array.raw;
	struct compaction_messages m = {.out = out};
	const char *at = r->root.raw.p + 1, *behind = list.p + list.n;
	buf_add(out, r->body.p, (size_t)(at - r->body.p));
	json_put_key(out, COMPACTION_MEMBER);
	buf_add_str(out, "{\"content\":");
	json_put_string(out, text);
	buf_add_str(out, ",\"signature\":");
	json_put_string(out, signature);
	buf_add_str(out, "},");
	buf_add(out, at, (size_t)(list.p + 1 - at));
	compaction_expand(&m, text);
	compaction_close(&m);
	buf_add_char(out, ']');
	buf_add(out, behind, (size_t)(r->body.p + r->body.n - behind));
	return buf_error(out);
}

int compaction_error(
	enum dialect d, int status, struct slice message, const char *code, struct buf *out)
{
	size_t begin = out->n;
	int rc = dialect_error_body(d, status, message, out);
	/* {"type":"error","error":{...}}: into the inner one */
	if (rc || !code || out->n < begin + 2)
		return rc;
	out->n -= 2;
	return buf_printf(out, ",\"details\":{\"error_code\":\"%s\"}}}", code);
}
