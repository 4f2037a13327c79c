#include "common/log.h"

#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Kept free for what ends a line: the mark of a cut value, the mark of left-out fields, brackets.
 */
#define LINE_TAIL_BYTES 96

static struct {
	const char *proc;
	const char *device;
	enum log_level level;
	enum log_format format;
	bool content;
	log_sink_fn *sink;
	void *sink_ctx;
} logger = {.proc = "tandem", .level = LOG_INFO};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

/* One line under way. Pieces that would reach into the tail are refused whole and set full. */
struct line {
	char p[LOG_LINE_BYTES];
	size_t n;
	bool full;
};

void log_init(const char *proc, const char *device, enum log_level level, enum log_format format,
	bool content)
{
	logger.proc = proc;
	logger.device = device;
	logger.level = level;
	logger.format = format;
	logger.content = content;
}

bool log_enabled(enum log_level level)
{
	return level >= logger.level || (logger.sink && level >= LOG_INFO);
}

void log_set_sink(log_sink_fn *sink, void *ctx)
{
	logger.sink = sink;
	logger.sink_ctx = ctx;
}

enum log_level log_level_parse(const char *name, bool *ok)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*ok = true;
			return (enum log_level)i;
		}
	}
	*ok = false;
	return LOG_INFO;
}

const char *log_level_name(enum log_level level)
{
	return level_names[level <= LOG_ERROR ? level : LOG_ERROR];
}

/* --- pieces of a line --- */

static bool line_fits(struct line *l, size_t n)
{
	if (l->n + n > sizeof(l->p) - LINE_TAIL_BYTES)
		l->full = true;
	return !l->full;
}

static void line_raw(struct line *l, const char *p, size_t n)
{
	memcpy(l->p + l->n, p, n);
	l->n += n;
}

/* Into the tail: for what closes a line, a few bytes each. */
static void line_close(struct line *l, const char *text)
{
	line_raw(l, text, strlen(text));
}

static bool line_add(struct line *l, const char *text)
{
	size_t n = strlen(text);
	if (!line_fits(l, n))
		return false;
	line_raw(l, text, n);
	return true;
}

/*
 * One character of a value: how many of its bytes are consumed, and its form in the line. Control
 * characters (C1 too) are escaped, for a terminal obeys them; bytes that are not UTF-8 become
 * U+FFFD.
 */
static size_t escape_char(struct slice rest, char out[8], size_t *out_n)
{
	unsigned char c = (unsigned char)rest.p[0];
	size_t used = 1;
	if (c == '"' || c == '\\') {
		*out_n = (size_t)sprintf(out, "\\%c", c);
	} else if (c == '\n' || c == '\r' || c == '\t') {
		*out_n = (size_t)sprintf(out, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
	} else if (c < 0x20 || c == 0x7f) {
		*out_n = (size_t)sprintf(out, "\\u%04x", c);
	} else if (c < 0x80) {
		out[0] = (char)c;
		*out_n = 1;
	} else {
		used = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
		if (used > rest.n || utf8_valid_prefix((struct slice){rest.p, used}) != used) {
			used = 1;
			*out_n = (size_t)sprintf(out, "\xef\xbf\xbd");
		} else if (c == 0xc2 && (unsigned char)rest.p[1] < 0xa0) {
			*out_n = (size_t)sprintf(out, "\\u%04x", (unsigned char)rest.p[1]);
		} else {
			memcpy(out, rest.p, used);
			*out_n = used;
		}
	}
	return used;
}

static bool needs_quotes(struct slice text)
{
	if (logger.format == LOG_JSON || text.n == 0)
		return true;
	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];
		if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7f)
			return true;
	}
	return false;
}

/* A value cut to what the line holds says how many bytes are missing. */
static void line_text(struct line *l, struct slice text)
{
	bool quoted = needs_quotes(text);
	if (quoted)
		line_close(l, "\"");
	for (size_t i = 0; i < text.n;) {
		char form[8];
		size_t n;
		size_t used = escape_char((struct slice){text.p + i, text.n - i}, form, &n);
		if (!line_fits(l, n)) {
			char mark[40];
			snprintf(mark, sizeof(mark), "...[%zu bytes cut]", text.n - i);
			if (!quoted) /* the mark has spaces */
				snprintf(mark, sizeof(mark), "...[%zu_bytes_cut]", text.n - i);
			line_close(l, mark);
			break;
		}
		line_raw(l, form, n);
		i += used;
	}
	if (quoted)
		line_close(l, "\"");
}

static bool line_key(struct line *l, const char *key)
{
	/* With the value's first quote and its mark the tail must still hold the rest. */
	char head[64];
	bool json = logger.format == LOG_JSON;
	snprintf(head, sizeof(head),
		json ? "%s\"%.48s\":" : "%s%.48s=", l->n <= 1 ? "" : (json ? "," : " "), key);
	return line_add(l, head);
}

static void line_field(struct line *l, const struct log_field *f)
{
	char number[32];
	if (!line_key(l, f->key))
		return;
	switch (f->type) {
	case LOG_F_STR:
	case LOG_F_SLICE:
		line_text(l, f->text);
		return;
	case LOG_F_INT:
		snprintf(number, sizeof(number), "%" PRId64, f->number);
		break;
	case LOG_F_MS:
		if (isfinite(f->real) && fabs(f->real) < 1e15)
			snprintf(number, sizeof(number), "%.1f", f->real);
		else
			snprintf(number, sizeof(number), "null");
		break;
	case LOG_F_END:
		return;
	}
	line_close(l, number);
}

void log_time(char out[LOG_TIME_BYTES])
{
	struct timespec now;
	struct tm t;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &t);
	size_t n = strftime(out, LOG_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &t);
	snprintf(out + n, LOG_TIME_BYTES - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

static void line_time(struct line *l)
{
	char text[LOG_TIME_BYTES];
	log_time(text);
	line_field(l, &LOG_STR("ts", text));
}

static void line_write(const struct line *l)
{
	for (size_t done = 0; done < l->n;) {
		ssize_t n = write(STDERR_FILENO, l->p + done, l->n - done);
		if (n < 0 && errno != EINTR)
			return; /* nowhere left to complain to */
		if (n > 0)
			done += (size_t)n;
	}
}

static void write_fields(enum log_level level, const char *event, const struct log_field *fields)
{
	struct line l;
	bool json = logger.format == LOG_JSON;
	int kept = errno; /* callers log in the middle of their own error paths */

	l.n = 0;
	l.full = false;
	if (json)
		line_close(&l, "{");
	line_time(&l);
	line_field(&l, &LOG_STR("level", log_level_name(level)));
	line_field(&l, &LOG_STR("proc", logger.proc));
	line_field(&l, &LOG_INT("pid", getpid()));
	if (logger.device)
		line_field(&l, &LOG_STR("device", logger.device));
	line_field(&l, &LOG_STR("ev", event));
	for (const struct log_field *f = fields; f->type != LOG_F_END; f++)
		line_field(&l, f);
	if (l.full)
		line_close(&l, json ? ",\"cut\":1" : " cut=1");
	line_close(&l, json ? "}\n" : "\n");
	line_write(&l);
	errno = kept;
}

void log_to_sink(const char *event, const struct log_field *fields)
{
	if (logger.sink)
		logger.sink(logger.sink_ctx, LOG_INFO, event, fields);
}

void log_fields(enum log_level level, const char *event, const struct log_field *fields)
{
	if (logger.sink && level >= LOG_INFO)
		logger.sink(logger.sink_ctx, level, event, fields);
	if (level >= logger.level)
		write_fields(level, event, fields);
}

void log_content(const char *event, const char *request_id, struct slice text)
{
	/* Past the sink: what is listened to from outside never holds a prompt. */
	if (logger.content && LOG_INFO >= logger.level)
		write_fields(LOG_INFO, event,
			(const struct log_field[]){
				LOG_STR("req", request_id), LOG_SLICE("content", text), LOG_END});
}
