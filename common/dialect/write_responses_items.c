/*
 * The items of a response: of a stream, the events about them. One is open at a time: each kind of
 * what the model writes closes the item before it and opens its own. What an item holds is told
 * three times: in pieces, whole at its end, and once more in the response.
 */
#include "common/dialect/front_responses.h"
#include "common/dialect/write_responses.h"

#include <inttypes.h>

enum { ITEM_NONE, ITEM_TEXT, ITEM_THINKING, ITEM_CALL, ITEM_CUSTOM, ITEM_SEARCH };

/* --- events --- */

void responses_event(struct answer_writer *w, const char *type, struct buf *out)
{
	buf_printf(out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%" PRIu64, type,
		type, w->sequence++);
}

void responses_event_end(struct buf *out)
{
	buf_add_str(out, "}\n\n");
}

static const char *const id_begins[] = {[ITEM_TEXT] = "msg_",
	[ITEM_THINKING] = "rs_",
	[ITEM_CALL] = "fc_",
	[ITEM_CUSTOM] = "ctc_",
	[ITEM_SEARCH] = "tsc_"};

static void put_item_id(const struct answer_writer *w, const char *key, struct buf *out)
{
	buf_printf(out, "\"%s\":\"%s", key, id_begins[w->open]);
	json_put_escaped(out, slice_str(w->id));
	buf_printf(out, "_%u\"", w->block);
}

/* An event about the open item; the rest and its end are the caller's. */
static void item_event(struct answer_writer *w, const char *type, struct buf *out)
{
	responses_event(w, type, out);
	buf_add_char(out, ',');
	put_item_id(w, "item_id", out);
	buf_printf(out, ",\"output_index\":%u", w->block);
}

/* --- items --- */

/* The part of a message, or of a summary. */
static void put_part(const struct answer_writer *w, struct buf *out)
{
	if (w->open == ITEM_THINKING) {
		buf_add_str(out, "{\"type\":\"summary_text\"");
		json_put_quoted(out, "text", &w->item);
		buf_add_char(out, '}');
		return;
	}
	buf_add_str(out, "{\"type\":\"output_text\"");
	json_put_quoted(out, "text", &w->item);
	buf_add_str(out, ",\"annotations\":[],\"logprobs\":[");
	buf_add_slice(out, buf_slice(&w->item_logprobs));
	buf_add_str(out, "]}");
}

/* The tool that the model calls by that name. */
static void find_tool(struct answer_writer *w, struct slice called)
{
	struct responses_tools all;
	struct json_value root, tool;
	struct buf known, name;
	w->tool = w->tool_space = (struct json_value){.type = JSON_NONE};
	if (w->tools.n == 0 || json_parse(buf_slice(&w->tools), JSON_MAX_DEPTH, &root, NULL))
		return;
	buf_init(&known, 0);
	buf_init(&name, 0);
	json_put_string(&name, called);
	for (responses_tools_begin(&all, root);
		w->tool.type == JSON_NONE && responses_tools_next(&all, &tool);) {
		buf_clear(&known);
		responses_put_name(&known, all.space, responses_tool_name(tool));
		if (!slice_eq(buf_slice(&known), buf_slice(&name)))
			continue;
		w->tool = tool;
		w->tool_space = all.space;
	}
	buf_free(&known);
	buf_free(&name);
}

/* call_id, name and namespace. */
static void put_call(struct answer_writer *w, struct buf *out)
{
	json_put_key(out, "call_id");
	buf_add_slice(out, buf_slice(&w->call_id));
	json_put_key(out, "name");
	if (w->tool.type == JSON_NONE)
		json_put_string(out, buf_slice(&w->call_name));
	else
		buf_add_slice(out, json_get(w->tool, "name").raw);
	member_copy(out, "namespace", w->tool_space);
}

/* A search says what it looks for as an object, and has no name. */
static void put_search(struct answer_writer *w, struct buf *out)
{
	json_put_key(out, "call_id");
	buf_add_slice(out, buf_slice(&w->call_id));
	buf_add_str(out, ",\"execution\":\"client\",\"arguments\":");
	buf_add_slice(out, w->item.n ? buf_slice(&w->item) : SLICE("{}"));
}

/* The open item with what it holds so far. */
static void put_item(struct answer_writer *w, const char *status, bool empty, struct buf *out)
{
	static const char *const begins[] = {
		[ITEM_TEXT] = ",\"type\":\"message\",\"role\":\"assistant\",\"content\":[",
		[ITEM_THINKING] = ",\"type\":\"reasoning\",\"summary\":[",
		[ITEM_CALL] = ",\"type\":\"function_call\"",
		[ITEM_CUSTOM] = ",\"type\":\"custom_tool_call\"",
		[ITEM_SEARCH] = ",\"type\":\"tool_search_call\""};
	buf_add_char(out, '{');
	put_item_id(w, "id", out);
	buf_add_str(out, begins[w->open]);
	if (w->open == ITEM_TEXT || w->open == ITEM_THINKING) {
		if (!empty)
			put_part(w, out);
		buf_add_char(out, ']');
	} else if (w->open == ITEM_SEARCH) {
		put_search(w, out);
	} else {
		put_call(w, out);
		json_put_quoted(
			out, w->open == ITEM_CALL ? "arguments" : RESPONSES_INPUT, &w->item);
	}
	buf_printf(out, ",\"status\":\"%s\"}", status);
}

static void open_item(struct answer_writer *w, int kind, struct buf *out)
{
	w->open = kind;
	buf_clear(&w->item);
	buf_clear(&w->item_logprobs);
	if (!w->stream)
		return;
	responses_event(w, "response.output_item.added", out);
	buf_printf(out, ",\"output_index\":%u,\"item\":", w->block);
	put_item(w, "in_progress", true, out);
	responses_event_end(out);
	if (kind != ITEM_TEXT && kind != ITEM_THINKING)
		return;
	item_event(w,
		kind == ITEM_TEXT ? "response.content_part.added"
				  : "response.reasoning_summary_part.added",
		out);
	buf_add_str(out, kind == ITEM_TEXT ? ",\"content_index\":0,\"part\":"
					   : ",\"summary_index\":0,\"part\":");
	put_part(w, out);
	responses_event_end(out);
}

/* The whole of it, by the events of its kind. */
static void tell_whole(struct answer_writer *w, struct buf *out)
{
	static const struct {
		const char *whole, *index, *member, *part;
	} kinds[] = {
		[ITEM_TEXT] = {"response.output_text.done", ",\"content_index\":0", "text",
			"response.content_part.done"},
		[ITEM_THINKING] = {"response.reasoning_summary_text.done", ",\"summary_index\":0",
			"text", "response.reasoning_summary_part.done"},
		[ITEM_CALL] = {"response.function_call_arguments.done", "", "arguments", NULL},
		[ITEM_CUSTOM] = {"response.custom_tool_call_input.done", "", RESPONSES_INPUT, NULL},
	};
	if (w->open == ITEM_SEARCH)
		return; /* its end has it */
	item_event(w, kinds[w->open].whole, out);
	buf_add_str(out, kinds[w->open].index);
	json_put_quoted(out, kinds[w->open].member, &w->item);
	if (w->open == ITEM_TEXT) {
		buf_add_str(out, ",\"logprobs\":[");
		buf_add_slice(out, buf_slice(&w->item_logprobs));
		buf_add_char(out, ']');
	}
	responses_event_end(out);
	if (!kinds[w->open].part)
		return;
	item_event(w, kinds[w->open].part, out);
	buf_add_str(out, kinds[w->open].index);
	json_put_key(out, "part");
	put_part(w, out);
	responses_event_end(out);
}

static void delta(struct answer_writer *w, const char *type, const char *index, struct slice text,
	struct buf *out)
{
	item_event(w, type, out);
	buf_add_str(out, index);
	buf_add_str(out, ",\"delta\":\"");
	buf_add_slice(out, text);
	buf_add_char(out, '"');
}

/* A custom tool's input is a string in the arguments that the model wrote; what is none such is all
 * of it. */
static void read_input(struct answer_writer *w, struct buf *out)
{
	struct slice text = buf_slice(&w->arguments);
	struct json_value root, input = {.type = JSON_NONE};
	if (json_parse(text, JSON_MAX_DEPTH, &root, NULL) == 0)
		input = json_get(root, RESPONSES_INPUT);
	buf_clear(&w->scratch);
	if (input.type == JSON_STRING && json_string_decode(input, &w->scratch) == 0)
		text = buf_slice(&w->scratch);
	json_put_escaped(&w->item, text);
	w->said += w->item.n;
	if (!w->stream)
		return;
	delta(w, "response.custom_tool_call_input.delta", "", buf_slice(&w->item), out);
	responses_event_end(out);
}

static void read_search(struct answer_writer *w)
{
	arguments_put_object(&w->item, buf_slice(&w->arguments), &w->scratch);
	w->said += w->item.n;
}

void responses_close_item(struct answer_writer *w, const char *status, struct buf *out)
{
	if (w->open == ITEM_NONE)
		return;
	if (w->open == ITEM_CUSTOM)
		read_input(w, out);
	else if (w->open == ITEM_SEARCH)
		read_search(w);
	if (w->stream) {
		tell_whole(w, out);
		responses_event(w, "response.output_item.done", out);
		buf_printf(out, ",\"output_index\":%u,\"item\":", w->block);
		put_item(w, status, false, out);
		responses_event_end(out);
	}
	if (w->output.n)
		buf_add_char(&w->output, ',');
	put_item(w, status, false, &w->output);
	w->open = ITEM_NONE;
	w->block++;
}

/* --- what the model writes --- */

static void be_in(struct answer_writer *w, int kind, struct buf *out)
{
	if (w->open == kind)
		return;
	responses_close_item(w, "completed", out);
	open_item(w, kind, out);
}

void responses_take_thinking(struct answer_writer *w, struct buf *out)
{
	struct slice text = buf_slice(&w->thinking);
	if (text.n == 0)
		return;
	be_in(w, ITEM_THINKING, out);
	if (w->stream) {
		delta(w, "response.reasoning_summary_text.delta", ",\"summary_index\":0", text,
			out);
		responses_event_end(out);
	}
	buf_add_slice(&w->item, text);
	w->thought += text.n;
	buf_clear(&w->thinking);
}

void responses_take_text(struct answer_writer *w, struct buf *out)
{
	struct slice text = buf_slice(&w->content), logprobs = buf_slice(&w->logprobs);
	if (text.n == 0)
		return;
	be_in(w, ITEM_TEXT, out);
	if (w->stream) {
		delta(w, "response.output_text.delta", ",\"content_index\":0", text, out);
		buf_add_str(out, ",\"logprobs\":[");
		buf_add_slice(out, logprobs);
		buf_add_char(out, ']');
		responses_event_end(out);
	}
	buf_add_slice(&w->item, text);
	if (logprobs.n && w->item_logprobs.n)
		buf_add_char(&w->item_logprobs, ',');
	buf_add_slice(&w->item_logprobs, logprobs);
	w->said += text.n;
	buf_clear(&w->content);
	buf_clear(&w->logprobs);
}

static void begin_call(struct answer_writer *w, const struct answer_event *e, struct buf *out)
{
	responses_close_item(w, "completed", out);
	buf_clear(&w->call_id);
	buf_clear(&w->call_name);
	buf_clear(&w->arguments);
	call_id_put(&w->call_id, e->id, w->id, e->index);
	buf_add_slice(&w->call_name, e->name);
	find_tool(w, e->name);
	enum responses_tool kind = responses_tool_of(w->tool);
	open_item(w,
		kind == TOOL_CUSTOM   ? ITEM_CUSTOM
		: kind == TOOL_SEARCH ? ITEM_SEARCH
				      : ITEM_CALL,
		out);
}

static void add_arguments(struct answer_writer *w, struct slice text, struct buf *out)
{
	size_t at = w->item.n;
	if (w->open == ITEM_CUSTOM || w->open == ITEM_SEARCH) {
		buf_add_slice(&w->arguments, text);
		return;
	}
	json_put_escaped(&w->item, text);
	w->said += text.n;
	if (!w->stream || buf_error(&w->item))
		return;
	delta(w, "response.function_call_arguments.delta", "",
		(struct slice){w->item.p + at, w->item.n - at}, out);
	responses_event_end(out);
}

void responses_take_call(struct answer_writer *w, const struct answer_event *e, struct buf *out)
{
	bool open = w->open >= ITEM_CALL;
	if (e->kind == ANSWER_TOOL_BEGIN)
		begin_call(w, e, out);
	else if (open && e->kind == ANSWER_TOOL_ARGS)
		add_arguments(w, e->text, out);
	else if (open)
		responses_close_item(w, "completed", out);
}

void responses_reopen_text(struct answer_writer *w, struct slice text)
{
	w->open = ITEM_TEXT;
	json_put_escaped(&w->item, text);
	w->said = w->item.n;
}
