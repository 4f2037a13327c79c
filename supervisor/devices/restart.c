#include "supervisor/devices/restart.h"
#include "supervisor/devices/governor.h"

#include "common/base/log.h"
#include "supervisor/devices/devices.h"
#include "supervisor/devices/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define WHY_BYTES 512

void device_changed(struct device *d)
{
	enum worker_state state = d->current->state;
	jobs_end_warming(d);
	if (d->state == WORKER_READY && state != WORKER_READY)
		d->not_ready_since_ms = now_ms();
	if (state != WORKER_READY)
		foresight_forget(&d->foresight); /* the backend may have gone as well */
	d->state = state;
	devices_changed(d->all);
}

/* --- what an operator waits for --- */

static void tell_operator(struct device *d, bool ok, const char *why)
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

static void tell_ready(struct device *d)
{
	char text[64];
	snprintf(text, sizeof(text), "generation %llu is ready",
		(unsigned long long)d->current->generation);
	tell_operator(d, true, text);
}

static void tell_failed(struct device *d, const struct worker *w)
{
	struct buf why;
	buf_init(&why, WHY_BYTES * 2);
	buf_printf(&why, "the new worker (generation %llu) ended before it was ready: %s%s%s",
		(unsigned long long)w->generation, d->last_exit, w->backend.detail[0] ? "; " : "",
		w->backend.detail);
	tell_operator(d, false, buf_cstr(&why));
	buf_free(&why);
}

/* --- settings that wait for their worker --- */

static void settle_conf(struct device *d, bool take)
{
	if (!d->conf_before)
		return;
	struct config_device *unwanted = take ? d->conf_before : (struct config_device *)d->conf;
	if (!take)
		d->conf = d->conf_before;
	d->conf_before = NULL;
	config_device_free(unwanted);
	free(unwanted);
}

/* --- succession --- */

static unsigned old_workers(const struct device *d, struct worker **oldest)
{
	struct worker *w;
	unsigned n = 0;
	TAILQ_FOREACH(w, &d->workers, link)
		if (w != d->current && w != d->next && worker_has_process(w) &&
			w->state != WORKER_STOPPING) {
			n++;
			*oldest = w;
		}
	return n;
}

static void retire(struct worker *w, bool keep_backend)
{
	struct device *d = w->device;
	worker_drain(w, keep_backend);
	if (!worker_has_process(w)) {
		worker_destroy(w);
		return;
	}
	struct worker *oldest;
	if (old_workers(d, &oldest) > RESTART_OLD_MAX) {
		log_line(LOG_WARN, "worker_drain_cut", LOG_STR("device", d->conf->name),
			LOG_INT("generation", oldest->generation),
			LOG_STR("why", "too many old workers still finish jobs"), LOG_END);
		worker_stop(oldest);
	}
}

static void promote(struct device *d)
{
	struct worker *old = d->current;
	d->current = d->next;
	d->next = NULL;
	settle_conf(d, true);
	device_changed(d);
	adopt_learned(d->current);
	log_line(LOG_INFO, "worker_promoted", LOG_STR("device", d->conf->name),
		LOG_INT("generation", d->current->generation),
		LOG_INT("old_generation", old->generation), LOG_END);
	retire(old, d->keep_backend);
}

static int start_beside(struct device *d)
{
	struct worker *w = worker_create(d);
	if (!w)
		return -ENOMEM;
	d->next = w;
	worker_start(w);
	if (w->state == WORKER_STOPPED) /* could not even be spawned; that has been told */
		worker_destroy(w);
	return 0;
}

static bool serves(const struct device *d)
{
	return d->current->state == WORKER_READY;
}

static void start_in_place(struct device *d, bool keep_backend)
{
	struct worker *w = d->current;
	settle_conf(d, true);
	if (worker_has_process(w)) {
		d->respawn = true;
		worker_drain(w, keep_backend);
		return;
	}
	w->backoff_ms = 0;
	if (!keep_backend)
		adopt_end(d);
	worker_start(w);
}

bool device_busy(const struct device *d)
{
	return d->operation || d->next || d->respawn;
}

static int begin(struct device *d, bool backend, bool keep_backend, uint64_t operation)
{
	bool started = d->conf->backend.command != NULL;
	d->operation = operation;
	d->drained = false;
	d->keep_backend = keep_backend;
	if (serves(d) && !(backend && started)) {
		int rc = start_beside(d);
		if (rc)
			d->operation = 0;
		return rc;
	}
	start_in_place(d, keep_backend && !backend);
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

/* --- deaths --- */

/* Notes this death; true when there were too many of late. */
static bool too_many_deaths(struct device *d)
{
	const struct config *c = d->all->config;
	size_t max = (size_t)c->backoff.max_restarts;
	uint64_t now = now_ms();
	d->deaths[d->death_count++ % CONFIG_RESTARTS_MAX] = now;
	if (max == 0 || d->death_count <= max)
		return false;
	uint64_t then = d->deaths[(d->death_count - 1 - max) % CONFIG_RESTARTS_MAX];
	return now - then <= (uint64_t)c->backoff.window_ms;
}

enum after_death restart_after_death(struct worker *w)
{
	struct device *d = w->device;
	if (w == d->next) {
		d->next = NULL;
		settle_conf(d, false);
		tell_failed(d, w);
		return AFTER_DEATH_END;
	}
	if (w != d->current || d->respawn || d->drained || d->removed)
		return AFTER_DEATH_END;
	bool too_many = too_many_deaths(d);
	if (d->next) { /* it has to be good enough now */
		d->current = d->next;
		d->next = NULL;
		settle_conf(d, true);
		device_changed(d);
		adopt_learned(d->current);
		return AFTER_DEATH_END;
	}
	tell_failed(d, w);
	return too_many ? AFTER_DEATH_FAIL : AFTER_DEATH_BACK_OFF;
}

void restart_failed(struct device *d)
{
	log_line(LOG_ERROR, "device_failed", LOG_STR("device", d->conf->name),
		LOG_INT("deaths", d->death_count), LOG_STR("last_exit", d->last_exit),
		LOG_STR("hint", "tandemctl reset"), LOG_END);
	jobs_evict(d);
}

/* --- what becomes of workers --- */

void restart_worker_ready(struct worker *w)
{
	struct device *d = w->device;
	if (w == d->next)
		promote(d);
	if (w == d->current)
		tell_ready(d);
}

void restart_worker_late(struct worker *w)
{
	struct buf why;
	if (w != w->device->current)
		return;
	buf_init(&why, WHY_BYTES * 2);
	buf_printf(&why, "generation %llu is not ready within worker_boot_ms%s%s",
		(unsigned long long)w->generation, w->backend.detail[0] ? ": " : "",
		w->backend.detail);
	tell_operator(w->device, false, buf_cstr(&why));
	buf_free(&why);
}

void restart_worker_gone(struct worker *w)
{
	struct device *d = w->device;
	if (w->state != WORKER_STOPPED)
		return;
	if (w != d->current) {
		worker_destroy(w);
		return;
	}
	if (d->respawn) { /* also while tandemd drains: requests under way may wait for it */
		d->respawn = false;
		worker_start(w);
	} else if (d->drained) {
		tell_operator(d, true, "drained");
	}
}

void restart_worker_stuck(struct worker *w)
{
	struct device *d = w->device;
	if (w == d->next) {
		d->next = NULL;
		settle_conf(d, false);
		tell_failed(d, w);
		return;
	}
	struct worker *fresh = w == d->current && !d->removed ? worker_create(d) : NULL;
	if (!fresh)
		return;
	fresh->died = true;
	d->current = fresh;
	d->respawn = false;
	device_changed(d);
	worker_start(fresh);
}

/* --- drain, reset, remove, stop --- */

int device_drain(struct device *d, uint64_t operation)
{
	if (device_busy(d))
		return -EBUSY;
	d->operation = operation;
	d->drained = true;
	worker_drain(d->current, false);
	adopt_settle(d);
	if (!worker_has_process(d->current))
		tell_operator(d, true, "drained");
	jobs_evict(d);
	return 0;
}

void device_reset(struct device *d)
{
	struct worker *w = d->current;
	bool ends = w->state == WORKER_DRAINING || w->state == WORKER_STOPPING;
	if (d->drained)
		tell_operator(d, false, "reset before it was drained");
	d->death_count = 0;
	d->drained = false;
	w->backoff_ms = 0;
	if (!worker_has_process(w))
		worker_start(w);
	else if (ends)
		d->respawn = true;
}

void device_remove(struct device *d)
{
	d->removed = true;
	d->removed_ms = now_ms();
	tell_operator(d, false, "removed from the configuration");
	struct worker *next = d->next;
	d->next = NULL;
	settle_conf(d, false);
	if (next)
		worker_drain(next, true); /* the current one's streams may need its backend */
	worker_drain(d->current, false);
	adopt_settle(d);
	jobs_evict(d);
}

bool device_stop(struct device *d)
{
	struct worker *w, *after;
	bool gone = true;
	d->respawn = false;
	for (w = TAILQ_FIRST(&d->workers); w; w = after) {
		after = TAILQ_NEXT(w, link);
		gone = gone && !worker_has_process(w);
		if (w->state == WORKER_STOPPING || w->state == WORKER_STOPPED)
			continue;
		bool talks = w->state == WORKER_LOADING || w->state == WORKER_READY;
		if (d->all->keep_backends && talks)
			worker_drain(w, adopt_kept(w));
		else if (!(d->all->keep_backends && w->state == WORKER_DRAINING && w->keep_backend))
			worker_stop(w);
	}
	adopt_settle(d);
	return gone;
}
