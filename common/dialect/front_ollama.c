/* Ollama's /api/chat, and what its other rows share with it. */
#include "common/dialect/front_ollama.h"
#include "common/dialect/pieces.h"
#include "common/dialect/writer.h"

#include <errno.h>
#include <stdio.h>

/* --- the view --- */

/* Ollama's own words for a body without a model. */
int ollama_need_model(struct request_reader *in, int status, const char *words)
{
	return value_filled(in->r->model) ? 0 : reader_refuse(in, status, words);
}

/* keep_alive: a number of seconds or a Go duration; zero unloads. */
static bool is_zero_duration(struct json_value v)
{
	double seconds;
	if (json_to_double(v, &seconds))
		return seconds == 0;
	return json_string_is(v, "0") || json_string_is(v, "0s") || json_string_is(v, "0m") ||
	       json_string_is(v, "0h");
}

/* What stands beside the messages. */
void ollama_read_rest(struct request_reader *in, const struct ollama_body *b, bool is_load)
{
	struct chat_request *r = in->r;
	struct json_value num_ctx, num_predict;
	bool formed = value_filled(b->format);
	r->tools = b->tools;
	reader_count_tools(in, b->tools);
	if (formed)
		reader_count(in, b->format);
	r->tools_bytes = b->tools.raw.n + (formed ? b->format.raw.n : 0);
	FIELDS_GET(b->options, {"num_ctx", &num_ctx}, {"num_predict", &num_predict});
	r->max_output = reader_limit(num_predict);
	if (r->max_output == 0)
		r->max_output = -1; /* no limit: Ollama loses the zero */
	int64_t n = reader_limit(num_ctx);
	r->num_ctx = n > 0 ? n : 0;
	r->is_load = is_load;
	r->is_unload = is_load && is_zero_duration(b->keep_alive);
}

static int read_chat(struct request_reader *in)
{
	static const struct reader_words words = {
		"json: cannot unmarshal value into Go struct field "
		"ChatRequest.messages of type []api.Message",
		"json: cannot unmarshal value into Go struct field "
		"ChatRequest.messages of type api.Message"};
	struct chat_request *r = in->r;
	struct json_value messages;
	struct ollama_body b;
	r->other_case |= FIELDS_GET(r->root, {"messages", &messages}, {"tools", &b.tools},
		{"format", &b.format}, {"options", &b.options}, {"keep_alive", &b.keep_alive});
	int rc = ollama_need_model(in, 400, "model is required");
	if (rc == 0 && !is_absent(messages))
		rc = reader_add_messages(in, messages, &words);
	if (rc)
		return rc;
	ollama_read_rest(in, &b, r->count == 0);
	r->condensable = reader_is_open(r);
	return 0;
}

/* --- the order: what stands beside the messages --- */

int ollama_refuse(struct dialect_error *error, const char *text)
{
	error->status = 400;
	snprintf(error->text, sizeof(error->text), "%s", text);
	return -EINVAL;
}

static void order_options(struct chat_order *o, struct json_value options)
{
	struct json_value *s = o->sampling;
	FIELDS_GET(options, {"temperature", &s[SAMPLE_TEMPERATURE]}, {"top_k", &s[SAMPLE_TOP_K]},
		{"top_p", &s[SAMPLE_TOP_P]}, {"min_p", &s[SAMPLE_MIN_P]},
		{"typical_p", &s[SAMPLE_TYPICAL_P]}, {"repeat_last_n", &s[SAMPLE_REPEAT_LAST_N]},
		{"repeat_penalty", &s[SAMPLE_REPEAT_PENALTY]},
		{"presence_penalty", &s[SAMPLE_PRESENCE_PENALTY]},
		{"frequency_penalty", &s[SAMPLE_FREQUENCY_PENALTY]},
		{"mirostat", &s[SAMPLE_MIROSTAT]}, {"mirostat_tau", &s[SAMPLE_MIROSTAT_TAU]},
		{"mirostat_eta", &s[SAMPLE_MIROSTAT_ETA]}, {"seed", &s[SAMPLE_SEED]},
		{"num_keep", &s[SAMPLE_NUM_KEEP]}, {"stop", &o->stop});
}

static int order_format(struct chat_order *o, struct json_value format, struct dialect_error *e)
{
	if (!value_filled(format) && format.type != JSON_OBJECT)
		return 0;
	if (json_string_is(format, "json")) {
		o->form = ORDER_JSON;
		return 0;
	}
	if (format.type != JSON_OBJECT)
		return ollama_refuse(
			e, "invalid format: expected \"json\" or a JSON schema object");
	o->form = ORDER_SCHEMA;
	o->schema = format;
	return 0;
}

static void order_think(struct chat_order *o, struct json_value think)
{
	bool on;
	o->think = think;
	if (json_to_bool(think, &on))
		o->thinking = on ? SWITCH_ON : SWITCH_OFF;
	else if (think.type == JSON_STRING && value_filled(think))
		o->effort = think;
}

static void order_choice(struct chat_order *o, struct json_value choice)
{
	if (choice.type != JSON_STRING)
		return;
	o->choice = json_string_is(choice, "none")	 ? CHOICE_NONE
		    : json_string_is(choice, "required") ? CHOICE_REQUIRED
							 : CHOICE_AUTO;
}

int ollama_order_rest(struct chat_order *o, struct dialect_error *e)
{
	struct json_value options, format, think, choice, limit;
	FIELDS_GET(o->request->root, {"options", &options}, {"format", &format}, {"think", &think},
		{"tool_choice", &choice}, {"logprobs", &o->logprobs},
		{"top_logprobs", &o->top_logprobs});
	o->tools = o->request->tools;
	limit = json_get(options, "num_predict");
	if (!is_absent(limit) && limit.type != JSON_NUMBER)
		return ollama_refuse(e, "option \"num_predict\" must be of type integer");
	order_options(o, options);
	order_think(o, think);
	order_choice(o, choice);
	return order_format(o, format, e);
}

/* --- the order: messages --- */

/* Images stand before the text, as Ollama renders them. */
int ollama_order_content(struct chat_order *o, struct json_value content, struct json_value images)
{
	struct json_iter it = json_iter(images);
	struct json_value image;
	struct order_part *p;
	while (json_array_next(&it, &image)) {
		p = order_add_part(o, ORDER_IMAGE);
		if (!p)
			return -ENOMEM;
		p->value = image;
		p->bare = true;
	}
	if (content.type != JSON_STRING || !value_filled(content))
		return 0;
	p = order_add_part(o, ORDER_TEXT);
	if (!p)
		return -ENOMEM;
	p->value = content;
	return 0;
}

static int order_calls(struct chat_order *o, struct json_value calls)
{
	struct json_iter it = json_iter(calls);
	struct json_value element;
	while (json_array_next(&it, &element)) {
		struct tool_call call = tool_call_read(element);
		struct order_part *p = order_add_part(o, ORDER_CALL);
		if (!p)
			return -ENOMEM;
		p->id = call.id;
		p->name = call.name;
		p->arguments = call.arguments;
	}
	return 0;
}

static int order_thinking(struct chat_order *o, struct json_value thinking)
{
	struct order_part *p;
	if (thinking.type != JSON_STRING)
		return 0;
	p = order_add_part(o, ORDER_THINKING);
	if (!p)
		return -ENOMEM;
	p->value = thinking;
	return 0;
}

/* Whether OpenAI's API has a message in this very form. */
static bool is_openai_too(const struct order_message *m, const struct chat_message *view,
	struct json_value images, struct json_value thinking)
{
	static const char *const lower[] = {"user", "assistant", "system", "tool"};
	bool known = false;
	for (size_t i = 0; i < sizeof(lower) / sizeof(lower[0]); i++)
		known = known || json_string_is(m->said_role, lower[i]);
	return known && m->content.type == JSON_STRING && !array_count(images) &&
	       is_absent(view->tool_calls) && is_absent(thinking);
}

static int order_message(struct chat_order *o, const struct chat_message *view)
{
	struct json_value images, thinking, tool_name, name;
	struct order_message *m = order_add_message(o, view->role);
	if (!m)
		return -ENOMEM;
	FIELDS_GET(view->raw, {"role", &m->said_role}, {"images", &images}, {"thinking", &thinking},
		{"tool_name", &tool_name}, {"name", &name});
	m->raw = view->raw;
	m->content = view->content;
	m->raw_in = API_OLLAMA;
	if (is_openai_too(m, view, images, thinking) &&
		(view->role != CHAT_TOOL || (value_filled(view->call_id) && is_absent(tool_name))))
		m->raw_in |= API_OPENAI;
	m->content_in = array_count(images) ? 0 : API_OLLAMA | API_OPENAI;
	m->call_id = view->call_id;
	m->tool_name = string_or(tool_name, name);
	int rc = order_thinking(o, thinking);
	if (rc == 0)
		rc = ollama_order_content(o, view->content, images);
	return rc ? rc : order_calls(o, view->tool_calls);
}

static int order_chat(const struct chat_request *r, struct chat_order *o, struct dialect_error *e)
{
	int rc = ollama_order_rest(o, e);
	for (size_t i = 0; i < r->count && rc == 0; i++)
		rc = order_message(o, &r->messages[i]);
	return rc;
}

/* --- going on with an answer --- */

const char *ollama_resume_refused(const struct chat_request *r)
{
	struct json_value format = json_get(r->root, "format");
	return value_filled(format) || format.type == JSON_OBJECT
		       ? "the answer has a prescribed form"
		       : NULL;
}

/* --- errors --- */

void front_ollama_error(int status, struct slice message, struct buf *out)
{
	(void)status;
	buf_add_str(out, "{\"error\":");
	json_put_string(out, message);
	buf_add_char(out, '}');
}

/* --- the rows --- */

const struct front_dialect front_ollama_chat = {
	.name = "ollama chat",
	.number = DIALECT_OLLAMA_CHAT,
	.errors = DIALECT_OLLAMA_OTHER,
	.api = API_OLLAMA,
	.any_case = true,
	.patience_ms = 300000,
	.path = "/api/chat",
	.answer = ANSWER_OLLAMA_CHAT,
	.streams = true,
	.names_models = true,
	.read = read_chat,
	.rewrite = front_rewrite_messages,
	.order = order_chat,
	.resume = {.refused = ollama_resume_refused,
		.limits_in = "options",
		.limits = {"num_predict"}},
	.writer = &writer_ollama_chat,
	.error = front_ollama_error,
};

const struct front_dialect front_ollama_other = {
	.name = "ollama",
	.number = DIALECT_OLLAMA_OTHER,
	.errors = DIALECT_OLLAMA_OTHER,
	.api = API_OLLAMA,
	.any_case = true,
	.patience_ms = 300000,
	.names_models = true,
	.error = front_ollama_error,
};
