/*
 * One line for each step: logfmt (default) or JSON, to stderr.
 *
 *   log_line(LOG_INFO, "job_end", LOG_STR("req", id), LOG_INT("ms", 12), LOG_END);
 *   -> ts=2026-01-02T03:04:05.678Z level=info proc=tandemd pid=12 ev=job_end req=... ms=12
 *
 * A line is built in one buffer and written with one write(2); a line over LOG_LINE_BYTES is cut
 * with a visible mark. Values are quoted and escaped as needed. Prompt text is passed only through
 * log_content(), which drops it unless log.content is on. Not thread-safe: the loop thread only.
 * write() may block when stderr is a full pipe: stderr is set non-blocking never; a log reader that
 * stops is the operator's choice.
 */
#ifndef TANDEM_LOG_H
#define TANDEM_LOG_H

#include "common/buf.h"

#include <stdint.h>

#define LOG_LINE_BYTES 8192

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

/* proc and device (may be NULL) stand in every line; static or outliving strings. */
void log_init(const char *proc, const char *device, enum log_level level, enum log_format format,
	bool content);
bool log_enabled(enum log_level level);

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

void log_fields(enum log_level level, const char *event, const struct log_field *fields);

#define log_line(level, event, ...)                                                                \
	do {                                                                                       \
		if (log_enabled(level))                                                            \
			log_fields((level), (event), (const struct log_field[]){__VA_ARGS__});     \
	} while (0)

/* Prompt or answer text: written (escaped, cut to the line) only when log.content is on. */
void log_content(const char *event, const char *request_id, struct slice text);

enum log_level log_level_parse(const char *name, bool *ok);
const char *log_level_name(enum log_level level);

#endif
