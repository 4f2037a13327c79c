/* A compaction block's content, and its sections as messages (compaction_form.h). */
#include "common/dialect/compaction_form.h"

#include "common/dialect/pieces.h"

#include <errno.h>
#include <stdio.h>

static const char mark[] = "## ";
#define MARK_BYTES (sizeof(mark) - 1)

static bool is_marked(struct slice line)
{
	return line.n >= MARK_BYTES && memcmp(line.p, mark, MARK_BYTES) == 0;
}

static struct slice without_slashes(struct slice line)
{
	while (line.n && *line.p == '\\')
		line = (struct slice){line.p + 1, line.n - 1};
	return line;
}

/* With its line feed. */
static struct slice take_line(struct slice *text)
{
	const char *end = text->n ? memchr(text->p, '\n', text->n) : NULL;
	struct slice line = {text->p, end ? (size_t)(end - text->p) + 1 : text->n};
	*text = (struct slice){text->p + line.n, text->n - line.n};
	return line;
}

/* --- writing --- */

static void put_lines(struct buf *out, struct slice text)
{
	while (text.n) {
		struct slice line = take_line(&text);
		if (is_marked(without_slashes(line)))
			buf_add_char(out, '\\');
		buf_add_slice(out, line);
	}
	buf_add_str(out, "\n\n");
}

void compaction_put_section(struct buf *out, const char *head, struct slice text)
{
	buf_printf(out, "## %s\n", head);
	put_lines(out, text);
}

static void put_named(struct buf *out, const char *head, struct json_value id)
{
	buf_printf(out, "## %s ", head);
	buf_add_slice(out, id.type == JSON_STRING ? id.raw : SLICE("\"\""));
}

void compaction_put_call(
	struct buf *out, struct json_value id, struct json_value name, struct slice arguments)
{
	put_named(out, "call", id);
	buf_add_char(out, ' ');
	buf_add_slice(out, name.type == JSON_STRING ? name.raw : SLICE("\"\""));
	buf_add_char(out, '\n');
	put_lines(out, arguments);
}

void compaction_put_pictures(struct buf *text, unsigned n)
{
	if (n)
		buf_printf(text, "%s[%u %s left out]", text->n ? "\n" : "", n,
			n > 1 ? "pictures" : "picture");
}

void compaction_put_result(struct buf *out, const struct chat_message *m, struct buf *scratch)
{
	bool failed = json_get(m->raw, "is_error").type == JSON_TRUE;
	put_named(out, failed ? "failed" : "result", m->call_id);
	buf_add_char(out, '\n');
	buf_clear(scratch);
	chat_content_text(m->content, scratch);
	compaction_put_pictures(scratch, m->images);
	put_lines(out, buf_slice(scratch));
}

/* --- reading --- */

struct section {
	struct slice head; /* behind the mark */
	struct slice body; /* lines as they were written */
};

/* Skips what stands before the first one. */
static bool next_section(struct slice *text, struct section *s)
{
	struct slice line;
	do {
		if (text->n == 0)
			return false;
		line = take_line(text);
	} while (!is_marked(line));
	s->head = (struct slice){line.p + MARK_BYTES, line.n - MARK_BYTES};
	if (s->head.n && s->head.p[s->head.n - 1] == '\n')
		s->head.n--;
	s->body = (struct slice){text->p, 0};
	while (text->n && !is_marked(*text)) {
		line = take_line(text);
		s->body.n += line.n;
	}
	/* the empty line between sections */
	for (int i = 0; i < 2 && s->body.n && s->body.p[s->body.n - 1] == '\n'; i++)
		s->body.n--;
	return true;
}

static struct slice plain(struct slice body, struct buf *scratch)
{
	buf_clear(scratch);
	while (body.n) {
		struct slice line = take_line(&body);
		size_t slash = *line.p == '\\' && is_marked(without_slashes(line));
		buf_add(scratch, line.p + slash, line.n - slash);
	}
	return buf_slice(scratch);
}

/* Takes a word off the head, or the JSON string that stands there. */
static struct slice take_word(struct slice *head)
{
	size_t n = 0;
	bool quoted = head->n && *head->p == '"';
	while (n < head->n && (quoted ? n == 0 || head->p[n] != '"' : head->p[n] != ' '))
		n += quoted && head->p[n] == '\\' && n + 1 < head->n ? 2 : 1;
	n += quoted && n < head->n;
	n = n < head->n ? n : head->n;
	struct slice word = {head->p, n};
	*head = (struct slice){head->p + n, head->n - n};
	while (head->n && *head->p == ' ')
		*head = (struct slice){head->p + 1, head->n - 1};
	return word;
}

void compaction_put_json(
	struct buf *out, struct slice text, enum json_type type, const char *otherwise)
{
	struct json_value v;
	if (json_parse(text, JSON_MAX_DEPTH, &v, NULL) == 0 && v.type == type)
		buf_add_slice(out, v.raw);
	else
		buf_add_str(out, otherwise);
}

static void expand_section(struct compaction_messages *m, struct section s, struct slice body)
{
	static const char *const roles[] = {"user", "assistant", "system"};
	struct slice kind = take_word(&s.head), id = take_word(&s.head);
	bool failed = slice_eq(kind, SLICE("failed"));
	if (slice_eq(kind, SLICE("call")))
		m->form->call(m, id, take_word(&s.head), body);
	else if (failed || slice_eq(kind, SLICE("result")))
		m->form->result(m, id, body, failed);
	for (size_t i = 0; i < sizeof(roles) / sizeof(*roles); i++)
		if (slice_eq(kind, slice_str(roles[i])))
			m->form->words(m, roles[i], body);
	m->begun = m->begun || !slice_eq(kind, SLICE("system"));
}

void compaction_expand(struct compaction_messages *m, struct slice text)
{
	struct section s;
	struct buf scratch;
	buf_init(&scratch, 0);
	while (next_section(&text, &s))
		expand_section(m, s, plain(s.body, &scratch));
	if (buf_error(&scratch))
		m->out->error = buf_error(&scratch);
	buf_free(&scratch);
}

void compaction_take(struct slice text, const char *kind, bool first, struct buf *out)
{
	struct section s;
	struct buf scratch;
	buf_init(&scratch, 0);
	while (next_section(&text, &s)) {
		bool wanted = slice_eq(take_word(&s.head), slice_str(kind));
		if (wanted && out->n)
			buf_add_char(out, '\n');
		if (wanted)
			buf_add_slice(out, plain(s.body, &scratch));
		else if (first)
			break;
	}
	if (buf_error(&scratch))
		out->error = buf_error(&scratch);
	buf_free(&scratch);
}

/* --- requests --- */

int compaction_refuse(
	struct dialect_error *error, const char **code, const char *why, const char *text)
{
	error->status = 400;
	snprintf(error->text, sizeof(error->text), "%s", text);
	*code = why;
	return -EINVAL;
}

bool compaction_has_words(const struct chat_request *r)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->messages[i].role != CHAT_SYSTEM &&
			r->messages[i].chars > r->messages[i].thinking)
			return true;
	return false;
}

bool compaction_is_incomplete(const struct chat_request *r)
{
	const struct chat_message *last = r->count ? &r->messages[r->count - 1] : NULL;
	return last && last->role == CHAT_ASSISTANT && last->tool_calls.type == JSON_ARRAY;
}
