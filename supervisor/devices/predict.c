#include "supervisor/devices/predict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_BOUND 1024.0 /* depth where the second bucket begins; each is twice as deep */

#define REMEMBER 0.9	    /* weight of what was measured before, at each measurement */
#define REMEMBER_IF_OFF 0.6 /* ... when it errs as the one before did */
#define FOLLOW 0.5	    /* share of an error by which all that is remembered is rescaled */
#define FOLLOW_IF_OFF 0.9   /* ... when it errs as the one before did */
#define SURPRISE_WEIGHT 0.1 /* of what is so far off: it tells of the speed, not of its slope */
#define OFF_MIN 0.05 /* smaller errors are noise; larger ones if they exceed OFF_NOISE times it */
#define OFF_NOISE 1.5
#define NOISE_WEIGHT 0.1
#define NOISE_MAX 0.5
#define RIDGE 0.001 /* weight of "the slope equals the base" */
#define CORRECTION_WEIGHT 0.15
#define CORRECTION_FADES 0.995
#define CORRECTION_MAX 4.0
#define SETTLED 10	 /* measurements before the law is corrected */
#define FACTOR_MAX 8.0	 /* one measurement counts as wrong by that factor at most */
#define WHOLE_TOKENS 256 /* what fewer tokens teach counts less */
#define OVERHEAD_WEIGHT 0.3
#define SAVED_FORMAT 1
#define SAVED_NUMBERS (12 + PREDICT_BUCKETS)

/* A speed no device has. */
#define COST_MIN 1e-5
#define COST_MAX 1e4

static double bucket_end(int i)
{
	return i == PREDICT_BUCKETS - 1 ? HUGE_VAL : FIRST_BOUND * (double)(1u << i);
}

static double bucket_begin(int i)
{
	return i == 0 ? 0 : bucket_end(i - 1);
}

void predict_init(struct predict_rates *r)
{
	double cost = 1000.0 / PREDICT_START_TOK_S;
	*r = (struct predict_rates){.base = cost, .slope = cost};
	for (int i = 0; i < PREDICT_BUCKETS; i++)
		r->correction[i] = 1;
}

/* What base and slope are multiplied with for the span's part in bucket i. */
static double part(const struct predict_rates *r, int i, double depth, double fresh, double *slope)
{
	double from = fmax(depth, bucket_begin(i)), to = fmin(depth + fresh, bucket_end(i));
	double n = to > from ? (to - from) * r->correction[i] : 0;
	*slope = n > 0 ? n * (from + to) / 2 / PREDICT_HALF_DEPTH : 0;
	return n;
}

static double factors(const struct predict_rates *r, double depth, double fresh, double *slope)
{
	double base = 0, s;
	*slope = 0;
	for (int i = 0; i < PREDICT_BUCKETS; i++) {
		base += part(r, i, depth, fresh, &s);
		*slope += s;
	}
	return base;
}

double predict_prefill_ms(const struct predict_rates *r, double depth, double fresh)
{
	double slope, base = factors(r, depth, fresh, &slope);
	return base * r->base + slope * r->slope;
}

double predict_first_ms(const struct predict_rates *r, double depth, double fresh)
{
	return r->overhead_ms + predict_prefill_ms(r, depth, fresh);
}

double predict_fresh(const struct predict_rates *r, double total, double ms)
{
	double few = 0, many = total;
	if (ms >= predict_prefill_ms(r, 0, total))
		return total;
	for (int i = 0; i < 50; i++) { /* halving: to 1e-15 of it */
		double fresh = (few + many) / 2;
		if (predict_prefill_ms(r, total - fresh, fresh) < ms)
			few = fresh;
		else
			many = fresh;
	}
	return few;
}

/* Base and slope from the sums. */
static void solve(struct predict_rates *r)
{
	/* Scaled so that the ridge weighs the same whatever the device's speed. */
	double ridge = RIDGE / (r->base * r->base);
	double aa = r->aa + ridge, ab = r->ab - ridge, bb = r->bb + ridge;
	double det = aa * bb - ab * ab;
	double base = (bb * r->ay - ab * r->by) / det, slope = (aa * r->by - ab * r->ay) / det;
	if (!(det > 0) || !isfinite(base) || !isfinite(slope))
		return;
	if (slope < 0) {
		slope = 0;
		base = r->ay / r->aa;
	} else if (base < slope / 100) { /* nothing is free at depth 0 */
		slope = (r->by + r->ay / 100) / (r->bb + 2 * r->ab / 100 + r->aa / 1e4);
		base = slope / 100;
	}
	r->base = fmin(fmax(base, COST_MIN), COST_MAX);
	r->slope = fmin(fmax(slope, 0), COST_MAX);
}

/* The device has become slower by that factor, at every depth. Returns the factor. */
static double follow(struct predict_rates *r, double factor)
{
	r->base = fmin(fmax(r->base * factor, COST_MIN), COST_MAX);
	r->slope = fmin(r->slope * factor, COST_MAX);
	r->ay *= factor;
	r->by *= factor;
	return factor;
}

/* What the law leaves, to the buckets that the span passed through. */
static void correct(struct predict_rates *r, double depth, double fresh, double ms)
{
	double left = log(ms / predict_prefill_ms(r, depth, fresh));
	for (int i = 0; i < PREDICT_BUCKETS; i++) {
		double from = fmax(depth, bucket_begin(i)), to = fmin(depth + fresh, bucket_end(i));
		double share = to > from ? (to - from) / fresh : 0;
		double c = pow(r->correction[i], CORRECTION_FADES) *
			   exp(CORRECTION_WEIGHT * share * left);
		r->correction[i] = fmin(fmax(c, 1 / CORRECTION_MAX), CORRECTION_MAX);
	}
}

void predict_learn(struct predict_rates *r, double depth, double fresh, double ms)
{
	double b, a = factors(r, depth, fresh, &b), predicted = a * r->base + b * r->slope;
	if (!(fresh >= PREDICT_MIN_TOKENS) || !(ms > 0) || !(depth >= 0) || !(predicted > 0) ||
		!isfinite(predicted) || !isfinite(ms))
		return;
	if (r->prefills > 0)
		ms = fmin(fmax(ms, predicted / FACTOR_MAX), predicted * FACTOR_MAX);
	double error = log(ms / predicted), least = fmax(OFF_MIN, OFF_NOISE * r->noise);
	bool off = error * r->last_error > 0 && fabs(error) > least && fabs(r->last_error) > least;
	bool surprise = r->prefills > 0 && (off || fabs(error) > 2 * least);
	double keep = off ? REMEMBER_IF_OFF : REMEMBER, weight = fmin(1, fresh / WHOLE_TOKENS);
	if (surprise) {
		predicted *= follow(r, exp((off ? FOLLOW_IF_OFF : FOLLOW) * error));
		weight *= SURPRISE_WEIGHT;
	}
	/* Divided by the mean of both times, so that errors up and down weigh the same. */
	weight /= ms * predicted;
	r->aa = keep * r->aa + weight * a * a;
	r->ab = keep * r->ab + weight * a * b;
	r->bb = keep * r->bb + weight * b * b;
	r->ay = keep * r->ay + weight * a * ms;
	r->by = keep * r->by + weight * b * ms;
	r->noise += NOISE_WEIGHT * (fmin(fabs(error), NOISE_MAX) - r->noise);
	r->last_error = error;
	solve(r);
	if (++r->prefills > SETTLED && !surprise)
		correct(r, depth, fresh, ms);
}

void predict_learn_overhead(struct predict_rates *r, double ms)
{
	if (!isfinite(ms))
		return;
	ms = fmin(fmax(ms, 0), PREDICT_OVERHEAD_MAX_MS);
	double weight = r->overheads == 0 ? 1 : OVERHEAD_WEIGHT;
	r->overhead_ms += weight * (ms - r->overhead_ms);
	r->overheads++;
}

/* --- kept --- */

/* All that is saved, in one order. */
static void numbers_of(const struct predict_rates *r, double n[SAVED_NUMBERS])
{
	const double first[12] = {(double)r->prefills, (double)r->overheads, r->overhead_ms,
		r->base, r->slope, r->aa, r->ab, r->bb, r->ay, r->by, r->noise, r->last_error};
	memcpy(n, first, sizeof(first));
	memcpy(n + 12, r->correction, sizeof(r->correction));
}

int predict_save(const struct predict_rates *r, struct buf *out)
{
	double n[SAVED_NUMBERS];
	numbers_of(r, n);
	buf_printf(out, "%d", SAVED_FORMAT);
	for (int i = 0; i < SAVED_NUMBERS; i++)
		buf_printf(out, " %.12g", n[i]);
	return buf_error(out);
}

static bool within(double v, double min, double max)
{
	return v >= min && v <= max; /* false for NAN */
}

static bool read_numbers(const char *at, double n[SAVED_NUMBERS])
{
	char *end;
	for (int i = -1; i < SAVED_NUMBERS; i++, at = end) {
		double v = strtod(at, &end);
		if (end == at || !isfinite(v) || (i < 0 && v != SAVED_FORMAT))
			return false;
		if (i >= 0)
			n[i] = v;
	}
	return *at == '\0';
}

bool predict_load(struct predict_rates *r, struct slice saved)
{
	char text[PREDICT_BYTES + 1];
	double n[SAVED_NUMBERS];
	predict_init(r);
	if (saved.n == 0 || saved.n > PREDICT_BYTES)
		return false;
	memcpy(text, saved.p, saved.n);
	text[saved.n] = '\0';
	if (!read_numbers(text, n) || !within(n[0], 0, 1e15) || !within(n[1], 0, 1e15) ||
		!within(n[2], 0, PREDICT_OVERHEAD_MAX_MS) || !within(n[3], COST_MIN, COST_MAX) ||
		!within(n[4], 0, COST_MAX) || n[5] < 0 || n[7] < 0 || !within(n[10], 0, NOISE_MAX))
		return false;
	for (int i = 12; i < SAVED_NUMBERS; i++)
		if (!within(n[i], 1 / CORRECTION_MAX, CORRECTION_MAX))
			return false;
	*r = (struct predict_rates){.prefills = (uint64_t)n[0],
		.overheads = (uint64_t)n[1],
		.overhead_ms = n[2],
		.base = n[3],
		.slope = n[4],
		.aa = n[5],
		.ab = n[6],
		.bb = n[7],
		.ay = n[8],
		.by = n[9],
		.noise = n[10],
		.last_error = n[11]};
	memcpy(r->correction, n + 12, sizeof(r->correction));
	return true;
}
