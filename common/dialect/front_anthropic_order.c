/* Anthropic's /v1/messages: a view as an order (docs/anthropic.md). */
#include "common/dialect/front_anthropic.h"
#include "common/dialect/pieces.h"

#include <errno.h>

/* Words of our own between the client's. */
#define OWN(text)                                                                                  \
	(struct json_value)                                                                        \
	{                                                                                          \
		JSON_STRING, SLICE("\"" text "\"")                                                 \
	}

/* --- parts --- */

static int add_part(struct chat_order *o, enum order_part_kind kind, struct json_value value)
{
	struct order_part *p = order_add_part(o, kind);
	if (!p)
		return -ENOMEM;
	p->value = value;
	return 0;
}

static int add_image(struct chat_order *o, struct json_value block, struct json_value value)
{
	struct json_value source = json_get(block, "source");
	struct order_part *p = order_add_part(o, ORDER_IMAGE);
	if (!p)
		return -ENOMEM;
	p->value = value;
	p->bare = json_get(source, "data").type == JSON_STRING;
	return 0;
}

static int add_thinking(struct chat_order *o, struct json_value block, struct json_value value)
{
	struct order_part *p = order_add_part(o, ORDER_THINKING);
	if (!p)
		return -ENOMEM;
	p->value = value;
	p->id = json_get(block, "signature");
	return 0;
}

static int add_call(struct chat_order *o, struct json_value block)
{
	struct order_part *p = order_add_part(o, ORDER_CALL);
	if (!p)
		return -ENOMEM;
	FIELDS_GET(block, {"id", &p->id}, {"name", &p->name}, {"input", &p->arguments});
	return 0;
}

/* A document has a name, and what is said about it. */
static int add_text(struct chat_order *o, struct json_value block, struct json_value value)
{
	struct json_value title = {.type = JSON_NONE}, context = title;
	int rc = 0;
	if (json_string_is(json_get(block, "type"), "document"))
		FIELDS_GET(block, {"title", &title}, {"context", &context});
	if (title.type == JSON_STRING)
		rc = add_part(o, ORDER_TEXT, title);
	if (rc == 0 && context.type == JSON_STRING)
		rc = add_part(o, ORDER_TEXT, context);
	return rc ? rc : add_part(o, ORDER_TEXT, value);
}

static int add_block(struct chat_order *o, struct json_value block)
{
	struct json_value value;
	switch (anthropic_block_of(block, &value)) {
	case BLOCK_TEXT:
		return add_text(o, block, value);
	case BLOCK_THINKING:
		return add_thinking(o, block, value);
	case BLOCK_CALL:
		return add_call(o, block);
	case BLOCK_IMAGE:
		return add_image(o, block, value);
	case BLOCK_NOTHING:
		return 0;
	case BLOCK_RESULT:
	case BLOCK_OTHER:
		break;
	}
	return add_part(o, ORDER_OTHER, value);
}

static int add_content(struct chat_order *o, struct json_value content)
{
	struct json_iter it = json_iter(content);
	struct json_value block;
	int rc = 0;
	if (content.type == JSON_STRING)
		return add_part(o, ORDER_TEXT, content);
	while (rc == 0 && json_array_next(&it, &block))
		rc = add_block(o, block);
	return rc;
}

/* --- a tool's result --- */

static bool begins(struct json_value string, const char *words)
{
	struct slice s = string_inner(string);
	return s.n >= strlen(words) && memcmp(s.p, words, strlen(words)) == 0;
}

/* No backend has a word for a tool that failed: the text says so, unless it does already. */
static int add_failure(struct chat_order *o, struct json_value block)
{
	struct json_value content, first = {.type = JSON_NONE}, is_error, element;
	FIELDS_GET(block, {"content", &content}, {"is_error", &is_error});
	struct json_iter it = json_iter(content);
	if (is_error.type != JSON_TRUE)
		return 0;
	o->messages[o->count - 1].is_error = true;
	if (content.type == JSON_STRING)
		first = content;
	else if (json_array_next(&it, &element))
		anthropic_block_of(element, &first);
	if (begins(first, "Error") || begins(first, "error") || begins(first, "<tool_use_error>"))
		return 0;
	return add_part(o, ORDER_TEXT, OWN("Error:"));
}

/* Its text; pictures stand behind the results, since templates have no place for them in one. */
static int order_result(struct chat_order *o, const struct anthropic_piece *piece)
{
	struct json_iter it = json_iter(piece->content);
	struct json_value block, value;
	struct order_message *m = order_add_message(o, CHAT_TOOL);
	bool pictures = false, text = false;
	if (!m)
		return -ENOMEM;
	m->call_id = piece->call_id;
	int rc = add_failure(o, piece->raw);
	if (piece->content.type == JSON_STRING)
		return rc ? rc : add_part(o, ORDER_TEXT, piece->content);
	while (rc == 0 && json_array_next(&it, &block)) {
		bool image = anthropic_block_of(block, &value) == BLOCK_IMAGE;
		pictures |= image;
		text |= !image;
		rc = image ? 0 : add_block(o, block);
	}
	if (rc == 0 && pictures && !text)
		rc = add_part(o, ORDER_TEXT, OWN("(a picture: see below)"));
	return rc;
}

/* The pictures of all results in a message, as part of what the user says behind them. */
static int order_pictures(struct chat_order *o, struct json_value message)
{
	struct json_iter blocks = json_iter(json_get(message, "content"));
	struct json_value block, value;
	int rc = 0;
	while (rc == 0 && json_array_next(&blocks, &block)) {
		if (anthropic_block_of(block, &value) != BLOCK_RESULT)
			continue;
		struct json_iter it = json_iter(json_get(block, "content"));
		while (rc == 0 && json_array_next(&it, &block)) {
			if (anthropic_block_of(block, &value) != BLOCK_IMAGE)
				continue;
			if (o->messages[o->count - 1].role != CHAT_USER &&
				!order_add_message(o, CHAT_USER))
				return -ENOMEM;
			rc = add_image(o, block, value);
		}
	}
	return rc;
}

/* --- messages --- */

/* A message of a string alone is the same in all APIs. */
static void mark_raw(struct order_message *m, const struct anthropic_piece *p)
{
	struct json_iter it = json_iter(p->raw);
	struct json_value key, value;
	size_t members = 0;
	while (json_object_next(&it, &key, &value))
		members++;
	if (p->content.type == JSON_STRING && members == 2)
		m->raw_in = API_OLLAMA | API_OPENAI;
}

/* What a system message says in the middle of a conversation: many templates take one only at the
 * beginning, and Ollama moves it there, where it voids the prefix cache. */
static int order_reminder(struct chat_order *o, const struct anthropic_piece *p)
{
	if (!order_add_message(o, CHAT_USER))
		return -ENOMEM;
	int rc = add_part(o, ORDER_TEXT, OWN("<system-reminder>"));
	if (rc == 0)
		rc = add_content(o, p->content);
	return rc ? rc : add_part(o, ORDER_TEXT, OWN("</system-reminder>"));
}

/* From a system message on another effort may count. */
static void order_effort(struct chat_order *o, const struct anthropic_piece *p)
{
	struct json_value effort = json_get(json_get(p->raw, "output_config"), "effort");
	if (effort.type == JSON_STRING && o->thinking == SWITCH_WISHED)
		o->effort = effort;
}

static int order_whole(struct chat_order *o, const struct anthropic_piece *p)
{
	if (p->role == CHAT_SYSTEM)
		order_effort(o, p);
	if (p->role == CHAT_SYSTEM && !value_filled(p->content))
		return 0;
	if (p->role == CHAT_SYSTEM && o->count)
		return order_reminder(o, p);
	struct order_message *m = order_add_message(o, p->role);
	if (!m)
		return -ENOMEM;
	m->raw = p->raw;
	mark_raw(m, p);
	return add_content(o, p->content);
}

struct ordering {
	struct chat_order *o;
	struct anthropic_piece before; /* the last one that is in the order; none yet: not split */
	const char *shown;	       /* the message whose pictures are */
};

/* Before what follows a message's results (NULL: nothing does). */
static int show_pictures(struct ordering *w, const struct anthropic_piece *next)
{
	const struct anthropic_piece *before = &w->before;
	const char *message = before->message.raw.p;
	bool go_on = next && next->role == CHAT_TOOL && next->number == before->number;
	if (!before->split || before->role != CHAT_TOOL || go_on || w->shown == message)
		return 0;
	w->shown = message;
	return order_pictures(w->o, before->message);
}

static int order_piece(struct ordering *w, const struct anthropic_piece *p)
{
	struct chat_order *o = w->o;
	if (!p->split)
		return order_whole(o, p);
	if (p->role == CHAT_TOOL)
		return order_result(o, p);
	bool goes_on = w->before.split && w->before.number == p->number &&
		       o->messages[o->count - 1].role == CHAT_USER;
	if (!goes_on && !order_add_message(o, CHAT_USER))
		return -ENOMEM;
	return add_block(o, p->raw);
}

static int order_messages(struct chat_order *o, struct json_value messages)
{
	struct ordering w = {.o = o};
	struct anthropic_walk walk;
	struct anthropic_piece p;
	int rc = 0;
	anthropic_walk_begin(&walk, messages);
	while (rc == 0 && anthropic_next(&walk, &p)) {
		rc = show_pictures(&w, &p);
		if (rc == 0)
			rc = order_piece(&w, &p);
		w.before = p;
	}
	return rc ? rc : show_pictures(&w, NULL);
}

/* --- what else stands beside the messages --- */

/* A tool's result is the last that was said, but by the system. */
static bool is_behind_result(const struct chat_request *r)
{
	size_t i = r->count;
	while (i > 0 && r->messages[i - 1].role == CHAT_SYSTEM)
		i--;
	return i > 0 && r->messages[i - 1].role == CHAT_TOOL;
}

/* A client that does not ask for thinking expects none. Who does gets what the model can. */
static void order_thinking(
	struct chat_order *o, struct json_value thinking, struct json_value effort)
{
	struct json_value type, budget;
	FIELDS_GET(thinking, {"type", &type}, {"budget_tokens", &budget});
	o->think = json_get(o->request->root, "think"); /* resume.h */
	const struct chat_request *r = o->request;
	bool begun = r->messages[r->count - 1].role == CHAT_ASSISTANT;
	bool wished = json_string_is(type, "enabled") || json_string_is(type, "adaptive") ||
		      (json_string_is(type, "between_tools") && is_behind_result(r));
	if (begun || o->think.type == JSON_FALSE || !wished) {
		o->thinking = json_string_is(type, "disabled") ? SWITCH_OFF : SWITCH_UNWISHED;
		return;
	}
	o->thinking = SWITCH_WISHED;
	if (budget.type == JSON_NUMBER)
		o->thinking_budget = budget;
	if (effort.type == JSON_STRING)
		o->effort = effort;
}

static int order_format(struct chat_order *o, struct json_value format, struct dialect_error *e)
{
	struct json_value type, schema;
	FIELDS_GET(format, {"type", &type}, {"schema", &schema});
	if (is_absent(format))
		return 0;
	if (!json_string_is(type, "json_schema") || schema.type != JSON_OBJECT)
		return order_refuse(
			e, "output_config.format: must be of type json_schema, with a schema");
	o->form = ORDER_SCHEMA;
	o->schema = schema;
	return 0;
}

int anthropic_order(const struct chat_request *r, struct chat_order *o, struct dialect_error *e)
{
	struct json_value *s = o->sampling, system, choice, thinking, config, format, effort, older;
	FIELDS_GET(r->root, {"system", &system}, {"temperature", &s[SAMPLE_TEMPERATURE]},
		{"top_p", &s[SAMPLE_TOP_P]}, {"top_k", &s[SAMPLE_TOP_K]},
		{"stop_sequences", &o->stop}, {"tool_choice", &choice}, {"thinking", &thinking},
		{"output_config", &config}, {"output_format", &older});
	FIELDS_GET(config, {"format", &format}, {"effort", &effort});
	order_thinking(o, thinking, effort);
	int rc = order_format(o, is_absent(format) ? older : format, e);
	if (rc == 0)
		rc = anthropic_order_tools(o, choice, e);
	if (rc == 0 && value_filled(system)) {
		if (!order_add_message(o, CHAT_SYSTEM))
			return -ENOMEM;
		rc = add_content(o, system);
	}
	return rc ? rc : order_messages(o, r->messages_array);
}
