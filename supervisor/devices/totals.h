/*
 * Counters of devices by name, also of those that a reload has removed: sums only grow as long as
 * tandemd runs, whatever becomes of a device. Pure; a fixed table.
 */
#ifndef TANDEM_TOTALS_H
#define TANDEM_TOTALS_H

#include "common/config/config.h"

#include <stdint.h>

/* names; the last one stands for all that came later */
#define TOTALS_MAX (4 * CONFIG_DEVICES_MAX)
#define TOTALS_OTHERS "others"

struct device_totals {
	char device[CONFIG_NAME_BYTES];
	uint64_t jobs_done, jobs_failed, jobs_preempted, starts, restarts, heartbeats;
	uint64_t warmed, warmings_cancelled, noted, notings_cancelled;
	uint64_t kept_saved, kept_restored, kept_wrong;
	uint64_t bytes_in, bytes_out; /* of bodies, of answers */
};

struct totals {
	struct device_totals of[TOTALS_MAX];
	size_t count;
};

/* Adds to what stands under that name. */
void totals_add(struct totals *t, const struct device_totals *d);

#endif
