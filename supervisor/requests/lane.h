/*
 * The small lane: which devices answer what is small (small.h of the configuration), so that the main
 * one's slot, and the prefix that it holds, stay as they are.
 *
 * Devices with the role "small"; and, where small.condensers says so, condensing ones that write no notes for
 * a request at the moment. What they write for digests to come makes way by itself (job.h: yields).
 *
 * Loop thread; nothing is changed, nothing blocks.
 */
#ifndef TANDEM_LANE_H
#define TANDEM_LANE_H

#include "common/config/small.h"
#include "supervisor/requests/requests.h"

#define LANE_WHY_BYTES 128

/* Some device takes what is small at times, and there are rules. */
bool lane_is_there(const struct requests *s);

/* What does a rule's `use` come to: is the request left with the main devices? */
bool lane_stays(const struct requests *s, const struct config_small_rule *rule);

/* Can it take a job now? NULL: yes; else why not, in static words. */
const char *lane_absence(const struct device *d);

/* A job of the lane has waited, or kept silent, for too long, or its device will not come: why, in static words.
 * NULL: no. wait_ms: for a slot. */
const char *lane_impatience(const struct requests *s, const struct job *j, int64_t wait_ms);

/* The least busy one that can take a job, and for which fits() says so too. NULL: none, *why says why of the
 * one that would have been nearest; NULL there: no device is for it. use: of a rule; NULL: the role. */
typedef const char *lane_fits_fn(const void *ctx, const struct device *d); /* as lane_absence() */
struct device *lane_find(const struct requests *s, const char *use, lane_fits_fn *fits,
	const void *ctx, const char **why);

#endif
