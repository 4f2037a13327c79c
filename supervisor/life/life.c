/*
 * tandemd's own life: one table, states x events -> action. An action returns the next state, or STAY; step() alone
 * sets it, logs it and does what is due on entering it. A cell left empty ignores the event.
 *
 *   RUNNING --handed over--> RETIRING --no connection left--> ENDING --all gone--> (exit)
 *      | ^-----taken back-------'                                 |
 *      '--TERM--> DRAINING <--TERM--'                            ^
 *                    '--no request left, drain_ms, TERM again----'
 *
 * Crossed with an upgrade (upgrade.c): TERM before the successor has taken over ends both; after
 * it, TERM to the old one only makes that one hurry, and TERM to the new one stops it and hurries
 * all older ones, since it stands for the service.
 */
#include "supervisor/life/life.h"

#include "common/base/log.h"
#include "supervisor/devices/succession.h"
#include "supervisor/life/control.h"

#include <signal.h>
#include <string.h>

#define RETIRE_LOOK_MS 250
/* A kept connection that was quiet for so long is closed by a retiring tandemd. Not sooner: its
 * client may be about to send the next request. */
#define RETIRE_IDLE_MS 5000

/* Workers and a successor end, or are killed, sooner; an older tandemd that hangs is not waited
 * for. */
#define END_MS 20000

static void on_timer(uv_timer_t *t)
{
	life_event(t->data, LIFE_TIMER);
}

/* --- actions --- */

#define STAY LIFE_STATES

static enum life_state act_drain(struct life *l)
{
	(void)l;
	return LIFE_DRAINING;
}

static enum life_state act_retire(struct life *l)
{
	(void)l;
	return LIFE_RETIRING;
}

/* The successor has died before it was settled. */
static enum life_state act_resume(struct life *l)
{
	(void)l;
	return LIFE_RUNNING;
}

static enum life_state act_end(struct life *l)
{
	(void)l;
	return LIFE_ENDING;
}

static enum life_state act_hurry(struct life *l)
{
	elders_hurry(l); /* twice told, they end at once, too */
	return LIFE_ENDING;
}

static enum life_state act_retire_look(struct life *l)
{
	unsigned connections, exchanges;
	doors_close_idle(l, RETIRE_IDLE_MS);
	doors_counts(l, &connections, &exchanges);
	bool over = connections == 0 && l->requests->active == 0 && upgrade_settled(l);
	return over ? LIFE_ENDING : STAY;
}

static enum life_state act_drain_look(struct life *l)
{
	return l->requests->active == 0 ? LIFE_ENDING : STAY;
}

static enum life_state act_end_look(struct life *l)
{
	bool all_gone = upgrade_gone(l);
	for (size_t i = 0; i < l->devices->count; i++)
		all_gone = device_stop(l->devices->of[i]) && all_gone;
	for (size_t i = 0; i < l->devices->removed_count; i++)
		all_gone = device_stop(l->devices->removed[i]) && all_gone;
	if (all_gone && orphans_quiet(l->devices) && l->elders.count == 0)
		uv_stop(l->loop);
	return STAY;
}

static enum life_state act_end_late(struct life *l)
{
	elders_fini(l);
	return act_end_look(l);
}

/* --- the table --- */

typedef enum life_state action_fn(struct life *l);

static action_fn *const actions[LIFE_STATES][LIFE_EVENTS] = {
	[LIFE_RUNNING] =
		{[LIFE_TERM] = act_drain, [LIFE_HANDED] = act_retire, [LIFE_END] = act_end},
	[LIFE_RETIRING] = {[LIFE_TERM] = act_drain,
		[LIFE_BACK] = act_resume,
		[LIFE_END] = act_end,
		[LIFE_TIMER] = act_retire_look},
	[LIFE_DRAINING] = {[LIFE_TERM] = act_hurry,
		[LIFE_END] = act_end,
		[LIFE_TIMER] = act_end,
		[LIFE_LOOK] = act_drain_look},
	[LIFE_ENDING] =
		{[LIFE_TERM] = act_hurry, [LIFE_TIMER] = act_end_late, [LIFE_LOOK] = act_end_look},
};

static void enter_running(struct life *l)
{
	uv_timer_stop(&l->timer);
}

static void enter_retiring(struct life *l)
{
	l->devices->keep_backends = true;
	doors_quiesce(l);
	l->events->leaving(l->ctx);
	uv_timer_start(&l->timer, on_timer, RETIRE_LOOK_MS, RETIRE_LOOK_MS);
}

static void enter_draining(struct life *l)
{
	notify_say(&l->notify, "STOPPING=1\nSTATUS=stopping, %u requests under way",
		l->requests->active);
	l->devices->stopping = true;
	uv_timer_start(&l->timer, on_timer, (uint64_t)l->config->deadlines.drain_ms, 0);
	doors_quiesce(l);
	upgrade_stop(l);
	successor_stop(l);
	elders_hurry(l);
	l->events->leaving(l->ctx);
	life_event(l, LIFE_LOOK);
}

static void enter_ending(struct life *l)
{
	uv_timer_start(&l->timer, on_timer, END_MS, 0);
	l->devices->stopping = l->requests->ending = true;
	life_event(l, LIFE_LOOK);
}

static void step(struct life *l, enum life_event e)
{
	static const char *const names[LIFE_STATES] = {"running", "retiring", "draining", "ending"};
	static void (*const entered[LIFE_STATES])(struct life * l) = {
		enter_running, enter_retiring, enter_draining, enter_ending};
	action_fn *act = actions[l->state][e];
	enum life_state to = act ? act(l) : STAY;
	if (to == STAY)
		return;
	log_line(LOG_DEBUG, "life", LOG_STR("from", names[l->state]), LOG_STR("to", names[to]),
		LOG_END);
	l->state = to;
	entered[to](l);
}

/* --- what comes from outside --- */

static void refused(const char *what, struct buf *why)
{
	log_line(LOG_WARN, what, LOG_STR("why", buf_cstr(why)), LOG_END);
}

static void on_signal(uv_signal_t *h, int signum)
{
	struct life *l = h->data;
	struct buf err;
	buf_init(&err, 512);
	log_line(LOG_INFO, "signal", LOG_INT("signal", signum),
		LOG_INT("active", l->requests->active), LOG_INT("again", life_stopping(l)),
		LOG_END);
	if (signum == SIGHUP) {
		if (control_reload(l, &err) == 0)
			refused("reload_refused", &err);
	} else if (signum == SIGUSR2) {
		if (control_upgrade(l, &err) == 0)
			refused("upgrade_refused", &err);
	} else {
		life_event(l, LIFE_TERM);
	}
	buf_free(&err);
}

void life_devices_changed(struct life *l)
{
	successor_look(l);
	service_look(l);
}

void life_init(struct life *l, uv_loop_t *loop, const struct life_events *events, void *ctx)
{
	l->loop = loop;
	l->events = events;
	l->ctx = ctx;
	l->step = step;
	TAILQ_INIT(&l->elders.list);
	l->rundir.lock_fd = -1;
	l->metrics_fd = -1;
	l->notify.quiet = l->successor.waiting;
	notify_init(&l->notify, loop);
	uv_timer_init(l->loop, &l->timer);
	l->timer.data = l;
	for (size_t i = 0; i < LIFE_SIGNALS; i++) {
		uv_signal_init(l->loop, &l->signals[i]);
		l->signals[i].data = l;
	}
	service_init(l);
	upgrade_init(l, &upgrade_hands);
	rundir_watch_init(l);
}

static void hear_signals(struct life *l)
{
	static const int heard[LIFE_SIGNALS] = {SIGINT, SIGTERM, SIGHUP, SIGUSR2};
	for (size_t i = 0; i < LIFE_SIGNALS; i++)
		uv_signal_start(&l->signals[i], on_signal, heard[i]);
}

int life_begin(struct life *l, struct buf *err)
{
	hear_signals(l);
	if (!l->successor.waiting) {
		service_in_charge(l);
		return 0;
	}
	l->service.given = l->successor.handover.given;
	l->service.stored = true; /* by the predecessor */
	int rc = successor_start(l);
	if (rc) {
		buf_printf(err, "cannot speak to the old tandemd: %s", strerror(-rc));
		life_event(l, LIFE_END);
	} else {
		successor_look(l);
	}
	return rc;
}

void life_fini(struct life *l)
{
	successor_fini(l);
	upgrade_fini(l);
	rundir_watch_fini(l);
	elders_fini(l);
	service_fini(l);
	uv_close((uv_handle_t *)&l->timer, NULL);
	for (size_t i = 0; i < LIFE_SIGNALS; i++)
		uv_close((uv_handle_t *)&l->signals[i], NULL);
	notify_fini(&l->notify);
}
