/* Compaction as OpenAI's /v1/responses has it: messages as a text's sections, and sections as messages again. */
#include "common/dialect/compaction_responses.h"

#include "common/dialect/front_responses.h"
#include "common/dialect/pieces.h"

#include <stdio.h>

/* --- messages as sections --- */

/* The instructions stand in front of what else the system says, and come with each request. */
static void put_developer(const struct chat_request *r, const struct chat_message *m,
	struct buf *out, struct buf *scratch)
{
	struct slice inner = string_inner(m->content);
	int64_t skip = 0;
	json_to_int(json_get(r->root, RESPONSES_INSTRUCTIONS), &skip);
	if (skip > 0)
		skip += 2; /* \n */
	if (skip < 0 || (size_t)skip >= inner.n)
		return;
	struct buf quoted;
	buf_init(&quoted, 0);
	buf_add_char(&quoted, '"');
	buf_add(&quoted, inner.p + skip, inner.n - (size_t)skip);
	buf_add_char(&quoted, '"');
	buf_clear(scratch);
	json_string_decode((struct json_value){JSON_STRING, buf_slice(&quoted)}, scratch);
	if (buf_error(&quoted))
		scratch->error = buf_error(&quoted);
	compaction_put_section(out, "system", buf_slice(scratch));
	buf_free(&quoted);
}

static void put_turn(const struct chat_message *m, struct buf *out, struct buf *scratch)
{
	struct json_iter it = json_iter(m->tool_calls);
	struct chat_call call;
	buf_clear(scratch);
	chat_content_text(m->content, scratch);
	if (scratch->n)
		compaction_put_section(out, "assistant", buf_slice(scratch));
	while (m->tool_calls.type == JSON_ARRAY && chat_call_next(&it, &call)) {
		buf_clear(scratch);
		if (call.arguments.type == JSON_STRING)
			json_string_decode(call.arguments, scratch);
		compaction_put_call(out, call.id, call.name, buf_slice(scratch));
	}
}

void responses_put_message(
	const struct chat_request *r, size_t i, struct buf *out, struct buf *scratch)
{
	const struct chat_message *m = &r->messages[i];
	if (m->role == CHAT_SYSTEM) {
		put_developer(r, m, out, scratch);
	} else if (m->role == CHAT_ASSISTANT) {
		put_turn(m, out, scratch);
	} else if (m->role == CHAT_TOOL) {
		compaction_put_result(out, m, scratch);
	} else {
		buf_clear(scratch);
		chat_content_text(m->content, scratch);
		compaction_put_pictures(scratch, m->images + m->others);
		compaction_put_section(out, "user", buf_slice(scratch));
	}
}

/* --- sections as messages --- */

void responses_close_message(struct compaction_messages *m)
{
	if (m->blocks)
		buf_add_char(m->out, ']');
	if (m->role[0])
		buf_add_char(m->out, '}');
	m->blocks = false;
	m->role[0] = '\0';
}

/* Up to its content. */
void responses_begin_message(struct compaction_messages *m, const char *role)
{
	responses_close_message(m);
	buf_printf(m->out, "%s{\"role\":\"%s\",\"content\":", m->some ? "," : "", role);
	snprintf(m->role, sizeof(m->role), "%s", role);
	m->some = true;
}

/* What the system says first is in the message at the beginning. */
void responses_put_words(struct compaction_messages *m, const char *role, struct slice body)
{
	bool system = strcmp(role, "system") == 0;
	if (system && !m->begun)
		return;
	responses_begin_message(m, system ? "user" : role);
	buf_add_str(m->out, system ? "\"<system-reminder>\\n" : "\"");
	json_put_escaped(m->out, body);
	buf_add_str(m->out, system ? "\\n</system-reminder>\"" : "\"");
}

void responses_put_call(
	struct compaction_messages *m, struct slice id, struct slice name, struct slice body)
{
	if (strcmp(m->role, "assistant") != 0) {
		responses_begin_message(m, "assistant");
		buf_add_str(m->out, "\"\"");
	}
	buf_add_str(m->out, m->blocks ? ",{\"id\":" : ",\"tool_calls\":[{\"id\":");
	m->blocks = true;
	compaction_put_json(m->out, id, JSON_STRING, "\"\"");
	buf_add_str(m->out, ",\"type\":\"function\",\"function\":{\"name\":");
	compaction_put_json(m->out, name, JSON_STRING, "\"\"");
	buf_add_str(m->out, ",\"arguments\":");
	json_put_string(m->out, body);
	buf_add_str(m->out, "}}");
}

void responses_put_result(
	struct compaction_messages *m, struct slice id, struct slice body, bool failed)
{
	(void)failed; /* Anthropic's; its text says it */
	responses_begin_message(m, "tool");
	json_put_string(m->out, body);
	json_put_key(m->out, "tool_call_id");
	compaction_put_json(m->out, id, JSON_STRING, "\"\"");
}
