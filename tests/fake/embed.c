/*
 * Embeddings in all their dialects: docs/protocols.md#embeddings. A vector follows from a hash
 * of the text.
 */
#include "tests/fake/dialect.h"

#include <math.h>

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

static void put_embedding(struct buf *out, struct slice text, bool base64)
{
	uint64_t h = 14695981039346656037ull;
	float v[EMBED_DIMS];
	double norm = 0;

	for (size_t i = 0; i < text.n; i++)
		h = (h ^ (unsigned char)text.p[i]) * 1099511628211ull;
	for (int i = 0; i < EMBED_DIMS; i++) {
		h = (h ^ (h >> 29)) * 0xBF58476D1CE4E5B9ull;
		v[i] = (float)((double)(h >> 40) / (1 << 24) - 0.5);
		norm += (double)v[i] * v[i];
	}
	norm = norm > 0 ? sqrt(norm) : 1;
	for (int i = 0; i < EMBED_DIMS; i++)
		v[i] = (float)(v[i] / norm);
	if (base64) {
		buf_add_char(out, '"');
		put_base64(out, (const unsigned char *)v, sizeof(v));
		buf_add_char(out, '"');
		return;
	}
	for (int i = 0; i < EMBED_DIMS; i++)
		buf_printf(out, "%c%.6f", i ? ',' : '[', (double)v[i]);
	buf_add_char(out, ']');
}

void openai_embeddings(struct request *r)
{
	struct json_value input = json_get(r->json, "input"), text;
	struct json_iter it = json_iter(input);
	bool base64 = json_string_is(json_get(r->json, "encoding_format"), "base64");
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
	buf_init(&out, SCRIPT_TEXT_MAX);
	buf_add_str(&out, "{\"object\":\"list\",\"data\":[");
	while (json_is(input, JSON_STRING) ? n == 0 : json_array_next(&it, &text)) {
		if (json_is(input, JSON_STRING))
			text = input;
		buf_printf(&out,
			"%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", n ? "," : "",
			n);
		n++;
		put_embedding(&out, text.raw, base64);
		buf_add_char(&out, '}');
		chars += json_string_chars(text);
	}
	n = (size_t)ceil((double)chars / r->fake->options.chars_per_token);
	buf_printf(&out,
		"],\"model\":\"%s\",\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}",
		r->fake->engine->models->name, n, n);
	api_reply(r, 200, &out);
}

void ollama_embed(struct request *r)
{
	struct json_value input, text;
	struct json_iter it;
	struct model *m = NULL;
	struct buf out, name;
	size_t chars = 0, n = 0;
	double f = r->fake->options.chars_per_token;

	if (!ollama_body_model(r, &name)) {
		buf_free(&name);
		return;
	}
	m = engine_model(r->fake->engine, buf_slice(&name));
	if (!m) {
		api_errorf(r, 404, "model \"%s\" not found, try pulling it first", buf_cstr(&name));
		buf_free(&name);
		return;
	}
	buf_free(&name);
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
		put_embedding(&out, text.raw, false);
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

	if (!api_object(r))
		return;
	buf_init(&out, 1u << 16);
	buf_add_str(&out, "{\"embedding\":");
	if (json_string_chars(json_get(r->json, "prompt")))
		put_embedding(&out, json_get(r->json, "prompt").raw, false);
	else
		buf_add_str(&out, "[]");
	buf_add_char(&out, '}');
	api_reply(r, 200, &out);
}
