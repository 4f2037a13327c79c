/*
 * The succession of a device's workers: one table, states x events -> action. An action returns the next state, or
 * STAY; succession_turn() alone sets it, logs it and does what is due on entering it. A cell left empty ignores the event.
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
#include "supervisor/devices/succession_private.h"

#include "common/base/log.h"
#include "supervisor/devices/devices.h"
#include "supervisor/devices/job.h"

#include <stdlib.h>

#define STAY SUCCESSIONS

void device_changed(struct device *d)
{
	enum worker_state state = d->current->state;
	jobs_yield(d);
	if (d->state == WORKER_READY && state != WORKER_READY)
		d->not_ready_since_ms = now_ms();
	if (state != WORKER_READY && d->caches_pid == 0)
		foresight_forget(&d->foresight); /* the backend may have gone as well */
	d->state = state;
	device_foresees(d);
	devices_changed(d->all);
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
	device_learned(d->current);
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
	outcome_ready(d);
	return SETTLED;
}

static enum succession act_next_failed(struct turn *t)
{
	t->d->next = NULL;
	settle_conf(t->d, false);
	outcome_failed(t->d, t->w);
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
	outcome_failed(t->d, t->w);
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
	outcome_ready(t->d);
	return STAY;
}

static enum succession act_tell_late(struct turn *t)
{
	outcome_late(t->d, t->w);
	return STAY;
}

static enum succession act_drain(struct turn *t)
{
	(void)t;
	return DRAINING;
}

static enum succession act_drained(struct turn *t)
{
	outcome_tell(t->d, true, "drained");
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
	outcome_tell(t->d, false, "reset before it was drained");
	return act_reset(t);
}

static enum succession act_remove(struct turn *t)
{
	struct device *d = t->d;
	struct worker *next = d->next;
	d->removed_ms = now_ms();
	d->next = NULL;
	outcome_tell(d, false, "removed from the configuration");
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
		succession_turn(&(struct turn){.d = d, .w = d->current}, ON_GONE);
}

static const char *name(enum succession s)
{
	static const char *const names[SUCCESSIONS] = {
		"settled", "beside", "in place", "draining", "drained", "removed", "ending"};
	return names[s];
}

void succession_turn(struct turn *t, enum succession_event e)
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
static enum succession_event about(
	const struct worker *w, enum succession_event current, enum succession_event next)
{
	return w == w->device->current ? current : w == w->device->next ? next : EVENTS;
}

static enum after_death tell_of(struct worker *w, enum succession_event e)
{
	struct turn t = {.d = w->device, .w = w, .verdict = AFTER_DEATH_END};
	if (e < EVENTS)
		succession_turn(&t, e);
	return t.verdict;
}

enum after_death succession_died(struct worker *w)
{
	return tell_of(w, about(w, ON_DIED, ON_NEXT_DIED));
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
