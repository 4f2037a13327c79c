/*
 * A request's place in a distributed trace: what its client says of it (traceparent, tracestate), whether it is
 * recorded, and what its backend is told.
 *
 * With traces.endpoint every request has a span of its own: below the client's, whose word on sampling counts,
 * or at the beginning of a trace of which traces.ratio are recorded. Each time it is given to a device, that is a
 * span within, and the backend gets its id as its parent. Without an endpoint a client's headers go through as
 * they are.
 */
#ifndef TANDEM_TRACING_H
#define TANDEM_TRACING_H

#include "supervisor/requests/request.h"

/* Tags of spans within a request's (trace_span_within()). */
enum tracing_tag { TRACING_CALL = 'c', TRACING_NOTES = 'n', TRACING_STEP = 's' };

/* It has just begun: reads its client's headers. Its record is there. */
void tracing_begin(struct request *r);

/* Its path is a known one; what its model is asked to do (record.operation), static. */
void tracing_names(struct request *r, bool routed, const char *operation);

/* Headers for its job: how many of out are filled (2 at most). They are the request's, until it is asked again. */
size_t tracing_headers(struct request *r, struct proto_header out[2]);

/* The one header of another job for it, whose span has that number. False: it is not traced. text has to outlive the job. */
bool tracing_header(const struct request *r, enum tracing_tag tag, unsigned number,
	char text[TRACE_PARENT_BYTES], struct proto_header *out);

/* Is that header ours to set? */
bool tracing_sets(const struct request *r, struct slice name);

#endif
