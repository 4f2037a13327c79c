/* Framing of answers: NDJSON, SSE, one object. */
#include "common/dialect/parser.h"

#include <errno.h>
#include <stdlib.h>

struct answer_parser *answer_parser_create(enum answer_format format, bool stream,
	size_t max_line_bytes, answer_event_fn *on_event, void *ctx)
{
	struct answer_parser *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->format = format;
	p->stream = stream;
	p->max_line_bytes = max_line_bytes;
	p->on_event = on_event;
	p->ctx = ctx;
	p->problem = "";
	p->usage = (struct answer_usage){-1, -1, -1, -1, -1, -1};
	/* A decoded string is never longer than its line. */
	buf_init(&p->line, max_line_bytes);
	buf_init(&p->text, max_line_bytes);
	buf_init(&p->name, max_line_bytes);
	return p;
}

void answer_parser_destroy(struct answer_parser *p)
{
	if (!p)
		return;
	buf_free(&p->line);
	buf_free(&p->text);
	buf_free(&p->name);
	free(p);
}

const char *answer_parser_problem(const struct answer_parser *p)
{
	return p->problem;
}

bool answer_parser_ended(const struct answer_parser *p)
{
	return p->stream && p->ended;
}

/* --- framing --- */

static const struct answer_form {
	bool sse; /* a stream is server-sent events; else lines of JSON */
	int (*read)(struct answer_parser *p, struct json_value root);
} forms[] = {
	[ANSWER_OLLAMA_CHAT] = {false, parser_ollama_chat},
	[ANSWER_OLLAMA_GENERATE] = {false, parser_ollama_generate},
	[ANSWER_OPENAI_CHAT] = {true, parser_openai_chat},
	[ANSWER_OPENAI_TEXT] = {true, parser_openai_text},
	[ANSWER_LLAMA_INFILL] = {true, parser_infill},
};

bool answer_format_is_sse(enum answer_format format)
{
	return forms[format].sse;
}

static int read_object(struct answer_parser *p, struct slice text)
{
	struct json_value root;
	if (json_parse(text, JSON_MAX_DEPTH, &root, NULL))
		return parser_fail(p, "the backend sent what is not JSON");
	if (root.type != JSON_OBJECT)
		return parser_fail(p, "the backend sent what is no JSON object");
	return forms[p->format].read(p, root);
}

static bool starts_with(struct slice s, struct slice prefix)
{
	return s.n >= prefix.n && memcmp(s.p, prefix.p, prefix.n) == 0;
}

static struct slice trim(struct slice s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = (struct slice){s.p + 1, s.n - 1};
	while (s.n && (s.p[s.n - 1] == '\r' || s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/* Both backends write an event's data on one line, so a line is an event. */
static int read_sse_line(struct answer_parser *p, struct slice line)
{
	static const char *const ignored[] = {":", "event:", "id:", "retry:"};
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
		if (starts_with(line, slice_str(ignored[i])))
			return 0;
	}
	/* An error before the first event may come as plain JSON. */
	if (line.p[0] == '{')
		return read_object(p, line);
	/* Older llama-servers name the field of an error "error". */
	bool old_error = starts_with(line, SLICE("error:"));
	if (!old_error && !starts_with(line, SLICE("data:")))
		return parser_fail(p, "the backend sent a line that is no server-sent event");
	size_t skip = old_error ? strlen("error:") : strlen("data:");
	struct slice data = trim((struct slice){line.p + skip, line.n - skip});
	if (data.n == 0)
		return 0;
	if (slice_eq(data, SLICE("[DONE]"))) {
		parser_end(p);
		return 0;
	}
	if (old_error) {
		struct json_value error;
		if (json_parse(data, JSON_MAX_DEPTH, &error, NULL))
			return parser_fail(p, "the backend sent what is not JSON");
		return parser_emit_error(p, error);
	}
	return read_object(p, data);
}

static int read_line(struct answer_parser *p, struct slice line)
{
	line = trim(line);
	if (line.n == 0)
		return 0;
	return forms[p->format].sse ? read_sse_line(p, line) : read_object(p, line);
}

static int too_long(struct answer_parser *p)
{
	p->problem = "the backend sent a line over the limit";
	return -E2BIG;
}

static int keep(struct answer_parser *p, struct slice bytes)
{
	int rc = buf_add_slice(&p->line, bytes);
	return rc == -E2BIG ? too_long(p) : rc;
}

/* Takes one line (or the part that is there) off the front of *bytes. */
static int take_line(struct answer_parser *p, struct slice *bytes)
{
	const char *end = memchr(bytes->p, '\n', bytes->n);
	struct slice line = {bytes->p, end ? (size_t)(end - bytes->p) : bytes->n};
	size_t taken = end ? line.n + 1 : line.n;
	*bytes = (struct slice){bytes->p + taken, bytes->n - taken};
	if (!end || p->line.n) {
		int rc = keep(p, line);
		if (rc || !end)
			return rc;
		rc = read_line(p, buf_slice(&p->line));
		buf_clear(&p->line);
		return rc;
	}
	if (p->max_line_bytes && line.n > p->max_line_bytes)
		return too_long(p);
	return read_line(p, line);
}

int answer_parser_feed(struct answer_parser *p, struct slice bytes)
{
	if (!p->stream && !p->error && !p->ended)
		return p->error = keep(p, bytes);
	while (bytes.n && !p->error && !p->ended)
		p->error = take_line(p, &bytes);
	return p->error;
}

int answer_parser_finish(struct answer_parser *p)
{
	if (!p->error && !p->ended && p->line.n) {
		struct slice rest = buf_slice(&p->line);
		p->error = p->stream ? read_line(p, rest) : read_object(p, rest);
	}
	/* [DONE] may be missing; what counts is that the backend said why it stopped. */
	if (!p->error && !p->ended && p->finish != FINISH_NONE)
		parser_end(p);
	if (!p->error && !p->ended)
		p->error = parser_fail(p, "the backend's answer ended before it was complete");
	return p->error;
}

size_t answer_parser_held(const struct answer_parser *p)
{
	return p->error || p->ended ? 0 : p->line.n;
}
