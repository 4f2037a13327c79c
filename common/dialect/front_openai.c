/* OpenAI's /v1/chat/completions. */
#include "common/dialect/front_openai.h"
#include "common/dialect/front.h"
#include "common/dialect/pieces.h"
#include "common/dialect/reader.h"
#include "common/dialect/writer.h"

#include <errno.h>
#include <inttypes.h>

/* --- the view --- */

int64_t openai_max_output(struct json_value root)
{
	struct json_value max_tokens, max_completion_tokens;
	FIELDS_GET(root, {"max_tokens", &max_tokens},
		{"max_completion_tokens", &max_completion_tokens});
	return reader_limit(is_absent(max_completion_tokens) ? max_tokens : max_completion_tokens);
}

static int read_chat(struct request_reader *in)
{
	static const struct reader_words words = {
		"Expected 'messages' to be an array", "Expected 'messages' to hold objects"};
	struct chat_request *r = in->r;
	struct json_value messages, functions, response_format, n;
	int64_t choices = 1;
	r->other_case |= FIELDS_GET(r->root, {"messages", &messages}, {"tools", &r->tools},
		{"functions", &functions}, {"response_format", &response_format}, {"n", &n});
	if (is_absent(messages))
		return reader_refuse(in, 400, "'messages' is required");
	int rc = reader_add_messages(in, messages, &words);
	if (rc == 0 && r->count == 0)
		rc = reader_refuse(in, 400, "[] is too short - 'messages'");
	if (rc)
		return rc;
	reader_count_tools(in, r->tools);
	reader_count(in, functions);
	reader_count(in, response_format);
	r->tools_bytes = r->tools.raw.n + functions.raw.n + response_format.raw.n;
	r->max_output = openai_max_output(r->root);
	json_to_int(n, &choices);
	r->condensable = reader_is_open(r) && choices <= 1;
	return 0;
}

/* --- the order: what stands beside the messages --- */

/* own: a schema as llama-server takes it, beside the messages. */
static const char *order_format(
	struct chat_order *o, struct json_value response_format, struct json_value own)
{
	struct json_value type, schema, json_schema;
	FIELDS_GET(response_format, {"type", &type}, {"schema", &schema},
		{"json_schema", &json_schema});
	if (own.type == JSON_OBJECT) {
		o->form = ORDER_SCHEMA;
		o->schema = own;
	}
	if (is_absent(response_format) || json_string_is(type, "text"))
		return NULL;
	if (json_schema.type == JSON_OBJECT)
		schema = json_get(json_schema, "schema");
	if (!json_string_is(type, "json_object") && !json_string_is(type, "json_schema"))
		return "'response_format' must be of the type text, json_object or json_schema";
	o->form = schema.type == JSON_OBJECT ? ORDER_SCHEMA : ORDER_JSON;
	o->schema = schema;
	return NULL;
}

const char *openai_order_common(struct chat_order *o)
{
	struct json_value *s = o->sampling, n, response_format, schema, limit, older;
	struct json_value root = o->request->root;
	FIELDS_GET(root, {"temperature", &s[SAMPLE_TEMPERATURE]}, {"top_k", &s[SAMPLE_TOP_K]},
		{"top_p", &s[SAMPLE_TOP_P]}, {"min_p", &s[SAMPLE_MIN_P]},
		{"typical_p", &s[SAMPLE_TYPICAL_P]}, {"repeat_last_n", &s[SAMPLE_REPEAT_LAST_N]},
		{"repeat_penalty", &s[SAMPLE_REPEAT_PENALTY]},
		{"presence_penalty", &s[SAMPLE_PRESENCE_PENALTY]},
		{"frequency_penalty", &s[SAMPLE_FREQUENCY_PENALTY]},
		{"mirostat", &s[SAMPLE_MIROSTAT]}, {"mirostat_tau", &s[SAMPLE_MIROSTAT_TAU]},
		{"mirostat_eta", &s[SAMPLE_MIROSTAT_ETA]}, {"seed", &s[SAMPLE_SEED]},
		{"n_keep", &s[SAMPLE_NUM_KEEP]}, {"stop", &o->stop}, {"n", &n},
		{"best_of", &o->best_of}, {"logit_bias", &o->logit_bias}, {"grammar", &o->grammar},
		{"response_format", &response_format}, {"json_schema", &schema},
		{"max_completion_tokens", &limit}, {"max_tokens", &older});
	if ((!is_absent(limit) && limit.type != JSON_NUMBER) ||
		(!is_absent(older) && older.type != JSON_NUMBER))
		return "'max_tokens' must be a number";
	if (!is_absent(n) && !json_to_int(n, &o->choices))
		return "'n' must be a whole number";
	return order_format(o, response_format, schema);
}

static void order_thinking(struct chat_order *o)
{
	struct json_value reasoning, kwargs;
	bool on;
	FIELDS_GET(o->request->root, {"think", &o->think}, {"reasoning_effort", &o->effort},
		{"reasoning", &reasoning}, {"chat_template_kwargs", &kwargs});
	if (reasoning.type == JSON_OBJECT)
		o->effort = string_or(o->effort, json_get(reasoning, "effort"));
	if (o->effort.type != JSON_STRING)
		o->effort = (struct json_value){.type = JSON_NONE};
	if (kwargs.type == JSON_OBJECT && json_to_bool(json_get(kwargs, "enable_thinking"), &on))
		o->thinking = on ? SWITCH_ON : SWITCH_OFF;
}

static const char *order_tools(struct chat_order *o)
{
	struct json_value choice, function_call, said, parallel;
	FIELDS_GET(o->request->root, {"tool_choice", &choice}, {"function_call", &function_call},
		{"functions", &o->functions}, {"parallel_tool_calls", &parallel});
	o->tools = o->request->tools;
	if (parallel.type == JSON_FALSE)
		o->parallel = SWITCH_OFF;
	said = is_absent(choice) ? function_call : choice;
	if (said.type == JSON_OBJECT) {
		o->choice = CHOICE_NAMED;
		o->choice_name = tool_call_read(said).name;
		if (o->choice_name.type != JSON_STRING)
			return "'tool_choice' can name one function, and nothing else";
	} else if (said.type == JSON_STRING) {
		o->choice = json_string_is(said, "none")       ? CHOICE_NONE
			    : json_string_is(said, "required") ? CHOICE_REQUIRED
							       : CHOICE_AUTO;
	}
	return NULL;
}

/* What only a server of OpenAI's own can do; NULL: nothing of it. */
static const char *beyond(struct json_value root)
{
	struct json_value search, modalities, moderation, one;
	FIELDS_GET(root, {"web_search_options", &search}, {"modalities", &modalities},
		{"moderation", &moderation});
	if (!is_absent(search))
		return "'web_search_options': this server searches nothing by itself";
	if (!is_absent(moderation))
		return "'moderation': this server moderates nothing";
	for (struct json_iter it = json_iter(modalities); json_array_next(&it, &one);)
		if (!json_string_is(one, "text"))
			return "'modalities': this backend answers in text alone";
	return NULL;
}

/* --- the order: messages --- */

static int add_value(struct chat_order *o, enum order_part_kind kind, struct json_value value)
{
	struct order_part *p = order_add_part(o, kind);
	if (!p)
		return -ENOMEM;
	p->value = value;
	return 0;
}

static int order_content(struct chat_order *o, struct json_value content)
{
	static const enum order_part_kind kinds[] = {
		[PART_TEXT] = ORDER_TEXT, [PART_IMAGE] = ORDER_IMAGE, [PART_OTHER] = ORDER_OTHER};
	struct json_iter it = json_iter(content);
	struct json_value part, value;
	int rc = 0;
	if (content.type == JSON_STRING)
		return add_value(o, ORDER_TEXT, content);
	while (rc == 0 && json_array_next(&it, &part)) {
		enum part_kind kind = part_classify(part, &value);
		rc = add_value(o, kinds[kind], value);
	}
	return rc;
}

static int order_call(struct chat_order *o, struct json_value element)
{
	struct tool_call call = tool_call_read(element);
	struct order_part *p = order_add_part(o, ORDER_CALL);
	if (!p)
		return -ENOMEM;
	p->id = call.id;
	p->name = call.name;
	p->arguments = call.arguments;
	return 0;
}

static int order_calls(struct chat_order *o, struct json_value calls, struct json_value older)
{
	struct json_iter it = json_iter(calls);
	struct json_value element;
	int rc = 0;
	if (calls.type != JSON_ARRAY)
		return older.type == JSON_OBJECT ? order_call(o, older) : 0;
	while (rc == 0 && json_array_next(&it, &element))
		rc = order_call(o, element);
	return rc;
}

int openai_order_message(struct chat_order *o, const struct chat_message *view)
{
	struct json_value older, thinking, reasoning_content, reasoning, tool_name, name, refusal;
	struct order_message *m = order_add_message(o, view->role);
	if (!m)
		return -ENOMEM;
	FIELDS_GET(view->raw, {"role", &m->said_role}, {"function_call", &older},
		{"thinking", &thinking}, {"reasoning_content", &reasoning_content},
		{"reasoning", &reasoning}, {"tool_name", &tool_name}, {"name", &name},
		{"refusal", &refusal});
	bool refused =
		is_absent(view->content) && refusal.type == JSON_STRING && value_filled(refusal);
	m->raw = view->raw;
	m->content = view->content;
	m->raw_in = API_OPENAI;
	/* Ollama's API has a message in this very form as well. */
	if (view->content.type != JSON_ARRAY && is_absent(view->tool_calls) &&
		older.type != JSON_OBJECT && reasoning_content.type != JSON_STRING &&
		reasoning.type != JSON_STRING && !json_string_is(m->said_role, "developer") &&
		view->role != CHAT_TOOL && !refused)
		m->raw_in |= API_OLLAMA;
	m->content_in = API_OPENAI | (view->content.type == JSON_STRING ? API_OLLAMA : 0);
	m->call_id = view->call_id;
	m->tool_name = string_or(tool_name, name);
	thinking = string_or(thinking, string_or(reasoning_content, reasoning));
	int rc = order_content(o, refused ? refusal : view->content);
	if (rc == 0 && thinking.type == JSON_STRING)
		rc = add_value(o, ORDER_THINKING, thinking);
	return rc ? rc : order_calls(o, view->tool_calls, older);
}

static int order_chat(const struct chat_request *r, struct chat_order *o, struct dialect_error *e)
{
	int rc = 0;
	const char *why = openai_order_common(o);
	order_thinking(o);
	why = why ? why : order_tools(o);
	why = why ? why : beyond(r->root);
	if (why)
		return order_refuse(e, why);
	FIELDS_GET(r->root, {"logprobs", &o->logprobs}, {"top_logprobs", &o->top_logprobs});
	for (size_t i = 0; i < r->count && rc == 0; i++)
		rc = openai_order_message(o, &r->messages[i]);
	return rc;
}

/* --- going on with an answer --- */

const char *openai_resume_refused(const struct chat_request *r)
{
	struct json_value n, response_format, schema, grammar, type;
	int64_t choices = 1;
	FIELDS_GET(r->root, {"n", &n}, {"response_format", &response_format},
		{"json_schema", &schema}, {"grammar", &grammar});
	FIELDS_GET(response_format, {"type", &type});
	json_to_int(n, &choices);
	if ((type.type == JSON_STRING && !json_string_is(type, "text")) || !is_absent(schema) ||
		value_filled(grammar))
		return "the answer has a prescribed form";
	return choices > 1 ? "several answers are asked for" : NULL;
}

/* --- errors --- */

/* llama-server's names (docs/protocols.md#errors-of-llama-server). */
const char *front_error_type(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 403:
		return "permission_error";
	case 404:
		return "not_found_error";
	case 429:
		return "rate_limit_error";
	case 501:
		return "not_supported_error";
	case 503:
		return "unavailable_error";
	default:
		return status >= 400 && status < 500 ? "invalid_request_error" : "server_error";
	}
}

void openai_error(int status, struct slice message, struct buf *out)
{
	buf_add_str(out, "{\"error\":{\"message\":");
	json_put_string(out, message);
	buf_printf(out, ",\"type\":\"%s\",\"param\":null,\"code\":%d}}", front_error_type(status),
		status);
}

void openai_overflow(
	const char *param, struct slice message, uint64_t prompt, uint64_t window, struct buf *out)
{
	buf_add_str(out, "{\"error\":{\"message\":");
	json_put_string(out, message);
	buf_printf(out, ",\"type\":\"invalid_request_error\",\"param\":\"%s\",\"code\":400", param);
	if (prompt > 0)
		buf_printf(out, ",\"n_prompt_tokens\":%" PRIu64, prompt);
	if (window > 0)
		buf_printf(out, ",\"n_ctx\":%" PRIu64, window);
	buf_add_str(out, "}}");
}

static void chat_overflow(struct slice message, uint64_t prompt, uint64_t window, struct buf *out)
{
	openai_overflow("messages", message, prompt, window, out);
}

/* --- the rows --- */

const struct front_dialect front_openai_chat = {
	.name = "openai chat",
	.number = DIALECT_OPENAI_CHAT,
	.errors = DIALECT_OPENAI_OTHER,
	.api = API_OPENAI,
	.sse = true,
	.patience_ms = 300000,
	.path = "/v1/chat/completions",
	.answer = ANSWER_OPENAI_CHAT,
	.read = read_chat,
	.rewrite = front_rewrite_messages,
	.order = order_chat,
	.resume = {.refused = openai_resume_refused,
		.limits = {"max_tokens", "max_completion_tokens", "n_predict"},
		.thinking_in = "chat_template_kwargs",
		.thinking = "enable_thinking"},
	.writer = &writer_openai_chat,
	.error = openai_error,
	.overflow = chat_overflow,
};

/* Embeddings and their like. */
static void other_overflow(struct slice message, uint64_t prompt, uint64_t window, struct buf *out)
{
	openai_overflow("input", message, prompt, window, out);
}

const struct front_dialect front_openai_other = {
	.name = "openai",
	.number = DIALECT_OPENAI_OTHER,
	.errors = DIALECT_OPENAI_OTHER,
	.api = API_OPENAI,
	.sse = true,
	.patience_ms = 300000,
	.error = openai_error,
	.overflow = other_overflow,
};
