/*
 * Spans on their way to a collector: OTLP over HTTP with JSON (opentelemetry.io/docs/specs/otlp/#otlphttp).
 *
 * They wait for others (delay_ms, batch_spans), and go one batch at a time. A batch that was not taken is tried
 * again where the protocol allows that (429, 502, 503, 504, no connection, no answer), after what Retry-After says
 * or a delay that doubles; for SENDER_GIVE_UP_MS, then it is dropped. Meanwhile spans queue up to queue_bytes;
 * beyond that the newest are dropped. All are counted. Loop thread only; nothing blocks.
 */
#ifndef TANDEM_TRACES_SENDER_H
#define TANDEM_TRACES_SENDER_H

#include "workers/traces/headers.h"
#include "workers/traces/settings.h"

#include <uv.h>

#define SENDER_RETRY_FIRST_MS 1000
#define SENDER_RETRY_MOST_MS 30000
#define SENDER_GIVE_UP_MS 300000
#define SENDER_BATCH_BYTES (1u << 20) /* a batch is full with that, too */
#define SENDER_ANSWER_BYTES 65536     /* of a collector's answer that are read */

struct sender_counts {
	uint64_t sent, rejected, dropped; /* spans */
};

struct sender;

struct sender_events {
	void (*counted)(void *ctx, const struct sender_counts *c); /* they have changed */
	void (*empty)(void *ctx); /* after sender_finish(): nothing is left */
};

/* Everything is borrowed for as long as the sender lives. 0 or -ENOMEM. */
int sender_create(uv_loop_t *loop, const struct traces_settings *s, const struct traces_headers *h,
	const struct sender_events *events, void *ctx, struct sender **out);
/* So many spans, as JSON objects with commas between them (copied). */
void sender_add(struct sender *s, unsigned spans, struct slice text);
/* No more come: what waits goes at once, and nothing is tried twice; empty() follows. */
void sender_finish(struct sender *s);
/* What is left is dropped, and counted by the last counted(). The memory goes when the loop has let go of it. */
void sender_destroy(struct sender *s);

/* How long a batch that was not taken waits: the collector's wish in seconds (0: none), else doubling by the
 * tries so far, up to a fifth more by chance (0 to 1). Pure. */
uint64_t sender_pause_ms(unsigned tries, int64_t wish_s, double chance);
/* The spans that an answer says were rejected; text: its words, decoded, where there are some. Pure. */
uint64_t sender_rejected(struct slice answer, struct buf *text);

#endif
