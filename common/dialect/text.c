/* A message's text as condensing sees it. */
#include "common/dialect/pieces.h"
#include "common/dialect/request.h"

/* JSON text with its strings decoded in place: code inside an argument gets real lines. */
static int put_decoded_json(struct slice text, struct buf *out)
{
	const char *p = text.p, *end = text.p + text.n;
	while (p < end) {
		const char *start = p;
		const char *quote = memchr(p, '"', (size_t)(end - p));
		if (!quote)
			return buf_add(out, start, (size_t)(end - start));
		p = quote + 1;
		buf_add(out, start, (size_t)(p - start));
		while (*p != '"')
			p += *p == '\\' ? 2 : 1;
		struct json_value string = {JSON_STRING, {quote, (size_t)(p + 1 - quote)}};
		int rc = json_string_decode(string, out);
		if (rc)
			return rc;
		buf_add_char(out, '"');
		p++;
	}
	return buf_error(out);
}

static int put_arguments(struct json_value arguments, struct buf *out)
{
	if (is_absent(arguments))
		return buf_add_str(out, "{}");
	if (arguments.type != JSON_STRING)
		return put_decoded_json(arguments.raw, out);
	struct buf decoded;
	struct json_value root;
	buf_init(&decoded, 0);
	int rc = json_string_decode(arguments, &decoded);
	if (rc == 0 && json_parse(buf_slice(&decoded), JSON_MAX_DEPTH, &root, NULL) == 0)
		rc = put_decoded_json(root.raw, out);
	else if (rc == 0)
		rc = buf_add_slice(out, buf_slice(&decoded));
	buf_free(&decoded);
	return rc;
}

/* Ends the line that stands before, if text was written since start. */
static void start_line(struct buf *out, size_t start)
{
	if (out->n > start && out->p[out->n - 1] != '\n')
		buf_add_char(out, '\n');
}

static int put_call(struct json_value value, size_t start, struct buf *out)
{
	struct tool_call call = tool_call_read(value);
	if (tool_call_is_none(&call))
		return 0;
	start_line(out, start);
	if (call.name.type == JSON_STRING)
		json_string_decode(call.name, out);
	buf_add_char(out, '(');
	int rc = put_arguments(call.arguments, out);
	buf_add_char(out, ')');
	return rc ? rc : buf_error(out);
}

struct chat_texts chat_texts(struct json_value content)
{
	return (struct chat_texts){.whole = content, .parts = json_iter(content)};
}

bool chat_texts_next(struct chat_texts *t, struct json_value *string, struct json_value *part)
{
	*part = (struct json_value){.type = JSON_NONE};
	*string = t->whole;
	if (t->whole.type == JSON_STRING) {
		t->whole.type = JSON_NONE;
		return true;
	}
	while (t->whole.type == JSON_ARRAY && json_array_next(&t->parts, part))
		if (part_classify(*part, string) == PART_TEXT)
			return true;
	return false;
}

void chat_content_text(struct json_value content, struct buf *out)
{
	struct chat_texts t = chat_texts(content);
	struct json_value string, part;
	for (bool first = true; chat_texts_next(&t, &string, &part); first = false) {
		if (!first)
			buf_add_char(out, '\n');
		json_string_decode(string, out);
	}
}

bool chat_call_next(struct json_iter *it, struct chat_call *call)
{
	struct json_value value;
	while (json_array_next(it, &value)) {
		struct tool_call read = tool_call_read(value);
		if (tool_call_is_none(&read))
			continue;
		*call = (struct chat_call){read.id, read.name, read.arguments};
		return true;
	}
	return false;
}

int chat_message_text(const struct chat_request *r, size_t message, struct buf *out)
{
	const struct chat_message *m = &r->messages[message];
	size_t start = out->n;
	chat_content_text(m->content, out);
	if (m->role != CHAT_ASSISTANT || m->raw.type != JSON_OBJECT)
		return buf_error(out);
	struct json_value call = json_get(m->raw, "function_call");
	int rc = 0;
	if (m->tool_calls.type == JSON_ARRAY) {
		struct json_iter it = json_iter(m->tool_calls);
		while (rc == 0 && json_array_next(&it, &call))
			rc = put_call(call, start, out);
	} else if (call.type == JSON_OBJECT) {
		rc = put_call(call, start, out);
	}
	return rc ? rc : buf_error(out);
}
