/* What is told of a device's workers: to an operator who waits for them, to the log, to jobs that wait in vain. */
#include "supervisor/devices/succession_private.h"

#include "common/base/log.h"
#include "supervisor/devices/job.h"

#include <stdio.h>

#define WHY_BYTES 512

void outcome_tell(struct device *d, bool ok, const char *why)
{
	char text[WHY_BYTES];
	if (!d->operation)
		return;
	snprintf(text, sizeof(text), "%s: %s", d->conf->name, why);
	d->all->events->part_ended(d->all->ctx, d->operation, ok, text);
	log_line(ok ? LOG_INFO : LOG_ERROR, "operation_part", LOG_INT("operation", d->operation),
		LOG_STR("device", d->conf->name), LOG_STR("result", ok ? "done" : "failed"),
		LOG_STR("why", why), LOG_END);
	d->operation = 0;
}

void outcome_ready(struct device *d)
{
	char text[64];
	snprintf(text, sizeof(text), "generation %llu is ready",
		(unsigned long long)d->current->generation);
	outcome_tell(d, true, text);
}

void outcome_failed(struct device *d, const struct worker *w)
{
	struct buf why;
	buf_init(&why, WHY_BYTES * 2);
	buf_printf(&why, "the new worker (generation %llu) ended before it was ready: %s%s%s",
		(unsigned long long)w->generation, d->last_exit, w->backend.detail[0] ? "; " : "",
		w->backend.detail);
	outcome_tell(d, false, buf_cstr(&why));
	buf_free(&why);
}

void outcome_late(struct device *d, const struct worker *w)
{
	struct buf why;
	buf_init(&why, WHY_BYTES * 2);
	buf_printf(&why, "generation %llu is not ready within worker_boot_ms%s%s",
		(unsigned long long)w->generation, w->backend.detail[0] ? ": " : "",
		w->backend.detail);
	outcome_tell(d, false, buf_cstr(&why));
	buf_free(&why);
}

void succession_failed(struct worker *w)
{
	struct device *d = w->device;
	log_line(LOG_ERROR, "device_failed", LOG_STR("device", d->conf->name),
		LOG_INT("deaths", d->death_count), LOG_STR("last_exit", d->last_exit),
		LOG_STR("hint", "tandemctl reset"), LOG_END);
	jobs_evict(d);
}
