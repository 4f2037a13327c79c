/*
 * A worker's life: one table, states x events -> action. An action returns the next state, or WORKER_STAY; worker_event()
 * alone sets it, logs it and does what is due on entering it. A cell left empty ignores the event.
 *
 *   STOPPED --start--> SPAWNING --hello--> LOADING <--not ready / ready--> READY --drain--> DRAINING
 *    ^ ^                 any of these --exit--> BACKOFF --timer--> SPAWNING                 |   |
 *    | |                          '--died too often--> FAILED --start--> SPAWNING           |   |
 *    | '------exit------ STOPPING <--stop-- any  <---------------------------- drain deadline --|
 *    '-----------------------------------exit-----------------------------------------------'
 *   DYING: killed, waits for its exit, which then counts as a death.
 *
 * What a death or an end means for the device (back-off, promotion of the next worker, an operator's restart) is
 * decided in succession.c; what is done to process and link goes through worker_hands.
 */
#include "supervisor/devices/worker.h"

#include "common/base/log.h"
#include "supervisor/devices/devices.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define WORKER_STOP_MS 10000 /* TERM to KILL: the worker itself gives its backend some seconds */
#define WORKER_ABORT_MS 300  /* ABRT to KILL of one that hangs: time for its core */
/* a killed process that is not gone by then (D state) is left behind */
#define WORKER_KILL_MS 5000
#define WORKER_LOOK_MS 50 /* is the former backend gone? */

const char *worker_state_name(enum worker_state s)
{
	static const char *const names[WORKER_STATES] = {"stopped", "spawning", "loading", "ready",
		"draining", "stopping", "dying", "back-off", "failed"};
	return names[s];
}

static void on_timer(uv_timer_t *t)
{
	worker_event(t->data, EV_TIMER);
}

static void set_timer(struct worker *w, uint64_t ms)
{
	uv_timer_start(&w->timer, on_timer, ms, 0);
}

static void give_up(const struct worker *w, const char *why)
{
	log_line(LOG_ERROR, "worker_given_up", LOG_STR("device", w->device->conf->name),
		LOG_INT("worker_pid", w->pid), LOG_STR("why", why), LOG_END);
}

/* --- actions --- */

static enum worker_state act_back_off(struct worker *w)
{
	const struct config *c = w->device->all->config;
	uint64_t first = (uint64_t)c->backoff.first_ms, most = (uint64_t)c->backoff.max_ms;
	/* Ready for as long as the longest delay: this death has little to do with the last one. */
	bool healthy = w->ready_since_ms && now_ms() - w->ready_since_ms >= most;
	w->backoff_ms = w->backoff_ms == 0 || healthy ? first : w->backoff_ms * 2;
	if (w->backoff_ms > most)
		w->backoff_ms = most;
	w->ready_since_ms = 0;
	w->died = true;
	set_timer(w, w->backoff_ms);
	return WORKER_BACKOFF;
}

/* It ended without having been asked to. */
static enum worker_state act_died(struct worker *w)
{
	uv_timer_stop(&w->timer);
	switch (w->on->died(w)) {
	case AFTER_DEATH_BACK_OFF:
		return act_back_off(w);
	case AFTER_DEATH_FAIL:
		return WORKER_FAILED;
	default:
		return WORKER_STOPPED;
	}
}

static enum worker_state act_spawn(struct worker *w)
{
	struct device *d = w->device;
	if (!w->on->may_spawn(w)) { /* two would not fit one GPU */
		snprintf(w->backend.detail, sizeof(w->backend.detail),
			"waits for a former backend to end");
		set_timer(w, WORKER_LOOK_MS);
		return WORKER_BACKOFF;
	}
	w->ping_seq = w->pong_seq = w->flush_seq = 0;
	w->pings_missed = w->kills = 0;
	w->keep_backend = w->asked_to_end = false;
	w->backend.detail[0] = '\0';
	w->backend.state = STATE_STARTING;
	d->restarts += w->died; /* what an operator has ordered is none */
	w->died = false;
	int rc = w->hands->spawn(w);
	if (rc) {
		snprintf(d->last_exit, sizeof(d->last_exit), "not started: %s", uv_strerror(rc));
		log_line(LOG_ERROR, "worker_spawn", LOG_STR("device", d->conf->name),
			LOG_STR("error", uv_strerror(rc)), LOG_END);
		return act_died(w);
	}
	set_timer(w, (uint64_t)d->all->config->deadlines.hello_ms);
	return WORKER_SPAWNING;
}

static enum worker_state act_ack(struct worker *w)
{
	w->hands->ack(w);
	w->hands->watch(w);
	/* The worker itself watches a backend that it starts; a next one has to be ready by then
	 * whatever its backend is, or the old one stays. An operator is told by then, too. */
	uint64_t boot = (uint64_t)w->device->all->config->deadlines.worker_boot_ms;
	if (w == w->device->next || w->device->operation)
		set_timer(w, boot);
	else
		uv_timer_stop(&w->timer);
	return WORKER_LOADING;
}

static enum worker_state act_ready(struct worker *w)
{
	uv_timer_stop(&w->timer);
	if (w->state != WORKER_READY)
		w->ready_since_ms = now_ms();
	return WORKER_READY;
}

static enum worker_state act_unready(struct worker *w)
{
	(void)w;
	return WORKER_LOADING;
}

static enum worker_state act_kill(struct worker *w)
{
	uv_timer_stop(&w->ping);
	w->hands->kill(w, SIGKILL);
	set_timer(w, WORKER_KILL_MS);
	return WORKER_DYING;
}

/* Not ready in time: a next worker is given up. */
static enum worker_state act_boot_late(struct worker *w)
{
	if (w != w->device->next) {
		w->on->late(w);
		return WORKER_STAY;
	}
	give_up(w, "not ready within worker_boot_ms");
	return act_kill(w);
}

/* It hangs: ABRT first, for a core that tells where; CONT, because a stopped process takes no ABRT.
 */
static enum worker_state act_abort(struct worker *w)
{
	uv_timer_stop(&w->ping);
	w->hands->kill(w, SIGABRT);
	w->hands->kill(w, SIGCONT);
	set_timer(w, WORKER_ABORT_MS);
	return WORKER_DYING;
}

static enum worker_state act_kill_late(struct worker *w)
{
	w->hands->kill(w, SIGKILL);
	if (w->kills++ == 0) {
		set_timer(w, WORKER_KILL_MS);
		return WORKER_STAY;
	}
	log_line(LOG_ERROR, "worker_unkillable", LOG_STR("device", w->device->conf->name),
		LOG_INT("worker_pid", w->pid), LOG_END);
	w->on->stuck(w);
	return WORKER_STAY;
}

static enum worker_state act_hello_late(struct worker *w)
{
	give_up(w, "no HELLO within hello_ms");
	return act_kill(w);
}

static enum worker_state act_drain(struct worker *w)
{
	const struct config *c = w->device->all->config;
	w->hands->drain(w);
	set_timer(w, (uint64_t)c->deadlines.drain_ms + WORKER_STOP_MS +
			     (w->keep_backend ? 0 : (uint64_t)c->deadlines.kv_ms));
	return WORKER_DRAINING;
}

static enum worker_state act_stop(struct worker *w)
{
	uv_timer_stop(&w->ping);
	w->hands->kill(w, SIGTERM);
	set_timer(w, WORKER_STOP_MS);
	return WORKER_STOPPING;
}

static enum worker_state act_stop_late(struct worker *w)
{
	if (w->kills++ == 0) {
		w->hands->kill(w, SIGKILL);
		set_timer(w, WORKER_KILL_MS);
	} else {
		w->hands->abandon(w); /* may have freed it */
	}
	return WORKER_STAY;
}

static enum worker_state act_kill_now(struct worker *w)
{
	w->hands->kill(w, SIGKILL);
	return WORKER_STAY;
}

static enum worker_state act_stopped(struct worker *w)
{
	uv_timer_stop(&w->timer);
	return WORKER_STOPPED;
}

/* --- the table --- */

typedef enum worker_state action_fn(struct worker *w);

static action_fn *const actions[WORKER_STATES][WORKER_EVENTS] = {
	[WORKER_STOPPED] = {[EV_START] = act_spawn},
	[WORKER_SPAWNING] = {[EV_HELLO] = act_ack,
		[EV_EXIT] = act_died,
		[EV_TIMER] = act_hello_late,
		[EV_GIVE_UP] = act_kill,
		[EV_DRAIN] = act_stop,
		[EV_STOP] = act_stop},
	[WORKER_LOADING] = {[EV_READY] = act_ready,
		[EV_EXIT] = act_died,
		[EV_TIMER] = act_boot_late,
		[EV_SILENT] = act_abort,
		[EV_GIVE_UP] = act_kill,
		[EV_DRAIN] = act_drain,
		[EV_STOP] = act_stop},
	[WORKER_READY] = {[EV_READY] = act_ready,
		[EV_NOT_READY] = act_unready,
		[EV_EXIT] = act_died,
		[EV_SILENT] = act_abort,
		[EV_GIVE_UP] = act_kill,
		[EV_DRAIN] = act_drain,
		[EV_STOP] = act_stop},
	[WORKER_DRAINING] = {[EV_EXIT] = act_stopped,
		[EV_TIMER] = act_stop,
		[EV_SILENT] = act_abort,
		[EV_GIVE_UP] = act_kill,
		[EV_STOP] = act_stop},
	[WORKER_STOPPING] =
		{[EV_EXIT] = act_stopped, [EV_TIMER] = act_stop_late, [EV_GIVE_UP] = act_kill_now},
	[WORKER_DYING] = {[EV_EXIT] = act_died, [EV_TIMER] = act_kill_late, [EV_STOP] = act_stop},
	[WORKER_BACKOFF] = {[EV_TIMER] = act_spawn,
		[EV_START] = act_spawn,
		[EV_DRAIN] = act_stopped,
		[EV_STOP] = act_stopped},
	[WORKER_FAILED] =
		{[EV_START] = act_spawn, [EV_DRAIN] = act_stopped, [EV_STOP] = act_stopped},
};

/* What is due whenever a state is entered, also from itself. */
static void entered(struct worker *w)
{
	switch (w->state) {
	case WORKER_READY:
		w->on->ready(w);
		break;
	case WORKER_LOADING:
	case WORKER_DRAINING:
		w->on->unready(w);
		break;
	case WORKER_FAILED:
		w->on->failed(w);
		break;
	default:
		break;
	}
}

void worker_event(struct worker *w, enum worker_event e)
{
	action_fn *act = actions[w->state][e];
	enum worker_state from = w->state, to = act ? act(w) : WORKER_STAY;
	if (to == WORKER_STAY)
		return;
	if (to != from) {
		log_line(LOG_INFO, "worker_state", LOG_STR("device", w->device->conf->name),
			LOG_INT("generation", w->generation),
			LOG_STR("from", worker_state_name(from)),
			LOG_STR("to", worker_state_name(to)), LOG_INT("worker_pid", w->pid),
			LOG_STR("detail", w->backend.detail), LOG_END);
		w->state = to;
		w->on->state(w);
	}
	entered(w);
}

/* --- life --- */

struct worker *worker_create(struct device *d)
{
	struct worker *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->device = d;
	w->on = d->all->worker_events;
	w->hands = d->all->worker_hands;
	w->state = WORKER_STOPPED;
	uv_timer_init(d->all->loop, &w->timer);
	uv_timer_init(d->all->loop, &w->ping);
	w->timer.data = w->ping.data = w;
	w->handles = 2;
	TAILQ_INSERT_HEAD(&d->workers, w, link);
	return w;
}

static void on_handle_closed(uv_handle_t *h)
{
	struct worker *w = h->data;
	if (--w->handles == 0)
		free(w);
}

void worker_destroy(struct worker *w)
{
	TAILQ_REMOVE(&w->device->workers, w, link);
	uv_close((uv_handle_t *)&w->timer, on_handle_closed);
	uv_close((uv_handle_t *)&w->ping, on_handle_closed);
}

void worker_start(struct worker *w)
{
	worker_event(w, EV_START);
}

void worker_stop(struct worker *w)
{
	worker_event(w, EV_STOP);
}

void worker_drain(struct worker *w, bool keep_backend)
{
	w->keep_backend = keep_backend;
	worker_event(w, EV_DRAIN);
}
