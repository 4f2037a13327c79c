/* What is asked of a device's succession. */
#include "supervisor/devices/succession_private.h"

#include "supervisor/devices/governor.h"

#include <errno.h>

bool device_busy(const struct device *d)
{
	return d->operation || d->succession == BESIDE || d->succession == IN_PLACE;
}

static int begin(struct device *d, bool backend, bool keep_backend, uint64_t operation)
{
	bool started = d->conf->backend.command != NULL;
	bool beside = d->current->state == WORKER_READY && !(backend && started);
	struct turn t = {.d = d, .w = beside ? worker_create(d) : d->current};
	if (!t.w)
		return -ENOMEM;
	d->operation = operation;
	d->keep_backend = keep_backend && (beside || !backend);
	succession_turn(&t, beside ? ON_BESIDE : ON_IN_PLACE);
	return 0;
}

int device_restart(struct device *d, bool backend, uint64_t operation)
{
	return device_busy(d) ? -EBUSY : begin(d, backend, true, operation);
}

int device_reconfigure(struct device *d, struct config_device *conf, bool backend,
	bool keep_backend, uint64_t operation)
{
	if (device_busy(d))
		return -EBUSY;
	d->conf_before = (struct config_device *)d->conf;
	d->conf = conf;
	int rc = begin(d, backend, keep_backend, operation);
	if (rc) {
		d->conf = d->conf_before;
		d->conf_before = NULL;
	} else {
		governor_forget(d->all->governor, d); /* its windows may be other ones now */
	}
	return rc;
}

int device_drain(struct device *d, uint64_t operation)
{
	if (device_busy(d))
		return -EBUSY;
	d->operation = operation;
	succession_turn(&(struct turn){.d = d}, ON_DRAIN);
	return 0;
}

void device_reset(struct device *d)
{
	succession_turn(&(struct turn){.d = d}, ON_RESET);
}

void device_remove(struct device *d)
{
	succession_turn(&(struct turn){.d = d}, ON_REMOVE);
}

bool device_stop(struct device *d)
{
	struct worker *w, *after;
	bool gone = true, kept = d->all->keep_backends;
	succession_turn(&(struct turn){.d = d}, ON_STOP);
	for (w = TAILQ_FIRST(&d->workers); w; w = after) {
		after = TAILQ_NEXT(w, link);
		gone = gone && !worker_has_process(w);
		if (w->state == WORKER_STOPPING || w->state == WORKER_STOPPED)
			continue;
		bool talks = w->state == WORKER_LOADING || w->state == WORKER_READY;
		if (kept && talks)
			worker_drain(w, warm_kept(w));
		else if (!(kept && w->state == WORKER_DRAINING && w->keep_backend))
			worker_stop(w);
	}
	warm_settle(d);
	return gone;
}
