/* Requests for embeddings (embed_answer.c: their answers). */
#include "common/dialect/embed.h"

#include "common/dialect/pieces.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define MAX_DIMENSIONS 1048576 /* more than any model has */

bool embed_path(struct slice path, enum embed_form *form)
{
	static const struct {
		const char *path;
		enum embed_form form;
	} paths[] = {{"/api/embed", EMBED_OLLAMA}, {"/api/embeddings", EMBED_OLLAMA_OLDER},
		{"/v1/embeddings", EMBED_OPENAI}};
	const char *query = path.n ? memchr(path.p, '?', path.n) : NULL;
	if (query)
		path.n = (size_t)(query - path.p);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		*form = paths[i].form;
		if (slice_eq(path, slice_str(paths[i].path)))
			return true;
	}
	return false;
}

const char *embed_target(enum backend_api back)
{
	return back == BACKEND_OLLAMA ? "/api/embed" : "/v1/embeddings";
}

static int refuse(struct dialect_error *error, const char *text)
{
	error->status = 400;
	snprintf(error->text, sizeof(error->text), "%s", text);
	return -EINVAL;
}

/* --- what is asked for --- */

struct input {
	struct json_value value;
	size_t filled; /* texts that hold something, lists of tokens */
	bool tokens;   /* some of it is token ids */
	bool unsound;  /* it is no input at all */
};

static bool all_numbers(struct json_value list)
{
	struct json_iter it = json_iter(list);
	struct json_value one;
	bool any = false;
	for (; json_array_next(&it, &one); any = true)
		if (one.type != JSON_NUMBER)
			return false;
	return any;
}

/* A string, a list of strings, token ids, a list of lists of them. */
static struct input input_of(struct json_value value)
{
	struct input in = {.value = value};
	struct json_iter it = json_iter(value);
	struct json_value one;
	in.unsound = !is_absent(value) && value.type != JSON_STRING && value.type != JSON_ARRAY;
	if (value.type == JSON_STRING)
		in.filled = value_filled(value);
	if (value.type != JSON_ARRAY)
		return in;
	if (all_numbers(value)) {
		in.tokens = true;
		in.filled = 1;
		return in;
	}
	for (; json_array_next(&it, &one); in.filled++) {
		bool list = one.type == JSON_ARRAY && all_numbers(one);
		in.tokens = in.tokens || list;
		in.unsound = in.unsound || (one.type != JSON_STRING && !list);
	}
	return in;
}

/* Ollama's own: an empty input is answered with nothing, and a dimension of none is none. */
static int check_ollama(
	struct embed_request *r, const struct input *in, struct dialect_error *error)
{
	if (r->model.n == 0)
		return refuse(error, "model is required");
	if (in->unsound || in->tokens ||
		(r->form == EMBED_OLLAMA_OLDER && in->value.type == JSON_ARRAY))
		return refuse(error, "invalid input type");
	r->nothing = in->filled == 0;
	return 0;
}

static int check_openai(
	struct embed_request *r, const struct input *in, struct dialect_error *error)
{
	bool ollama = r->back == BACKEND_OLLAMA;
	if (ollama && r->model.n == 0)
		return refuse(error, "'model' is required");
	if (in->unsound)
		return refuse(error, "'input' must be a string, a list of strings, a list of token "
				     "ids or a list of such lists");
	if (in->filled == 0)
		return refuse(error, "'input' must not be empty");
	if (ollama && in->tokens)
		return refuse(error, "this backend makes embeddings of text: 'input' must hold "
				     "strings, not token ids");
	return 0;
}

static int read_format(
	struct embed_request *r, struct json_value format, struct dialect_error *error)
{
	r->base64 = json_string_is(format, "base64");
	if (is_absent(format) || r->base64 || json_string_is(format, "float"))
		return 0;
	return refuse(error, "'encoding_format' must be 'float' or 'base64'");
}

static int read_dimensions(
	struct embed_request *r, struct json_value dimensions, struct dialect_error *error)
{
	int64_t n = 0;
	bool sound = json_to_int(dimensions, &n) && n > 0 && n <= MAX_DIMENSIONS;
	if (!sound && !is_absent(dimensions) && r->form == EMBED_OPENAI)
		return refuse(error, "'dimensions' must be a whole number above 0");
	if (!sound && !is_absent(dimensions) && dimensions.type != JSON_NUMBER)
		return refuse(error, "invalid dimensions");
	r->dimensions = sound ? n : 0;
	return 0;
}

/* --- the call --- */

static void put_call(
	struct embed_request *r, struct json_value model, struct json_value input, struct buf *out)
{
	bool ollama = r->back == BACKEND_OLLAMA;
	buf_add_char(out, '{');
	member_copy(out, "model", model);
	if (!ollama) {
		json_put_key(out, "encoding_format");
		buf_add_str(out, "\"float\"");
	}
	json_put_key(out, "input");
	buf_add_slice(out, input.raw);
	/* OpenAI's API has an error for what is too long, where Ollama cuts. */
	if (ollama)
		buf_add_str(out, ",\"truncate\":false");
	if (r->back == BACKEND_OPENAI && r->dimensions) {
		buf_printf(out, ",\"dimensions\":%" PRId64, r->dimensions);
		r->dimensions = 0; /* the model's to know */
	}
	buf_add_char(out, '}');
}

int embed_request_read(
	struct embed_request *r, struct slice body, struct buf *out, struct dialect_error *error)
{
	struct json_value root, model, name, input, prompt, dimensions, format;
	buf_init(&r->model, 4096);
	if (body.n == 0)
		return refuse(error, "missing request body");
	if (json_parse(body, JSON_MAX_DEPTH, &root, NULL) || root.type != JSON_OBJECT)
		return refuse(error, "invalid JSON in the request body");
	FIELDS_GET(root, {"model", &model}, {"name", &name}, {"input", &input}, {"prompt", &prompt},
		{"dimensions", &dimensions}, {"encoding_format", &format});
	if (!value_filled(model) && r->form != EMBED_OPENAI)
		model = name;
	if (model.type == JSON_STRING && json_string_decode(model, &r->model))
		return refuse(error, "invalid model name");
	r->name = model.type == JSON_STRING ? model.raw : SLICE("\"\"");
	r->raw = r->form == EMBED_OPENAI && r->back != BACKEND_OLLAMA &&
		 (r->back == BACKEND_OPENAI || is_absent(dimensions));
	bool empty =
		(input.type == JSON_STRING || input.type == JSON_ARRAY) && !value_filled(input);
	if (r->raw && !empty)
		return 0; /* with its own words for what it does not take */
	struct input in = input_of(r->form == EMBED_OLLAMA_OLDER ? prompt : input);
	int rc =
		r->form == EMBED_OPENAI ? check_openai(r, &in, error) : check_ollama(r, &in, error);
	if (rc == 0 && r->form == EMBED_OPENAI)
		rc = read_format(r, format, error);
	if (rc == 0 && r->form != EMBED_OLLAMA_OLDER)
		rc = read_dimensions(r, dimensions, error);
	if (rc)
		return rc;
	r->texts = in.filled;
	if (!r->nothing)
		put_call(r, model, in.value, out);
	return buf_error(out);
}

void embed_request_fini(struct embed_request *r)
{
	buf_free(&r->model);
}
