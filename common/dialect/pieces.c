#include "common/dialect/pieces.h"

#define NAME_BYTES 100 /* as far as an error repeats it */

/* Whether name is the key with these bytes between its quotes. The first byte tells most apart. */
static bool plain_key_is(struct slice inner, const char *name)
{
	return inner.n && *inner.p == *name && strlen(name) == inner.n &&
	       memcmp(inner.p, name, inner.n) == 0;
}

/* Whether a key that is none of the fields is one of them in capitals. */
static bool is_other_case(struct slice inner, const struct field *fields, size_t n)
{
	bool capital = false;
	for (size_t i = 0; i < inner.n && !capital; i++)
		capital = inner.p[i] >= 'A' && inner.p[i] <= 'Z';
	for (size_t i = 0; capital && i < n; i++)
		if (slice_ieq(inner, slice_str(fields[i].name)))
			return true;
	return false;
}

bool fields_get(struct json_value object, const struct field *fields, size_t n)
{
	bool other_case = false;
	for (size_t i = 0; i < n; i++)
		*fields[i].value = (struct json_value){.type = JSON_NONE};
	if (object.type != JSON_OBJECT)
		return false;
	struct json_iter it = json_iter(object);
	struct json_value key, value;
	while (json_object_next(&it, &key, &value)) {
		struct slice inner = string_inner(key);
		bool escaped = inner.n && memchr(inner.p, '\\', inner.n);
		size_t i;
		for (i = 0; i < n; i++) {
			const char *name = fields[i].name;
			if (escaped ? json_string_is(key, name) : plain_key_is(inner, name)) {
				*fields[i].value = value;
				break;
			}
		}
		other_case = other_case || (i == n && is_other_case(inner, fields, n));
	}
	return other_case;
}

struct slice string_inner(struct json_value v)
{
	if (v.type != JSON_STRING)
		return (struct slice){"", 0};
	return (struct slice){v.raw.p + 1, v.raw.n - 2};
}

struct slice string_beginning(struct json_value v)
{
	struct slice s = string_inner(v);
	s.n = s.n < NAME_BYTES ? s.n : NAME_BYTES;
	s.n = utf8_valid_prefix(s);
	return s;
}

bool value_filled(struct json_value v)
{
	struct json_iter it = json_iter(v);
	struct json_value key, value;
	switch (v.type) {
	case JSON_STRING:
		return v.raw.n > 2;
	case JSON_ARRAY:
		return json_array_next(&it, &value);
	case JSON_OBJECT:
		return json_object_next(&it, &key, &value);
	default:
		return false;
	}
}

enum part_kind part_classify(struct json_value part, struct json_value *value)
{
	struct json_value type, text, image, source;
	FIELDS_GET(
		part, {"type", &type}, {"text", &text}, {"image_url", &image}, {"source", &source});
	*value = (struct json_value){.type = JSON_NONE};
	if (source.type == JSON_OBJECT && json_string_is(type, "image"))
		return PART_IMAGE; /* Anthropic's */
	if (json_string_is(type, "image_url") || json_string_is(type, "input_image")) {
		struct json_value url = image.type == JSON_OBJECT ? json_get(image, "url") : image;
		if (url.type == JSON_STRING)
			*value = url;
		return PART_IMAGE;
	}
	if (text.type == JSON_STRING) {
		*value = text;
		return PART_TEXT;
	}
	return PART_OTHER;
}

struct tool_call tool_call_read(struct json_value call)
{
	struct tool_call out;
	struct json_value function, input;
	FIELDS_GET(call, {"id", &out.id}, {"function", &function}, {"name", &out.name},
		{"arguments", &out.arguments}, {"input", &input});
	if (function.type == JSON_OBJECT)
		FIELDS_GET(function, {"name", &out.name}, {"arguments", &out.arguments});
	else if (out.arguments.type == JSON_NONE)
		out.arguments = input;
	return out;
}

bool tool_call_is_none(const struct tool_call *call)
{
	return call->id.type == JSON_NONE && call->name.type == JSON_NONE &&
	       call->arguments.type == JSON_NONE;
}

size_t array_count(struct json_value array)
{
	struct json_iter it = json_iter(array);
	struct json_value element;
	size_t n = 0;
	while (json_array_next(&it, &element))
		n++;
	return n;
}

/* Strings are written anew, because a raw U+2028 in one would end an NDJSON line for
 * some clients. */
int compact_put(struct buf *out, struct slice text, struct buf *scratch)
{
	const char *p = text.p, *end = text.p + text.n;
	while (p < end) {
		const char *start = p;
		if (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') {
			p++;
			continue;
		}
		if (*p != '"') {
			buf_add_char(out, *p++);
			continue;
		}
		for (p++; *p != '"'; p++) {
			if (*p == '\\')
				p++;
		}
		p++;
		struct json_value string = {JSON_STRING, {start, (size_t)(p - start)}};
		buf_clear(scratch);
		int rc = json_string_decode(string, scratch);
		if (rc)
			return rc;
		json_put_string(out, buf_slice(scratch));
	}
	return buf_error(out);
}

int arguments_put_object(struct buf *out, struct slice text, struct buf *scratch)
{
	struct json_value root;
	if (text.n == 0)
		return buf_add_str(out, "{}");
	if (json_parse(text, JSON_MAX_DEPTH, &root, NULL) == 0 && root.type == JSON_OBJECT)
		return compact_put(out, root.raw, scratch);
	buf_add_str(out, "{\"raw_arguments\":");
	json_put_string(out, text);
	return buf_add_char(out, '}');
}

int arguments_put_object_from(struct buf *out, struct json_value arguments, struct buf *scratch)
{
	struct json_value root;
	if (is_absent(arguments) || (arguments.type == JSON_STRING && !value_filled(arguments)))
		return buf_add_str(out, "{}");
	if (arguments.type == JSON_OBJECT)
		return buf_add_slice(out, arguments.raw);
	if (arguments.type == JSON_STRING) {
		buf_clear(scratch);
		int rc = json_string_decode(arguments, scratch);
		if (rc)
			return rc;
		if (json_parse(buf_slice(scratch), JSON_MAX_DEPTH, &root, NULL) == 0 &&
			root.type == JSON_OBJECT)
			return buf_add_slice(out, root.raw);
	}
	buf_add_str(out, "{\"raw_arguments\":");
	buf_add_slice(out, arguments.raw);
	return buf_add_char(out, '}');
}

void call_id_put(struct buf *out, struct slice id, const char *answer, unsigned index)
{
	if (id.n) {
		json_put_string(out, id);
		return;
	}
	buf_add_str(out, "\"call_");
	json_put_escaped(out, slice_str(answer));
	buf_printf(out, "_%u\"", index);
}

void member_copy(struct buf *out, const char *name, struct json_value v)
{
	if (is_absent(v))
		return;
	json_put_key(out, name);
	buf_add_slice(out, v.raw);
}
