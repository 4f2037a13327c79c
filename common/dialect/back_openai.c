/*
 * Any server of the OpenAI API: vLLM, SGLang, LM Studio, a remote service. What a client does not say
 * is not sent, since some refuse members that they do not know; what it says goes under the names that
 * most of them have.
 */
#include "common/dialect/back_openai.h"
#include "common/dialect/pieces.h"

/* vLLM, SGLang and OpenRouter; LM Studio and llama.cpp's kin have the name of llama-server. */
static const struct back_sampler samplers[] = {{SAMPLE_REPEAT_PENALTY, "repetition_penalty"}};

static void put_think(struct back_work *w)
{
	const struct chat_order *o = w->o;
	if (value_filled(o->effort)) {
		member_copy(w->out, "reasoning_effort", o->effort);
	} else if (o->thinking != SWITCH_UNSAID && o->thinking != SWITCH_UNWISHED) {
		json_put_key(w->out, "chat_template_kwargs");
		buf_add_str(w->out, o->thinking == SWITCH_OFF ? "{\"enable_thinking\":false}"
							      : "{\"enable_thinking\":true}");
	}
}

static int build(struct back_work *w)
{
	static const struct openai_manner manner = {.samplers = samplers,
		.sampler_count = sizeof(samplers) / sizeof(samplers[0]),
		.put_think = put_think,
		.put_prompt_format = back_openai_put_format};
	return back_openai_build(w, &manner);
}

/* The counts of a stream come only to those who ask for them, in a chunk of their own (usage.h). */
static int ask_usage(const struct chat_request *r, int64_t num_ctx, struct buf *out)
{
	static const char *const options[] = {"stream_options", NULL};
	static const char *const usage[] = {"include_usage", NULL};
	struct json_value said;
	bool asked = false;
	(void)num_ctx;
	FIELDS_GET(r->root, {"stream_options", &said});
	json_to_bool(json_get(said, "include_usage"), &asked);
	if (!r->stream || asked)
		return 0;
	back_put_others(out, r->root, options);
	json_put_key(out, "stream_options");
	back_put_others(out, said, usage);
	json_put_key(out, "include_usage");
	return buf_add_str(out, "true}}");
}

static void put_warm(struct json_value root, struct buf *out)
{
	static const char *const others[] = {
		"stream", "stream_options", "max_tokens", "max_completion_tokens", "n", NULL};
	back_put_others(out, root, others);
	json_put_key(out, "stream");
	buf_add_str(out, "false");
	json_put_key(out, "max_tokens");
	buf_add_str(out, "1");
}

const struct back_dialect back_openai = {
	.name = "OpenAI",
	.api = API_OPENAI,
	.tune = ask_usage,
	.asks_usage = true,
	.build = build,
	.notes = back_openai_put_notes,
	.warm = put_warm,
	.chat = {"/v1/chat/completions", ANSWER_OPENAI_CHAT},
	/* No common way to go on with an answer: the kind lacks the trait. */
	.prompt = {"/v1/completions", "", ANSWER_OPENAI_TEXT},
	.render = {"/v1/chat/completions", "", {"", NULL}},
};
