#include "common/dialect/embed.h"

#include "common/dialect/pieces.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

bool embed_path(struct slice path, bool *legacy)
{
	*legacy = slice_eq(path, SLICE("/api/embeddings"));
	return *legacy || slice_eq(path, SLICE("/api/embed"));
}

static int refuse(struct dialect_error *error, const char *text)
{
	error->status = 400;
	snprintf(error->text, sizeof(error->text), "%s", text);
	return -EINVAL;
}

/* A string or a list of strings; texts counts those that hold something. */
static bool input_sound(struct json_value input, size_t *texts)
{
	struct json_iter it = json_iter(input);
	struct json_value one;
	*texts = input.type == JSON_STRING && value_filled(input);
	if (is_absent(input) || input.type == JSON_STRING)
		return true;
	if (input.type != JSON_ARRAY)
		return false;
	for (; json_array_next(&it, &one); ++*texts)
		if (one.type != JSON_STRING)
			return false;
	return true;
}

int embed_request_read(
	struct embed_request *r, struct slice body, struct buf *out, struct dialect_error *error)
{
	struct json_value root, model, name, input, prompt, dimensions;
	size_t texts;
	buf_init(&r->model, 4096);
	if (body.n == 0)
		return refuse(error, "missing request body");
	if (json_parse(body, JSON_MAX_DEPTH, &root, NULL) || root.type != JSON_OBJECT)
		return refuse(error, "invalid JSON in the request body");
	FIELDS_GET(root, {"model", &model}, {"name", &name}, {"input", &input}, {"prompt", &prompt},
		{"dimensions", &dimensions});
	if (!value_filled(model))
		model = name;
	if (json_string_decode(model, &r->model) || r->model.n == 0)
		return refuse(error, "model is required");
	r->name = model.raw;
	if (r->legacy)
		input = prompt;
	if (!input_sound(input, &texts) || (r->legacy && input.type == JSON_ARRAY))
		return refuse(error, "invalid input type");
	r->nothing = texts == 0;
	if (r->nothing)
		return 0;
	buf_add_str(out, "{\"model\":");
	buf_add_slice(out, model.raw);
	buf_add_str(out, ",\"encoding_format\":\"float\",\"input\":");
	buf_add_slice(out, input.raw);
	member_copy(out, "dimensions", dimensions);
	return buf_add_char(out, '}');
}

void embed_request_fini(struct embed_request *r)
{
	buf_free(&r->model);
}

/* The vectors in the order of the texts, which the elements number. NULL: memory is out. */
static struct slice *vectors_of(struct json_value data, size_t n)
{
	struct slice *vectors = calloc(n ? n : 1, sizeof(*vectors));
	struct json_iter it = json_iter(data);
	struct json_value one, index, vector;
	for (size_t i = 0; vectors && json_array_next(&it, &one); i++) {
		int64_t at;
		FIELDS_GET(one, {"index", &index}, {"embedding", &vector});
		if (!json_to_int(index, &at) || at < 0 || (size_t)at >= n)
			at = (int64_t)i;
		if (vector.type == JSON_ARRAY)
			vectors[at] = vector.raw;
	}
	return vectors;
}

static int put_vectors(const struct embed_request *r, struct json_value data, struct buf *out)
{
	size_t n = array_count(data);
	struct slice *vectors = vectors_of(data, n);
	int rc = 0;
	if (!vectors)
		return -ENOMEM;
	if (n == 0 || (r->legacy && n != 1))
		rc = -EPROTO;
	for (size_t i = 0; i < n && rc == 0; i++) {
		if (i)
			buf_add_char(out, ',');
		rc = vectors[i].n ? buf_add_slice(out, vectors[i]) : -EPROTO;
	}
	free(vectors);
	return rc;
}

int embed_answer_write(
	const struct embed_request *r, struct slice answer, uint64_t total_ns, struct buf *out)
{
	struct json_value root = {0}, data, usage;
	int64_t tokens = 0;
	if (r->nothing && r->legacy)
		return buf_add_str(out, "{\"embedding\":[]}");
	if (!r->nothing && json_parse(answer, JSON_MAX_DEPTH, &root, NULL))
		return -EPROTO;
	FIELDS_GET(root, {"data", &data}, {"usage", &usage});
	if (!json_to_int(json_get(usage, "prompt_tokens"), &tokens))
		tokens = 0;
	if (r->legacy) {
		buf_add_str(out, "{\"embedding\":");
	} else {
		buf_add_str(out, "{\"model\":");
		buf_add_slice(out, r->name);
		buf_add_str(out, ",\"embeddings\":[");
	}
	int rc = r->nothing ? 0 : put_vectors(r, data, out);
	if (rc)
		return rc;
	if (!r->legacy) {
		buf_printf(out, "],\"total_duration\":%" PRIu64, total_ns);
		if (tokens > 0)
			buf_printf(out, ",\"prompt_eval_count\":%" PRId64, tokens);
	}
	return buf_add_char(out, '}');
}
