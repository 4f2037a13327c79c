#include "tests/fake/ask.h"

/* The text parts of a content, joined; images into g's prompt if there is one. */
static void add_parts(struct json_value parts, struct buf *text, struct prompt *prompt)
{
	struct json_iter it = json_iter(parts);
	struct json_value part;

	while (json_array_next(&it, &part)) {
		struct json_value image = json_get(json_get(part, "image_url"), "url");

		if (json_is(part, JSON_STRING))
			json_string_decode(part, text);
		else if (json_is(image, JSON_STRING) && prompt)
			prompt_image(prompt, image.raw);
		else if (json_is(json_get(part, "text"), JSON_STRING))
			json_string_decode(json_get(part, "text"), text);
	}
}

void ask_last_user_text(struct json_value body, struct buf *out)
{
	struct json_iter it = json_iter(json_get(body, "messages"));
	struct json_value message, content = json_get(body, "prompt");

	while (json_array_next(&it, &message))
		if (json_string_is(json_get(message, "role"), "user"))
			content = json_get(message, "content");
	if (json_is(content, JSON_NONE))
		content = json_get(body, "input_prefix");
	if (json_is(content, JSON_STRING))
		json_string_decode(content, out);
	else
		add_parts(content, out, NULL);
}

bool ask_streams(const struct request *r)
{
	struct http_exchange *x = r->x;
	bool stream = r->fake->options.type == TYPE_OLLAMA && x->path.n > 5 &&
		      memcmp(x->path.p, "/api/", 5) == 0;

	json_to_bool(json_get(r->json, "stream"), &stream);
	return stream;
}

/* A template writes the name and the arguments; ids and the like do not reach the model. */
static void add_calls(struct prompt *p, struct json_value calls)
{
	struct json_iter it = json_iter(calls);
	struct json_value call;

	while (json_array_next(&it, &call)) {
		struct json_value function = json_get(call, "function"),
				  args = json_get(function, "arguments");

		prompt_string(p, json_get(function, "name"));
		if (json_is(args, JSON_STRING))
			prompt_string(p, args);
		else
			prompt_raw(p, args.raw);
	}
}

static void add_message(struct prompt *p, struct json_value message)
{
	struct json_value role = json_get(message, "role"), content = json_get(message, "content");
	struct json_value calls = json_get(message, "tool_calls"), image;
	struct json_iter images = json_iter(json_get(message, "images"));
	bool system = json_string_is(role, "system") || json_string_is(role, "developer");

	prompt_message(
		p, json_is(role, JSON_STRING) && role.raw.n > 2 ? role.raw.p[1] : '?', system);
	if (json_is(content, JSON_STRING))
		prompt_string(p, content);
	else
		add_parts(content, &p->text, p);
	if (json_is(calls, JSON_ARRAY))
		add_calls(p, calls);
	while (json_array_next(&images, &image))
		prompt_image(p, image.raw);
}

static bool is_last(struct json_iter it)
{
	struct json_value next;

	return !json_array_next(&it, &next);
}

void ask_chat(struct gen *g, struct json_value body)
{
	struct json_value tools = json_get(body, "tools"), message;
	struct json_iter it = json_iter(json_get(body, "messages"));

	if (json_is(tools, JSON_ARRAY) && tools.raw.n > 2) {
		prompt_message(&g->prompt, 'T', true);
		prompt_raw(&g->prompt, tools.raw);
	}
	while (json_array_next(&it, &message)) {
		size_t before = g->prompt.text.n;

		add_message(&g->prompt, message);
		g->begun = json_string_is(json_get(message, "role"), "assistant");
		if (!g->begun || !is_last(it))
			continue;
		if (g->r->fake->options.type == TYPE_OPENAI)
			continue; /* its template closes the turn: another answer begins */
		struct slice given = {g->prompt.text.p + before + PROMPT_MARK_BYTES,
			g->prompt.text.n - before - PROMPT_MARK_BYTES};
		answer_begin_with(g, given, false);
		if (g->r->fake->options.type == TYPE_LLAMA)
			buf_add_slice(&g->echo, given);
	}
}

#define TURN '\1' /* begins a turn in a rendered prompt; the role's letter follows */

void ask_render(struct json_value body, bool close, struct buf *out)
{
	struct json_value tools = json_get(body, "tools"), message;
	struct json_iter it = json_iter(json_get(body, "messages"));
	struct prompt p;

	prompt_init(&p);
	if (json_is(tools, JSON_ARRAY) && tools.raw.n > 2) {
		prompt_message(&p, 'T', true);
		prompt_raw(&p, tools.raw);
	}
	while (json_array_next(&it, &message))
		add_message(&p, message);
	if (close)
		prompt_message(&p, 'a', false);
	for (size_t i = 0; i < p.text.n; i++)
		buf_add_char(out, (unsigned char)p.text.p[i] == 0xFF ? TURN : p.text.p[i]);
	prompt_fini(&p);
}

/* The same text as the chat that it was rendered from; false: it is no rendered prompt. */
static bool add_rendered(struct prompt *p, struct json_value prompt)
{
	struct buf text;
	bool rendered;

	buf_init(&text, PROMPT_MAX);
	json_string_decode(prompt, &text);
	rendered = text.n > 1 && text.p[0] == TURN;
	for (size_t i = 0; rendered && i < text.n; i++) {
		if (text.p[i] != TURN || i + 1 == text.n) {
			buf_add_char(&p->text, text.p[i]);
			continue;
		}
		i++;
		prompt_message(p, text.p[i], text.p[i] == 's' || text.p[i] == 'T');
	}
	buf_free(&text);
	return rendered;
}

static void add_prompt(struct prompt *p, struct json_value prompt, double chars_per_token)
{
	struct json_iter it = json_iter(prompt);
	struct json_value part;

	if (add_rendered(p, prompt))
		return;
	prompt_message(p, 'u', false);
	prompt_string(p, prompt);
	while (json_array_next(&it, &part)) {
		prompt_string(p, part);
		if (json_is(part, JSON_NUMBER)) /* a token id */
			for (double i = 0; i < chars_per_token; i++)
				buf_add_char(&p->text, part.raw.p[part.raw.n - 1]);
	}
}

/* A raw prompt of Ollama's has no suffix, whatever the request says. What is filled in goes on where
 * the prompt ends, so the suffix stands before it, as some models have it. */
static bool add_suffix(struct gen *g, struct json_value body, const char *key, bool raw)
{
	struct json_value suffix = json_get(body, key);

	if (!json_is(suffix, JSON_STRING) || suffix.raw.n <= 2 ||
		(raw && g->r->fake->options.type == TYPE_OLLAMA))
		return false;
	prompt_message(&g->prompt, 'u', false);
	prompt_string(&g->prompt, suffix);
	return true;
}

void ask_completion(struct gen *g, struct json_value body)
{
	struct json_iter it = json_iter(json_get(body, "images"));
	struct json_value system = json_get(body, "system"), image;
	bool raw = g->r->fake->options.type != TYPE_OLLAMA;

	json_to_bool(json_get(body, "raw"), &raw);
	if (json_is(system, JSON_STRING)) {
		prompt_message(&g->prompt, 's', true);
		prompt_string(&g->prompt, system);
	}
	bool infill = add_suffix(g, body, "suffix", raw);
	add_prompt(&g->prompt, json_get(body, "prompt"), g->r->fake->options.chars_per_token);
	while (json_array_next(&it, &image))
		prompt_image(&g->prompt, image.raw);
	/* A prompt that no template is put around may end with a part of the answer. */
	if (raw || infill)
		answer_begin_with(g, buf_slice(&g->prompt.text), true);
}

void ask_infill(struct gen *g, struct json_value body)
{
	add_suffix(g, body, "input_suffix", true);
	add_prompt(&g->prompt, json_get(body, "input_prefix"), g->r->fake->options.chars_per_token);
	answer_begin_with(g, buf_slice(&g->prompt.text), true);
}
