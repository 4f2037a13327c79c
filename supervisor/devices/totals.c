#include "supervisor/devices/totals.h"

#include <stdio.h>
#include <string.h>

static struct device_totals *place(struct totals *t, const char *name)
{
	for (size_t i = 0; i < t->count; i++)
		if (strcmp(t->of[i].device, name) == 0)
			return &t->of[i];
	if (t->count == TOTALS_MAX)
		return &t->of[TOTALS_MAX - 1];
	if (t->count == TOTALS_MAX - 1)
		name = TOTALS_OTHERS;
	struct device_totals *d = &t->of[t->count++];
	*d = (struct device_totals){0};
	snprintf(d->device, sizeof(d->device), "%s", name);
	return d;
}

void totals_add(struct totals *t, const struct device_totals *d)
{
	struct device_totals *to = place(t, d->device);
	to->jobs_done += d->jobs_done;
	to->jobs_failed += d->jobs_failed;
	to->jobs_preempted += d->jobs_preempted;
	to->starts += d->starts;
	to->restarts += d->restarts;
	to->heartbeats += d->heartbeats;
	to->warmed += d->warmed;
	to->warmings_cancelled += d->warmings_cancelled;
	to->noted += d->noted;
	to->notings_cancelled += d->notings_cancelled;
	to->kept_saved += d->kept_saved;
	to->kept_restored += d->kept_restored;
	to->kept_wrong += d->kept_wrong;
	to->bytes_in += d->bytes_in;
	to->bytes_out += d->bytes_out;
}
