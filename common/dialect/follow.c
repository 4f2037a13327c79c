#include "common/dialect/follow.h"

#include "common/dialect/front_responses.h"
#include "common/dialect/pieces.h"

#include <errno.h>

/* --- the message of an answer --- */

static struct json_value first_choice(struct json_value root)
{
	struct json_iter it = json_iter(json_get(root, "choices"));
	struct json_value choice = {.type = JSON_NONE};
	return json_array_next(&it, &choice) ? json_get(choice, "message") : choice;
}

/* Of items, as they come back: the turn that they are put together to. */
static int turn_of(struct json_value items, struct buf *out)
{
	struct json_value message, turn = {.type = JSON_NONE};
	struct dialect_error error;
	struct buf body;
	buf_init(&body, out->max * 2); /* 0: no cap; an item has more around its words */
	buf_add_str(&body, "{\"input\":");
	buf_add_slice(&body, items.raw);
	buf_add_char(&body, '}');
	int rc = buf_error(&body);
	if (rc == 0)
		rc = responses_mend(&body, json_object_in(buf_slice(&body)), &error);
	if (rc == 0) {
		struct json_iter it =
			json_iter(json_get(json_object_in(buf_slice(&body)), "messages"));
		while (json_array_next(&it, &message))
			if (json_string_is(json_get(message, "role"), "assistant"))
				turn = message;
		buf_add_slice(out, turn.raw);
	}
	buf_free(&body);
	return rc == -EINVAL ? 0 : rc ? rc : buf_error(out);
}

int follow_message(struct slice answer, struct buf *out)
{
	struct json_value root;
	if (json_parse(answer, JSON_MAX_DEPTH, &root, NULL) || root.type != JSON_OBJECT)
		return 0;
	if (json_string_is(json_get(root, "object"), "response"))
		return turn_of(json_get(root, "output"), out);
	struct json_value whole = json_get(root, "message");
	if (whole.type != JSON_OBJECT)
		whole = first_choice(root);
	if (whole.type == JSON_OBJECT)
		return buf_add_slice(out, whole.raw);
	if (!json_string_is(json_get(root, "role"), "assistant"))
		return 0;
	buf_add_str(out, "{\"role\":\"assistant\"");
	member_copy(out, "content", json_get(root, "content"));
	return buf_add_char(out, '}');
}

/* --- what follows it --- */

static bool first_call(struct json_value list, struct chat_call *call)
{
	struct json_iter it = json_iter(list);
	return list.type == JSON_ARRAY && chat_call_next(&it, call);
}

static void put_next(struct json_value message, struct buf *out)
{
	struct chat_call call;
	if (first_call(json_get(message, "content"), &call)) { /* a block is answered by a block */
		buf_add_str(out, "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\"");
		member_copy(out, "tool_use_id", call.id);
		buf_add_str(out, ",\"content\":\"\"}]}");
	} else if (first_call(json_get(message, "tool_calls"), &call)) {
		buf_add_str(out, "{\"role\":\"tool\"");
		member_copy(out, "tool_call_id", call.id);
		if (call.arguments.type == JSON_OBJECT) /* Ollama, whose results name the tool */
			member_copy(out, "tool_name", call.name);
		buf_add_str(out, ",\"content\":\"\"}");
	} else {
		buf_add_str(out, "{\"role\":\"user\",\"content\":\"\"}");
	}
}

int follow_request(const struct chat_request *r, struct slice message, struct buf *out)
{
	struct json_value m;
	if (r->messages_array.type != JSON_ARRAY || array_count(r->messages_array) == 0 ||
		json_parse(message, JSON_MAX_DEPTH, &m, NULL) || m.type != JSON_OBJECT ||
		!json_string_is(json_get(m, "role"), "assistant"))
		return -EINVAL;
	const char *begin = r->body.p, *end = begin + r->body.n;
	const char *bracket = r->messages_array.raw.p + r->messages_array.raw.n - 1;
	buf_add(out, begin, (size_t)(bracket - begin));
	buf_add_char(out, ',');
	buf_add_slice(out, m.raw);
	buf_add_char(out, ',');
	put_next(m, out);
	return buf_add(out, bracket, (size_t)(end - bracket));
}
