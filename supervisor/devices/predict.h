/*
 * How long a device takes until its first token: rates by depth, learned from what backends report.
 *
 * The law: a token at depth d costs base + slope x d / PREDICT_HALF_DEPTH ms, times a correction of
 * the bucket of depths that it lies in. base and slope are the least squares of the measurements'
 * relative errors, older ones forgotten: slowly, and fast when measurements err in the same
 * direction again (the speed has changed, or the start was wrong: then all that is remembered is
 * rescaled as well). Where the depths measured say nothing about the slope it equals the base. What
 * the law leaves goes slowly into the corrections.
 * Costs that were wrong by a factor of three are back within 5 % after ten measurements.
 *
 * Before the first measurement: PREDICT_START_TOK_S at depth 0, half of it at PREDICT_HALF_DEPTH.
 *
 * Pure; a struct of numbers, no memory of its own. Tokens are the backend's; times are ms.
 */
#ifndef TANDEM_PREDICT_H
#define TANDEM_PREDICT_H

#include "common/base/buf.h"

#include <stdint.h>

#define PREDICT_START_TOK_S 800.0
#define PREDICT_HALF_DEPTH 20000.0
#define PREDICT_BUCKETS 9     /* up to 1K, 2K, 4K, ... 128K tokens of depth, and beyond */
#define PREDICT_MIN_TOKENS 64 /* shorter measurements say nothing about speed */
#define PREDICT_OVERHEAD_MAX_MS 10000.0

struct predict_rates {
	double base, slope; /* ms a token */
	double correction[PREDICT_BUCKETS];
	double aa, ab, bb, ay, by;    /* the sums of least squares */
	double noise, last_error;     /* relative errors: their usual size, the last one */
	double overhead_ms;	      /* of a request beside its prefill */
	uint64_t prefills, overheads; /* measurements */
};

void predict_init(struct predict_rates *r);

/* Of `fresh` tokens behind `depth` others, neither negative. */
double predict_prefill_ms(const struct predict_rates *r, double depth, double fresh);
/* The same with the overhead: to the first token, when nothing is before it in the queue. */
double predict_first_ms(const struct predict_rates *r, double depth, double fresh);
/* The other way round: how many of `total` tokens were new, when the last of them took `ms`. */
double predict_fresh(const struct predict_rates *r, double total, double ms);

/* A backend reported `ms` for the prefill of `fresh` tokens behind `depth`. */
void predict_learn(struct predict_rates *r, double depth, double fresh, double ms);
/* From its start to its first token a request took so much longer than its prefill. */
void predict_learn_overhead(struct predict_rates *r, double ms);

/* Kept over restarts: at most PREDICT_BYTES appended; false when they are no rates (r is then as
 * predict_init() leaves it). */
#define PREDICT_BYTES 512
int predict_save(const struct predict_rates *r, struct buf *out);
bool predict_load(struct predict_rates *r, struct slice saved);

#endif
