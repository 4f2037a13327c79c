/*
 * Going on through the rendered prompt: what a backend's chat template makes of a request is asked
 * first. Many templates close the last turn whatever its role, and the model then begins another
 * answer instead of going on with this one; the prompt itself has no such say.
 */
#include "common/dialect/back.h"
#include "common/dialect/pieces.h"
#include "common/dialect/resume.h"

#include <errno.h>

static bool is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static struct slice trim_left(struct slice s)
{
	while (s.n && is_space(*s.p))
		s = (struct slice){s.p + 1, s.n - 1};
	return s;
}

static struct slice trim(struct slice s)
{
	s = trim_left(s);
	while (s.n && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

/* An object without its closing brace. */
static struct slice without_brace(struct slice object)
{
	object = trim(object);
	return (struct slice){object.p, object.n ? object.n - 1 : 0};
}

const char *resume_render_path(enum backend_api api)
{
	return back_of(api)->render.path;
}

int resume_render_body(enum backend_api api, struct slice chat, struct buf *out)
{
	const char *members = back_of(api)->render.members;
	if (!*members)
		return buf_add_slice(out, chat);
	buf_add_slice(out, without_brace(chat));
	buf_add_str(out, members);
	return buf_add_char(out, '}');
}

/* The last place of needle in text; text.n when there is none. */
static size_t last_of(struct slice text, struct slice needle)
{
	for (size_t at = text.n >= needle.n ? text.n - needle.n + 1 : 0; at-- > 0;)
		if (memcmp(text.p + at, needle.p, needle.n) == 0)
			return at;
	return text.n;
}

int resume_rendered(enum backend_api api, struct slice answer, struct slice said,
	struct buf *prompt, bool *open)
{
	struct json_value root, rendered;
	struct slice core = trim(said);
	if (json_parse(answer, JSON_MAX_DEPTH, &root, NULL) || root.type != JSON_OBJECT)
		return -EPROTO;
	const char *const *where = back_of(api)->render.answer;
	rendered = json_get(root, where[0]);
	if (where[1])
		rendered = json_get(rendered, where[1]);
	if (rendered.type != JSON_STRING || core.n == 0)
		return -EPROTO;
	size_t begin = prompt->n;
	int rc = json_string_decode(rendered, prompt);
	if (rc)
		return rc;
	struct slice text = {prompt->p + begin, prompt->n - begin};
	size_t at = last_of(text, core);
	if (at == text.n)
		return -EPROTO;
	*open = trim((struct slice){text.p + at + core.n, text.n - at - core.n}).n == 0;
	/* Exactly what the client has, white space at its ends included. */
	prompt->n = begin + at;
	return buf_add_slice(prompt, trim_left(said));
}

/* Members of a chat that a plain prompt has no use for. */
static bool of_chat(struct json_value key)
{
	static const char *const names[] = {"messages", "tools", "tool_choice", "think", "stream",
		"stream_options", "chat_template_kwargs", "parallel_tool_calls", "prompt", "raw"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (json_string_is(key, names[i]))
			return true;
	return false;
}

int resume_prompt_call(enum backend_api api, struct slice chat, struct slice prompt,
	struct backend_call *call, struct buf *out)
{
	struct json_value root, key, value;
	if (json_parse(chat, JSON_MAX_DEPTH, &root, NULL) || root.type != JSON_OBJECT)
		return -EINVAL;
	const struct back_dialect *back = back_of(api);
	*call = (struct backend_call){.path = back->prompt.path,
		.format = back->prompt.format,
		.stream = true,
		.loads = back->loads};
	buf_add_str(out, "{\"stream\":true,\"prompt\":");
	json_put_string(out, prompt);
	buf_add_str(out, back->prompt.members);
	for (struct json_iter it = json_iter(root); json_object_next(&it, &key, &value);) {
		if (of_chat(key))
			continue;
		buf_add_char(out, ',');
		buf_add_slice(out, key.raw);
		buf_add_char(out, ':');
		buf_add_slice(out, value.raw);
	}
	return buf_add_char(out, '}');
}

size_t resume_echo(struct slice said, int64_t tokens, struct slice first)
{
	struct slice core = trim(said), text = trim_left(first);
	size_t left = (size_t)(text.p - first.p);
	if (core.n == 0 || text.n < core.n || memcmp(text.p, core.p, core.n) != 0)
		return 0;
	/* One token alone may well be said twice ("ha", "ha"); an echo has more behind it. */
	if (tokens < 2 && text.n == core.n)
		return 0;
	size_t n = left + core.n;
	/* White space behind it that the client has, too. */
	struct slice tail = {core.p + core.n, (size_t)(said.p + said.n - (core.p + core.n))};
	for (size_t i = 0; i < tail.n && n < first.n && first.p[n] == tail.p[i]; i++)
		n++;
	return n;
}
