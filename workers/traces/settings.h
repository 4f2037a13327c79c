/*
 * What tandemd tells the process that sends traces, in the first line of its stdin: one JSON object.
 */
#ifndef TANDEM_TRACES_SETTINGS_H
#define TANDEM_TRACES_SETTINGS_H

#include "common/base/json.h"
#include "common/base/log.h"

#define TRACES_SETTINGS_BYTES 65536

struct traces_settings {
	char *base;	    /* "https://host:port" */
	char *target;	    /* "/v1/traces", unless the endpoint has a path of its own */
	char *headers_file; /* NULL: none */
	char *ca_file;	    /* NULL: the system's authorities */
	char *resource;	    /* OpenTelemetry's Resource, a JSON object */
	int64_t connect_ms, timeout_ms, delay_ms, batch_spans, queue_bytes;
	int64_t last_ms; /* for what waits when its input has ended */
	enum log_level log_level;
	enum log_format log_format;
	int64_t log_buffer_bytes;
};

/* 0, -EINVAL or -ENOMEM. traces_settings_fini() is due either way. */
int traces_settings_read(struct traces_settings *s, struct slice line);
void traces_settings_fini(struct traces_settings *s);

#endif
