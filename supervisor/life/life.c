/*
 * tandemd's own life: one table, states x events -> action. A cell left empty ignores the event.
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
#include "supervisor/devices/restart.h"
#include "supervisor/life/control.h"
#include "supervisor/supervisor.h"

#include <signal.h>

#define RETIRE_LOOK_MS 250
/* A kept connection that was quiet for so long is closed by a retiring tandemd. Not sooner: its
 * client may be about to send the next request. */
#define RETIRE_IDLE_MS 5000

/* Workers and a successor end, or are killed, sooner; an older tandemd that hangs is not waited
 * for. */
#define END_MS 20000

enum life_event { LIFE_TERM, LIFE_HANDED, LIFE_BACK, LIFE_END, LIFE_TIMER, LIFE_LOOK, LIFE_EVENTS };

static void life_event(struct supervisor *s, enum life_event e);

static void on_timer(uv_timer_t *t)
{
	life_event(t->data, LIFE_TIMER);
}

/* --- actions --- */

static void act_end(struct supervisor *s)
{
	uv_timer_start(&s->life.timer, on_timer, END_MS, 0);
	s->stopping = true;
	s->life.state = LIFE_ENDING;
	life_event(s, LIFE_LOOK);
}

static void act_drain(struct supervisor *s)
{
	notify_say(&s->notify, "STOPPING=1\nSTATUS=stopping, %u requests under way", s->active);
	s->stopping = true;
	s->life.state = LIFE_DRAINING;
	doors_quiesce(s);
	upgrade_stop(s);
	successor_stop(s);
	elders_hurry(s);
	uv_timer_start(&s->life.timer, on_timer, (uint64_t)s->config.deadlines.drain_ms, 0);
	life_event(s, LIFE_LOOK);
}

static void act_hurry(struct supervisor *s)
{
	elders_hurry(s); /* twice told, they end at once, too */
	act_end(s);
}

static void act_retire(struct supervisor *s)
{
	s->life.state = LIFE_RETIRING;
	s->keep_backends = true;
	doors_quiesce(s);
	uv_timer_start(&s->life.timer, on_timer, RETIRE_LOOK_MS, RETIRE_LOOK_MS);
}

static void act_retire_look(struct supervisor *s)
{
	unsigned connections, exchanges;
	doors_close_idle(s, RETIRE_IDLE_MS);
	doors_counts(s, &connections, &exchanges);
	if (connections == 0 && s->active == 0 && upgrade_settled(s))
		act_end(s);
}

/* The successor has died before it was settled. */
static void act_resume(struct supervisor *s)
{
	uv_timer_stop(&s->life.timer);
	s->life.state = LIFE_RUNNING;
}

static void act_drain_look(struct supervisor *s)
{
	if (s->active == 0)
		act_end(s);
}

static void act_end_look(struct supervisor *s)
{
	bool all_gone = upgrade_gone(s);
	for (size_t i = 0; i < s->device_count; i++)
		all_gone = device_stop(s->devices[i]) && all_gone;
	for (size_t i = 0; i < s->removed_count; i++)
		all_gone = device_stop(s->removed[i]) && all_gone;
	if (all_gone && adopt_quiet(s) && s->elders.count == 0)
		uv_stop(s->loop);
}

static void act_end_late(struct supervisor *s)
{
	elders_fini(s);
	act_end_look(s);
}

typedef void action_fn(struct supervisor *s);

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

static void life_event(struct supervisor *s, enum life_event e)
{
	action_fn *act = actions[s->life.state][e];
	if (act)
		act(s);
}

void supervisor_check_stopped(struct supervisor *s)
{
	life_event(s, LIFE_LOOK);
}

/* --- what comes from outside --- */

static void refused(const char *what, struct buf *why)
{
	log_line(LOG_WARN, what, LOG_STR("why", buf_cstr(why)), LOG_END);
}

static void on_signal(uv_signal_t *h, int signum)
{
	struct supervisor *s = h->data;
	struct buf err;
	buf_init(&err, 512);
	log_line(LOG_INFO, "signal", LOG_INT("signal", signum), LOG_INT("active", s->active),
		LOG_INT("again", s->stopping), LOG_END);
	if (signum == SIGHUP) {
		if (control_reload(s, &err) == 0)
			refused("reload_refused", &err);
	} else if (signum == SIGUSR2) {
		if (control_upgrade(s, &err) == 0)
			refused("upgrade_refused", &err);
	} else {
		life_event(s, LIFE_TERM);
	}
	buf_free(&err);
}

void life_init(struct supervisor *s)
{
	uv_timer_init(s->loop, &s->life.timer);
	s->life.timer.data = s;
	for (size_t i = 0; i < LIFE_SIGNALS; i++) {
		uv_signal_init(s->loop, &s->life.signals[i]);
		s->life.signals[i].data = s;
	}
}

void life_hear(struct supervisor *s)
{
	static const int heard[LIFE_SIGNALS] = {SIGINT, SIGTERM, SIGHUP, SIGUSR2};
	for (size_t i = 0; i < LIFE_SIGNALS; i++)
		uv_signal_start(&s->life.signals[i], on_signal, heard[i]);
}

void life_fini(struct supervisor *s)
{
	uv_close((uv_handle_t *)&s->life.timer, NULL);
	for (size_t i = 0; i < LIFE_SIGNALS; i++)
		uv_close((uv_handle_t *)&s->life.signals[i], NULL);
}

void life_stop(struct supervisor *s)
{
	life_event(s, LIFE_TERM);
}

void life_end(struct supervisor *s)
{
	life_event(s, LIFE_END);
}

void life_resume(struct supervisor *s)
{
	life_event(s, LIFE_BACK);
}

void life_retire(struct supervisor *s)
{
	life_event(s, LIFE_HANDED);
}
