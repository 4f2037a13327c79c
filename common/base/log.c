#include "common/base/log.h"

#include "common/base/json.h"
#include "common/base/log_out.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Kept free for what ends a line: the mark of a cut value, the mark of left-out
 * fields, brackets. */
#define LINE_TAIL_BYTES 96
#define KEY_BYTES 48 /* of a key that is shown */
#define LAST_STEP_MS 20

static struct {
	const char *proc;
	const char *device;
	enum log_level level;
	enum log_format format;
	bool content;
	pid_t pid; /* 0: not yet asked for */
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
	logger.pid = getpid();
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
	size_t n = strnlen(key, KEY_BYTES);
	bool json = logger.format == LOG_JSON;
	if (!line_fits(l, n + 4))
		return false;
	if (l->n > 1)
		line_close(l, json ? "," : " ");
	line_close(l, json ? "\"" : "");
	line_raw(l, key, n);
	line_close(l, json ? "\":" : "=");
	return true;
}

/* The number's digits, at the end of room. */
static const char *int_text(int64_t number, char room[32])
{
	char *p = room + 31;
	uint64_t n = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
	*p = '\0';
	do {
		*--p = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	if (number < 0)
		*--p = '-';
	return p;
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
		line_close(l, int_text(f->number, number));
		return;
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

/* The second's text is made once for all lines of it. */
void log_time(char out[LOG_TIME_BYTES])
{
	static char text[LOG_TIME_BYTES];
	static time_t second = -1;
	static size_t n;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != second) {
		struct tm t;
		gmtime_r(&now.tv_sec, &t);
		n = strftime(text, sizeof(text) - sizeof(".000Z"), "%Y-%m-%dT%H:%M:%S", &t);
		second = now.tv_sec;
	}
	int ms = (int)(now.tv_nsec / 1000000);
	const char rest[] = {'.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10),
		(char)('0' + ms % 10), 'Z', '\0'};
	memcpy(out, text, n);
	memcpy(out + n, rest, sizeof(rest));
}

static void line_time(struct line *l)
{
	char text[LOG_TIME_BYTES];
	log_time(text);
	line_field(l, &LOG_STR("ts", text));
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
	line_field(&l, &LOG_INT("pid", logger.pid ? logger.pid : getpid()));
	if (logger.device)
		line_field(&l, &LOG_STR("device", logger.device));
	line_field(&l, &LOG_STR("ev", event));
	for (const struct log_field *f = fields; f->type != LOG_F_END; f++)
		line_field(&l, f);
	if (l.full)
		line_close(&l, json ? ",\"cut\":1" : " cut=1");
	line_close(&l, json ? "}\n" : "\n");
	log_out_put(l.p, l.n);
	errno = kept;
}

/*
 * Nothing waits any more: what was lost meanwhile can be told of. Where that line is lost as well, nobody
 * reads: to tell of it in the next turn, and so on, would keep the loop busy with nothing else. It
 * is told with the next loss.
 */
static bool tell_lost(void)
{
	static struct log_lost untold;
	struct log_lost lost = log_out_lost();
	if (!lost.lines)
		return true;
	lost.lines += untold.lines;
	lost.bytes += untold.bytes;
	log_line(LOG_WARN, "log_lost", LOG_INT("lines", lost.lines), LOG_INT("bytes", lost.bytes),
		LOG_END);
	bool empty = log_out_flush();
	untold = log_out_lost().lines ? lost : (struct log_lost){0};
	return empty;
}

bool log_flush(void)
{
	int kept = errno;
	bool empty = log_out_flush();
	if (empty)
		empty = tell_lost();
	errno = kept;
	return empty;
}

static void at_exit(void)
{
	struct timespec step = {.tv_nsec = LAST_STEP_MS * 1000000L};
	for (int ms = 0; !log_flush() && ms < LOG_LAST_MS; ms += LAST_STEP_MS)
		nanosleep(&step, NULL);
}

void log_defer(bool on)
{
	static bool watched;
	if (!watched) {
		watched = true;
		atexit(at_exit);
	}
	log_out_defer(on);
}

void log_relay(enum log_level level, const char *event, const struct log_field *fields)
{
	if (logger.sink)
		logger.sink(logger.sink_ctx, level, event, fields);
}

void log_to_sink(const char *event, const struct log_field *fields)
{
	log_relay(LOG_INFO, event, fields);
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
