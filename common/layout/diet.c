#include "common/layout/diet.h"

#include <errno.h>

#define LOOK_BYTES (64u << 20)

/* --- shortening --- */

static bool is_one_of(struct json_value key, const char *const *names)
{
	for (size_t i = 0; names[i]; i++)
		if (json_string_is(key, names[i]))
			return true;
	return false;
}

/* What says nothing that a call needs. */
static const char *const spare[] = {"examples", "example", "title", "$comment", "$schema", "$id",
	"markdownDescription", "readOnly", "deprecated", NULL};
/* Objects whose members are named by the tool's author and not by JSON Schema. */
static const char *const maps[] = {
	"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", NULL};
/* What stays to the byte. */
static const char *const exact[] = {"enum", "const", "default", "required", "name", "type", NULL};

/* The bytes of text up to the end of its first sentence. */
static size_t sentence(struct slice text)
{
	size_t words = 0;
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i], next = i + 1 < text.n ? text.p[i + 1] : '\n';
		if (c == '\n')
			return i;
		if (strchr(".!?", c) && (next == ' ' || next == '\n') && i > 2 &&
			text.p[i - 1] != '.' && text.p[i - 2] != '.')
			return i + 1;
		if (i >= DIET_SENTENCE_BYTES)
			return words ? words : i;
		if (c == ' ')
			words = i;
	}
	return text.n;
}

static int put_sentence(struct json_value v, struct buf *out)
{
	struct buf text;
	buf_init(&text, 0);
	int rc = json_string_decode(v, &text);
	if (rc == 0) {
		struct slice s = buf_slice(&text);
		s.n = sentence(s);
		s.n = utf8_valid_prefix(s);
		rc = json_put_string(out, s);
	}
	buf_free(&text);
	return rc;
}

static int put_schema(struct json_value v, bool named, struct buf *out);

static int put_member(struct json_value key, struct json_value v, bool named, struct buf *out)
{
	buf_add_slice(out, key.raw);
	buf_add_char(out, ':');
	if (!named && json_string_is(key, "description") && json_is(v, JSON_STRING))
		return put_sentence(v, out);
	if (!named && is_one_of(key, exact))
		return buf_add_slice(out, v.raw);
	return put_schema(v, !named && is_one_of(key, maps), out);
}

/* named: the object's keys are the author's own. The nesting is bounded by the body's parser. */
static int put_schema(struct json_value v, bool named, struct buf *out)
{
	struct json_iter it = json_iter(v);
	struct json_value key, member;
	bool any = false;
	if (json_is(v, JSON_ARRAY)) {
		buf_add_char(out, '[');
		while (json_array_next(&it, &member)) {
			if (any)
				buf_add_char(out, ',');
			any = true;
			put_schema(member, false, out);
		}
		return buf_add_char(out, ']');
	}
	if (!json_is(v, JSON_OBJECT))
		return buf_add_slice(out, v.raw);
	buf_add_char(out, '{');
	while (json_object_next(&it, &key, &member)) {
		if (!named && is_one_of(key, spare))
			continue;
		if (any)
			buf_add_char(out, ',');
		any = true;
		put_member(key, member, named, out);
	}
	return buf_add_char(out, '}');
}

/* --- wrong calls --- */

static struct json_value function_of(struct json_value tool)
{
	struct json_value f = json_get(tool, "function");
	return json_is(f, JSON_OBJECT) ? f : tool;
}

static struct json_value schema_of(struct json_value function)
{
	struct json_value s = json_get(function, "parameters");
	return json_is(s, JSON_OBJECT) ? s : json_get(function, "input_schema");
}

/* How many bytes may still be looked at: past it every call counts as right, so that hostile tools
 * and arguments cost no more than this. */
struct looking {
	size_t left;
};

static bool has_member(struct looking *k, struct json_value object, struct json_value name)
{
	if (object.raw.n > k->left) {
		k->left = 0;
		return true;
	}
	k->left -= object.raw.n;
	struct json_iter it = json_iter(object);
	struct json_value key, value;
	while (json_object_next(&it, &key, &value))
		if (slice_eq(key.raw, name.raw))
			return true;
	return false;
}

/* Do the arguments, a JSON object, suit the schema as far as names go? */
static bool suits(struct looking *k, struct json_value arguments, struct json_value schema)
{
	struct json_value properties = json_get(schema, "properties"), name, value;
	struct json_iter it = json_iter(json_get(schema, "required"));
	while (json_array_next(&it, &name))
		if (json_is(name, JSON_STRING) && !has_member(k, arguments, name))
			return false;
	struct json_value more = json_get(schema, "additionalProperties");
	if (!json_is(properties, JSON_OBJECT) || json_is(more, JSON_TRUE) ||
		json_is(more, JSON_OBJECT))
		return true;
	it = json_iter(arguments);
	while (json_object_next(&it, &name, &value))
		if (!has_member(k, properties, name))
			return false;
	return true;
}

static bool call_suits(struct looking *k, const struct chat_call *call, struct json_value schema)
{
	if (!json_is(schema, JSON_OBJECT))
		return true;
	if (json_is(call->arguments, JSON_OBJECT))
		return suits(k, call->arguments, schema);
	struct buf text;
	struct json_value root;
	buf_init(&text, 0);
	bool good = json_string_decode(call->arguments, &text) == 0 &&
		    json_parse(buf_slice(&text), JSON_MAX_DEPTH, &root, NULL) == 0 &&
		    json_is(root, JSON_OBJECT) && suits(k, root, schema);
	buf_free(&text);
	return good;
}

/* Was the tool called wrongly in this conversation? */
static bool was_misused(struct looking *k, const struct chat_request *r, struct json_value function)
{
	struct json_value name = json_get(function, "name"), schema = schema_of(function);
	for (size_t i = 0; i < r->count; i++) {
		struct json_iter it = json_iter(r->messages[i].tool_calls);
		struct chat_call call;
		while (r->messages[i].role == CHAT_ASSISTANT && chat_call_next(&it, &call))
			if (slice_eq(call.name.raw, name.raw) && !call_suits(k, &call, schema))
				return true;
	}
	return false;
}

int layout_diet(const struct chat_request *r, struct buf *out, size_t *full)
{
	struct json_iter it = json_iter(r->tools);
	struct json_value tool;
	size_t whole = 0, n = 0;
	struct looking k = {LOOK_BYTES};
	if (!json_is(r->tools, JSON_ARRAY))
		return -EINVAL;
	buf_add_char(out, '[');
	while (json_array_next(&it, &tool)) {
		if (n++)
			buf_add_char(out, ',');
		if (was_misused(&k, r, function_of(tool))) {
			buf_add_slice(out, tool.raw);
			whole++;
		} else {
			put_schema(tool, false, out);
		}
	}
	buf_add_char(out, ']');
	if (full)
		*full = whole;
	return n ? buf_error(out) : -EINVAL;
}
