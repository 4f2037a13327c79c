/*
 * The old side of an upgrade: one table, states x events -> action. An action returns the next state, or STAY;
 * upgrade_event() alone sets it, logs it and does what is due on entering it. A cell left empty ignores the event.
 *
 *   IDLE --asked--> CHECKING --good--> BOOTING --ready--> TAKING --taken--> HANDED (we retire) --time--> SETTLED
 *    ^ ^               |                  |                 |                 |
 *    | |           bad, TERM    failed, silent, exit, deadline, TERM          |
 *    | '--exit-- UNDOING <----------------'-----------------'                 |
 *    '------------------------------------------------------died--------------'
 */
#include "supervisor/life/upgrade.h"

#include "common/base/log.h"
#include "supervisor/life/life.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHECK_MS 10000 /* reading a file */
#define TAKE_MS 5000   /* from "take" to "taken": one turn of its loop */
#define UNDO_MS 5000   /* TERM to KILL */
#define HANG_UP_MS 1000
#define STAY UPGRADE_STATES

static void on_timer(uv_timer_t *t)
{
	upgrade_event(t->data, UPGRADE_ON_TIMER);
}

static void set_timer(struct life *l, int64_t ms)
{
	uv_timer_start(&l->upgrade.timer, on_timer, (uint64_t)ms, 0);
}

/* For people: why it ended. */
#define BECAUSE(l, ...) snprintf((l)->upgrade.why, sizeof((l)->upgrade.why), __VA_ARGS__)

static void ended(struct life *l, bool ok)
{
	struct upgrade *u = &l->upgrade;
	log_line(ok ? LOG_INFO : LOG_ERROR, ok ? "upgrade_done" : "upgrade_failed",
		LOG_STR("why", u->why), LOG_END);
	operation_part_ended(&l->operations, u->operation, ok, u->why, now_ms());
}

/* The names in the run folder are ours again. */
static void take_names(struct life *l)
{
	l->events->reopen(l->ctx);
	rundir_take(&l->rundir);
}

/* --- actions: back to where it was --- */

static enum upgrade_state act_undo(struct life *l)
{
	l->upgrade.hands->say(l, "stop");
	l->upgrade.hands->hang_up(l);
	return UPGRADE_UNDOING;
}

/* The process is gone, the service is where it was. */
static enum upgrade_state act_undone(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	uv_timer_stop(&u->timer);
	u->hands->hang_up(l);
	if (!u->why[0] && u->exit_signal)
		BECAUSE(l, "the new tandemd was ended by signal %d", u->exit_signal);
	else if (!u->why[0])
		BECAUSE(l, "the new tandemd exited with status %d", u->exit_status);
	ended(l, false);
	return UPGRADE_IDLE;
}

/* TERM, and the next time KILL. */
static enum upgrade_state act_push(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	u->hands->kill(l, u->told ? SIGKILL : SIGTERM);
	u->told = true;
	set_timer(l, UNDO_MS);
	return STAY;
}

/* It may have taken the names of the run folder already. */
static enum upgrade_state act_undo_taking(struct life *l)
{
	take_names(l);
	return act_undo(l);
}

static enum upgrade_state act_undo_late(struct life *l)
{
	const char *waits = l->upgrade.said;
	BECAUSE(l, "the new tandemd was not ready in time%s%.300s", waits[0] ? ": " : "", waits);
	return act_undo(l);
}

static enum upgrade_state act_undo_mute(struct life *l)
{
	BECAUSE(l, "the new tandemd did not take over");
	return act_undo_taking(l);
}

static enum upgrade_state act_called_off(struct life *l)
{
	BECAUSE(l, "tandemd was told to stop");
	return act_undo(l);
}

static enum upgrade_state act_called_off_taking(struct life *l)
{
	rundir_take(&l->rundir); /* at least the pid file is right again */
	return act_called_off(l);
}

static enum upgrade_state act_check_late(struct life *l)
{
	BECAUSE(l, "the new tandemd did not check its configuration in time");
	l->upgrade.hands->kill(l, SIGKILL);
	return act_undo(l);
}

/* --- actions: forward --- */

static enum upgrade_state act_asked(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	u->operation = operation_begin(&l->operations, "upgrade", "all", 1, now_ms())->id;
	set_timer(l, CHECK_MS);
	return UPGRADE_CHECKING;
}

static enum upgrade_state act_refused(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	size_t n = strlen(u->said);
	while (n > 0 && u->said[n - 1] == ' ')
		u->said[--n] = '\0';
	if (n > 0)
		BECAUSE(l, "%s", u->said);
	return act_undone(l);
}

/* The check has ended and said all it had to say. */
static enum upgrade_state act_checked(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	const struct config *c = l->config;
	if (u->exit_status || u->exit_signal)
		return act_refused(l);
	u->said[0] = '\0';
	int rc = u->hands->boot(l);
	if (rc) {
		BECAUSE(l, "%.300s: %s", l->program, uv_strerror(rc));
		return act_undo(l);
	}
	set_timer(l, c->deadlines.worker_boot_ms + c->deadlines.hello_ms);
	return UPGRADE_BOOTING;
}

static enum upgrade_state act_take(struct life *l)
{
	l->upgrade.hands->say(l, "take");
	set_timer(l, TAKE_MS);
	return UPGRADE_TAKING;
}

static enum upgrade_state act_handed(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	uv_timer_stop(&u->timer);
	BECAUSE(l, "pid %d took over", u->pid);
	return UPGRADE_HANDED;
}

/* Nothing is taken back any more. */
static enum upgrade_state act_settled(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	uv_timer_stop(&u->timer);
	if (u->kept_fd >= 0)
		close(u->kept_fd);
	u->kept_fd = -1;
	doors_let_go(l);
	rundir_unlock(&l->rundir);
	elders_fini(l); /* the successor has them */
	return UPGRADE_SETTLED;
}

static enum upgrade_state act_lost(struct life *l)
{
	log_line(LOG_ERROR, "successor_ended", LOG_INT("status", l->upgrade.exit_status),
		LOG_INT("signal", l->upgrade.exit_signal), LOG_END);
	return STAY;
}

static enum upgrade_state not_taken_back(struct life *l, const char *why)
{
	log_line(LOG_ERROR, "not_taken_back", LOG_STR("why", why), LOG_END);
	return act_settled(l);
}

/* It has died in the time of grace. Its clients are cut, the next ones are ours. */
static enum upgrade_state take_back(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	struct buf err;
	buf_init(&err, 512);
	uv_timer_stop(&u->timer);
	int rc = u->hands->open_again(l, u->kept_fd, &err);
	u->kept_fd = -1; /* the front's, or closed */
	enum upgrade_state next = rc ? not_taken_back(l, buf_cstr(&err)) : UPGRADE_IDLE;
	buf_free(&err);
	if (rc)
		return next;
	snprintf(
		u->why, sizeof(u->why), "the new tandemd died; pid %d serves again", (int)getpid());
	life_event(l, LIFE_BACK);
	take_names(l);
	rundir_bury(&l->rundir, u->ended_pid);
	warm_take_over(l->devices);
	notify_resume(&l->notify);
	u->hands->in_charge(l);
	return next;
}

/* One that was told to stop takes the whole service with it; one that had a successor of its own
 * leaves it to that. */
static enum upgrade_state act_died(struct life *l)
{
	const struct upgrade *u = &l->upgrade;
	bool told = u->exit_status == 0 && u->exit_signal == 0;
	act_lost(l);
	return told || rundir_pid(&l->rundir) != u->ended_pid ? act_settled(l) : take_back(l);
}

/* --- the table --- */

typedef enum upgrade_state action_fn(struct life *l);

static action_fn *const actions[UPGRADE_STATES][UPGRADE_EVENTS] = {
	[UPGRADE_IDLE] = {[UPGRADE_ON_ASKED] = act_asked},
	[UPGRADE_CHECKING] = {[UPGRADE_ON_EXIT] = act_checked,
		[UPGRADE_ON_TIMER] = act_check_late,
		[UPGRADE_ON_STOP] = act_called_off},
	[UPGRADE_BOOTING] = {[UPGRADE_ON_READY] = act_take,
		[UPGRADE_ON_FAILED] = act_undo,
		[UPGRADE_ON_EXIT] = act_undone,
		[UPGRADE_ON_TIMER] = act_undo_late,
		[UPGRADE_ON_STOP] = act_called_off},
	[UPGRADE_TAKING] = {[UPGRADE_ON_TAKEN] = act_handed,
		[UPGRADE_ON_FAILED] = act_undo_taking,
		[UPGRADE_ON_EXIT] = act_undo_taking,
		[UPGRADE_ON_TIMER] = act_undo_mute,
		[UPGRADE_ON_STOP] = act_called_off_taking},
	[UPGRADE_HANDED] = {[UPGRADE_ON_EXIT] = act_died,
		[UPGRADE_ON_TIMER] = act_settled,
		[UPGRADE_ON_STOP] = act_settled},
	[UPGRADE_SETTLED] = {[UPGRADE_ON_EXIT] = act_lost},
	[UPGRADE_UNDOING] = {[UPGRADE_ON_EXIT] = act_undone, [UPGRADE_ON_TIMER] = act_push},
};

static void enter_idle(struct life *l)
{
	life_event(l, LIFE_LOOK);
}

/* One that hung up without a word is about to exit: its status is the best word there is. */
static void enter_undoing(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	u->told = false;
	if (!u->pid)
		upgrade_event(l, UPGRADE_ON_EXIT);
	else if (u->why[0])
		act_push(l);
	else
		set_timer(l, HANG_UP_MS);
}

/* We keep what taking back needs: a socket that nobody accepts on is worse than none, so only where
 * the successor accepts on the same one. */
static void enter_handed(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	int64_t grace = l->config->deadlines.upgrade_grace_ms;
	ended(l, true);
	notify_watchdog_stop(&l->notify);
	notify_say(&l->notify, "MAINPID=%d", u->pid);
	l->notify.quiet = true;
	u->hands->hang_up(l);
	rundir_leave(&l->rundir);
	if (grace > 0 && u->pid && !u->elsewhere)
		u->kept_fd = u->hands->keep_socket(l);
	if (u->kept_fd >= 0)
		set_timer(l, grace);
	else
		upgrade_event(l, UPGRADE_ON_TIMER);
	life_event(l, LIFE_HANDED);
}

void upgrade_event(struct life *l, enum upgrade_event e)
{
	static const char *const names[UPGRADE_STATES] = {
		"idle", "checking", "booting", "taking", "handed", "settled", "undoing"};
	static void (*const entered[UPGRADE_STATES])(struct life * l) = {
		[UPGRADE_IDLE] = enter_idle,
		[UPGRADE_UNDOING] = enter_undoing,
		[UPGRADE_HANDED] = enter_handed};
	struct upgrade *u = &l->upgrade;
	action_fn *act = actions[u->state][e];
	enum upgrade_state to = act ? act(l) : STAY;
	if (to == STAY)
		return;
	log_line(LOG_INFO, "upgrade_state", LOG_STR("from", names[u->state]),
		LOG_STR("to", names[to]), LOG_INT("new_pid", u->pid), LOG_STR("why", u->why),
		LOG_END);
	u->state = to;
	if (entered[to])
		entered[to](l);
}

/* --- asked from outside --- */

void upgrade_init(struct life *l, const struct upgrade_hands *hands)
{
	uv_timer_init(l->loop, &l->upgrade.timer);
	l->upgrade.timer.data = l;
	l->upgrade.kept_fd = -1;
	l->upgrade.hands = hands;
}

void upgrade_fini(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	uv_close((uv_handle_t *)&u->timer, NULL);
	u->hands->hang_up(l);
	if (u->kept_fd >= 0)
		close(u->kept_fd);
	u->hands->let_go(l);
}

bool upgrade_under_way(const struct life *l)
{
	return l->upgrade.state != UPGRADE_IDLE;
}

bool upgrade_gone(const struct life *l)
{
	return l->upgrade.state == UPGRADE_IDLE || l->upgrade.state == UPGRADE_HANDED ||
	       l->upgrade.state == UPGRADE_SETTLED;
}

bool upgrade_settled(const struct life *l)
{
	return l->upgrade.state != UPGRADE_HANDED;
}

void upgrade_stop(struct life *l)
{
	upgrade_event(l, UPGRADE_ON_STOP);
}

uint64_t upgrade_begin(struct life *l, struct buf *err)
{
	struct upgrade *u = &l->upgrade;
	if (l->state != LIFE_RUNNING || !l->front) {
		buf_add_str(err, "this tandemd is not in charge: it stops, or is not yet up");
		return 0;
	}
	if (upgrade_under_way(l)) {
		buf_add_str(err, "an upgrade is under way");
		return 0;
	}
	if (l->reloading) {
		buf_add_str(err, "a reload is under way");
		return 0;
	}
	if (l->elders.count >= (unsigned)l->config->limits.old_processes) {
		buf_printf(err,
			"%u older tandemds still finish their streams (limits.old_processes)",
			l->elders.count);
		return 0;
	}
	u->why[0] = '\0';
	memset(u->said, 0, sizeof(u->said)); /* on_words() writes no end */
	u->elsewhere = false;
	int rc = u->hands->check(l);
	if (rc) {
		buf_printf(err, "%s: %s", l->program, uv_strerror(rc));
		return 0;
	}
	upgrade_event(l, UPGRADE_ON_ASKED);
	return u->operation;
}
