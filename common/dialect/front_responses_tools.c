/*
 * OpenAI's /v1/responses: tools. A custom tool is a function with one string for the model, and the
 * tools of a namespace are functions with a longer name; the writer says it the other way round.
 */
#include "common/dialect/front_responses.h"
#include "common/dialect/pieces.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define EVERYBODYS "functions" /* Codex's, and that of models which know namespaces */

/* --- the walk --- */

bool responses_is_clients(struct json_value item)
{
	return json_string_is(json_get(item, "execution"), "client");
}

enum responses_tool responses_tool_of(struct json_value tool)
{
	/* Codex and others offer these whatever the model is. What a server's search would find is
	 * in the request, too. */
	static const char *const spare[] = {"web_search", "web_search_preview",
		"web_search_2025_08_26", "web_search_preview_2025_03_11", "image_generation",
		RESPONSES_SEARCH};
	struct json_value type = json_get(tool, "type");
	if (json_string_is(type, "function"))
		return TOOL_FUNCTION;
	if (json_string_is(type, "custom"))
		return TOOL_CUSTOM;
	if (json_string_is(type, "namespace"))
		return TOOL_NAMESPACE;
	if (json_string_is(type, RESPONSES_SEARCH) && responses_is_clients(tool))
		return TOOL_SEARCH;
	for (size_t i = 0; i < sizeof(spare) / sizeof(spare[0]); i++)
		if (json_string_is(type, spare[i]))
			return TOOL_SPARE;
	return TOOL_OTHER;
}

static struct json_value search_name(void)
{
	return (struct json_value){JSON_STRING, SLICE("\"" RESPONSES_SEARCH "\"")};
}

struct json_value responses_tool_name(struct json_value tool)
{
	if (responses_tool_of(tool) == TOOL_SEARCH)
		return search_name();
	return json_get(tool, "name");
}

struct json_value responses_space(struct json_value name)
{
	return value_filled(name) && !json_string_is(name, EVERYBODYS)
		       ? name
		       : (struct json_value){.type = JSON_NONE};
}

void responses_tools_begin(struct responses_tools *t, struct json_value tools)
{
	*t = (struct responses_tools){.tools = json_iter(tools)};
}

bool responses_tools_next(struct responses_tools *t, struct json_value *tool)
{
	struct json_value name, inner;
	for (;;) {
		if (t->inside && json_array_next(&t->inner, tool))
			return true;
		t->inside = false;
		t->space = t->about = (struct json_value){.type = JSON_NONE};
		if (!json_array_next(&t->tools, tool))
			return false;
		switch (responses_tool_of(*tool)) {
		case TOOL_FUNCTION:
		case TOOL_CUSTOM:
		case TOOL_SEARCH:
			return true;
		case TOOL_NAMESPACE:
			FIELDS_GET(*tool, {"name", &name}, {"description", &t->about},
				{"tools", &inner});
			t->space = responses_space(name);
			t->inner = json_iter(inner);
			t->inside = true;
			break;
		default:
			break;
		}
	}
}

static void put_joined(struct buf *out, struct json_value space, struct json_value name)
{
	struct slice before = string_inner(responses_space(space));
	bool joined = before.n >= 2 && memcmp(before.p + before.n - 2, "__", 2) == 0;
	buf_add_slice(out, before);
	if (before.n && !joined)
		buf_add_str(out, "__");
	buf_add_slice(out, string_inner(name));
}

void responses_put_name(struct buf *out, struct json_value space, struct json_value name)
{
	buf_add_char(out, '"');
	put_joined(out, space, name);
	buf_add_char(out, '"');
}

void responses_put_known(struct buf *out, struct json_value space, struct json_value tool)
{
	put_joined(out, space, responses_tool_name(tool));
}

/* --- what is possible --- */

static int refuse_tool(struct dialect_error *e, struct json_value tool)
{
	struct slice type = string_beginning(json_get(tool, "type"));
	char text[DIALECT_ERROR_TEXT_BYTES];
	snprintf(text, sizeof(text),
		"tools: one of type \"%.*s\" is not available here: this server runs no tools of "
		"its own, and a local model knows only those of type function or custom",
		(int)type.n, type.p);
	return order_refuse(e, text);
}

static int check_tool(struct json_value tool, bool inner, struct dialect_error *e)
{
	enum responses_tool kind = responses_tool_of(tool);
	struct json_value name, tools, element;
	FIELDS_GET(tool, {"name", &name}, {"tools", &tools});
	if ((kind == TOOL_SPARE || kind == TOOL_SEARCH) && !inner)
		return 0;
	if (kind != TOOL_FUNCTION && kind != TOOL_CUSTOM && (kind != TOOL_NAMESPACE || inner))
		return refuse_tool(e, tool);
	if (name.type != JSON_STRING || !value_filled(name))
		return order_refuse(e, "tools: each needs a name");
	int rc = 0;
	for (struct json_iter it = json_iter(tools);
		kind == TOOL_NAMESPACE && rc == 0 && json_array_next(&it, &element);)
		rc = check_tool(element, true, e);
	return rc;
}

int responses_tools_check(struct json_value tools, struct dialect_error *e)
{
	struct json_iter it = json_iter(tools);
	struct json_value tool;
	int rc = 0;
	if (is_absent(tools))
		return 0;
	if (tools.type != JSON_ARRAY)
		return order_refuse(e, "tools: must be a list");
	while (rc == 0 && json_array_next(&it, &tool))
		rc = check_tool(tool, false, e);
	return rc;
}

/* --- the order --- */

/* As a choice says it: the client's search has a type alone. */
static struct json_value name_of_choice(struct json_value choice)
{
	return json_string_is(json_get(choice, "type"), RESPONSES_SEARCH)
		       ? search_name()
		       : json_get(choice, "name");
}

/* The names that a choice is among, sorted; NULL: all are allowed. */
struct allowed {
	struct slice *names; /* owned */
	size_t count;
};

static int by_name(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;
	int rc = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
	return rc ? rc : (x->n > y->n) - (x->n < y->n);
}

static int allowed_init(struct allowed *a, struct json_value tools)
{
	struct json_iter it = json_iter(tools);
	struct json_value one;
	a->names = calloc(array_count(tools) + 1, sizeof(*a->names));
	if (!a->names)
		return -ENOMEM;
	while (json_array_next(&it, &one))
		a->names[a->count++] = string_inner(name_of_choice(one));
	qsort(a->names, a->count, sizeof(*a->names), by_name);
	return 0;
}

static bool is_allowed(const struct allowed *a, struct json_value tool)
{
	struct slice name = string_inner(responses_tool_name(tool));
	return !a->names || bsearch(&name, a->names, a->count, sizeof(name), by_name);
}

/* What is said of a namespace stands before what is said of its first tool. */
static void put_about(struct responses_tools *all, struct buf *out)
{
	if (value_filled(all->about) && all->space.type == JSON_STRING) {
		buf_add_str(out, "(All of ");
		buf_add_slice(out, string_inner(all->space));
		buf_add_str(out, ": ");
		buf_add_slice(out, string_inner(all->about));
		buf_add_str(out, ") ");
	}
	all->about = (struct json_value){.type = JSON_NONE};
}

static void put_description(
	struct responses_tools *all, struct json_value description, struct buf *out)
{
	size_t before = out->n;
	json_put_key(out, "description");
	buf_add_char(out, '"');
	size_t begin = out->n;
	put_about(all, out);
	buf_add_slice(out, string_inner(description));
	if (out->n == begin && description.type != JSON_STRING && !buf_error(out))
		out->n = before;
	else
		buf_add_char(out, '"');
}

static void put_function(struct responses_tools *all, struct json_value tool, struct buf *out)
{
	struct json_value description, parameters, strict;
	FIELDS_GET(tool, {"description", &description}, {"parameters", &parameters},
		{"strict", &strict});
	put_description(all, description, out);
	json_put_key(out, "parameters");
	buf_add_slice(out, parameters.type == JSON_OBJECT
				   ? parameters.raw
				   : SLICE("{\"type\":\"object\",\"properties\":{}}"));
	member_copy(out, "strict", strict);
}

/* A grammar, which nobody holds the model to, stands in the description. */
static void put_custom(struct responses_tools *all, struct json_value tool, struct buf *out)
{
	struct json_value description, format, syntax, definition;
	FIELDS_GET(tool, {"description", &description}, {"format", &format});
	FIELDS_GET(format, {"syntax", &syntax}, {"definition", &definition});
	json_put_key(out, "description");
	buf_add_char(out, '"');
	put_about(all, out);
	buf_add_slice(out, string_inner(description));
	if (value_filled(description))
		buf_add_str(out, "\\n\\n");
	buf_add_str(
		out, "The argument " RESPONSES_INPUT " is the whole input of the tool, as text.");
	if (definition.type == JSON_STRING) {
		buf_add_str(out, " It follows this grammar (");
		buf_add_slice(out, string_inner(syntax));
		buf_add_str(out, "):\\n");
		buf_add_slice(out, string_inner(definition));
	}
	buf_add_str(out, "\",\"parameters\":{\"type\":\"object\",\"properties\":{\"" RESPONSES_INPUT
			 "\":{\"type\":\"string\"}},\"required\":[\"" RESPONSES_INPUT "\"]}");
}

static void put_tool(struct responses_tools *all, struct json_value tool, struct buf *out)
{
	buf_add_str(out, out->n > 1 ? ",{\"type\":\"function\",\"function\":{\"name\":"
				    : "{\"type\":\"function\",\"function\":{\"name\":");
	responses_put_name(out, all->space, responses_tool_name(tool));
	if (responses_tool_of(tool) == TOOL_CUSTOM)
		put_custom(all, tool, out);
	else
		put_function(all, tool, out);
	buf_add_str(out, "}}");
}

static int order_tools(struct chat_order *o, const struct allowed *allowed)
{
	struct responses_tools all;
	struct json_value tool;
	struct buf out;
	buf_init(&out, 0);
	buf_add_char(&out, '[');
	for (responses_tools_begin(&all, o->request->tools); responses_tools_next(&all, &tool);)
		if (is_allowed(allowed, tool))
			put_tool(&all, tool, &out);
	if (out.n == 1 && !buf_error(&out)) {
		buf_free(&out);
		return 0;
	}
	buf_add_char(&out, ']');
	o->tools = order_keep(o, &out);
	return o->tools.type == JSON_ARRAY ? 0 : -ENOMEM;
}

static enum order_choice choice_of(struct json_value word)
{
	return json_string_is(word, "auto")	  ? CHOICE_AUTO
	       : json_string_is(word, "none")	  ? CHOICE_NONE
	       : json_string_is(word, "required") ? CHOICE_REQUIRED
						  : CHOICE_UNSAID;
}

static bool is_chosen(struct json_value choice, struct json_value tool)
{
	if (json_string_is(json_get(choice, "type"), RESPONSES_SEARCH))
		return responses_tool_of(tool) == TOOL_SEARCH;
	return slice_eq(
		string_inner(responses_tool_name(tool)), string_inner(json_get(choice, "name")));
}

/* A choice of one tool, by the name that the model knows. */
static int order_named(struct chat_order *o, struct json_value choice, struct dialect_error *e)
{
	struct responses_tools all;
	struct json_value tool;
	struct buf out;
	buf_init(&out, 0);
	for (responses_tools_begin(&all, o->request->tools);
		out.n == 0 && responses_tools_next(&all, &tool);)
		if (is_chosen(choice, tool))
			responses_put_name(&out, all.space, responses_tool_name(tool));
	if (out.n == 0) {
		buf_free(&out);
		return order_refuse(e, "tool_choice: no tool of this type or name is offered for "
				       "the model to call");
	}
	o->choice = CHOICE_NAMED;
	o->choice_name = order_keep(o, &out);
	return o->choice_name.type == JSON_STRING ? 0 : -ENOMEM;
}

int responses_order_tools(struct chat_order *o, struct dialect_error *e)
{
	struct json_value choice, parallel, type, mode, tools;
	struct allowed allowed = {0};
	FIELDS_GET(o->request->root, {"tool_choice", &choice}, {"parallel_tool_calls", &parallel});
	FIELDS_GET(choice, {"type", &type}, {"mode", &mode}, {"tools", &tools});
	int rc = 0;
	if (parallel.type == JSON_FALSE)
		o->parallel = SWITCH_OFF;
	if (json_string_is(type, "allowed_tools")) {
		o->choice = choice_of(mode);
		rc = tools.type == JSON_ARRAY ? allowed_init(&allowed, tools) : 0;
	} else if (json_string_is(type, "function") || json_string_is(type, "custom") ||
		   json_string_is(type, RESPONSES_SEARCH)) {
		rc = order_named(o, choice, e);
	} else if (!is_absent(choice)) {
		o->choice = choice_of(choice);
		if (o->choice == CHOICE_UNSAID)
			rc = order_refuse(e, "tool_choice: must be auto, none, required, or one "
					     "that is offered");
	}
	rc = rc ? rc : order_tools(o, &allowed);
	free(allowed.names);
	return rc;
}
