/* OpenAI's /v1/responses: its rows, the view and the order, errors (docs/responses.md). */
#include "common/dialect/front_responses.h"
#include "common/dialect/compaction_form.h"
#include "common/dialect/front_openai.h"
#include "common/dialect/pieces.h"
#include "common/dialect/reader.h"

#include <errno.h>
#include <inttypes.h>

/* --- the view --- */

static int read_responses(struct request_reader *in)
{
	static const struct reader_words words = {
		"input: must be a string or a list of items", "input: an item must be an object"};
	struct chat_request *r = in->r;
	struct json_value messages, tools, text, format, limit;
	FIELDS_GET(r->root, {"messages", &messages}, {"tools", &tools}, {"text", &text},
		{"max_output_tokens", &limit});
	FIELDS_GET(text, {"format", &format});
	r->max_output = reader_limit(limit);
	int rc = reader_add_messages(in, messages, &words);
	if (rc == 0 && r->count == 0)
		rc = reader_refuse(in, 400, "input: no item of it is for the model");
	if (rc == 0)
		rc = responses_tools_check(tools, in->error);
	if (rc)
		return rc;
	r->tools = tools;
	reader_count_tools(in, tools);
	reader_count(in, format);
	r->tools_bytes = tools.raw.n + format.raw.n;
	r->condensable = reader_is_open(r);
	return 0;
}

/* It has no streams. */
static int read_compact(struct request_reader *in)
{
	int rc = read_responses(in);
	in->r->stream = false;
	return rc;
}

/* --- the order --- */

/* NULL, or words for what is none. */
static const char *order_format(struct chat_order *o)
{
	struct json_value format = json_get(json_get(o->request->root, "text"), "format"), type;
	struct json_value limit = json_get(o->request->root, "max_output_tokens");
	FIELDS_GET(format, {"type", &type}, {"schema", &o->schema});
	o->form = ORDER_FREE;
	if (!is_absent(limit) && limit.type != JSON_NUMBER)
		return "'max_output_tokens' must be a number";
	if (is_absent(format) || json_string_is(type, "text"))
		return NULL;
	if (!json_string_is(type, "json_object") && !json_string_is(type, "json_schema"))
		return "text.format: must be of the type text, json_object or json_schema";
	o->form = o->schema.type == JSON_OBJECT ? ORDER_SCHEMA : ORDER_JSON;
	return NULL;
}

/* What clients say of themselves whatever the model is ("medium") is no error where it cannot
 * think. */
static void order_thinking(struct chat_order *o)
{
	const struct chat_request *r = o->request;
	struct json_value effort = json_get(json_get(r->root, "reasoning"), "effort");
	o->think = json_get(r->root, "think"); /* resume.h */
	if (o->think.type == JSON_FALSE || r->messages[r->count - 1].role == CHAT_ASSISTANT)
		return;
	if (json_string_is(effort, "none"))
		o->thinking = SWITCH_OFF;
	else if (effort.type == JSON_STRING)
		o->effort = effort;
	if (json_string_is(effort, "medium"))
		o->thinking = SWITCH_WISHED;
}

static void order_logprobs(struct chat_order *o)
{
	struct json_value include, element;
	FIELDS_GET(o->request->root, {"include", &include}, {"top_logprobs", &o->top_logprobs});
	struct json_iter it = json_iter(include);
	while (include.type == JSON_ARRAY && json_array_next(&it, &element))
		if (json_string_is(element, "message.output_text.logprobs"))
			o->logprobs = (struct json_value){JSON_TRUE, SLICE("true")};
}

static int order(const struct chat_request *r, struct chat_order *o, struct dialect_error *e)
{
	const char *why = openai_order_common(o);
	why = why ? why : order_format(o);
	if (why)
		return order_refuse(e, why);
	order_thinking(o);
	order_logprobs(o);
	int rc = responses_order_tools(o, e);
	for (size_t i = 0; i < r->count && rc == 0; i++)
		rc = openai_order_message(o, &r->messages[i]);
	return rc;
}

/* --- going on with an answer --- */

static const char *resume_refused_form(const struct chat_request *r)
{
	struct json_value format = json_get(json_get(r->root, "text"), "format");
	struct json_value type = json_get(format, "type");
	return type.type == JSON_STRING && !json_string_is(type, "text")
		       ? "the answer has a prescribed form"
		       : NULL;
}

/* --- errors --- */

static void put_error(int status, struct slice message, struct buf *out)
{
	buf_add_str(out, "{\"error\":{\"message\":");
	json_put_string(out, message);
	buf_printf(
		out, ",\"type\":\"%s\",\"param\":null,\"code\":null}}", front_error_type(status));
}

/* Codex and others look for the code. */
static void put_overflow(struct slice message, uint64_t prompt, uint64_t window, struct buf *out)
{
	buf_add_str(out, "{\"error\":{\"message\":");
	json_put_string(out, message);
	buf_add_str(out, ",\"type\":\"invalid_request_error\",\"param\":\"input\","
			 "\"code\":\"context_length_exceeded\"");
	if (prompt > 0)
		buf_printf(out, ",\"n_prompt_tokens\":%" PRIu64, prompt);
	if (window > 0)
		buf_printf(out, ",\"n_ctx\":%" PRIu64, window);
	buf_add_str(out, "}}");
}

/* --- the rows --- */

#define RESPONSES_ROW                                                                              \
	.errors = DIALECT_OPENAI_OTHER, .api = API_RESPONSES, .sse = true, .patience_ms = 300000,  \
	.rewrite = front_rewrite_messages, .order = order, .error = put_error,                     \
	.overflow = put_overflow, .compacts = &compaction_responses

const struct front_dialect front_responses = {
	.name = "openai responses",
	.number = DIALECT_RESPONSES,
	RESPONSES_ROW,
	.mend = responses_mend,
	.read = read_responses,
	.writer = &writer_responses,
	.resume = {.refused = resume_refused_form, .limits = {"max_output_tokens"}},
	.fail = responses_fail,
	.streams_overflow = true,
};

/* /v1/responses/input_tokens: read, and never asked of a backend, which may know fewer items. */
const struct front_dialect front_responses_count = {
	.name = "openai responses count",
	.number = DIALECT_RESPONSES_COUNT,
	RESPONSES_ROW,
	.mend = responses_mend,
	.read = read_responses,
	.writer = &writer_responses,
	.counts = true,
	.counts_itself = true,
	.counted = "\"object\":\"response.input_tokens\",",
};

/* /v1/responses/compact: read, and answered without a backend. */
const struct front_dialect front_responses_compact = {
	.name = "openai responses compact",
	.number = DIALECT_RESPONSES_COMPACT,
	RESPONSES_ROW,
	.mend = responses_mend_keeping,
	.read = read_compact,
	.writer = &writer_responses_compact,
	.compacts_only = true,
};
