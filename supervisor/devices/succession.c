/*
 * The succession of a device's workers: one table, states x events -> action. An action returns the next state, or
 * STAY; turn() alone sets it, logs it and does what is due on entering it. A cell left empty ignores the event.
 *
 *   SETTLED --beside--> BESIDE --next is ready, or has died, or the current one has--> SETTLED
 *   SETTLED --in place--> IN_PLACE --gone--> SETTLED (starts again)
 *   SETTLED --drain--> DRAINING --gone--> DRAINED --reset, in place--> SETTLED (starts again)
 *                          '--reset--> IN_PLACE, or SETTLED where its worker does not end yet
 *   any --removed--> REMOVED    SETTLED, BESIDE, IN_PLACE --stop--> ENDING
 *
 * SETTLED has a current worker that lives a life of its own (worker.c): serves, starts, backs off, has failed. An
 * operator's order may wait for it there (device.operation).
 */
#include "supervisor/devices/succession.h"

#include "common/base/log.h"
#include "supervisor/devices/devices.h"
#include "supervisor/devices/governor.h"
#include "supervisor/devices/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define WHY_BYTES 512
#define STAY SUCCESSIONS

enum event {
	ON_BESIDE, /* asked for a fresh worker: turn.w is to be next */
	ON_IN_PLACE,
	ON_DRAIN,
	ON_RESET,
	ON_REMOVE,
	ON_STOP,
	ON_READY, /* the current worker is */
	ON_LATE,  /* it is not, within deadlines.worker_boot_ms */
	ON_DIED,  /* it ended without having been asked to */
	ON_STUCK, /* it does not even die of KILL */
	ON_GONE,  /* it has ended, and is wanted no more: STOPPED */
	ON_NEXT_READY,
	ON_NEXT_DIED, /* or is stuck */
	EVENTS
};

struct turn {
	struct device *d;
	struct worker *w;	  /* that it is about */
	enum after_death verdict; /* of ON_DIED */
};

static void turn(struct turn *t, enum event e);

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

static void tell_late(struct device *d, const struct worker *w)
{
	struct buf why;
	buf_init(&why, WHY_BYTES * 2);
	buf_printf(&why, "generation %llu is not ready within worker_boot_ms%s%s",
		(unsigned long long)w->generation, w->backend.detail[0] ? ": " : "",
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

/* --- old workers --- */

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
	if (old_workers(d, &oldest) > SUCCESSION_OLD_MAX) {
		log_line(LOG_WARN, "worker_drain_cut", LOG_STR("device", d->conf->name),
			LOG_INT("generation", oldest->generation),
			LOG_STR("why", "too many old workers still finish jobs"), LOG_END);
		worker_stop(oldest);
	}
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

/* --- actions --- */

static enum succession act_beside(struct turn *t)
{
	t->d->next = t->w;
	return BESIDE;
}

/* With the new settings, whatever becomes of them. */
static enum succession act_in_place(struct turn *t)
{
	struct device *d = t->d;
	settle_conf(d, true);
	if (worker_has_process(d->current))
		return IN_PLACE;
	d->current->backoff_ms = 0;
	if (!d->keep_backend)
		warm_end(d);
	return SETTLED;
}

/* The next one is the current one: at its turn, or because it has to be good enough now. */
static struct worker *follow(struct device *d)
{
	struct worker *old = d->current;
	d->current = d->next;
	d->next = NULL;
	settle_conf(d, true);
	device_changed(d);
	warm_learned(d->current);
	return old;
}

static enum succession act_promote(struct turn *t)
{
	struct device *d = t->d;
	struct worker *old = follow(d);
	log_line(LOG_INFO, "worker_promoted", LOG_STR("device", d->conf->name),
		LOG_INT("generation", d->current->generation),
		LOG_INT("old_generation", old->generation), LOG_END);
	retire(old, d->keep_backend);
	tell_ready(d);
	return SETTLED;
}

static enum succession act_next_failed(struct turn *t)
{
	t->d->next = NULL;
	settle_conf(t->d, false);
	tell_failed(t->d, t->w);
	return SETTLED;
}

static enum succession act_next_needed(struct turn *t)
{
	too_many_deaths(t->d); /* it counts */
	follow(t->d);
	return SETTLED;
}

static enum succession act_died(struct turn *t)
{
	bool too_many = too_many_deaths(t->d);
	tell_failed(t->d, t->w);
	t->verdict = too_many ? AFTER_DEATH_FAIL : AFTER_DEATH_BACK_OFF;
	return STAY;
}

/* Another worker takes its place. */
static enum succession act_replace(struct turn *t)
{
	struct device *d = t->d;
	struct worker *fresh = worker_create(d);
	if (!fresh)
		return STAY;
	fresh->died = true;
	d->current = fresh;
	device_changed(d);
	return SETTLED;
}

static enum succession act_settle(struct turn *t)
{
	(void)t;
	return SETTLED;
}

static enum succession act_tell_ready(struct turn *t)
{
	tell_ready(t->d);
	return STAY;
}

static enum succession act_tell_late(struct turn *t)
{
	tell_late(t->d, t->w);
	return STAY;
}

static enum succession act_drain(struct turn *t)
{
	(void)t;
	return DRAINING;
}

static enum succession act_drained(struct turn *t)
{
	tell_operator(t->d, true, "drained");
	return DRAINED;
}

/* No history from now on. */
static enum succession act_reset(struct turn *t)
{
	struct device *d = t->d;
	d->death_count = 0;
	d->current->backoff_ms = 0;
	bool ends = d->current->state == WORKER_DRAINING || d->current->state == WORKER_STOPPING;
	return ends ? IN_PLACE : SETTLED;
}

/* A succession is under way: it goes on. */
static enum succession act_reset_history(struct turn *t)
{
	act_reset(t);
	return STAY;
}

static enum succession act_reset_drain(struct turn *t)
{
	tell_operator(t->d, false, "reset before it was drained");
	return act_reset(t);
}

static enum succession act_remove(struct turn *t)
{
	struct device *d = t->d;
	struct worker *next = d->next;
	d->removed_ms = now_ms();
	d->next = NULL;
	tell_operator(d, false, "removed from the configuration");
	settle_conf(d, false);
	if (next)
		worker_drain(next, true); /* the current one's streams may need its backend */
	return REMOVED;
}

static enum succession act_stop(struct turn *t)
{
	t->d->next = NULL;
	return ENDING;
}

/* --- the table --- */

typedef enum succession action_fn(struct turn *t);

static action_fn *const actions[SUCCESSIONS][EVENTS] = {
	[SETTLED] = {[ON_BESIDE] = act_beside,
		[ON_IN_PLACE] = act_in_place,
		[ON_DRAIN] = act_drain,
		[ON_RESET] = act_reset,
		[ON_REMOVE] = act_remove,
		[ON_STOP] = act_stop,
		[ON_READY] = act_tell_ready,
		[ON_LATE] = act_tell_late,
		[ON_DIED] = act_died,
		[ON_STUCK] = act_replace},
	[BESIDE] = {[ON_RESET] = act_reset_history,
		[ON_REMOVE] = act_remove,
		[ON_STOP] = act_stop,
		[ON_DIED] = act_next_needed,
		[ON_STUCK] = act_next_needed,
		[ON_NEXT_READY] = act_promote,
		[ON_NEXT_DIED] = act_next_failed},
	[IN_PLACE] = {[ON_RESET] = act_reset_history,
		[ON_REMOVE] = act_remove,
		[ON_STOP] = act_stop,
		[ON_STUCK] = act_replace,
		[ON_GONE] = act_settle},
	[DRAINING] = {[ON_RESET] = act_reset_drain,
		[ON_REMOVE] = act_remove,
		[ON_STUCK] = act_drained,
		[ON_GONE] = act_drained},
	[DRAINED] = {[ON_IN_PLACE] = act_in_place,
		[ON_DRAIN] = act_drain,
		[ON_RESET] = act_reset,
		[ON_REMOVE] = act_remove},
};

static void enter_settled(struct device *d)
{
	if (!worker_has_process(d->current))
		worker_start(d->current);
}

static void enter_beside(struct device *d)
{
	struct worker *w = d->next;
	worker_start(w);
	if (w->state == WORKER_STOPPED) /* could not even be spawned; that has been told */
		worker_destroy(w);
}

static void enter_in_place(struct device *d)
{
	struct worker *w = d->current;
	if (w->state != WORKER_DRAINING && w->state != WORKER_STOPPING)
		worker_drain(w, d->keep_backend);
}

/* Nobody will use it any more: what waits for it goes elsewhere. */
static void enter_removed(struct device *d)
{
	worker_drain(d->current, false);
	warm_settle(d);
	jobs_evict(d);
}

static void enter_draining(struct device *d)
{
	enter_removed(d);
	if (!worker_has_process(d->current))
		turn(&(struct turn){.d = d, .w = d->current}, ON_GONE);
}

static const char *name(enum succession s)
{
	static const char *const names[SUCCESSIONS] = {
		"settled", "beside", "in place", "draining", "drained", "removed", "ending"};
	return names[s];
}

static void turn(struct turn *t, enum event e)
{
	static void (*const entered[SUCCESSIONS])(struct device * d) = {[SETTLED] = enter_settled,
		[BESIDE] = enter_beside,
		[IN_PLACE] = enter_in_place,
		[DRAINING] = enter_draining,
		[REMOVED] = enter_removed};
	struct device *d = t->d;
	action_fn *act = actions[d->succession][e];
	enum succession to = act ? act(t) : STAY;
	if (to == STAY)
		return;
	log_line(LOG_DEBUG, "succession", LOG_STR("device", d->conf->name),
		LOG_STR("from", name(d->succession)), LOG_STR("to", name(to)), LOG_END);
	d->succession = to;
	if (entered[to])
		entered[to](d);
}

/* --- what becomes of workers --- */

/* One that is neither current nor next is only waited for. */
static enum event about(const struct worker *w, enum event current, enum event next)
{
	return w == w->device->current ? current : w == w->device->next ? next : EVENTS;
}

static enum after_death tell_of(struct worker *w, enum event e)
{
	struct turn t = {.d = w->device, .w = w, .verdict = AFTER_DEATH_END};
	if (e < EVENTS)
		turn(&t, e);
	return t.verdict;
}

enum after_death succession_died(struct worker *w)
{
	return tell_of(w, about(w, ON_DIED, ON_NEXT_DIED));
}

void succession_failed(struct worker *w)
{
	struct device *d = w->device;
	log_line(LOG_ERROR, "device_failed", LOG_STR("device", d->conf->name),
		LOG_INT("deaths", d->death_count), LOG_STR("last_exit", d->last_exit),
		LOG_STR("hint", "tandemctl reset"), LOG_END);
	jobs_evict(d);
}

void succession_ready(struct worker *w)
{
	tell_of(w, about(w, ON_READY, ON_NEXT_READY));
}

void succession_late(struct worker *w)
{
	tell_of(w, about(w, ON_LATE, EVENTS));
}

void succession_gone(struct worker *w)
{
	if (w->state != WORKER_STOPPED)
		return;
	if (w == w->device->current)
		tell_of(w, ON_GONE);
	else
		worker_destroy(w);
}

void succession_stuck(struct worker *w)
{
	tell_of(w, about(w, ON_STUCK, ON_NEXT_DIED));
}

/* --- what is asked for --- */

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
	turn(&t, beside ? ON_BESIDE : ON_IN_PLACE);
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
	turn(&(struct turn){.d = d}, ON_DRAIN);
	return 0;
}

void device_reset(struct device *d)
{
	turn(&(struct turn){.d = d}, ON_RESET);
}

void device_remove(struct device *d)
{
	turn(&(struct turn){.d = d}, ON_REMOVE);
}

bool device_stop(struct device *d)
{
	struct worker *w, *after;
	bool gone = true, kept = d->all->keep_backends;
	turn(&(struct turn){.d = d}, ON_STOP);
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
