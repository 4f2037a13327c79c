/*
 * The record of a request as spans of OpenTelemetry: JSON objects of the protocol's Span (OTLP 1.x,
 * opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids in hexadecimal, numbers of 64 bits as strings).
 *
 *   POST /api/chat            the request (SERVER); what has no length is an event of it: fallback, retry, ...
 *     read, parse, queue, condense, joined
 *     chat MODEL              a call of a device for the answer (CLIENT); its id went with it (tracing.h)
 *       prefill, decode
 *     notes                   a call of a device for notes (CLIENT)
 *     freeze, warm, idle_notes
 *
 * Names of attributes: OpenTelemetry's conventions for HTTP and for generative AI
 * (opentelemetry.io/docs/specs/semconv/http/http-spans, .../gen-ai/gen-ai-spans), and tandem.* of our own. No text
 * of a prompt or an answer. Pure: appends to a buf, whose errors stay in it.
 */
#ifndef TANDEM_OTLP_H
#define TANDEM_OTLP_H

#include "supervisor/requests/history.h"

struct otlp_facts {
	bool tls; /* towards clients */
	/* What kind of backend a device has ("ollama"); NULL: not known any more. */
	const char *(*provider)(const void *ctx, const char *device);
	const void *ctx;
};

/* Appends the spans of a request that is over, with commas between them. How many. */
size_t otlp_spans(const struct record *r, const struct otlp_facts *facts, struct buf *out);
/* The same of a step that came later: 1. */
size_t otlp_late_span(const struct record *r, const struct step *late,
	const struct otlp_facts *facts, struct buf *out);

/* What all spans of this process have in common: the members of a Resource, with its braces. */
void otlp_resource(const char *version, const char *host, int64_t pid, struct buf *out);

#endif
