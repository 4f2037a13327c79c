/*
 * Trace context between processes: the HTTP headers `traceparent` and `tracestate` of W3C Trace Context
 * (www.w3.org/TR/trace-context-1, version 00), read strictly.
 *
 * What a client sends is not trusted: a header that is not exactly right is none, and a trace begins here.
 * Pure, nothing blocks.
 */
#ifndef TANDEM_TRACE_CONTEXT_H
#define TANDEM_TRACE_CONTEXT_H

#include "common/base/buf.h"

#include <stdint.h>

#define TRACE_ID_BYTES 16
#define TRACE_SPAN_BYTES 8
#define TRACE_PARENT_BYTES 56 /* of a traceparent's text, NUL included */
#define TRACE_STATE_BYTES                                                                          \
	512 /* of a tracestate that is passed on; members are left out before it is longer */
#define TRACE_STATE_MEMBERS 32	   /* more make it none */
#define TRACE_STATE_LONG_BYTES 128 /* members that are left out first */

struct trace_context {
	uint8_t trace[TRACE_ID_BYTES], span[TRACE_SPAN_BYTES];
	bool sampled;
};

/* A traceparent's value; of a higher version the part that is known. False: it is none. */
bool trace_parent_read(struct slice text, struct trace_context *out);
/* Version 00, NUL-terminated. */
void trace_parent_write(const struct trace_context *t, char out[TRACE_PARENT_BYTES]);

/* The one value of all tracestate headers in a row, joined with commas: without empty members and the spaces
 * around them, cut to TRACE_STATE_BYTES. False: it is not well-formed, and nothing of it may be passed on;
 * out is empty then. */
bool trace_state_read(struct slice joined, struct buf *out);

/* Of `ratio` of all traces true, by the trace's id alone: whoever else asks finds the same. */
bool trace_is_sampled(const uint8_t trace[TRACE_ID_BYTES], double ratio);

/* The id of a span within another one: always the same of the same tag and number, never zero. */
void trace_span_within(
	const struct trace_context *t, char tag, unsigned number, uint8_t out[TRACE_SPAN_BYTES]);

/* n bytes in lower-case hexadecimal; out has room for 2 n and a NUL. */
void trace_hex(const uint8_t *id, size_t n, char *out);

#endif
