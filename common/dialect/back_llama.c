/* llama-server: /v1/chat/completions, and for prompts /v1/completions and /infill. */
#include "common/dialect/back_openai.h"
#include "common/dialect/pieces.h"

#include <errno.h>
#include <inttypes.h>

/* --- content --- */

/* llama-server looks at the data, not at the type; the type only has to be an image's. */
static void put_image(struct buf *out, const struct order_part *p)
{
	static const struct {
		const char *start, *type;
	} known[] = {{"/9j/", "jpeg"}, {"R0lGOD", "gif"}, {"UklGR", "webp"}};
	struct slice data = string_inner(p->value);
	const char *type = "png";
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		size_t n = strlen(known[i].start);
		if (data.n >= n && memcmp(data.p, known[i].start, n) == 0)
			type = known[i].type;
	}
	buf_add_str(out, "{\"type\":\"image_url\",\"image_url\":{\"url\":\"");
	/* Older clients send whole URIs where Ollama takes bare data. */
	if (p->bare && (data.n < strlen("data:") || memcmp(data.p, "data:", strlen("data:")) != 0))
		buf_printf(out, "data:image/%s;base64,", type);
	buf_add_slice(out, data);
	buf_add_str(out, "\"}}");
}

static void put_parts(struct back_work *w, const struct order_message *m)
{
	bool first = true;
	buf_add_char(w->out, '[');
	for (size_t i = 0; i < m->parts; i++) {
		const struct order_part *p = &w->o->parts[m->first + i];
		if (p->kind != ORDER_TEXT && p->kind != ORDER_IMAGE)
			continue;
		if (!first)
			buf_add_char(w->out, ',');
		first = false;
		if (p->kind == ORDER_IMAGE) {
			put_image(w->out, p);
			continue;
		}
		buf_add_str(w->out, "{\"type\":\"text\",\"text\":");
		buf_add_slice(w->out, p->value.raw);
		buf_add_char(w->out, '}');
	}
	buf_add_char(w->out, ']');
}

static int put_content(struct back_work *w, const struct order_message *m)
{
	if (m->content_in & API_OPENAI) {
		buf_add_slice(w->out, is_absent(m->content) ? SLICE("\"\"") : m->content.raw);
		return 0;
	}
	if (order_parts(w->o, m, ORDER_OTHER))
		return back_refuse(w, "this backend does not support this kind of content");
	if (order_parts(w->o, m, ORDER_IMAGE))
		put_parts(w, m);
	else
		order_put_joined(w->o, m, ORDER_TEXT, w->out);
	return 0;
}

/* --- tool calls and their results --- */

/* The call's own id, or one made of its place: the result that follows finds the same. */
static void put_call_id(struct buf *out, struct json_value id, size_t message, size_t call)
{
	if (value_filled(id) && id.type == JSON_STRING)
		buf_add_slice(out, id.raw);
	else
		buf_printf(out, "\"call_%zu_%zu\"", message, call);
}

static void put_calls(struct back_work *w, size_t message)
{
	struct buf *out = w->out;
	const struct order_part *p;
	size_t at = 0;
	json_put_key(out, "tool_calls");
	buf_add_char(out, '[');
	for (size_t i = 0; (p = order_next(w->o, &w->o->messages[message], ORDER_CALL, &at)); i++) {
		buf_add_str(out, i ? ",{\"id\":" : "{\"id\":");
		put_call_id(out, p->id, message, i);
		buf_add_str(out, ",\"type\":\"function\",\"function\":{\"name\":");
		buf_add_slice(out, p->name.type == JSON_STRING ? p->name.raw : SLICE("\"\""));
		buf_add_str(out, ",\"arguments\":");
		if (p->arguments.type == JSON_STRING)
			buf_add_slice(out, p->arguments.raw);
		else
			json_put_string(
				out, is_absent(p->arguments) ? SLICE("{}") : p->arguments.raw);
		buf_add_str(out, "}}");
	}
	buf_add_char(out, ']');
}

static void put_result(struct back_work *w, size_t message)
{
	const struct order_message *m = &w->o->messages[message];
	size_t asking, call, at = 0;
	if (value_filled(m->call_id)) {
		member_copy(w->out, "tool_call_id", m->call_id);
	} else if (order_answered(w->o, message, &asking, &call)) {
		const struct order_message *asked = &w->o->messages[asking];
		const struct order_part *p = NULL;
		for (size_t n = 0; n <= call; n++)
			p = order_next(w->o, asked, ORDER_CALL, &at);
		json_put_key(w->out, "tool_call_id");
		put_call_id(w->out, p->id, asking, call);
	}
	member_copy(w->out, "name", m->tool_name);
}

/* --- messages --- */

static int put_message(struct back_work *w, size_t i)
{
	static const char *const roles[] = {
		[CHAT_SYSTEM] = "system",
		[CHAT_USER] = "user",
		[CHAT_ASSISTANT] = "assistant",
		[CHAT_TOOL] = "tool",
	};
	const struct order_message *m = &w->o->messages[i];
	if (m->raw_in & API_OPENAI)
		return buf_add_slice(w->out, m->raw.raw);
	buf_add_str(w->out, "{\"role\":\"");
	buf_add_str(w->out, roles[m->role]);
	buf_add_str(w->out, "\",\"content\":");
	int rc = put_content(w, m);
	if (order_parts(w->o, m, ORDER_THINKING)) {
		json_put_key(w->out, "reasoning_content");
		order_put_joined(w->o, m, ORDER_THINKING, w->out);
	}
	if (order_parts(w->o, m, ORDER_CALL))
		put_calls(w, i);
	if (m->role == CHAT_TOOL)
		put_result(w, i);
	buf_add_char(w->out, '}');
	return rc;
}

/* --- what stands beside the messages --- */

/* limit: the name that the path uses for the most tokens to generate. */
static void put_options(struct back_work *w, const char *limit)
{
	static const struct back_sampler samplers[] = {
		{SAMPLE_TEMPERATURE, "temperature"},
		{SAMPLE_TOP_K, "top_k"},
		{SAMPLE_TOP_P, "top_p"},
		{SAMPLE_MIN_P, "min_p"},
		{SAMPLE_TYPICAL_P, "typical_p"},
		{SAMPLE_REPEAT_LAST_N, "repeat_last_n"},
		{SAMPLE_REPEAT_PENALTY, "repeat_penalty"},
		{SAMPLE_PRESENCE_PENALTY, "presence_penalty"},
		{SAMPLE_FREQUENCY_PENALTY, "frequency_penalty"},
		{SAMPLE_MIROSTAT, "mirostat"},
		{SAMPLE_MIROSTAT_TAU, "mirostat_tau"},
		{SAMPLE_MIROSTAT_ETA, "mirostat_eta"},
		{SAMPLE_SEED, "seed"},
		{SAMPLE_NUM_KEEP, "n_keep"},
	};
	back_put_samplers(w, samplers, sizeof(samplers) / sizeof(samplers[0]));
	back_put_samplers(w, w->manner->samplers, w->manner->sampler_count);
	if (w->o->request->max_output >= 0) {
		json_put_key(w->out, limit);
		json_put_int(w->out, w->o->request->max_output);
	}
	member_copy(w->out, "stop", w->o->stop);
}

void back_openai_put_format(struct back_work *w)
{
	if (w->o->form == ORDER_JSON)
		buf_add_str(w->out, ",\"response_format\":{\"type\":\"json_object\"}");
	if (w->o->form != ORDER_SCHEMA)
		return;
	buf_add_str(w->out, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
			    "\"name\":\"format\",\"schema\":");
	buf_add_slice(w->out, w->o->schema.raw);
	buf_add_str(w->out, "}}");
}

static void put_prompt_format(struct back_work *w)
{
	if (w->o->form == ORDER_JSON)
		buf_add_str(w->out, ",\"json_schema\":{}");
	else if (w->o->form == ORDER_SCHEMA)
		member_copy(w->out, "json_schema", w->o->schema);
}

static void put_think(struct back_work *w)
{
	const struct chat_order *o = w->o;
	bool begun = o->count && o->messages[o->count - 1].role == CHAT_ASSISTANT;
	if (value_filled(o->effort)) {
		json_put_key(w->out, "chat_template_kwargs");
		buf_add_str(w->out, "{\"enable_thinking\":true,\"reasoning_effort\":");
		buf_add_slice(w->out, o->effort.raw);
		buf_add_char(w->out, '}');
	} else if (o->thinking != SWITCH_UNSAID || begun) {
		/* llama-server refuses to continue an answer while thinking is on. */
		json_put_key(w->out, "chat_template_kwargs");
		bool on = o->thinking == SWITCH_ON || (o->thinking == SWITCH_WISHED && !begun);
		buf_add_str(
			w->out, on ? "{\"enable_thinking\":true}" : "{\"enable_thinking\":false}");
	}
	member_copy(w->out, "thinking_budget_tokens", o->thinking_budget);
}

static void put_choice(struct back_work *w)
{
	static const char *const words[] = {[CHOICE_AUTO] = "\"auto\"",
		[CHOICE_NONE] = "\"none\"",
		[CHOICE_REQUIRED] = "\"required\""};
	const struct chat_order *o = w->o;
	if (o->parallel == SWITCH_OFF)
		buf_add_str(w->out, ",\"parallel_tool_calls\":false");
	if (o->choice == CHOICE_UNSAID)
		return;
	json_put_key(w->out, "tool_choice");
	if (o->choice != CHOICE_NAMED) {
		buf_add_str(w->out, words[o->choice]);
		return;
	}
	buf_add_str(w->out, "{\"type\":\"function\",\"function\":{\"name\":");
	buf_add_slice(
		w->out, o->choice_name.type == JSON_STRING ? o->choice_name.raw : SLICE("\"\""));
	buf_add_str(w->out, "}}");
}

static void put_stream(struct back_work *w)
{
	buf_add_str(w->out, w->o->request->stream
				    ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"
				    : ",\"stream\":false");
}

/* --- the three paths --- */

static int build_chat(struct back_work *w)
{
	int rc = back_put_messages(w, put_message);
	put_stream(w);
	member_copy(w->out, "tools", w->o->tools);
	put_choice(w);
	back_openai_put_format(w);
	w->manner->put_think(w);
	if (w->o->logprobs.type == JSON_TRUE) {
		member_copy(w->out, "logprobs", w->o->logprobs);
		member_copy(w->out, "top_logprobs", w->o->top_logprobs);
	}
	put_options(w, "max_tokens");
	return rc;
}

/* llama-server's own members (samplers, grammars, slots) of a client that speaks to it in its own API:
 * all but those that the order has. */
static void put_own(struct back_work *w)
{
	static const char *const had[] = {"model", "prompt", "suffix", "echo", "stream",
		"stream_options", "max_tokens", "max_completion_tokens", "n_predict", "stop", "n",
		"best_of", "logprobs", "response_format", "json_schema", "temperature", "top_k",
		"top_p", "min_p", "typical_p", "repeat_last_n", "repeat_penalty",
		"presence_penalty", "frequency_penalty", "mirostat", "mirostat_tau", "mirostat_eta",
		"seed", "n_keep", "input_prefix", "input_suffix", NULL};
	if (w->o->own.type == JSON_OBJECT)
		back_put_members(w->out, w->o->own, had);
}

/* A number of alternatives here, of which there is one at least. */
static void put_prompt_logprobs(struct back_work *w)
{
	int64_t top = 0;
	if (w->o->logprobs.type != JSON_TRUE)
		return;
	json_to_int(w->o->top_logprobs, &top);
	json_put_key(w->out, "logprobs");
	json_put_int(w->out, top > 0 ? top : 1);
}

static void build_prompt(struct back_work *w)
{
	w->call->path = "/v1/completions";
	w->call->format = ANSWER_OPENAI_TEXT;
	json_put_key(w->out, "prompt");
	buf_add_slice(w->out, w->o->prompt.raw);
	put_stream(w);
	put_options(w, "max_tokens");
	w->manner->put_prompt_format(w);
	put_prompt_logprobs(w);
	put_own(w);
}

static void build_infill(struct back_work *w)
{
	w->call->path = "/infill";
	w->call->format = ANSWER_LLAMA_INFILL;
	json_put_key(w->out, "input_prefix");
	buf_add_slice(w->out, w->o->prompt.raw);
	member_copy(w->out, "input_suffix", w->o->suffix);
	buf_add_str(w->out, w->o->request->stream ? ",\"stream\":true" : ",\"stream\":false");
	put_options(w, "n_predict");
	w->manner->put_prompt_format(w);
	put_own(w);
}

static const char *impossible(const struct chat_order *o, const struct openai_manner *m)
{
	int64_t best_of = 1;
	json_to_int(o->best_of, &best_of);
	if (value_filled(o->template))
		return "this backend does not support template";
	if (value_filled(o->context))
		return "this backend does not support context";
	if (value_filled(o->suffix) && !m->infills)
		return "this backend does not support suffix";
	if (is_absent(o->prompt))
		return NULL;
	if (o->choices > 1 || best_of > 1 || o->prompt.type != JSON_STRING)
		return "this backend gives one answer to one prompt with suffix, echo or "
		       "response_format";
	if (value_filled(o->suffix) && o->logprobs.type == JSON_TRUE)
		return "this backend has no logprobs where a suffix is given";
	if (o->logprobs.type == JSON_TRUE && !m->infills)
		return "this backend has no logprobs of a prompt that can be translated";
	return NULL;
}

int back_openai_build(struct back_work *w, const struct openai_manner *m)
{
	w->manner = m;
	const struct chat_order *o = w->o;
	const char *why = impossible(o, m);
	int rc = 0;
	if (why)
		return back_refuse(w, why);
	w->call->path = back_llama.chat.path;
	w->call->format = back_llama.chat.format;
	buf_add_char(w->out, '{');
	member_copy(w->out, "model", o->request->model);
	if (is_absent(o->prompt))
		rc = build_chat(w);
	else if (value_filled(o->suffix))
		build_infill(w);
	else
		build_prompt(w);
	buf_add_char(w->out, '}');
	return rc;
}

static int build(struct back_work *w)
{
	static const struct openai_manner manner = {
		.put_think = put_think, .put_prompt_format = put_prompt_format, .infills = true};
	return back_openai_build(w, &manner);
}

/* --- calls of our own --- */

void back_openai_put_notes(int64_t max_tokens, int64_t num_ctx, struct buf *out)
{
	(void)num_ctx;
	buf_printf(out,
		",\"temperature\":0,\"seed\":0,\"max_tokens\":%" PRId64
		",\"chat_template_kwargs\":{\"enable_thinking\":false}",
		max_tokens);
}

static void put_warm(struct json_value root, struct buf *out)
{
	static const char *const others[] = {"stream", "stream_options", "n_predict", "max_tokens",
		"max_completion_tokens", "cache_prompt", "n", NULL};
	back_put_others(out, root, others);
	json_put_key(out, "stream");
	buf_add_str(out, "false");
	json_put_key(out, "n_predict");
	buf_add_str(out, "0");
	json_put_key(out, "cache_prompt");
	buf_add_str(out, "true");
}

const struct back_dialect back_llama = {
	.name = "llama-server",
	.api = API_OPENAI,
	.lacks = NEED_SUFFIX | NEED_ECHO | NEED_FORM,
	.build = build,
	.notes = back_openai_put_notes,
	.warm = put_warm,
	.chat = {"/v1/chat/completions", ANSWER_OPENAI_CHAT},
	.prompt = {"/completion", "", ANSWER_LLAMA_INFILL},
	.render = {"/apply-template", "", {"prompt", NULL}},
};
