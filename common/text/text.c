#include "common/text/text.h"

#include "common/text/piece.h"

#define CALL_LABEL 80 /* bytes of a tool call that a header shows */

/* What aider's /run and /test put into the chat in its user's name. */
static bool is_command_output(struct slice text)
{
	const struct slice begin = SLICE("I ran this command:\n\n"),
			   then = SLICE("\n\nAnd got this output:\n\n");
	return text.n > begin.n && memcmp(text.p, begin.p, begin.n) == 0 &&
	       memmem(text.p, text.n, then.p, then.n);
}

bool text_is_tool_result(struct slice text)
{
	static const struct slice tags[] = {
		SLICE("<tool_result"),
		SLICE("<function_results>"),
		SLICE("<tool_response>"),
	};
	while (text.n && (*text.p == ' ' || *text.p == '\n' || *text.p == '\r')) {
		text.p++;
		text.n--;
	}
	for (size_t i = 0; i < sizeof(tags) / sizeof(*tags); i++)
		if (text.n >= tags[i].n && memcmp(text.p, tags[i].p, tags[i].n) == 0)
			return true;
	if (is_command_output(text))
		return true;
	/* "[read_file for 'src/a.c'] Result:", or "[attempt_completion] Result:" */
	if (text.n < 3 || text.p[0] != '[')
		return false;
	size_t i = 1;
	while (i < text.n && ((text.p[i] >= 'a' && text.p[i] <= 'z') || text.p[i] == '_'))
		i++;
	struct slice first = {text.p, text.n};
	const char *nl = memchr(text.p, '\n', text.n);
	if (nl)
		first.n = (size_t)(nl - text.p);
	if (i == 1 || i >= first.n || (first.p[i] != ' ' && first.p[i] != ']'))
		return false;
	const struct slice mark = SLICE("] Result:");
	return memmem(first.p, first.n, mark.p, mark.n) != NULL;
}

static bool is_result(const struct text_message *m)
{
	return m->role == TEXT_TOOL || (m->tool_result && m->role == TEXT_USER);
}

static struct slice call_label(const struct text_message *m)
{
	struct slice s = m->call;
	const char *nl = s.n ? memchr(s.p, '\n', s.n) : NULL;
	if (nl)
		s.n = (size_t)(nl - s.p);
	if (s.n > CALL_LABEL)
		s.n = piece_cut(s, 0, CALL_LABEL);
	return s;
}

static struct slice speaker(const struct text_message *m)
{
	if (is_result(m))
		return SLICE("tool");
	switch (m->role) {
	case TEXT_SYSTEM:
		return SLICE("system");
	case TEXT_ASSISTANT:
		return SLICE("assistant");
	case TEXT_USER:
	case TEXT_TOOL:
		break;
	}
	return SLICE("user");
}

void text_header(const struct text_message *m, struct slice mark, bool call, struct buf *out)
{
	struct slice label = call ? call_label(m) : (struct slice){0};
	buf_add_char(out, '[');
	buf_add_slice(out, mark);
	if (mark.n)
		buf_add_char(out, ' ');
	buf_add_slice(out, speaker(m));
	if (label.n) {
		buf_add_char(out, ' ');
		buf_add_slice(out, label);
	}
	buf_add_str(out, "]\n");
}

size_t text_header_size(const struct text_message *m, struct slice mark, bool call)
{
	size_t label = call ? call_label(m).n : 0;
	return speaker(m).n + (label ? label + 1 : 0) + (mark.n ? mark.n + 1 : 0) + 3;
}

size_t text_old_bytes(const struct text_message *m, size_t n)
{
	size_t bytes = 0;
	for (size_t i = 0; i < n; i++)
		if (!m[i].verbatim)
			bytes += m[i].text.n;
	return bytes;
}
