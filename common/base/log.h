/*
 * One line for each step: logfmt (default) or JSON, to stderr.
 *
 *   log_line(LOG_INFO, "job_end", LOG_STR("req", id), LOG_INT("ms", 12), LOG_END);
 *   -> ts=2026-01-02T03:04:05.678Z level=info proc=tandemd pid=12 ev=job_end req=... ms=12
 *
 * A line is built in one buffer and given to log_out.h, which never waits for the log's reader; a
 * line over LOG_LINE_BYTES is cut with a visible mark. Lines that were lost because nobody read are
 * told of in a line of their own (log_lost) as soon as one gets through. Values are quoted and
 * escaped as needed. Prompt text is passed only through log_content(), which drops it unless
 * log.content is on. Not thread-safe: the loop thread only.
 */
#ifndef TANDEM_LOG_H
#define TANDEM_LOG_H

#include "common/base/buf.h"

#include <stdint.h>

#define LOG_LINE_BYTES 8192

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

/* proc and device (may be NULL) stand in every line; static or outliving strings. */
void log_init(const char *proc, const char *device, enum log_level level, enum log_format format,
	bool content);
/* Somebody takes lines of that level. */
bool log_enabled(enum log_level level);
/* The time now as in a line: RFC 3339, UTC, milliseconds. */
#define LOG_TIME_BYTES 40
void log_time(char out[LOG_TIME_BYTES]);

enum log_field_type { LOG_F_END, LOG_F_STR, LOG_F_SLICE, LOG_F_INT, LOG_F_MS };

struct log_field {
	enum log_field_type type;
	const char *key;
	struct slice text;
	int64_t number;
	double real;
};

#define LOG_STR(k, v) ((struct log_field){.type = LOG_F_STR, .key = (k), .text = slice_str(v)})
#define LOG_SLICE(k, v) ((struct log_field){.type = LOG_F_SLICE, .key = (k), .text = (v)})
#define LOG_INT(k, v) ((struct log_field){.type = LOG_F_INT, .key = (k), .number = (int64_t)(v)})
/* milliseconds with one decimal */
#define LOG_MS(k, v) ((struct log_field){.type = LOG_F_MS, .key = (k), .real = (v)})
#define LOG_END ((struct log_field){.type = LOG_F_END})

/*
 * Whoever else wants to hear of each step: called, before a line is written, for every line of
 * LOG_INFO and above, whatever log.level is, and for log_step(). Never with prompt text. NULL:
 * nobody. Must not log.
 */
typedef void log_sink_fn(
	void *ctx, enum log_level level, const char *event, const struct log_field *fields);
void log_set_sink(log_sink_fn *sink, void *ctx);

void log_fields(enum log_level level, const char *event, const struct log_field *fields);

#define log_line(level, event, ...)                                                                \
	do {                                                                                       \
		if (log_enabled(level))                                                            \
			log_fields((level), (event), (const struct log_field[]){__VA_ARGS__});     \
	} while (0)

/* A step too small for the log: the sink alone hears of it. */
void log_to_sink(const char *event, const struct log_field *fields);
/* A line that another process has logged: to the sink alone. */
void log_relay(enum log_level level, const char *event, const struct log_field *fields);
#define log_step(event, ...) log_to_sink((event), (const struct log_field[]){__VA_ARGS__})

/* Writes what stderr takes now. False: some still waits. */
bool log_flush(void);

#define LOG_LAST_MS 200 /* that an exit waits for stderr */
/* Lines wait for log_flush() from now on. The process's end is then looked after, too: what still
 * waits is written, and what was lost is told of. */
void log_defer(bool on);

/* Prompt or answer text: written (escaped, cut to the line) only when log.content is on. */
void log_content(const char *event, const char *request_id, struct slice text);

const char *log_level_name(enum log_level level);

#endif
