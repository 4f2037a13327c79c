/*
 * What the requests that have ended cost, for whoever measures (docs/metrics.md): counts, tokens and
 * histograms, by way, dialect, device and size of the prompt. Nothing a client says becomes a label.
 *
 * A series for each combination of labels that has occurred, made when it first does; past their
 * number all others share the last one. Sums only grow. Pure: no clock, no loop. The caller owns
 * the struct, which owns its series.
 *
 * Bounds and meanings of the histograms: OpenTelemetry's conventions for generative AI metrics
 * (opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics), with further bounds above, for long
 * prompts on small devices.
 */
#ifndef TANDEM_MEASURES_H
#define TANDEM_MEASURES_H

#include "common/base/histogram.h"
#include "common/config/config.h"
#include "common/dialect/dialect.h"

#define MEASURES_OTHER "other"

enum measure_way {
	MEASURE_A,
	MEASURE_B,
	MEASURE_C,
	MEASURE_SMALL,
	MEASURE_PASS,
	MEASURE_NO_WAY, /* it ended before one was decided */
	MEASURE_WAYS
};

enum measure_outcome {
	MEASURE_DONE,
	MEASURE_JOINED,	   /* done, with another request's answer */
	MEASURE_REFUSED,   /* for the client's fault: a 4xx */
	MEASURE_CANCELLED, /* the client has left, or an operator ended it */
	MEASURE_FAILED,
	MEASURE_OUTCOMES
};

enum measure_tokens {
	MEASURE_IN,	/* of the client's prompt, an estimate */
	MEASURE_SENT,	/* of what a device was given, an estimate */
	MEASURE_CACHED, /* of these in its prefix cache, as it counts */
	MEASURE_OUT,	/* of the answer, as it counts */
	MEASURE_TOKENS
};

/* Of the prompt, in tokens: none or unknown, up to 1K, 4K, 16K, 64K, 256K, more. */
#define MEASURE_SIZES 7

/* One request at its end. */
struct measure {
	enum measure_way way;
	enum dialect dialect;
	const char *device; /* that was to answer; NULL: none yet */
	enum measure_outcome outcome;
	uint64_t tokens[MEASURE_TOKENS];
	int64_t counted; /* tokens of the prompt, as the backend counts; < 0 unknown */
	double total_ms; /* from its head to its end */
	double first_ms, token_ms,
		queued_ms; /* to the first token, a further token, for a slot; < 0 unknown */
	bool layout;	   /* it was sent in a shorter form */
	bool taken_over;   /* its client left, and an equal request went on with it */
	bool overflow_condensed,
		overflow_refused; /* the backend found it too long; nothing could be done */
};

struct measure_series {
	enum measure_way way;
	enum dialect dialect;
	unsigned size;
	char device[CONFIG_NAME_BYTES]; /* "" none */
	bool other;			/* of all labels that found no room */
	uint64_t outcome[MEASURE_OUTCOMES], tokens[MEASURE_TOKENS];
	/* Of requests that are done; us, and tokens. */
	struct histogram total, first, token, queued, tokens_in, tokens_out;
};

struct measures {
	struct measure_series **of;
	size_t count, most;
	uint64_t lost;			/* requests that memory was out for */
	uint64_t layouts[MEASURE_PASS]; /* by way: sent in a shorter form */
	struct histogram layout_tokens;
	uint64_t overflows_condensed, overflows_refused;
};

/* Room for `most` series, the shared one among them; at least 1. 0 or -ENOMEM. */
int measures_init(struct measures *m, size_t most);
void measures_fini(struct measures *m);
void measures_add(struct measures *m, const struct measure *one);

/* Texts of the labels. */
const char *measure_way_name(
	const struct measure_series *s); /* "A", "B", "C", "small", "pass", "none" */
const char *measure_dialect_name(const struct measure_series *s); /* "openai chat" */
const char *measure_device_name(const struct measure_series *s);  /* "none" without one */
const char *measure_size_name(const struct measure_series *s); /* "0", "1k", ..., "256k", "more" */
const char *measure_outcome_name(enum measure_outcome o);
const char *measure_tokens_name(enum measure_tokens t); /* "in", "sent", "cached", "out" */

#endif
