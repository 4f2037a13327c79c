#include "workers/refusal.h"

#include "common/json.h"

#include <stdio.h>

static void set_text(struct refusal *out, struct slice text)
{
	if (text.n >= REFUSAL_TEXT_BYTES)
		text.n = REFUSAL_TEXT_BYTES - 1;
	text.n = utf8_valid_prefix(text);
	memcpy(out->text, text.p, text.n);
	out->text[text.n] = '\0';
}

/* depth: an error's text may be JSON itself, once. */
static bool read_json(struct slice body, struct refusal *out, int depth)
{
	struct json_value root, error;
	if (json_parse(body, JSON_MAX_DEPTH, &root, NULL) || !json_is(root, JSON_OBJECT))
		return false;
	error = json_get(root, "error");
	if (json_is(error, JSON_OBJECT) &&
		json_string_is(json_get(error, "type"), "exceed_context_size_error")) {
		out->overflow = true;
		if (!json_to_int(json_get(error, "n_prompt_tokens"), &out->prompt_tokens))
			out->prompt_tokens = 0;
		if (!json_to_int(json_get(error, "n_ctx"), &out->window_tokens))
			out->window_tokens = 0;
	}
	if (json_is(error, JSON_OBJECT))
		error = json_get(error, "message");
	else if (!json_is(error, JSON_STRING))
		error = json_get(root, "message");
	struct buf text;
	buf_init(&text, 0);
	bool found = json_string_decode(error, &text) == 0 && text.n;
	if (found && (depth == 0 || !read_json(buf_slice(&text), out, depth - 1)))
		set_text(out, buf_slice(&text));
	buf_free(&text);
	return found;
}

void refusal_read(int status, struct slice body, struct refusal *out)
{
	*out = (struct refusal){0};
	if (!read_json(body, out, 1) || !out->text[0])
		snprintf(out->text, sizeof(out->text), "the backend answered with status %d",
			status);
}
