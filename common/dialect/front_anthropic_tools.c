/* Anthropic's /v1/messages: tools, and which of them is to be called (docs/anthropic.md). */
#include "common/dialect/front_anthropic.h"
#include "common/dialect/pieces.h"

#include <errno.h>

/* No backend has a place for examples: they stand in the description. */
static void put_described(
	struct json_value description, struct json_value examples, struct buf *out)
{
	struct json_iter it = json_iter(examples);
	struct json_value one;
	json_put_key(out, "description");
	buf_add_char(out, '"');
	buf_add_slice(out, string_inner(description));
	if (value_filled(description))
		buf_add_str(out, "\\n\\n");
	buf_add_str(out, "Examples of its input:");
	while (json_array_next(&it, &one)) {
		buf_add_str(out, "\\n");
		json_put_escaped(out, one.raw);
	}
	buf_add_char(out, '"');
}

static void put_tool(struct json_value tool, struct buf *out)
{
	struct json_value name, description, schema, strict, examples;
	FIELDS_GET(tool, {"name", &name}, {"description", &description}, {"input_schema", &schema},
		{"strict", &strict}, {"input_examples", &examples});
	buf_add_str(out, "{\"type\":\"function\",\"function\":{\"name\":");
	buf_add_slice(out, name.raw);
	if (array_count(examples))
		put_described(description, examples, out);
	else
		member_copy(out, "description", description);
	member_copy(out, "parameters", schema);
	member_copy(out, "strict", strict);
	buf_add_str(out, "}}");
}

static int order_tools(struct chat_order *o)
{
	struct json_iter it = json_iter(o->request->tools);
	struct json_value tool;
	struct buf out;
	if (!value_filled(o->request->tools))
		return 0;
	buf_init(&out, 0);
	buf_add_char(&out, '[');
	for (bool first = true; json_array_next(&it, &tool); first = false) {
		if (!first)
			buf_add_char(&out, ',');
		put_tool(tool, &out);
	}
	buf_add_char(&out, ']');
	o->tools = order_keep(o, &out);
	return o->tools.type == JSON_ARRAY ? 0 : -ENOMEM;
}

static int order_choice(struct chat_order *o, struct json_value choice, struct dialect_error *e)
{
	struct json_value type, name, alone;
	if (is_absent(choice))
		return 0;
	FIELDS_GET(choice, {"type", &type}, {"name", &name}, {"disable_parallel_tool_use", &alone});
	if (json_string_is(type, "auto"))
		o->choice = CHOICE_AUTO;
	else if (json_string_is(type, "any"))
		o->choice = CHOICE_REQUIRED;
	else if (json_string_is(type, "none"))
		o->choice = CHOICE_NONE;
	else if (json_string_is(type, "tool") && name.type == JSON_STRING)
		o->choice = CHOICE_NAMED;
	else
		return order_refuse(e, "tool_choice: must be auto, any, none, or tool with a name");
	o->choice_name = name;
	if (alone.type == JSON_TRUE)
		o->parallel = SWITCH_OFF;
	return 0;
}

int anthropic_order_tools(struct chat_order *o, struct json_value choice, struct dialect_error *e)
{
	int rc = order_choice(o, choice, e);
	return rc ? rc : order_tools(o);
}
