/* Answers to requests for embeddings: a backend's vectors in the client's form. */
#include "common/dialect/embed.h"
#include "common/dialect/pieces.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* --- a vector --- */

/* The first `dimensions` numbers (0: all), of length 1 again where others go, as Ollama cuts them.
 * NULL: memory is out, or no vector (*n is 0 then). */
static float *numbers_of(struct json_value vector, int64_t dimensions, size_t *n)
{
	size_t all = array_count(vector);
	size_t count = dimensions && (size_t)dimensions < all ? (size_t)dimensions : all;
	float *v = malloc((count ? count : 1) * sizeof(*v));
	struct json_iter it = json_iter(vector);
	struct json_value one;
	double square = 0, number;
	*n = count;
	for (size_t i = 0; v && i < count; i++) {
		if (!json_array_next(&it, &one) || !json_to_double(one, &number) ||
			fabs(number) > FLT_MAX) {
			free(v);
			*n = 0;
			return NULL;
		}
		v[i] = (float)number;
		square += number * number;
	}
	for (size_t i = 0; v && count < all && square > 0 && i < count; i++)
		v[i] = (float)(v[i] / sqrt(square));
	return v;
}

static void put_base64(struct buf *out, const unsigned char *p, size_t n)
{
	static const char set[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (size_t i = 0; i < n; i += 3) {
		size_t left = n - i;
		unsigned v = (unsigned)p[i] << 16 | (left > 1 ? (unsigned)p[i + 1] << 8 : 0) |
			     (left > 2 ? p[i + 2] : 0);
		char quad[4] = {set[v >> 18], set[v >> 12 & 63], left > 1 ? set[v >> 6 & 63] : '=',
			left > 2 ? set[v & 63] : '='};
		buf_add(out, quad, sizeof(quad));
	}
}

/* Little end first, whatever the machine. */
static int put_floats(const float *v, size_t n, struct buf *out)
{
	unsigned char *bytes = malloc(n * 4 + 1);
	if (!bytes)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		uint32_t bits;
		memcpy(&bits, &v[i], sizeof(bits));
		for (size_t k = 0; k < 4; k++)
			bytes[4 * i + k] = (unsigned char)(bits >> (8 * k));
	}
	buf_add_char(out, '"');
	put_base64(out, bytes, n * 4);
	free(bytes);
	return buf_add_char(out, '"');
}

static int put_vector(const struct embed_request *r, struct json_value vector, struct buf *out)
{
	size_t n;
	if (vector.type != JSON_ARRAY)
		return -EPROTO;
	if (!r->base64 && r->dimensions == 0)
		return buf_add_slice(out, vector.raw); /* its digits stay */
	float *v = numbers_of(vector, r->dimensions, &n);
	if (!v)
		return n ? -ENOMEM : -EPROTO;
	if (r->base64) {
		put_floats(v, n, out);
	} else {
		for (size_t i = 0; i < n; i++)
			buf_printf(out, "%c%.9g", i ? ',' : '[', (double)v[i]);
		buf_add_str(out, n ? "]" : "[]");
	}
	free(v);
	return buf_error(out);
}

/* --- all of them --- */

/* What both forms of answers say. */
struct answered {
	struct json_value *vectors; /* owned; in the order of the texts */
	size_t count;
	int64_t tokens; /* of the texts; 0: not told */
};

/* OpenAI's elements are numbered. */
static void take_vectors(struct answered *a, struct json_value list, bool numbered)
{
	struct json_iter it = json_iter(list);
	struct json_value one, index, vector;
	for (size_t i = 0; json_array_next(&it, &one); i++) {
		int64_t at = (int64_t)i;
		vector = one;
		if (numbered)
			FIELDS_GET(one, {"index", &index}, {"embedding", &vector});
		if (numbered && (!json_to_int(index, &at) || at < 0 || (size_t)at >= a->count))
			at = (int64_t)i;
		a->vectors[at] = vector;
	}
}

/* a->vectors is the caller's to free after any outcome. */
static int read_answer(const struct embed_request *r, struct slice answer, struct answered *a)
{
	struct json_value root, data, usage, count, list;
	if (json_parse(answer, JSON_MAX_DEPTH, &root, NULL))
		return -EPROTO;
	FIELDS_GET(root, {"data", &data}, {"embeddings", &list}, {"usage", &usage},
		{"prompt_eval_count", &count});
	bool ollama = r->back == BACKEND_OLLAMA;
	if (!ollama) {
		list = data;
		count = json_get(usage, "prompt_tokens");
	}
	a->count = array_count(list);
	if (a->count != r->texts)
		return -EPROTO;
	a->vectors = calloc(a->count, sizeof(*a->vectors));
	if (!a->vectors)
		return -ENOMEM;
	if (!json_to_int(count, &a->tokens) || a->tokens < 0)
		a->tokens = 0;
	take_vectors(a, list, !ollama);
	return 0;
}

/* --- in the client's form --- */

/* Each vector between what stands before and behind it. */
static int put_vectors(const struct embed_request *r, const struct answered *a, const char *before,
	const char *behind, struct buf *out)
{
	int rc = 0;
	for (size_t i = 0; i < a->count && rc == 0; i++) {
		if (i)
			buf_add_char(out, ',');
		buf_add_str(out, before);
		rc = put_vector(r, a->vectors[i], out);
		if (*behind)
			buf_printf(out, "%s%zu}", behind, i);
	}
	return rc;
}

static int put_ollama(
	const struct embed_request *r, const struct answered *a, uint64_t total_ns, struct buf *out)
{
	buf_add_str(out, "{\"model\":");
	buf_add_slice(out, r->name);
	buf_add_str(out, ",\"embeddings\":[");
	int rc = put_vectors(r, a, "", "", out);
	buf_printf(out, "],\"total_duration\":%" PRIu64, total_ns);
	if (a->tokens > 0)
		buf_printf(out, ",\"prompt_eval_count\":%" PRId64, a->tokens);
	buf_add_char(out, '}');
	return rc;
}

static int put_older(const struct embed_request *r, const struct answered *a, struct buf *out)
{
	buf_add_str(out, "{\"embedding\":");
	int rc = a->count ? put_vectors(r, a, "", "", out) : buf_add_str(out, "[]");
	buf_add_char(out, '}');
	return rc;
}

static int put_openai(const struct embed_request *r, const struct answered *a, struct buf *out)
{
	buf_add_str(out, "{\"object\":\"list\",\"data\":[");
	int rc = put_vectors(r, a, "{\"object\":\"embedding\",\"embedding\":", ",\"index\":", out);
	buf_add_str(out, "],\"model\":");
	buf_add_slice(out, r->name);
	buf_printf(out, ",\"usage\":{\"prompt_tokens\":%" PRId64 ",\"total_tokens\":%" PRId64 "}}",
		a->tokens, a->tokens);
	return rc;
}

int embed_answer_write(
	const struct embed_request *r, struct slice answer, uint64_t total_ns, struct buf *out)
{
	struct answered a = {0};
	int rc = r->nothing ? 0 : read_answer(r, answer, &a);
	if (rc == 0 && r->form == EMBED_OPENAI)
		rc = put_openai(r, &a, out);
	else if (rc == 0 && r->form == EMBED_OLLAMA_OLDER)
		rc = put_older(r, &a, out);
	else if (rc == 0)
		rc = put_ollama(r, &a, total_ns, out);
	free(a.vectors);
	return rc ? rc : buf_error(out);
}
