#include "supervisor/requests/pass_peek.h"

#include "common/base/json.h"

#define MODEL_BYTES 4096

void pass_peek_init(struct pass_peek *p)
{
	*p = (struct pass_peek){0};
	buf_init(&p->model, MODEL_BYTES);
}

void pass_peek_fini(struct pass_peek *p)
{
	buf_free(&p->model);
}

/* Ollama reads keys in any case. */
static bool key_is(struct json_value key, const char *name)
{
	struct slice inner = {key.raw.p + 1, key.raw.n - 2};
	return slice_ieq(inner, slice_str(name)) || json_string_is(key, name);
}

/* The first value: Ollama reads no further. */
static bool first_value(struct slice body, struct json_value *root)
{
	struct json_error error = {0};
	if (json_parse(body, JSON_MAX_DEPTH, root, &error) == 0)
		return true;
	body.n = error.more ? error.offset : 0;
	return body.n && json_parse(body, JSON_MAX_DEPTH, root, NULL) == 0;
}

/* Members whose value a model reads, as they stand in the body. */
static bool is_read(struct json_value key)
{
	static const char *const texts[] = {"prompt", "messages", "input", "instructions", "system",
		"tools", "suffix", "input_prefix", "input_suffix", "input_extra", "query",
		"documents", "texts", "content"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		if (key_is(key, texts[i]))
			return true;
	return false;
}

/* Go's clients write both members, and leave the one that they do not mean empty. */
static bool names(struct json_value v)
{
	return json_is(v, JSON_STRING) && v.raw.n > 2;
}

void pass_peek(struct pass_peek *p, struct slice body)
{
	struct json_value root, key, value, model = {0}, name = {0}, source = {0};
	if (!first_value(body, &root) || !json_is(root, JSON_OBJECT))
		return;
	for (struct json_iter it = json_iter(root); json_object_next(&it, &key, &value);) {
		if (key_is(key, "model"))
			model = value;
		else if (key_is(key, "name"))
			name = value;
		else if (key_is(key, "source")) /* of a copy */
			source = value;
		else if (key_is(key, "stream"))
			json_to_bool(value, &p->stream);
		if (!is_read(key))
			continue;
		token_census_add(&p->census, value.raw);
		p->tools = p->tools || (key_is(key, "tools") && value.raw.n > 2);
	}
	if (!names(model))
		model = names(name) ? name : source;
	p->named = model.raw;
	if (json_is(model, JSON_STRING) && json_string_decode(model, &p->model))
		buf_clear(&p->model);
}

void pass_peek_error(int status, struct slice body, struct buf *out)
{
	struct json_value root = {0}, error = {0};
	if (json_parse(body, JSON_MAX_DEPTH, &root, NULL) == 0 && json_is(root, JSON_OBJECT))
		error = json_get(root, "error");
	if (json_is(error, JSON_OBJECT))
		error = json_get(error, "message");
	else if (!json_is(error, JSON_STRING) && json_is(root, JSON_OBJECT))
		error = json_get(root, "message");
	if (!json_is(error, JSON_STRING) || json_string_decode(error, out) || out->n == 0) {
		buf_clear(out);
		buf_printf(out, "the backend answered with status %d", status);
	}
}
