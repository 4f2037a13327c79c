/* OpenAI's /v1/responses: items as the messages of a chat (docs/responses.md). */
#include "common/dialect/back.h"
#include "common/dialect/compaction.h"
#include "common/dialect/front_responses.h"
#include "common/dialect/front_responses_talk.h"
#include "common/dialect/pieces.h"

#include <errno.h>
#include <stdio.h>

static int take_user(struct talk *w, struct json_value content)
{
	struct json_iter it = json_iter(content);
	struct json_value part;
	int rc = 0;
	talk_end_turn(w);
	talk_show_pictures(w);
	if (w->keeping)
		buf_add_str(&w->kept, w->kept.n ? "," : "");
	if (w->keeping)
		buf_add_slice(&w->kept, content.raw);
	struct buf *out = talk_begin_message(w, "user");
	buf_clear(&w->scratch);
	if (talk_add_texts(&w->scratch, content)) {
		talk_put_quoted(out, &w->scratch);
		return buf_add_char(out, '}');
	}
	buf_add_char(out, '[');
	while (rc == 0 && json_array_next(&it, &part))
		rc = talk_put_part(w, part, out);
	buf_add_str(out, "]}");
	return rc;
}

/* In the middle of a conversation it stays where it is: many templates take a system message only at
 * the beginning, and Ollama moves it there, where it voids the prefix cache. */
static int take_system(struct talk *w, struct json_value content)
{
	if (!w->begun && w->text.n == 0 && w->thinking.n == 0 && w->calls.n == 0)
		return talk_add_texts(&w->system, content)
			       ? 0
			       : talk_refuse(w, "a system message has nothing but text");
	buf_clear(&w->scratch);
	buf_add_str(&w->scratch, "<system-reminder>");
	if (!talk_add_texts(&w->scratch, content))
		return talk_refuse(w, "a system message has nothing but text");
	talk_add_line(&w->scratch, SLICE("</system-reminder>"));
	talk_end_turn(w);
	talk_show_pictures(w);
	talk_put_quoted(talk_begin_message(w, "user"), &w->scratch);
	return buf_add_char(&w->out, '}');
}

static int take_message(struct talk *w, struct json_value item)
{
	struct json_value role, content;
	FIELDS_GET(item, {"role", &role}, {"content", &content});
	if (content.type != JSON_STRING && content.type != JSON_ARRAY)
		return talk_refuse(w, "content must be a string or a list of parts");
	if (json_string_is(role, "user"))
		return take_user(w, content);
	if (json_string_is(role, "system") || json_string_is(role, "developer"))
		return take_system(w, content);
	if (!json_string_is(role, "assistant"))
		return talk_refuse(w, "role must be user, assistant, system or developer");
	talk_show_pictures(w);
	return talk_add_texts(&w->text, content) ? 0
						 : talk_refuse(w, "an answer has nothing but text");
}

/* --- what the model did --- */

static int take_reasoning(struct talk *w, struct json_value item)
{
	struct json_value content, summary;
	FIELDS_GET(item, {"content", &content}, {"summary", &summary});
	talk_show_pictures(w);
	talk_add_texts(&w->thinking, value_filled(content) ? content : summary);
	return 0;
}

/* arguments: JSON, or a string of it. */
static int add_call(
	struct talk *w, struct json_value item, struct json_value name, struct json_value arguments)
{
	struct json_value call_id, id, space;
	struct buf *out = &w->calls;
	FIELDS_GET(item, {"call_id", &call_id}, {"id", &id}, {"namespace", &space});
	call_id = string_or(call_id, id);
	if (call_id.type != JSON_STRING || name.type != JSON_STRING)
		return talk_refuse(w, "a call needs a call_id and a name");
	talk_show_pictures(w);
	if (out->n)
		buf_add_char(out, ',');
	buf_add_str(out, "{\"id\":");
	buf_add_slice(out, call_id.raw);
	buf_add_str(out, ",\"type\":\"function\",\"function\":{\"name\":");
	responses_put_name(out, space, name);
	buf_add_str(out, ",\"arguments\":");
	if (arguments.type == JSON_STRING)
		buf_add_slice(out, arguments.raw);
	else
		json_put_string(out, arguments.type == JSON_OBJECT ? arguments.raw : SLICE("{}"));
	return buf_add_str(out, "}}");
}

static int take_call(struct talk *w, struct json_value item)
{
	struct json_value name, arguments;
	FIELDS_GET(item, {"name", &name}, {"arguments", &arguments});
	return add_call(w, item, name, arguments);
}

static int take_custom(struct talk *w, struct json_value item)
{
	struct json_value name, input;
	FIELDS_GET(item, {"name", &name}, {"input", &input});
	buf_clear(&w->scratch);
	buf_add_str(&w->scratch, "{\"" RESPONSES_INPUT "\":");
	buf_add_slice(&w->scratch, input.type == JSON_STRING ? input.raw : SLICE("\"\""));
	buf_add_char(&w->scratch, '}');
	return add_call(w, item, name, (struct json_value){JSON_OBJECT, buf_slice(&w->scratch)});
}

/* Of another server, earlier in the conversation: the tool itself is not offered here. */
static int take_shell(struct talk *w, struct json_value item)
{
	struct json_value name = {JSON_STRING, SLICE("\"local_shell\"")};
	return add_call(w, item, name, json_get(item, "action"));
}

/* A search of the client's own; a server's is left out with what it found. */
static int take_search(struct talk *w, struct json_value item)
{
	struct json_value name = {JSON_STRING, SLICE("\"" RESPONSES_SEARCH "\"")};
	return responses_is_clients(item) ? add_call(w, item, name, json_get(item, "arguments"))
					  : 0;
}

static int add_result(struct talk *w, struct json_value output)
{
	struct json_iter it = json_iter(output);
	struct json_value part, text;
	int rc = 0;
	buf_clear(&w->scratch);
	if (output.type == JSON_STRING)
		buf_add_slice(&w->scratch, string_inner(output));
	else if (output.type != JSON_ARRAY && !is_absent(output))
		return talk_refuse(w, "output must be a string or a list of parts");
	while (rc == 0 && output.type == JSON_ARRAY && json_array_next(&it, &part)) {
		if (talk_text_of(part, &text))
			talk_add_line(&w->scratch, string_inner(text));
		else
			rc = talk_put_part(w, part, &w->pictures);
	}
	if (w->scratch.n == 0 && w->pictures.n && output.type == JSON_ARRAY)
		buf_add_str(&w->scratch, "(a picture: see below)");
	return rc;
}

static int take_result(struct talk *w, struct json_value item)
{
	struct json_value call_id, id, output;
	FIELDS_GET(item, {"call_id", &call_id}, {"id", &id}, {"output", &output});
	call_id = string_or(call_id, id);
	if (call_id.type != JSON_STRING)
		return talk_refuse(w, "an output needs a call_id");
	talk_end_turn(w);
	int rc = add_result(w, output);
	talk_put_result(w, call_id);
	return rc;
}

/* --- all --- */

/* What another server did for the model, and only it can read. */
static int take_nothing(struct talk *w, struct json_value item)
{
	(void)w;
	(void)item;
	return 0;
}

/* It stands where it stood, as a message that compaction_responses.c reads. */
static int take_compaction(struct talk *w, struct json_value item)
{
	struct json_value content = json_get(item, "encrypted_content");
	if (content.type != JSON_STRING || !value_filled(content))
		return talk_refuse(w, "a compaction needs its encrypted_content");
	talk_end_turn(w);
	talk_show_pictures(w);
	struct buf *out = talk_begin_message(w, "user");
	buf_add_str(out, "[{\"type\":\"compaction\",\"encrypted_content\":");
	buf_add_slice(out, content.raw);
	return buf_add_str(out, "}]}");
}

static int take_trigger(struct talk *w, struct json_value item)
{
	(void)item;
	w->triggered = true;
	return 0;
}

static int take_reference(struct talk *w, struct json_value item)
{
	(void)item;
	return talk_refuse(w,
		"no response is stored here that an item could be taken from: send the "
		"items themselves (store: false)");
}

static int take_item(struct talk *w, struct json_value item)
{
	static const struct {
		const char *type;
		int (*take)(struct talk *w, struct json_value item);
	} kinds[] = {
		{"message", take_message},
		{"function_call", take_call},
		{"function_call_output", take_result},
		{"reasoning", take_reasoning},
		{"custom_tool_call", take_custom},
		{"custom_tool_call_output", take_result},
		{"local_shell_call", take_shell},
		{"local_shell_call_output", take_result},
		{"item_reference", take_reference},
		{"compaction", take_compaction},
		{"compaction_summary", take_compaction}, /* its older name */
		{"compaction_trigger", take_trigger},
		{"web_search_call", take_nothing},
		{"file_search_call", take_nothing},
		{"image_generation_call", take_nothing},
		{"code_interpreter_call", take_nothing},
		{"tool_search_call", take_search},
		{"tool_search_output", talk_take_found},
		{"additional_tools", talk_take_tools},
		{"configuration_update", talk_take_update},
		{"agent_message", talk_take_agent},
		{"mcp_list_tools", take_nothing},
	};
	struct json_value type = json_get(item, "type");
	if (item.type != JSON_OBJECT)
		return talk_refuse(w, "an item must be an object");
	if (w->triggered)
		return talk_refuse(w, "nothing may stand behind a compaction_trigger");
	if (is_absent(type))
		return take_message(w, item);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (json_string_is(type, kinds[i].type))
			return kinds[i].take(w, item);
	return talk_refuse_type(w, "items", type);
}

static void put_asides(struct talk *w, size_t instructed)
{
	if (instructed)
		buf_printf(&w->out, ",\"" RESPONSES_INSTRUCTIONS "\":%zu", instructed);
	if (w->triggered)
		buf_add_str(&w->out, ",\"" RESPONSES_TRIGGER "\":true");
	if (!w->keeping)
		return;
	buf_add_str(&w->out, ",\"" RESPONSES_KEPT "\":[");
	buf_add_slice(&w->out, buf_slice(&w->kept));
	buf_add_char(&w->out, ']');
}

static int take_items(struct talk *w, struct json_value input)
{
	struct json_iter it = json_iter(input);
	struct json_value item;
	int rc = 0;
	if (input.type == JSON_STRING)
		rc = take_user(w, input);
	for (; rc == 0 && input.type == JSON_ARRAY && json_array_next(&it, &item); w->item++)
		rc = take_item(w, item);
	talk_end_turn(w);
	talk_show_pictures(w);
	return rc;
}

/* All members but those that messages are made of, and the messages, which are written first: items change
 * members, too. */
static int put_body(struct talk *w, struct json_value root)
{
	const char *taken[8 + 1 + TALK_MEMBERS] = {"input", "instructions", "messages",
		COMPACTION_MEMBER, RESPONSES_INSTRUCTIONS, RESPONSES_TRIGGER, RESPONSES_KEPT,
		RESPONSES_STOOD};
	struct json_value instructions, input;
	FIELDS_GET(root, {"instructions", &instructions}, {"input", &input});
	if (value_filled(instructions))
		talk_add_texts(&w->system, instructions);
	size_t instructed = w->system.n;
	int rc = take_items(w, input);
	struct buf messages = w->out;
	w->out = (struct buf){.max = messages.max, .error = messages.error};
	buf_add_char(&w->out, '{');
	rc = rc ? rc : talk_put_members(w, root, taken);
	json_put_key(&w->out, "messages");
	buf_add_char(&w->out, '[');
	buf_add_slice(&w->out, buf_slice(&messages));
	buf_add_char(&w->out, ']');
	buf_free(&messages);
	put_asides(w, instructed);
	buf_add_char(&w->out, '}');
	return rc;
}

/* What asks for something that is kept here, goes on when its client has left, or nobody does. NULL: nothing. */
static const char *wrong(struct json_value root)
{
	struct json_value input, previous, conversation, background, prompt, moderation, cache;
	FIELDS_GET(root, {"input", &input}, {"previous_response_id", &previous},
		{"conversation", &conversation}, {"background", &background}, {"prompt", &prompt},
		{"moderation", &moderation}, {"prompt_cache_options", &cache});
	if (!is_absent(previous))
		return "previous_response_id: no response is stored here; send all items of the "
		       "conversation as input";
	if (!is_absent(conversation))
		return "conversation: none is stored here; send all its items as input";
	if (background.type == JSON_TRUE)
		return "background: a response is not made in the background here";
	if (prompt.type == JSON_OBJECT)
		return "prompt: no prompts are stored here; send instructions and input";
	if (!is_absent(moderation))
		return "moderation: this server moderates nothing";
	if (json_get(cache, "prewarm").type == JSON_TRUE)
		return "prompt_cache_options: prewarm is not possible here, an answer is always "
		       "written";
	if (is_absent(input))
		return "Missing required parameter: 'input'.";
	if (input.type != JSON_STRING && input.type != JSON_ARRAY)
		return "input: must be a string or a list of items";
	return value_filled(input) ? NULL : "input: must not be empty";
}

/* 0, or what `out` failed of: over its cap is the client's fault. */
static int outcome(struct talk *w, int rc)
{
	struct buf *bufs[] = TALK_BUFS(w);
	for (size_t i = 0; rc == 0 && i < sizeof(bufs) / sizeof(bufs[0]); i++)
		rc = buf_error(bufs[i]);
	rc = rc ? rc : buf_error(&w->out);
	if (rc != -E2BIG)
		return rc;
	w->e->status = 413;
	snprintf(w->e->text, sizeof(w->e->text), "the request body is too large");
	return -EINVAL;
}

static int mend(struct buf *body, struct json_value root, bool keeping, struct dialect_error *e)
{
	struct talk w = {.e = e, .keeping = keeping};
	struct buf *bufs[] = TALK_BUFS(&w);
	const char *why = wrong(root);
	if (why)
		return order_refuse(e, why);
	buf_init(&w.out, body->max * 2); /* 0: none, as before */
	for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
		buf_init(bufs[i], body->max * 2);
	int rc = outcome(&w, put_body(&w, root));
	for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
		buf_free(bufs[i]);
	buf_free(rc ? &w.out : body);
	if (rc == 0)
		*body = w.out;
	return rc;
}

int responses_mend(struct buf *body, struct json_value root, struct dialect_error *e)
{
	return mend(body, root, false, e);
}

int responses_mend_keeping(struct buf *body, struct json_value root, struct dialect_error *e)
{
	return mend(body, root, true, e);
}
