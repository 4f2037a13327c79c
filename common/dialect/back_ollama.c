/* Ollama's own API: /api/chat, and /api/generate for prompts (never its /v1, which swallows errors
 * in mid-stream). */
#include "common/dialect/back.h"
#include "common/dialect/pieces.h"
#include "common/dialect/tune.h"

#include <errno.h>
#include <inttypes.h>

/* --- content --- */

/* The base64 data of a data: URI; both forms have no escapes to decode except \/ which
 * stays valid. */
static bool uri_data(struct slice url, struct slice *data)
{
	static const char marker[] = ";base64,";
	const char *comma = url.n ? memchr(url.p, ',', url.n) : NULL;
	if (url.n < strlen("data:") || memcmp(url.p, "data:", strlen("data:")) != 0 || !comma)
		return false;
	const char *start = comma + 1 - strlen(marker);
	if (start < url.p || memcmp(start, marker, strlen(marker)) != 0)
		return false;
	*data = (struct slice){comma + 1, (size_t)(url.p + url.n - (comma + 1))};
	return true;
}

static int put_images(struct back_work *w, const struct order_message *m)
{
	const struct order_part *p;
	size_t at = 0;
	bool first = true;
	buf_add_str(w->out, ",\"images\":[");
	while ((p = order_next(w->o, m, ORDER_IMAGE, &at))) {
		struct slice data = string_inner(p->value);
		if (!p->bare && !uri_data(data, &data))
			return back_refuse(
				w, "invalid image input: only base64 data: URIs are supported");
		buf_add_str(w->out, first ? "\"" : ",\"");
		first = false;
		buf_add_slice(w->out, data);
		buf_add_char(w->out, '"');
	}
	return buf_add_char(w->out, ']');
}

static int put_calls(struct back_work *w, const struct order_message *m)
{
	const struct order_part *p;
	size_t at = 0;
	int rc = 0;
	buf_add_str(w->out, ",\"tool_calls\":[");
	for (bool first = true; rc == 0 && (p = order_next(w->o, m, ORDER_CALL, &at));
		first = false) {
		buf_add_str(w->out, first ? "{" : ",{");
		if (p->id.type == JSON_STRING)
			member_copy(w->out, "id", p->id);
		json_put_key(w->out, "function");
		buf_add_str(w->out, "{\"name\":");
		buf_add_slice(w->out, p->name.type == JSON_STRING ? p->name.raw : SLICE("\"\""));
		buf_add_str(w->out, ",\"arguments\":");
		rc = arguments_put_object_from(w->out, p->arguments, &w->scratch);
		buf_add_str(w->out, "}}");
	}
	buf_add_char(w->out, ']');
	return rc;
}

/* --- messages --- */

static void put_role(struct back_work *w, const struct order_message *m)
{
	buf_add_str(w->out, "{\"role\":");
	if (m->role == CHAT_SYSTEM)
		buf_add_str(w->out, "\"system\"");
	else if (m->role == CHAT_TOOL)
		buf_add_str(w->out, "\"tool\"");
	else if (m->said_role.type == JSON_STRING)
		buf_add_slice(w->out, m->said_role.raw);
	else
		buf_add_str(w->out, m->role == CHAT_ASSISTANT ? "\"assistant\"" : "\"user\"");
}

static int put_message(struct back_work *w, size_t i)
{
	const struct chat_order *o = w->o;
	const struct order_message *m = &o->messages[i];
	int rc = 0;
	if (m->raw_in & API_OLLAMA)
		return buf_add_slice(w->out, m->raw.raw);
	put_role(w, m);
	json_put_key(w->out, "content");
	if (order_parts(o, m, ORDER_OTHER))
		return back_refuse(
			w, "invalid message format: a content part is neither text nor image");
	order_put_joined(o, m, ORDER_TEXT, w->out);
	if (order_parts(o, m, ORDER_IMAGE))
		rc = put_images(w, m);
	if (order_parts(o, m, ORDER_THINKING)) {
		json_put_key(w->out, "thinking");
		order_put_joined(o, m, ORDER_THINKING, w->out);
	}
	if (rc == 0 && order_parts(o, m, ORDER_CALL))
		rc = put_calls(w, m);
	if (m->role == CHAT_TOOL) {
		member_copy(w->out, "tool_call_id", m->call_id);
		/* Templates want the function's name, where a client may say the call's id alone. */
		member_copy(w->out, "tool_name", string_or(m->tool_name, order_called_name(o, i)));
	}
	buf_add_char(w->out, '}');
	return rc;
}

/* --- what stands beside the messages --- */

/* Of those that a tool_choice names, or all. */
static bool is_offered(const struct chat_order *o, struct json_value tool)
{
	return o->choice != CHOICE_NAMED ||
	       slice_eq(string_inner(tool_call_read(tool).name), string_inner(o->choice_name));
}

/* `older` ones are what stands in `function` of the others. */
static void put_offered(struct back_work *w, struct json_value tools, bool older)
{
	struct json_iter it = json_iter(tools);
	struct json_value tool;
	json_put_key(w->out, "tools");
	buf_add_char(w->out, '[');
	while (json_array_next(&it, &tool)) {
		if (!is_offered(w->o, tool))
			continue;
		if (w->out->n && w->out->p[w->out->n - 1] != '[')
			buf_add_char(w->out, ',');
		buf_add_str(w->out, older ? "{\"type\":\"function\",\"function\":" : "");
		buf_add_slice(w->out, tool.raw);
		buf_add_str(w->out, older ? "}" : "");
	}
	buf_add_char(w->out, ']');
}

/* Ollama has no tool_choice. "none" and a function by its name are kept by what is offered; whether
 * one is called at all shows in the answer. */
static void put_tools(struct back_work *w)
{
	const struct chat_order *o = w->o;
	w->call->must_call = o->choice == CHOICE_REQUIRED || o->choice == CHOICE_NAMED;
	if (o->choice == CHOICE_NONE)
		return;
	if (!is_absent(o->tools) && o->choice != CHOICE_NAMED)
		member_copy(w->out, "tools", o->tools);
	else if (!is_absent(o->tools))
		put_offered(w, o->tools, false);
	else if (o->functions.type == JSON_ARRAY)
		put_offered(w, o->functions, true);
}

static void put_format(struct back_work *w)
{
	if (w->o->form == ORDER_SCHEMA)
		member_copy(w->out, "format", w->o->schema);
	else if (w->o->form == ORDER_JSON)
		buf_add_str(w->out, ",\"format\":\"json\"");
}

/* Ollama refuses levels that it does not know, and before 0.30 it knew none above high. */
static void put_think(struct back_work *w)
{
	static const struct {
		const char *said, *sent;
	} levels[] = {
		{"none", "false"},
		{"minimal", "\"low\""},
		{"low", "\"low\""},
		{"medium", "\"medium\""},
		{"high", "\"high\""},
		{"xhigh", "\"high\""},
		{"max", "\"high\""},
		{"ultra", "\"high\""},
	};
	const struct chat_order *o = w->o;
	if (!is_absent(o->think)) {
		member_copy(w->out, "think", o->think);
		return;
	}
	if (o->thinking == SWITCH_WISHED)
		return; /* what it does by itself; true, or a level, is refused by models that can't */
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (!json_string_is(o->effort, levels[i].said))
			continue;
		json_put_key(w->out, "think");
		buf_add_str(w->out, levels[i].sent);
		return;
	}
	if (o->thinking != SWITCH_UNSAID) {
		json_put_key(w->out, "think");
		buf_add_str(w->out, o->thinking == SWITCH_ON ? "true" : "false");
	}
}

static void put_stop(struct back_work *w)
{
	struct json_value stop = w->o->stop;
	if (stop.type == JSON_ARRAY) {
		member_copy(w->out, "stop", stop);
	} else if (stop.type == JSON_STRING) {
		json_put_key(w->out, "stop");
		buf_add_char(w->out, '[');
		buf_add_slice(w->out, stop.raw);
		buf_add_char(w->out, ']');
	}
}

static void put_options(struct back_work *w)
{
	static const struct back_sampler samplers[] = {
		{SAMPLE_TEMPERATURE, "temperature"},
		{SAMPLE_TOP_P, "top_p"},
		{SAMPLE_TOP_K, "top_k"},
		{SAMPLE_MIN_P, "min_p"},
		{SAMPLE_TYPICAL_P, "typical_p"},
		{SAMPLE_SEED, "seed"},
		{SAMPLE_PRESENCE_PENALTY, "presence_penalty"},
		{SAMPLE_FREQUENCY_PENALTY, "frequency_penalty"},
		{SAMPLE_REPEAT_PENALTY, "repeat_penalty"},
		{SAMPLE_REPEAT_LAST_N, "repeat_last_n"},
		{SAMPLE_NUM_KEEP, "num_keep"},
	};
	struct buf *out = w->out;
	size_t before = out->n;
	json_put_key(out, "options");
	buf_add_char(out, '{');
	size_t empty = out->n;
	if (w->num_ctx > 0)
		buf_printf(out, "\"num_ctx\":%" PRId64, w->num_ctx);
	if (w->o->request->max_output >= 0) {
		json_put_key(out, "num_predict");
		json_put_int(out, w->o->request->max_output);
	}
	back_put_samplers(w, samplers, sizeof(samplers) / sizeof(samplers[0]));
	put_stop(w);
	if (out->n == empty && !buf_error(out))
		out->n = before;
	else
		buf_add_char(out, '}');
}

static void put_rest(struct back_work *w)
{
	buf_add_str(w->out, w->o->request->stream ? ",\"stream\":true" : ",\"stream\":false");
	buf_add_str(w->out, ",\"truncate\":false"); /* too long is an error, not cut in silence */
}

static void put_logprobs(struct back_work *w)
{
	member_copy(w->out, "logprobs", w->o->logprobs);
	member_copy(w->out, "top_logprobs", w->o->top_logprobs);
}

/* --- what can't be done (NULL: nothing): said, since nobody would see that it is missing --- */

static const char *impossible(const struct chat_order *o)
{
	double mirostat = 0;
	if (o->choices > 1)
		return "this backend gives one answer: n must be 1";
	if (value_filled(o->logit_bias))
		return "this backend does not support logit_bias";
	if (value_filled(o->grammar))
		return "this backend does not support grammar";
	if (json_to_double(o->sampling[SAMPLE_MIROSTAT], &mirostat) && mirostat != 0)
		return "this backend does not support mirostat";
	if (o->request->max_output == 0)
		return "this backend writes one token at least: max_tokens must be 1 or more";
	return NULL;
}

static const char *impossible_tools(const struct chat_order *o)
{
	struct json_value tools = is_absent(o->tools) ? o->functions : o->tools, tool;
	struct json_iter it = json_iter(tools);
	size_t offered = 0;
	if (o->choice == CHOICE_NONE)
		return NULL;
	for (; json_array_next(&it, &tool); offered += is_offered(o, tool))
		if (tool_call_read(tool).name.type != JSON_STRING)
			return "this backend knows tools of the type function alone";
	if (offered)
		return NULL;
	return o->choice == CHOICE_REQUIRED ? "tool_choice needs tools"
	       : o->choice == CHOICE_NAMED  ? "tool_choice names a function that is not among the "
					      "tools"
					    : NULL;
}

static const char *impossible_prompt(const struct chat_order *o)
{
	int64_t best_of = 1;
	json_to_int(o->best_of, &best_of);
	if (o->prompt.type != JSON_STRING)
		return "this backend takes one prompt, as a string";
	if (!value_filled(o->prompt))
		return "this backend needs a prompt that is not empty";
	return best_of > 1 ? "this backend gives one answer: best_of must be 1" : NULL;
}

/* --- the two paths --- */

static int build_chat(struct back_work *w)
{
	const char *why = impossible_tools(w->o);
	if (why)
		return back_refuse(w, why);
	int rc = back_put_messages(w, put_message);
	put_rest(w);
	put_tools(w);
	put_format(w);
	put_think(w);
	put_logprobs(w);
	put_options(w);
	return rc;
}

/* Raw: the prompt is for no template. Only with a suffix does Ollama need its template, which says
 * how the model is asked to fill in; without one it answers that the model does not support it. */
static int build_prompt(struct back_work *w)
{
	const struct chat_order *o = w->o;
	const char *why = impossible_prompt(o);
	if (why)
		return back_refuse(w, why);
	w->call->path = "/api/generate";
	w->call->format = ANSWER_OLLAMA_GENERATE;
	json_put_key(w->out, "prompt");
	buf_add_slice(w->out, o->prompt.raw);
	if (value_filled(o->suffix))
		member_copy(w->out, "suffix", o->suffix);
	else
		buf_add_str(w->out, ",\"raw\":true");
	put_rest(w);
	put_format(w);
	put_logprobs(w);
	put_options(w);
	return 0;
}

static int build(struct back_work *w)
{
	const char *why = impossible(w->o);
	if (why)
		return back_refuse(w, why);
	w->call->path = back_ollama.chat.path;
	w->call->format = back_ollama.chat.format;
	buf_add_char(w->out, '{');
	member_copy(w->out, "model", w->o->request->model);
	int rc = is_absent(w->o->prompt) ? build_chat(w) : build_prompt(w);
	buf_add_char(w->out, '}');
	return rc;
}

/* --- calls of our own --- */

/* Only "think": true is refused by models that can't. */
static void put_notes(int64_t max_tokens, int64_t num_ctx, struct buf *out)
{
	buf_printf(out,
		",\"truncate\":false,\"think\":false,\"options\":{\"temperature\":0,\"seed\":0,"
		"\"num_predict\":%" PRId64,
		max_tokens);
	if (num_ctx > 0)
		buf_printf(out, ",\"num_ctx\":%" PRId64, num_ctx);
	buf_add_char(out, '}');
}

static void put_warm(struct json_value root, struct buf *out)
{
	static const char *const others[] = {"stream", "options", NULL};
	static const char *const limits[] = {"num_predict", NULL};
	back_put_others(out, root, others);
	json_put_key(out, "stream");
	buf_add_str(out, "false");
	json_put_key(out, "options");
	back_put_others(out, json_get(root, "options"), limits);
	json_put_key(out, "num_predict");
	buf_add_str(out, "1}");
}

const struct back_dialect back_ollama = {
	.name = "ollama",
	.api = API_OLLAMA,
	.loads = true,
	.tune = chat_request_tune,
	.build = build,
	.notes = put_notes,
	.warm = put_warm,
	.chat = {"/api/chat", ANSWER_OLLAMA_CHAT},
	.prompt = {"/api/generate", ",\"raw\":true", ANSWER_OLLAMA_GENERATE},
	/* Of members with one name the last counts. */
	.render = {"/api/chat", ",\"stream\":false,\"_debug_render_only\":true",
		{"_debug_info", "rendered_template"}},
};
