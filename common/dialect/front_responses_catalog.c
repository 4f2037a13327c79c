/*
 * OpenAI's /v1/responses: items that say what a response may be made with (docs/responses.md): tools that stand in the
 * input, tools that a client's own search found, updates of the settings.
 *
 * Templates have one place for tools, at the beginning of a prompt. So all become one list with those of the request,
 * in which each keeps the place that it had first: what is added later moves nothing, and what is defined
 * anew counts as it was defined last.
 */
#include "common/dialect/back.h"
#include "common/dialect/front_responses.h"
#include "common/dialect/front_responses_talk.h"
#include "common/dialect/pieces.h"

#include <errno.h>
#include <stdlib.h>

/* --- what the items say --- */

static void add_elements(struct buf *to, struct json_value list)
{
	struct json_iter it = json_iter(list);
	struct json_value element;
	while (json_array_next(&it, &element)) {
		if (to->n && to->p[to->n - 1] != '[')
			buf_add_char(to, ',');
		buf_add_slice(to, element.raw);
	}
}

int talk_take_tools(struct talk *w, struct json_value item)
{
	struct json_value tools = json_get(item, "tools");
	if (tools.type != JSON_ARRAY)
		return talk_refuse(w, "additional_tools needs a list of tools");
	add_elements(&w->tools, tools);
	return 0;
}

/* As the model knows them. */
static void put_found(struct buf *out, struct json_value tools)
{
	struct responses_tools all;
	struct json_value tool;
	bool any = false;
	for (responses_tools_begin(&all, tools); responses_tools_next(&all, &tool); any = true) {
		buf_add_str(out, any ? ", " : "These tools can be called now: ");
		responses_put_known(out, all.space, tool);
	}
	if (!any)
		buf_add_str(out, "No tools were found.");
}

int talk_take_found(struct talk *w, struct json_value item)
{
	struct json_value call_id, tools;
	FIELDS_GET(item, {"call_id", &call_id}, {"tools", &tools});
	if (!responses_is_clients(item))
		return 0; /* of those that stand in the request already */
	if (call_id.type != JSON_STRING || tools.type != JSON_ARRAY)
		return talk_refuse(w, "a tool_search_output needs a call_id and a list of tools");
	add_elements(&w->tools, tools);
	buf_clear(&w->scratch);
	put_found(&w->scratch, tools);
	talk_put_result(w, call_id);
	return 0;
}

/* The last one of each counts. */
int talk_take_update(struct talk *w, struct json_value item)
{
	struct json_value reasoning, text, effort, format;
	FIELDS_GET(item, {"reasoning", &reasoning}, {"text", &text});
	effort = json_get(reasoning, "effort");
	format = json_get(text, "format");
	if (effort.type == JSON_STRING)
		w->effort = effort;
	if (format.type == JSON_OBJECT)
		w->format = format;
	return 0;
}

/* --- one list of tools --- */

/* A tool that the model can call, or (its name is empty) the head of a namespace. */
struct entry {
	struct slice space, name;
	size_t place; /* among all of them */
	struct json_value tool;
};

/* What has no name stays for those who refuse it. */
static bool is_callable(struct json_value tool)
{
	enum responses_tool kind = responses_tool_of(tool);
	return (kind == TOOL_FUNCTION || kind == TOOL_CUSTOM || kind == TOOL_SEARCH) &&
	       value_filled(responses_tool_name(tool));
}

static int by_slice(struct slice a, struct slice b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int rc = n ? memcmp(a.p, b.p, n) : 0;
	return rc ? rc : (a.n > b.n) - (a.n < b.n);
}

static int by_name(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int rc = by_slice(x->space, y->space);
	rc = rc ? rc : by_slice(x->name, y->name);
	return rc ? rc : (x->place > y->place) - (x->place < y->place);
}

static bool has_callable(struct json_value tools)
{
	struct json_iter it = json_iter(tools);
	struct json_value tool;
	while (json_array_next(&it, &tool))
		if (is_callable(tool))
			return true;
	return false;
}

static void add_entry(
	struct buf *entries, struct json_value space, struct slice name, struct json_value tool)
{
	struct entry e = {.space = string_inner(responses_space(space)),
		.name = name,
		.place = entries->n / sizeof(e),
		.tool = tool};
	buf_add(entries, &e, sizeof(e));
}

static void add_tool(struct buf *entries, struct json_value space, struct json_value tool)
{
	if (is_callable(tool))
		add_entry(entries, space, string_inner(responses_tool_name(tool)), tool);
}

static void read_entries(struct json_value list, struct buf *entries)
{
	struct json_value element, inner, space, tools;
	for (struct json_iter it = json_iter(list); json_array_next(&it, &element);) {
		add_tool(entries, (struct json_value){.type = JSON_NONE}, element);
		if (responses_tool_of(element) != TOOL_NAMESPACE)
			continue;
		FIELDS_GET(element, {"name", &space}, {"tools", &tools});
		/* Without any, nothing of it is written, so it describes nothing. */
		if (has_callable(tools))
			add_entry(entries, space, (struct slice){0}, element);
		for (struct json_iter in = json_iter(tools); json_array_next(&in, &inner);)
			add_tool(entries, space, inner);
	}
}

/* A namespace that goes on, without a word about it. */
static bool is_silent(const struct entry *e)
{
	return e->name.n == 0 && !value_filled(json_get(e->tool, "description"));
}

/* By place: what stands there; NONE: it stands at an earlier one. */
static struct json_value *choose(struct buf *entries)
{
	struct entry *e = (struct entry *)(void *)entries->p;
	size_t n = entries->n / sizeof(*e);
	struct json_value *chosen = calloc(n + 1, sizeof(*chosen));
	if (!chosen || n == 0)
		return chosen;
	qsort(e, n, sizeof(*e), by_name);
	for (size_t i = 0, first = 0; i < n; i++) {
		bool same = i > 0 && slice_eq(e[i].space, e[first].space) &&
			    slice_eq(e[i].name, e[first].name);
		if (!same)
			first = i;
		if (!same || !is_silent(&e[i]))
			chosen[e[first].place] = e[i].tool;
	}
	return chosen;
}

struct list_writer {
	struct buf *out;
	const struct json_value *chosen;
	size_t place;
	bool any;
};

static void put_element(struct list_writer *l, struct slice raw)
{
	if (l->any)
		buf_add_char(l->out, ',');
	l->any = true;
	buf_add_slice(l->out, raw);
}

/* What of it stands here, or nothing. It is described once, as it was last. */
static void put_space(struct list_writer *l, struct json_value element)
{
	struct json_value name, tools, inner, head = {.type = JSON_NONE};
	bool begun = false;
	FIELDS_GET(element, {"name", &name}, {"tools", &tools});
	if (has_callable(tools))
		head = l->chosen[l->place++];
	for (struct json_iter it = json_iter(tools); json_array_next(&it, &inner);) {
		struct json_value tool = is_callable(inner) ? l->chosen[l->place++] : inner;
		if (tool.type == JSON_NONE)
			continue;
		if (begun) {
			buf_add_char(l->out, ',');
			buf_add_slice(l->out, tool.raw);
			continue;
		}
		begun = true;
		put_element(l, SLICE("{\"type\":\"namespace\""));
		member_copy(l->out, "name", name);
		member_copy(l->out, "description", json_get(head, "description"));
		buf_add_str(l->out, ",\"tools\":[");
		buf_add_slice(l->out, tool.raw);
	}
	if (begun)
		buf_add_str(l->out, "]}");
}

static int put_list(struct json_value list, struct buf *out)
{
	struct json_value element;
	struct buf entries;
	buf_init(&entries, 0);
	read_entries(list, &entries);
	struct json_value *chosen = buf_error(&entries) ? NULL : choose(&entries);
	struct list_writer l = {.out = out, .chosen = chosen};
	for (struct json_iter it = json_iter(list); chosen && json_array_next(&it, &element);) {
		if (responses_tool_of(element) == TOOL_NAMESPACE)
			put_space(&l, element);
		else if (!is_callable(element))
			put_element(&l, element.raw);
		else if (chosen[l.place++].type != JSON_NONE)
			put_element(&l, chosen[l.place - 1].raw);
	}
	buf_free(&entries);
	int rc = chosen ? 0 : -ENOMEM;
	free(chosen);
	return rc;
}

/* --- in the body --- */

static int put_tools(struct talk *w, struct json_value tools)
{
	struct json_value list;
	struct buf all;
	if (!is_absent(tools) && tools.type != JSON_ARRAY)
		return order_refuse(w->e, "tools: must be a list");
	buf_init(&all, 0);
	buf_add_char(&all, '[');
	add_elements(&all, tools);
	if (array_count(tools))
		buf_add_char(&all, ',');
	buf_add_slice(&all, buf_slice(&w->tools));
	buf_add_char(&all, ']');
	json_put_key(&w->out, "tools");
	buf_add_char(&w->out, '[');
	int rc = buf_error(&all);
	if (rc == 0 && (rc = json_parse(buf_slice(&all), JSON_MAX_DEPTH, &list, NULL)) == 0)
		rc = put_list(list, &w->out);
	buf_add_char(&w->out, ']');
	buf_free(&all);
	return rc;
}

/* An object with this member in the place of its own. */
static void put_updated(struct buf *out, const char *name, struct json_value object,
	const char *member, struct json_value value)
{
	const char *const updated[] = {member, NULL};
	json_put_key(out, name);
	back_put_others(out, object, updated);
	member_copy(out, member, value);
	buf_add_char(out, '}');
}

int talk_put_members(struct talk *w, struct json_value root, const char **taken)
{
	struct json_value tools, reasoning, text;
	FIELDS_GET(root, {"tools", &tools}, {"reasoning", &reasoning}, {"text", &text});
	const char **next = taken;
	while (*next)
		next++;
	if (w->tools.n)
		*next++ = "tools";
	if (w->effort.type == JSON_STRING)
		*next++ = "reasoning";
	if (w->format.type == JSON_OBJECT)
		*next++ = "text";
	*next = NULL;
	back_put_members(&w->out, root, taken);
	if (w->effort.type == JSON_STRING)
		put_updated(&w->out, "reasoning", reasoning, "effort", w->effort);
	if (w->format.type == JSON_OBJECT)
		put_updated(&w->out, "text", text, "format", w->format);
	return w->tools.n ? put_tools(w, tools) : 0;
}
