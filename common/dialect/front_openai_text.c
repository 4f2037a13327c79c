/* OpenAI's older /v1/completions: a prompt for no chat template, gone on with where it ends. */
#include "common/dialect/front_openai.h"
#include "common/dialect/pieces.h"
#include "common/dialect/reader.h"
#include "common/dialect/writer.h"

/* --- the view --- */

/* The prompt where it is one string, alone or in a list; else NONE. */
static struct json_value one_prompt(struct json_value root)
{
	struct json_value prompt = json_get(root, "prompt"), one, more;
	struct json_iter it = json_iter(prompt);
	if (prompt.type == JSON_STRING)
		return prompt;
	if (prompt.type == JSON_ARRAY && json_array_next(&it, &one) && one.type == JSON_STRING &&
		!json_array_next(&it, &more))
		return one;
	return (struct json_value){.type = JSON_NONE};
}

/* Each string is a text of the view; tokens are one that nobody can read. */
static int read_prompts(struct request_reader *in, struct json_value prompt)
{
	struct json_iter it = json_iter(prompt);
	struct json_value one;
	int rc = 0;
	if (prompt.type == JSON_STRING)
		return reader_add_string(in, CHAT_USER, prompt);
	if (prompt.type != JSON_ARRAY || !value_filled(prompt))
		return reader_refuse(in, 400,
			is_absent(prompt) ? "'prompt' is required"
					  : "'prompt' must be a string, or a list of strings or "
					    "tokens");
	while (rc == 0 && json_array_next(&it, &one)) {
		if (one.type == JSON_STRING) {
			rc = reader_add_string(in, CHAT_USER, one);
			continue;
		}
		rc = reader_add_string(in, CHAT_USER, prompt);
		if (rc == 0)
			in->r->messages[in->r->count - 1].others = 1;
		break;
	}
	return rc;
}

struct wishes {
	struct json_value prompt, suffix, echo, logprobs;
	int64_t n, best_of;
};

static struct wishes wishes_of(struct json_value root)
{
	struct wishes w;
	struct json_value n, best_of;
	FIELDS_GET(root, {"suffix", &w.suffix}, {"echo", &w.echo}, {"logprobs", &w.logprobs},
		{"n", &n}, {"best_of", &best_of});
	w.prompt = one_prompt(root);
	w.n = w.best_of = 1;
	json_to_int(n, &w.n);
	json_to_int(best_of, &w.best_of);
	return w;
}

static bool wants_logprobs(struct json_value v)
{
	return v.type == JSON_NUMBER || v.type == JSON_TRUE;
}

static int read_text(struct request_reader *in)
{
	struct chat_request *r = in->r;
	struct json_value prompt, suffix;
	r->other_case |= FIELDS_GET(r->root, {"prompt", &prompt}, {"suffix", &suffix});
	int rc = read_prompts(in, prompt);
	if (rc)
		return rc;
	struct wishes w = wishes_of(r->root);
	r->infills = suffix.type == JSON_STRING && value_filled(suffix);
	reader_count(in, suffix);
	r->bare = true;
	r->max_output = openai_max_output(r->root);
	r->condensable = w.prompt.type == JSON_STRING && w.echo.type != JSON_TRUE &&
			 !value_filled(w.suffix) && !wants_logprobs(w.logprobs) && w.n <= 1 &&
			 w.best_of <= 1;
	return 0;
}

/* --- the order --- */

/* A suffix counts even where it says nothing, since a server that has none refuses the very word. */
static unsigned needs_of(const struct chat_request *r)
{
	struct wishes w = wishes_of(r->root);
	struct json_value type = json_get(json_get(r->root, "response_format"), "type");
	bool formed = type.type == JSON_STRING && !json_string_is(type, "text");
	if (w.prompt.type != JSON_STRING)
		return formed ? NEED_FORM : 0; /* else the backend's own words for it */
	return (w.suffix.type != JSON_NONE ? NEED_SUFFIX : 0) |
	       (w.echo.type == JSON_TRUE ? NEED_ECHO : 0) | (formed ? NEED_FORM : 0);
}

static int order_text(const struct chat_request *r, struct chat_order *o, struct dialect_error *e)
{
	struct wishes w = wishes_of(r->root);
	const char *why = openai_order_common(o);
	FIELDS_GET(r->root, {"prompt", &o->prompt});
	if (w.prompt.type == JSON_STRING)
		o->prompt = w.prompt;
	o->suffix = w.suffix;
	if (wants_logprobs(w.logprobs)) {
		o->logprobs = (struct json_value){JSON_TRUE, SLICE("true")};
		if (w.logprobs.type == JSON_NUMBER)
			o->top_logprobs = w.logprobs;
	}
	o->own = r->root;
	if (why)
		return order_refuse(e, why);
	if (!is_absent(w.suffix) && w.suffix.type != JSON_STRING)
		why = "'suffix' must be a string";
	else if (w.echo.type == JSON_TRUE && w.prompt.type != JSON_STRING)
		why = "echo is only supported with one prompt, as a string";
	else if (w.echo.type == JSON_TRUE && wants_logprobs(w.logprobs))
		why = "echo together with logprobs is not supported: the backend does not tell "
		      "those of the prompt";
	return why ? order_refuse(e, why) : 0;
}

/* --- going on with an answer --- */

static const char *resume_refused_text(const struct chat_request *r)
{
	const char *why = openai_resume_refused(r);
	struct wishes w = wishes_of(r->root);
	if (!why && w.prompt.type != JSON_STRING)
		why = "the prompt is not one string";
	if (!why && w.best_of > 1)
		why = "several answers are asked for";
	if (!why && wants_logprobs(w.logprobs))
		why = "the answer has logprobs, which count its text";
	return why;
}

/* --- the answer --- */

static int begin(struct answer_writer *w, struct slice model)
{
	return writer_openai_head(w, model, "cmpl", "text_completion");
}

static int read_echo(struct answer_writer *w, const struct chat_request *r)
{
	struct wishes wishes = wishes_of(r->root);
	writer_openai_read(w, r);
	if (wishes.echo.type != JSON_TRUE)
		return 0;
	buf_clear(&w->scratch);
	int rc = json_string_decode(wishes.prompt, &w->scratch);
	if (rc == 0)
		rc = json_put_escaped(&w->echo, buf_slice(&w->scratch));
	buf_clear(&w->scratch);
	return rc;
}

static int resume(struct answer_writer *w, const struct answer_begun *from)
{
	(void)from;
	buf_clear(&w->echo); /* the client has it */
	return 0;
}

/* A prompt without a template is told of no tools. */
static bool collect_tool(struct answer_writer *w, const struct answer_event *event)
{
	(void)w, (void)event;
	return false;
}

/* --- logprobs: from a list of tokens with their values to lists of each --- */

enum lists { LIST_TOKENS, LIST_VALUES, LIST_TOP, LIST_OFFSETS, LISTS };

static void put_top(struct buf *out, struct json_value top)
{
	struct json_iter it = json_iter(top);
	struct json_value one, token, value;
	if (!value_filled(top)) {
		buf_add_str(out, "null");
		return;
	}
	buf_add_char(out, '{');
	for (bool first = true; json_array_next(&it, &one); first = false) {
		FIELDS_GET(one, {"token", &token}, {"logprob", &value});
		if (!first)
			buf_add_char(out, ',');
		buf_add_slice(out, token.type == JSON_STRING ? token.raw : SLICE("\"\""));
		buf_add_char(out, ':');
		buf_add_slice(out, value.type == JSON_NUMBER ? value.raw : SLICE("null"));
	}
	buf_add_char(out, '}');
}

static void put_token(struct answer_writer *w, struct json_value element, struct buf lists[LISTS])
{
	struct json_value token, value, top;
	FIELDS_GET(element, {"token", &token}, {"logprob", &value}, {"top_logprobs", &top});
	for (size_t i = 0; i < LISTS; i++)
		if (lists[i].n)
			buf_add_char(&lists[i], ',');
	buf_add_slice(&lists[LIST_TOKENS], token.type == JSON_STRING ? token.raw : SLICE("\"\""));
	buf_add_slice(&lists[LIST_VALUES], value.type == JSON_NUMBER ? value.raw : SLICE("null"));
	put_top(&lists[LIST_TOP], top);
	buf_printf(&lists[LIST_OFFSETS], "%zu", w->text_at);
	buf_clear(&w->scratch);
	if (json_string_decode(token, &w->scratch) == 0)
		w->text_at += utf8_chars(buf_slice(&w->scratch));
}

static void put_logprobs(struct answer_writer *w, struct buf *out)
{
	static const char *const names[LISTS] = {
		"tokens", "token_logprobs", "top_logprobs", "text_offset"};
	struct buf array, lists[LISTS];
	struct json_value root, element;
	buf_init(&array, 0);
	for (size_t i = 0; i < LISTS; i++)
		buf_init(&lists[i], 0);
	buf_add_char(&array, '[');
	buf_add_slice(&array, buf_slice(&w->logprobs));
	buf_add_char(&array, ']');
	if (json_parse(buf_slice(&array), JSON_MAX_DEPTH, &root, NULL) == 0)
		for (struct json_iter it = json_iter(root); json_array_next(&it, &element);)
			put_token(w, element, lists);
	json_put_key(out, "logprobs");
	buf_add_char(out, '{');
	for (size_t i = 0; i < LISTS; i++) {
		json_put_key(out, names[i]);
		buf_add_char(out, '[');
		buf_add_slice(out, buf_slice(&lists[i]));
		buf_add_char(out, ']');
		buf_free(&lists[i]);
	}
	buf_add_char(out, '}');
	buf_free(&array);
}

static void put_choice(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	buf_add_str(out, "{\"index\":0,\"text\":\"");
	buf_add_slice(out, buf_slice(&w->echo));
	buf_clear(&w->echo);
	buf_add_slice(out, buf_slice(&w->content));
	buf_add_char(out, '"');
	if (w->logprobs.n)
		put_logprobs(w, out);
	else
		buf_add_str(out, ",\"logprobs\":null");
	if (!end)
		buf_add_str(out, ",\"finish_reason\":null}");
	else
		buf_add_str(out, end->finish == FINISH_LENGTH ? ",\"finish_reason\":\"length\"}"
							      : ",\"finish_reason\":\"stop\"}");
}

static void flush(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	writer_openai_put(w, end, put_choice, out);
}

static const struct writer_ops writer_openai_text = {.begin = begin,
	.read = read_echo,
	.tool = collect_tool,
	.flush = flush,
	.identity = writer_openai_identity,
	.rename = writer_openai_rename,
	.resume = resume};

/* --- the row --- */

static void overflow(struct slice message, uint64_t prompt, uint64_t window, struct buf *out)
{
	openai_overflow("prompt", message, prompt, window, out);
}

const struct front_dialect front_openai_text = {
	.name = "openai text",
	.number = DIALECT_OPENAI_TEXT,
	.errors = DIALECT_OPENAI_OTHER,
	.api = API_OPENAI,
	.sse = true,
	.patience_ms = 300000,
	.path = "/v1/completions",
	.answer = ANSWER_OPENAI_TEXT,
	.read = read_text,
	.rewrite = front_rewrite_texts,
	.order = order_text,
	.needs = needs_of,
	.resume = {.refused = resume_refused_text,
		.limits = {"max_tokens", "max_completion_tokens", "n_predict"}},
	.writer = &writer_openai_text,
	.error = openai_error,
	.overflow = overflow,
};
