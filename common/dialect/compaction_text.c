/*
 * A compaction block's content, and the messages that it stands for. Sections begin with a line of their
 * own:
 *
 *   ## user | ## assistant | ## system
 *   ## call "ID" "NAME"                 its arguments as JSON
 *   ## result "ID" | ## failed "ID"     of the call
 *
 * A line of a text that looks like one has a backslash in front, one more than it had.
 */
#include "common/dialect/compaction.h"

#include "common/dialect/front_anthropic.h"
#include "common/dialect/pieces.h"

#include <stdio.h>

#define PREFACE                                                                                    \
	"The conversation so far, in its short form. [..N] stands for N lines that were left "     \
	"out.\n\n"

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

static void put_string(struct buf *out, struct json_value string, struct buf *scratch)
{
	buf_clear(scratch);
	json_string_decode(string, scratch);
	put_lines(out, buf_slice(scratch));
}

static void put_named(struct buf *out, const char *head, struct json_value id)
{
	buf_printf(out, "## %s ", head);
	buf_add_slice(out, id.type == JSON_STRING ? id.raw : SLICE("\"\""));
}

static void put_call(struct buf *out, struct json_value block)
{
	struct json_value id, name, input;
	FIELDS_GET(block, {"id", &id}, {"name", &name}, {"input", &input});
	put_named(out, "call", id);
	buf_add_char(out, ' ');
	buf_add_slice(out, name.type == JSON_STRING ? name.raw : SLICE("\"\""));
	buf_add_char(out, '\n');
	put_lines(out, input.type == JSON_OBJECT ? input.raw : SLICE("{}"));
}

static void put_picture(struct buf *out, const char *role)
{
	buf_printf(out, "## %s\n[1 picture left out]\n\n", role);
}

static void put_content(
	struct buf *out, const char *role, struct json_value content, struct buf *scratch)
{
	struct json_iter it = json_iter(content);
	struct json_value block, value;
	if (content.type == JSON_STRING) {
		buf_printf(out, "## %s\n", role);
		put_string(out, content, scratch);
	}
	while (content.type == JSON_ARRAY && json_array_next(&it, &block))
		switch (anthropic_block_of(block, &value)) {
		case BLOCK_TEXT:
			buf_printf(out, "## %s\n", role);
			put_string(out, value, scratch);
			break;
		case BLOCK_CALL:
			put_call(out, block);
			break;
		case BLOCK_IMAGE:
			put_picture(out, role);
			break;
		default: /* thinking, and what nobody here can read */
			break;
		}
}

/* A result has one text, whatever it is made of. */
static void put_result(struct buf *out, const struct chat_message *m, struct buf *scratch)
{
	bool failed = json_get(m->raw, "is_error").type == JSON_TRUE;
	put_named(out, failed ? "failed" : "result", m->call_id);
	buf_add_char(out, '\n');
	buf_clear(scratch);
	chat_content_text(m->content, scratch);
	if (m->images)
		buf_printf(scratch, "%s[%u %s left out]", scratch->n ? "\n" : "", m->images,
			m->images > 1 ? "pictures" : "picture");
	put_lines(out, buf_slice(scratch));
}

/* One block of several messages' is no list. */
static void put_message(struct buf *out, const struct chat_message *m, struct buf *scratch)
{
	const char *role = m->role == CHAT_ASSISTANT ? "assistant"
			   : m->role == CHAT_SYSTEM  ? "system"
						     : "user";
	if (m->role == CHAT_TOOL)
		put_result(out, m, scratch);
	else if (m->content.type == JSON_NONE && m->images)
		put_picture(out, role);
	else
		put_content(out, role, m->content, scratch);
}

int compaction_text(const struct chat_request *r, struct buf *out)
{
	struct buf scratch;
	size_t begin = out->n;
	buf_init(&scratch, 0);
	buf_add_str(out, PREFACE);
	for (size_t i = 0; i < r->count; i++)
		/* The system prompt is no message of the list, and stays where it is. */
		if (r->messages[i].raw.raw.p > r->messages_array.raw.p &&
			r->messages[i].raw.raw.p <
				r->messages_array.raw.p + r->messages_array.raw.n)
			put_message(out, &r->messages[i], &scratch);
	while (out->n > begin && out->p[out->n - 1] == '\n')
		out->n--;
	int rc = buf_error(&scratch);
	buf_free(&scratch);
	return rc ? rc : buf_error(out);
}

/* --- reading --- */

void compaction_close(struct compaction_messages *m)
{
	if (m->role[0])
		buf_add_str(m->out, "]}");
	m->role[0] = '\0';
}

void compaction_block(struct compaction_messages *m, const char *role)
{
	if (strcmp(m->role, role) != 0) {
		compaction_close(m);
		buf_printf(m->out, "%s{\"role\":\"%s\",\"content\":[", m->some ? "," : "", role);
		snprintf(m->role, sizeof(m->role), "%s", role);
		m->some = true;
		m->blocks = false;
	}
	if (m->blocks)
		buf_add_char(m->out, ',');
	m->blocks = true;
}

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

/* What is to be copied as JSON is JSON, whoever signed it. */
static void put_json(struct buf *out, struct slice text, enum json_type type, const char *otherwise)
{
	struct json_value v;
	if (json_parse(text, JSON_MAX_DEPTH, &v, NULL) == 0 && v.type == type)
		buf_add_slice(out, v.raw);
	else
		buf_add_str(out, otherwise);
}

static void expand_call(struct compaction_messages *m, struct slice head, struct slice body)
{
	compaction_block(m, "assistant");
	buf_add_str(m->out, "{\"type\":\"tool_use\",\"id\":");
	put_json(m->out, take_word(&head), JSON_STRING, "\"\"");
	buf_add_str(m->out, ",\"name\":");
	put_json(m->out, take_word(&head), JSON_STRING, "\"\"");
	buf_add_str(m->out, ",\"input\":");
	put_json(m->out, body, JSON_OBJECT, "{}");
	buf_add_char(m->out, '}');
}

static void expand_result(
	struct compaction_messages *m, struct slice head, struct slice body, bool failed)
{
	compaction_block(m, "user");
	buf_add_str(m->out, "{\"type\":\"tool_result\",\"tool_use_id\":");
	put_json(m->out, take_word(&head), JSON_STRING, "\"\"");
	buf_add_str(m->out, failed ? ",\"is_error\":true,\"content\":" : ",\"content\":");
	json_put_string(m->out, body);
	buf_add_char(m->out, '}');
}

static void expand_words(struct compaction_messages *m, const char *role, struct slice body)
{
	compaction_block(m, role);
	buf_add_str(m->out, "{\"type\":\"text\",\"text\":");
	json_put_string(m->out, body);
	buf_add_char(m->out, '}');
}

static void expand_section(struct compaction_messages *m, struct section s, struct slice body)
{
	static const char *const roles[] = {"user", "assistant", "system"};
	struct slice kind = take_word(&s.head);
	if (slice_eq(kind, SLICE("call")))
		expand_call(m, s.head, body);
	else if (slice_eq(kind, SLICE("result")) || slice_eq(kind, SLICE("failed")))
		expand_result(m, s.head, body, slice_eq(kind, SLICE("failed")));
	for (size_t i = 0; i < sizeof(roles) / sizeof(*roles); i++)
		if (slice_eq(kind, slice_str(roles[i])))
			expand_words(m, roles[i], body);
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
