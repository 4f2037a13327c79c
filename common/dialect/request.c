#include "common/dialect/request.h"

#include "common/dialect/front.h"
#include "common/dialect/reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

const char *chat_role_name(enum chat_role role)
{
	static const char *const names[] = {"system", "user", "assistant", "tool"};
	return names[role];
}

static int read_root(struct chat_request *r, bool counts, struct dialect_error *error)
{
	const struct front_dialect *front = front_of(r->dialect);
	struct request_reader in = {.r = r, .error = error, .counts = counts};
	struct json_value model, stream;
	r->other_case = FIELDS_GET(r->root, {"model", &model}, {"stream", &stream});
	if (model.type == JSON_STRING)
		r->model = model;
	r->stream = front->streams;
	json_to_bool(stream, &r->stream);
	buf_init(&in.scratch, 0);
	int rc = front->read(&in);
	buf_free(&in.scratch);
	if (rc)
		return rc;
	if (counts)
		token_census_messages(&r->census, r->count);
	for (size_t i = 0; i < r->count && counts; i++)
		r->census.images += r->messages[i].images;
	return 0;
}

static int parse_root(enum dialect dialect, struct slice body, struct chat_request *out,
	struct dialect_error *error)
{
	struct request_reader in = {.r = out, .error = error};
	struct json_error where = {0};
	*out = (struct chat_request){.dialect = dialect, .body = body, .max_output = -1};
	if (!dialect_is_chat(dialect))
		return reader_refuse(&in, 404, "no chat request");
	if (body.n == 0)
		return reader_refuse(&in, 400, "missing request body");
	if (json_parse(body, JSON_MAX_DEPTH, &out->root, &where)) {
		error->status = 400;
		snprintf(error->text, sizeof(error->text),
			"invalid JSON in the request body at byte %zu: %s", where.offset,
			where.what ? where.what : "not JSON");
		return -EINVAL;
	}
	if (out->root.type != JSON_OBJECT)
		return reader_refuse(&in, 400, "the request body is no JSON object");
	return 0;
}

static int parse(enum dialect dialect, struct slice body, bool counts, struct chat_request *out,
	struct dialect_error *error)
{
	int rc = parse_root(dialect, body, out, error);
	if (rc == 0 && (rc = read_root(out, counts, error)))
		chat_request_fini(out);
	return rc;
}

int chat_request_parse(enum dialect dialect, struct slice body, struct chat_request *out,
	struct dialect_error *error)
{
	return parse(dialect, body, true, out, error);
}

int chat_request_scan(enum dialect dialect, struct slice body, struct chat_request *out,
	struct dialect_error *error)
{
	return parse(dialect, body, false, out, error);
}

/* Makes the keys of what Ollama reads into structs lower case: not those of its maps (options, the
 * arguments of a call, the parameters of a tool). The body keeps its length. */
static void lower_keys(char *body, const char *from, struct json_value v)
{
	static const char *const structs[] = {
		"messages", "content", "image_url", "tool_calls", "function", "tools"};
	struct json_iter it = json_iter(v);
	struct json_value key, value;
	if (v.type == JSON_ARRAY)
		while (json_array_next(&it, &value))
			lower_keys(body, from, value);
	while (v.type == JSON_OBJECT && json_object_next(&it, &key, &value)) {
		struct slice inner = string_inner(key);
		char *p = body + (inner.p - from);
		for (size_t i = 0; i < inner.n && !memchr(inner.p, '\\', inner.n); i++)
			if (p[i] >= 'A' && p[i] <= 'Z')
				p[i] = (char)(p[i] | 0x20);
		for (size_t i = 0; i < sizeof(structs) / sizeof(*structs); i++)
			if (json_string_is(key, structs[i]))
				lower_keys(body, from, value);
	}
}

void chat_body_lower_keys(struct buf *body, struct json_value root)
{
	lower_keys(body->p, body->p, root);
}

/* What is not JSON as it stands, and what its front changes before it is read. */
static int mend(enum dialect dialect, struct buf *body, struct dialect_error *error)
{
	const struct front_dialect *front = front_of(dialect);
	struct chat_request r;
	int rc = parse_root(dialect, buf_slice(body), &r, error);
	if (rc && r.root.type == JSON_NONE) {
		bool mended = json_mend_body(body);
		if (json_mend_tail(body) || mended)
			rc = parse_root(dialect, buf_slice(body), &r, error);
	}
	return rc || !front->mend ? rc : front->mend(body, r.root, error);
}

int chat_request_take(enum dialect dialect, struct buf *body, struct chat_request *out,
	struct dialect_error *error)
{
	int rc;
	*out = (struct chat_request){.dialect = dialect};
	if (front_of(dialect)->mend && (rc = mend(dialect, body, error)))
		return rc;
	rc = chat_request_parse(dialect, buf_slice(body), out, error);
	if (rc == -EINVAL && out->root.type == JSON_NONE && mend(dialect, body, error) == 0)
		rc = chat_request_parse(dialect, buf_slice(body), out, error);
	if (!out->other_case || rc == -ENOMEM)
		return rc;
	chat_body_lower_keys(body, out->root);
	chat_request_fini(out);
	return chat_request_parse(dialect, buf_slice(body), out, error);
}

void chat_request_fini(struct chat_request *r)
{
	free(r->messages);
	r->messages = NULL;
	r->count = 0;
}

int chat_request_rewrite(const struct chat_request *r, const struct chat_edit *edits,
	int64_t set_num_ctx, struct buf *out)
{
	return chat_request_rewrite_tools(r, edits, (struct slice){0}, set_num_ctx, out);
}

int chat_request_rewrite_tools(const struct chat_request *r, const struct chat_edit *edits,
	struct slice tools, int64_t set_num_ctx, struct buf *out)
{
	if (!dialect_has_num_ctx(r->dialect))
		set_num_ctx = 0;
	return front_of(r->dialect)->rewrite(r, edits, tools, set_num_ctx, out);
}
