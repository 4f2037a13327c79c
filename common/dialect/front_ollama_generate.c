/* Ollama's /api/generate: a system text and a prompt in place of messages. */
#include "common/dialect/front_ollama.h"
#include "common/dialect/pieces.h"
#include "common/dialect/writer.h"

#include <errno.h>

/* --- the view --- */

static int check_string(struct request_reader *in, struct json_value v, const char *words)
{
	return is_absent(v) || v.type == JSON_STRING ? 0 : reader_refuse(in, 400, words);
}

static int read_texts(struct request_reader *in, struct json_value prompt, struct json_value system,
	struct json_value images)
{
	int rc = check_string(in, prompt,
		"json: cannot unmarshal value into Go struct field "
		"GenerateRequest.prompt of type string");
	if (rc == 0)
		rc = check_string(in, system,
			"json: cannot unmarshal value into Go struct field "
			"GenerateRequest.system of type string");
	if (rc == 0 && value_filled(system))
		rc = reader_add_string(in, CHAT_SYSTEM, system);
	if (rc || prompt.type != JSON_STRING)
		return rc;
	rc = reader_add_string(in, CHAT_USER, prompt);
	if (rc == 0)
		in->r->messages[in->r->count - 1].images = (unsigned)array_count(images);
	return rc;
}

static int read_generate(struct request_reader *in)
{
	struct chat_request *r = in->r;
	struct json_value prompt, system, images, raw, suffix, context, template;
	struct ollama_body b;
	r->other_case |= FIELDS_GET(r->root, {"prompt", &prompt}, {"system", &system},
		{"images", &images}, {"tools", &b.tools}, {"format", &b.format},
		{"options", &b.options}, {"keep_alive", &b.keep_alive}, {"raw", &raw},
		{"suffix", &suffix}, {"context", &context}, {"template", &template});
	int rc = ollama_need_model(in, 404, "model '' not found");
	if (rc == 0)
		rc = read_texts(in, prompt, system, images);
	if (rc)
		return rc;
	ollama_read_rest(in, &b, !value_filled(prompt));
	r->bare = raw.type == JSON_TRUE;
	r->infills = suffix.type == JSON_STRING && value_filled(suffix);
	r->condensable = reader_is_open(r) && !r->bare && !value_filled(suffix) &&
			 !value_filled(context) && !value_filled(template);
	return 0;
}

/* --- the order --- */

/* The system text and the prompt as two messages. */
static int order_texts(const struct chat_request *r, struct chat_order *o, struct json_value images)
{
	int rc = 0;
	for (size_t i = 0; i < r->count && rc == 0; i++) {
		const struct chat_message *view = &r->messages[i];
		struct order_message *m = order_add_message(o, view->role);
		if (!m)
			return -ENOMEM;
		bool pictures = view->role == CHAT_USER && array_count(images);
		m->content = view->content;
		m->content_in = pictures ? 0 : API_OLLAMA | API_OPENAI;
		rc = ollama_order_content(o, view->content,
			pictures ? images : (struct json_value){.type = JSON_NONE});
	}
	return rc;
}

/* Clients' libraries may send a zero for what nobody said. */
static bool is_some(struct json_value v)
{
	int64_t n;
	return json_to_int(v, &n) && n != 0;
}

static int order_generate(
	const struct chat_request *r, struct chat_order *o, struct dialect_error *e)
{
	struct json_value raw, images, suffix, width, height, steps;
	FIELDS_GET(r->root, {"raw", &raw}, {"images", &images}, {"suffix", &suffix},
		{"template", &o->template}, {"context", &o->context}, {"width", &width},
		{"height", &height}, {"steps", &steps});
	if (is_some(width) || is_some(height) || is_some(steps))
		return ollama_refuse(e,
			"this backend makes no pictures: width, height and steps are not "
			"possible");
	bool bare = raw.type == JSON_TRUE;
	bool infill = suffix.type == JSON_STRING && value_filled(suffix);
	if (bare && (value_filled(o->template) || value_filled(o->context) ||
			    (r->count && r->messages[0].role == CHAT_SYSTEM)))
		return ollama_refuse(e, "raw mode does not support template, system, or context");
	if ((bare || infill) && array_count(images))
		return ollama_refuse(e, "this backend does not support images with raw or suffix");
	int rc = ollama_order_rest(o, e);
	if (rc || (!bare && !infill))
		return rc ? rc : order_texts(r, o, images);
	o->prompt = r->messages[r->count - 1].content;
	if (infill)
		o->suffix = suffix;
	return 0;
}

/* --- going on with an answer --- */

static const char *generate_refused(const struct chat_request *r)
{
	struct json_value suffix, context, template;
	const char *why = ollama_resume_refused(r);
	FIELDS_GET(r->root, {"suffix", &suffix}, {"context", &context}, {"template", &template});
	if (!why && (value_filled(suffix) || value_filled(context) || value_filled(template)))
		why = "the request has a suffix, context or template";
	return why;
}

/* A prompt has no place for an answer's beginning, unless it is for no template. */
static const struct front_dialect *generate_becomes(const struct chat_request *r)
{
	return r->bare ? NULL : &front_ollama_chat;
}

/* --- the row --- */

const struct front_dialect front_ollama_generate = {
	.name = "ollama generate",
	.number = DIALECT_OLLAMA_GENERATE,
	.errors = DIALECT_OLLAMA_OTHER,
	.api = API_OLLAMA,
	.any_case = true,
	.patience_ms = 300000,
	.path = "/api/generate",
	.answer = ANSWER_OLLAMA_GENERATE,
	.streams = true,
	.names_models = true,
	.read = read_generate,
	.rewrite = front_rewrite_texts,
	.order = order_generate,
	.resume = {.refused = generate_refused,
		.becomes = generate_becomes,
		.limits_in = "options",
		.limits = {"num_predict"}},
	.writer = &writer_ollama_generate,
	.error = front_ollama_error,
};
