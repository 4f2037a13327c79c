/* OpenAI's /v1/responses: items put together to the messages of a chat. */
#include "common/dialect/front_responses_talk.h"
#include "common/dialect/pieces.h"

#include <errno.h>
#include <stdio.h>

int talk_refuse(struct talk *w, const char *text)
{
	w->e->status = 400;
	snprintf(w->e->text, sizeof(w->e->text), "input[%zu]: %s", w->item, text);
	return -EINVAL;
}

int talk_refuse_type(struct talk *w, const char *what, struct json_value type)
{
	char text[DIALECT_ERROR_TEXT_BYTES / 2];
	struct slice name = string_beginning(type);
	snprintf(text, sizeof(text), "%s of type \"%.*s\" are not available here", what,
		(int)name.n, name.p);
	return talk_refuse(w, text);
}

void talk_add_line(struct buf *to, struct slice inner)
{
	if (to->n)
		buf_add_str(to, "\\n");
	buf_add_slice(to, inner);
}

/* --- content --- */

bool talk_text_of(struct json_value part, struct json_value *text)
{
	struct json_value type, refusal;
	FIELDS_GET(part, {"type", &type}, {"text", text}, {"refusal", &refusal});
	if (json_string_is(type, "refusal"))
		*text = refusal;
	return text->type == JSON_STRING;
}

bool talk_add_texts(struct buf *to, struct json_value content)
{
	struct json_iter it = json_iter(content);
	struct json_value part, text;
	if (content.type == JSON_STRING) {
		talk_add_line(to, string_inner(content));
		return true;
	}
	while (json_array_next(&it, &part)) {
		if (!talk_text_of(part, &text))
			return false;
		talk_add_line(to, string_inner(text));
	}
	return content.type == JSON_ARRAY || is_absent(content);
}

static int put_image(struct talk *w, struct json_value part, struct buf *out)
{
	struct json_value url, detail;
	FIELDS_GET(part, {"image_url", &url}, {"detail", &detail});
	if (url.type != JSON_STRING)
		return talk_refuse(
			w, "input_image: only image_url is possible here, no file is kept");
	buf_add_str(out, "{\"type\":\"image_url\",\"image_url\":{\"url\":");
	buf_add_slice(out, url.raw);
	if (detail.type == JSON_STRING)
		member_copy(out, "detail", detail);
	return buf_add_str(out, "}}");
}

int talk_put_part(struct talk *w, struct json_value part, struct buf *out)
{
	struct json_value text, type = json_get(part, "type");
	if (out->n && out->p[out->n - 1] != '[')
		buf_add_char(out, ',');
	if (talk_text_of(part, &text)) {
		buf_add_str(out, "{\"type\":\"text\",\"text\":");
		buf_add_slice(out, text.raw);
		return buf_add_char(out, '}');
	}
	if (json_string_is(type, "input_image"))
		return put_image(w, part, out);
	if (!json_string_is(type, "input_audio"))
		return talk_refuse_type(w, "parts", type);
	return buf_add_slice(out, part.raw);
}

/* --- messages --- */

struct buf *talk_begin_message(struct talk *w, const char *role)
{
	struct buf *out = &w->out;
	if (w->any)
		buf_add_char(out, ',');
	w->any = true;
	buf_printf(out, "{\"role\":\"%s\",\"content\":", role);
	return out;
}

void talk_put_quoted(struct buf *out, const struct buf *inner)
{
	buf_add_char(out, '"');
	buf_add_slice(out, buf_slice(inner));
	buf_add_char(out, '"');
}

/* What the system says before anybody else is one message: many templates take no second one. */
static void begin_talk(struct talk *w)
{
	if (w->begun)
		return;
	w->begun = true;
	if (w->system.n == 0)
		return;
	talk_put_quoted(talk_begin_message(w, "system"), &w->system);
	buf_add_char(&w->out, '}');
}

void talk_end_turn(struct talk *w)
{
	begin_talk(w);
	if (w->text.n || w->calls.n) {
		struct buf *out = talk_begin_message(w, "assistant");
		talk_put_quoted(out, &w->text);
		if (w->thinking.n) {
			json_put_key(out, "reasoning_content");
			talk_put_quoted(out, &w->thinking);
		}
		if (w->calls.n) {
			json_put_key(out, "tool_calls");
			buf_add_char(out, '[');
			buf_add_slice(out, buf_slice(&w->calls));
			buf_add_char(out, ']');
		}
		buf_add_char(out, '}');
	}
	buf_clear(&w->text);
	buf_clear(&w->thinking);
	buf_clear(&w->calls);
}

void talk_show_pictures(struct talk *w)
{
	if (w->pictures.n == 0)
		return;
	struct buf *out = talk_begin_message(w, "user");
	buf_add_char(out, '[');
	buf_add_slice(out, buf_slice(&w->pictures));
	buf_add_str(out, "]}");
	buf_clear(&w->pictures);
}

void talk_put_result(struct talk *w, struct json_value call_id)
{
	talk_end_turn(w);
	talk_put_quoted(talk_begin_message(w, "tool"), &w->scratch);
	member_copy(&w->out, "tool_call_id", call_id);
	buf_add_char(&w->out, '}');
}

/* --- agents --- */

/* As those servers write it. */
static bool is_ciphertext(struct json_value text)
{
	struct slice inner = string_inner(text);
	return inner.n >= 5 && memcmp(inner.p, "gAAAA", 5) == 0;
}

/* What another agent of the client's says. Its words are secret to all but the server that models of OpenAI's run on; what
 * a model here said to it is what it was. */
int talk_take_agent(struct talk *w, struct json_value item)
{
	struct json_value content = json_get(item, "content"), part, text;
	struct json_iter it = json_iter(content);
	if (content.type != JSON_STRING && content.type != JSON_ARRAY)
		return talk_refuse(w, "content must be a string or a list of parts");
	buf_clear(&w->scratch);
	if (!is_ciphertext(content))
		buf_add_slice(&w->scratch, string_inner(content));
	while (json_array_next(&it, &part)) {
		if (json_string_is(json_get(part, "type"), "encrypted_content"))
			text = json_get(part, "encrypted_content");
		else if (!talk_text_of(part, &text))
			return talk_refuse(w, "an agent's message has nothing but text");
		if (!is_ciphertext(text))
			talk_add_line(&w->scratch, string_inner(text));
	}
	if (w->scratch.n == 0)
		return 0;
	talk_end_turn(w);
	talk_show_pictures(w);
	talk_put_quoted(talk_begin_message(w, "user"), &w->scratch);
	return buf_add_char(&w->out, '}');
}
