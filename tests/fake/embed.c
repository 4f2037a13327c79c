/*
 * Embeddings in all their dialects: docs/protocols.md#embeddings. A vector follows from a hash
 * of the text.
 */
#include "tests/fake/dialect.h"

#include <math.h>
#include <stdio.h>

static void put_base64(struct buf *out, const unsigned char *p, size_t n)
{
	static const char set[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3) {
		unsigned v = (unsigned)p[i] << 16 | (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0) |
			     (i + 2 < n ? p[i + 2] : 0);
		char quad[4] = {set[v >> 18], set[v >> 12 & 63], i + 1 < n ? set[v >> 6 & 63] : '=',
			i + 2 < n ? set[v & 63] : '='};

		buf_add(out, quad, 4);
	}
}

/* However a client's JSON writes the text. */
static uint64_t hash_of(struct json_value said)
{
	uint64_t h = 14695981039346656037ull;
	struct slice text = said.raw;
	struct buf plain;

	buf_init(&plain, 0);
	if (json_is(said, JSON_STRING) && json_string_decode(said, &plain) == 0)
		text = buf_slice(&plain);
	for (size_t i = 0; i < text.n; i++)
		h = (h ^ (unsigned char)text.p[i]) * 1099511628211ull;
	buf_free(&plain);
	return h;
}

/* dims: 0 all of them. */
static void put_embedding(struct buf *out, struct json_value text, bool base64, int64_t dims)
{
	uint64_t h = hash_of(text);
	float v[EMBED_DIMS];
	double norm = 0;
	int n = dims > 0 && dims < EMBED_DIMS ? (int)dims : EMBED_DIMS;

	for (int i = 0; i < EMBED_DIMS; i++) {
		h = (h ^ (h >> 29)) * 0xBF58476D1CE4E5B9ull;
		v[i] = (float)((double)(h >> 40) / (1 << 24) - 0.5);
		norm += i < n ? (double)v[i] * v[i] : 0;
	}
	norm = norm > 0 ? sqrt(norm) : 1;
	for (int i = 0; i < n; i++)
		v[i] = (float)(v[i] / norm);
	if (base64) {
		buf_add_char(out, '"');
		put_base64(out, (const unsigned char *)v, (size_t)n * sizeof(v[0]));
		buf_add_char(out, '"');
		return;
	}
	for (int i = 0; i < n; i++)
		buf_printf(out, "%c%.6f", i ? ',' : '[', (double)v[i]);
	buf_add_char(out, ']');
}

static int64_t dimensions(struct request *r)
{
	int64_t n = 0;

	return json_to_int(json_get(r->json, "dimensions"), &n) ? n : 0;
}

/* Whether input is one text: a string, or a list of token ids. */
static bool is_one(struct json_value input)
{
	struct json_iter it = json_iter(input);
	struct json_value first;

	return json_is(input, JSON_STRING) ||
	       (json_array_next(&it, &first) && json_is(first, JSON_NUMBER));
}

/* What llama-server and its like say of a body; NULL: nothing. */
static const char *wrong(struct request *r, struct json_value input)
{
	struct json_value format = json_get(r->json, "encoding_format");

	if (!json_is(input, JSON_STRING) && !json_is(input, JSON_ARRAY))
		return "\"input\" or \"content\" must be provided";
	if (json_is(format, JSON_STRING) && !json_string_is(format, "float") &&
		!json_string_is(format, "base64"))
		return "The format to return the embeddings in. Can be either float or base64";
	if (json_is(input, JSON_STRING) && json_string_chars(input) == 0)
		return "Input content cannot be empty";
	return NULL;
}

/* llama-server reads such a text in one batch, here as large as the window. */
static bool too_large(struct request *r, struct json_value text)
{
	double tokens = (double)json_string_chars(text) / r->fake->options.chars_per_token;
	char words[160];

	if (r->fake->options.type != TYPE_LLAMA || tokens <= (double)r->fake->options.num_ctx)
		return false;
	snprintf(words, sizeof(words),
		"input (%.0f tokens) is too large to process. increase the physical batch size "
		"(current batch size: %u)",
		tokens, r->fake->options.num_ctx);
	llama_error(r, 500, slice_str(words));
	return true;
}

void openai_embeddings(struct request *r)
{
	const char *why;
	struct json_value input = json_get(r->json, "input"), text = {0};
	struct json_iter it = json_iter(input);
	bool base64 = json_string_is(json_get(r->json, "encoding_format"), "base64");
	/* llama-server does not know the member. */
	int64_t dims = r->fake->options.type == TYPE_LLAMA ? 0 : dimensions(r);
	size_t n = 0, chars = 0;
	struct buf out;

	if (!api_object(r))
		return;
	if (r->fake->options.type == TYPE_LLAMA && !r->fake->options.embeddings) {
		llama_error(r, 501,
			SLICE("This server does not support embeddings. Start it with "
			      "`--embeddings`"));
		return;
	}
	why = wrong(r, input);
	if (why) {
		llama_error(r, 400, slice_str(why));
		return;
	}
	if (json_is(input, JSON_ARRAY) && input.raw.n == 2) {
		llama_error(r, r->fake->options.type == TYPE_LLAMA ? 500 : 400,
			SLICE("\"prompt\" must not be empty"));
		return;
	}
	buf_init(&out, SCRIPT_TEXT_MAX);
	buf_add_str(&out, "{\"object\":\"list\",\"data\":[");
	while (is_one(input) ? n == 0 : json_array_next(&it, &text)) {
		if (is_one(input))
			text = input;
		if (too_large(r, text)) {
			buf_free(&out);
			return;
		}
		buf_printf(&out,
			"%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", n ? "," : "",
			n);
		n++;
		put_embedding(&out, text, base64, dims);
		buf_add_char(&out, '}');
		chars += json_string_chars(text);
	}
	n = (size_t)ceil((double)chars / r->fake->options.chars_per_token);
	buf_printf(&out,
		"],\"model\":\"%s\",\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}",
		r->fake->engine->models->name, n, n);
	api_reply(r, 200, &out);
}

/* False: there is none of that name, and the client has been told. */
static bool has_model(struct request *r)
{
	struct buf name;
	bool named = ollama_body_model(r, &name);
	bool has = named && engine_model(r->fake->engine, buf_slice(&name));

	if (named && !has)
		api_errorf(r, 404, "model \"%s\" not found, try pulling it first", buf_cstr(&name));
	buf_free(&name);
	return has;
}

/* What Ollama says of one text, which it may cut or not; NULL: nothing. */
static const char *refusal(struct request *r, struct json_value text, bool cut)
{
	double tokens = (double)json_string_chars(text) / r->fake->options.chars_per_token;

	if (!json_is(text, JSON_STRING))
		return "invalid input type";
	return !cut && tokens > (double)r->fake->options.num_ctx
		       ? "the input length exceeds the context length"
		       : NULL;
}

void ollama_embed(struct request *r)
{
	struct json_value input, text = {0};
	struct json_iter it;
	struct buf out;
	size_t chars = 0, n = 0;
	double f = r->fake->options.chars_per_token;
	int64_t dims;
	const char *why;
	bool cut;

	if (!has_model(r))
		return;
	cut = !json_is(json_get(r->json, "truncate"), JSON_FALSE);
	dims = dimensions(r);
	buf_init(&out, SCRIPT_TEXT_MAX);
	buf_printf(&out, "{\"model\":%.*s,\"embeddings\":[", (int)json_get(r->json, "model").raw.n,
		json_get(r->json, "model").raw.p);
	input = json_get(r->json, "input");
	it = json_iter(input);
	while (json_is(input, JSON_STRING) ? n == 0 : json_array_next(&it, &text)) {
		if (json_is(input, JSON_STRING))
			text = input;
		if (n++)
			buf_add_char(&out, ',');
		why = refusal(r, text, cut);
		if (why) {
			buf_free(&out);
			api_error(r, 400, slice_str(why));
			return;
		}
		put_embedding(&out, text, false, dims);
		chars += json_string_chars(text);
	}
	buf_add_char(&out, ']');
	put_count(&out, "total_duration", 1000000);
	put_count(&out, "load_duration", 1000);
	put_count(&out, "prompt_eval_count", (uint64_t)((double)chars / f + 0.999));
	buf_add_char(&out, '}');
	api_reply(r, 200, &out);
}

void ollama_embeddings(struct request *r)
{
	struct buf out;

	if (!has_model(r))
		return;
	buf_init(&out, 1u << 16);
	buf_add_str(&out, "{\"embedding\":");
	if (json_string_chars(json_get(r->json, "prompt")))
		put_embedding(&out, json_get(r->json, "prompt"), false, 0);
	else
		buf_add_str(&out, "[]");
	buf_add_char(&out, '}');
	api_reply(r, 200, &out);
}
