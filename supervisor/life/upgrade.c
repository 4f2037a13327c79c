/*
 * The old side of an upgrade: one table, states x events -> action. A cell left empty ignores the
 * event.
 *
 *   IDLE --asked--> CHECKING --good--> BOOTING --ready--> TAKING --taken--> HANDED (we retire)
 *   ^ ^                |                  |                 |                 |   '--time-->
 * SETTLED | |              bad, TERM    failed, silent, exit, deadline, TERM        | |
 * '-----exit--- UNDOING <-------------'-----------------'                 |
 *   '---------------------------------------------died------------------------'
 */
#include "supervisor/life/upgrade.h"

#include "common/base/log.h"
#include "supervisor/life/life.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECK_MS 10000 /* reading a file */
#define TAKE_MS 5000   /* from "take" to "taken": one turn of its loop */
#define UNDO_MS 5000   /* TERM to KILL */
#define HANG_UP_MS 1000
#define ARGS_MAX 64

enum upgrade_event {
	ON_GOOD,
	ON_BAD,
	ON_READY,
	ON_TAKEN,
	ON_FAILED, /* it says so, or says no more */
	ON_EXIT,
	ON_TIMER,
	ON_STOP,
	UPGRADE_EVENTS
};

static void upgrade_event(struct life *l, enum upgrade_event e);

static void on_timer(uv_timer_t *t)
{
	upgrade_event(t->data, ON_TIMER);
}

static void enter(struct life *l, enum upgrade_state state)
{
	static const char *const names[UPGRADE_STATES] = {
		"idle", "checking", "booting", "taking", "handed", "settled", "undoing"};
	log_line(LOG_INFO, "upgrade_state", LOG_STR("from", names[l->upgrade.state]),
		LOG_STR("to", names[state]),
		LOG_INT("new_pid", l->upgrade.process ? l->upgrade.process->pid : 0),
		LOG_STR("why", l->upgrade.why), LOG_END);
	l->upgrade.state = state;
}

/* --- processes --- */

static void on_closed(uv_handle_t *h)
{
	free(h);
}

static void on_process_exit(uv_process_t *p, int64_t status, int signal)
{
	struct life *l = p->data;
	struct upgrade *u = &l->upgrade;
	u->exit_status = (int)status;
	u->exit_signal = signal;
	u->ended_pid = p->pid;
	u->process = NULL;
	uv_close((uv_handle_t *)p, on_closed);
	if (!u->words)
		upgrade_event(l, ON_EXIT);
}

static void kill_process(struct life *l, int signal)
{
	if (l->upgrade.process)
		uv_process_kill(l->upgrade.process, signal);
}

/* argv: the program, then flag if there is one, then our own arguments. */
static int start(
	struct life *l, const char *flag, uv_stdio_container_t *stdio, size_t n, char **environment)
{
	char *args[ARGS_MAX];
	int count = 0;
	args[count++] = l->program;
	if (flag)
		args[count++] = (char *)flag;
	for (char **arg = l->argv + 1; *arg; arg++) {
		if (count == ARGS_MAX - 1)
			return -E2BIG;
		args[count++] = *arg;
	}
	args[count] = NULL;
	uv_process_options_t o = {.exit_cb = on_process_exit,
		.file = args[0],
		.args = args,
		.env = environment,
		.stdio = stdio,
		.stdio_count = (int)n};
	uv_process_t *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	int rc = uv_spawn(l->loop, p, &o);
	p->data = l;
	if (rc)
		uv_close((uv_handle_t *)p, on_closed);
	else
		l->upgrade.process = p;
	return rc;
}

/* --- the check --- */

static void on_words_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
	static char thrown_away[256];
	struct life *l = h->data;
	size_t n = strlen(l->upgrade.said), room = sizeof(l->upgrade.said) - 1 - n;
	(void)hint;
	*b = room ? uv_buf_init(l->upgrade.said + n, (unsigned)room)
		  : uv_buf_init(thrown_away, sizeof(thrown_away));
}

static void words_close(struct upgrade *u)
{
	if (u->words)
		uv_close((uv_handle_t *)u->words, on_closed);
	u->words = NULL;
}

static void on_words(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
	struct life *l = stream->data;
	struct upgrade *u = &l->upgrade;
	for (ssize_t i = 0; i < n; i++) /* one line, and a C string */
		if (b->base[i] == '\n' || b->base[i] == '\0')
			b->base[i] = ' ';
	if (n >= 0)
		return;
	words_close(u);
	if (!u->process)
		upgrade_event(l, ON_EXIT);
}

static int start_check(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	u->words = calloc(1, sizeof(*u->words));
	if (!u->words)
		return -ENOMEM;
	uv_pipe_init(l->loop, u->words, 0);
	u->words->data = l;
	uv_stdio_container_t stdio[3] = {
		{.flags = UV_IGNORE},
		{.flags = UV_IGNORE},
		{.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
			.data.stream = (uv_stream_t *)u->words},
	};
	int rc = start(l, "-t", stdio, 3, NULL);
	if (rc == 0)
		rc = uv_read_start((uv_stream_t *)u->words, on_words_alloc, on_words);
	if (rc)
		words_close(u);
	return rc;
}

/* --- the successor --- */

static void on_line(void *ctx, const char *line)
{
	struct life *l = ctx;
	struct upgrade *u = &l->upgrade;
	if (strcmp(line, "ready") == 0) {
		upgrade_event(l, ON_READY);
	} else if (strcmp(line, "elsewhere") == 0) {
		u->elsewhere = true;
	} else if (strcmp(line, "taken") == 0) {
		upgrade_event(l, ON_TAKEN);
	} else if (strncmp(line, "waiting ", 8) == 0) {
		snprintf(u->said, sizeof(u->said), "%s", line + 8);
	} else if (strncmp(line, "failed ", 7) == 0) {
		if (u->state == UPGRADE_BOOTING || u->state == UPGRADE_TAKING)
			snprintf(u->why, sizeof(u->why), "the new tandemd: %s", line + 7);
		upgrade_event(l, ON_FAILED);
	}
}

static void on_end(void *ctx)
{
	upgrade_event(ctx, ON_FAILED);
}

static void fill_handover(struct life *l, struct handover *h)
{
	struct upgrade *u = &l->upgrade;
	struct elder *e;
	h->listen_fd = front_listen_fd(l->front);
	h->lock_fd = l->rundir.lock_fd;
	h->given = l->service.given;
	h->operation = u->operation;
	TAILQ_FOREACH(e, &l->elders.list, link)
		if (h->old_count < HANDOVER_OLD_MAX) {
			h->old[h->old_count].pid = e->pid;
			h->old[h->old_count++].fd = e->fd;
		}
	memcpy(h->extra, u->extra, sizeof(u->extra));
	h->extra_count = u->extra_count;
	for (size_t i = 0; i < l->devices->count; i++)
		if ((l->devices->of[i]->conf->roles & ROLE_MAIN) &&
			l->devices->of[i]->state == WORKER_READY)
			snprintf(h->wait[h->wait_count++], CONFIG_NAME_BYTES, "%s",
				l->devices->of[i]->conf->name);
}

/* Our environment with what only the successor may see. The strings are borrowed. */
static char **make_environment(const struct buf *more)
{
	size_t n = 0;
	for (char **e = environ; *e; e++)
		n++;
	for (size_t i = 0; i < more->n; i++)
		n += more->p[i] == '\0';
	char **all = calloc(n + 1, sizeof(*all));
	if (!all)
		return NULL;
	n = 0;
	for (char **e = environ; *e; e++)
		all[n++] = *e;
	for (char *p = more->p; p < more->p + more->n; p += strlen(p) + 1)
		all[n++] = p;
	return all;
}

static int spawn_successor(struct life *l, struct handover *h)
{
	int fds[HANDOVER_FDS_MAX];
	uv_stdio_container_t stdio[HANDOVER_FDS_MAX] = {
		{.flags = UV_IGNORE},
		{.flags = UV_INHERIT_FD, .data.fd = 1},
		{.flags = UV_INHERIT_FD, .data.fd = 2},
	};
	struct buf more;
	buf_init(&more, 0);
	size_t n = handover_write(h, &more, fds);
	notify_environment(&l->notify, &more);
	for (size_t i = HANDOVER_FIRST_FD; i < n; i++) {
		stdio[i].flags = UV_INHERIT_FD;
		stdio[i].data.fd = fds[i];
	}
	char **environment = buf_error(&more) ? NULL : make_environment(&more);
	int rc = environment ? start(l, NULL, stdio, n, environment) : -ENOMEM;
	free(environment);
	buf_free(&more);
	return rc;
}

static int start_successor(struct life *l)
{
	static const struct talk_events events = {.line = on_line, .end = on_end};
	struct handover h = {0};
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	int self = pidfd_open(getpid(), 0), rc = self < 0 ? -errno : 0;
	if (rc == 0) {
		h.talk_fd = pair[1];
		h.old[0].pid = getpid();
		h.old[0].fd = self;
		h.old_count = 1;
		fill_handover(l, &h);
		rc = spawn_successor(l, &h);
		close(self);
	}
	close(pair[1]);
	if (rc == 0)
		return talk_open(l->loop, pair[0], &events, l, &l->upgrade.talk);
	close(pair[0]);
	return rc;
}

/* --- actions --- */

static void ended(struct life *l, bool ok)
{
	struct upgrade *u = &l->upgrade;
	log_line(ok ? LOG_INFO : LOG_ERROR, ok ? "upgrade_done" : "upgrade_failed",
		LOG_STR("why", u->why), LOG_END);
	operation_part_ended(&l->operations, u->operation, ok, u->why, now_ms());
}

/* The process is gone, the service is where it was. */
static void act_undone(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	uv_timer_stop(&u->timer);
	words_close(u);
	talk_close(u->talk);
	u->talk = NULL;
	if (!u->why[0] && u->exit_signal)
		snprintf(u->why, sizeof(u->why), "the new tandemd was ended by signal %d",
			u->exit_signal);
	else if (!u->why[0])
		snprintf(u->why, sizeof(u->why), "the new tandemd exited with status %d",
			u->exit_status);
	ended(l, false);
	enter(l, UPGRADE_IDLE);
	life_event(l, LIFE_LOOK);
}

/* TERM, and the next time KILL. */
static void act_push(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	kill_process(l, u->told ? SIGKILL : SIGTERM);
	u->told = true;
	uv_timer_start(&u->timer, on_timer, UNDO_MS, 0);
}

static void act_undo(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	if (u->talk)
		talk_say(u->talk, "stop");
	talk_close(u->talk);
	u->talk = NULL;
	enter(l, UPGRADE_UNDOING);
	if (!u->process) {
		act_undone(l);
		return;
	}
	/* One that hung up without a word is about to exit: its status is the best word there is.
	 */
	u->told = false;
	if (u->why[0])
		act_push(l);
	else
		uv_timer_start(&u->timer, on_timer, HANG_UP_MS, 0);
}

/* It may have taken the names of the run folder already. */
static void act_undo_taking(struct life *l)
{
	l->events->reopen(l->ctx);
	rundir_take(&l->rundir);
	act_undo(l);
}

static void act_undo_late(struct life *l)
{
	const char *waits = l->upgrade.said;
	snprintf(l->upgrade.why, sizeof(l->upgrade.why),
		"the new tandemd was not ready in time%s%.300s", waits[0] ? ": " : "", waits);
	act_undo(l);
}

static void act_undo_mute(struct life *l)
{
	snprintf(l->upgrade.why, sizeof(l->upgrade.why), "the new tandemd did not take over");
	act_undo_taking(l);
}

static void act_called_off(struct life *l)
{
	snprintf(l->upgrade.why, sizeof(l->upgrade.why), "tandemd was told to stop");
	act_undo(l);
}

static void act_called_off_taking(struct life *l)
{
	rundir_take(&l->rundir); /* at least the pid file is right again */
	act_called_off(l);
}

/* The check has ended and said all it had to say. */
static void act_checked(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	upgrade_event(l, u->exit_status == 0 && u->exit_signal == 0 ? ON_GOOD : ON_BAD);
}

static void act_refused(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	size_t n = strlen(u->said);
	while (n > 0 && u->said[n - 1] == ' ')
		u->said[--n] = '\0';
	if (n > 0)
		snprintf(u->why, sizeof(u->why), "%s", u->said);
	act_undone(l);
}

static void act_check_late(struct life *l)
{
	snprintf(l->upgrade.why, sizeof(l->upgrade.why),
		"the new tandemd did not check its configuration in time");
	words_close(&l->upgrade);
	kill_process(l, SIGKILL);
	enter(l, UPGRADE_UNDOING);
	if (!l->upgrade.process)
		act_undone(l);
}

static void act_boot(struct life *l)
{
	const struct config *c = l->config;
	l->upgrade.said[0] = '\0';
	int rc = start_successor(l);
	if (rc) {
		snprintf(l->upgrade.why, sizeof(l->upgrade.why), "%.300s: %s", l->program,
			uv_strerror(rc));
		act_undo(l);
		return;
	}
	enter(l, UPGRADE_BOOTING);
	uv_timer_start(&l->upgrade.timer, on_timer,
		(uint64_t)(c->deadlines.worker_boot_ms + c->deadlines.hello_ms), 0);
}

static void act_take(struct life *l)
{
	enter(l, UPGRADE_TAKING);
	talk_say(l->upgrade.talk, "take");
	uv_timer_start(&l->upgrade.timer, on_timer, TAKE_MS, 0);
}

/* Nothing is taken back any more. */
static void act_settled(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	uv_timer_stop(&u->timer);
	if (u->kept_fd >= 0)
		close(u->kept_fd);
	u->kept_fd = -1;
	rundir_unlock(&l->rundir);
	elders_fini(l); /* the successor has them */
	enter(l, UPGRADE_SETTLED);
}

/* Keeps what taking back needs: a socket that nobody accepts on is worse than none, so only where
 * the successor accepts on the same one. */
static void begin_grace(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	int64_t grace = l->config->deadlines.upgrade_grace_ms;
	if (grace > 0 && u->process && !u->elsewhere)
		u->kept_fd = fcntl(front_listen_fd(l->front), F_DUPFD_CLOEXEC, 0);
	if (u->kept_fd >= 0)
		uv_timer_start(&u->timer, on_timer, (uint64_t)grace, 0);
	else
		act_settled(l);
}

static void act_handed(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	uv_timer_stop(&u->timer);
	snprintf(u->why, sizeof(u->why), "pid %d took over", u->process ? u->process->pid : 0);
	enter(l, UPGRADE_HANDED);
	ended(l, true);
	notify_watchdog_stop(&l->notify);
	notify_say(&l->notify, "MAINPID=%d", u->process ? u->process->pid : 0);
	l->notify.quiet = true;
	talk_close(u->talk);
	u->talk = NULL;
	rundir_leave(&l->rundir);
	begin_grace(l);
	life_event(l, LIFE_HANDED);
}

static void act_lost(struct life *l)
{
	log_line(LOG_ERROR, "successor_ended", LOG_INT("status", l->upgrade.exit_status),
		LOG_INT("signal", l->upgrade.exit_signal), LOG_END);
}

/* It has died in the time of grace. Its clients are cut, the next ones are ours. */
static void take_back(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	struct buf err;
	buf_init(&err, 512);
	uv_timer_stop(&u->timer);
	int rc = doors_again(l, u->kept_fd, &err);
	u->kept_fd = -1; /* the front'l, or closed */
	if (rc) {
		log_line(LOG_ERROR, "not_taken_back", LOG_STR("why", buf_cstr(&err)), LOG_END);
		act_settled(l);
	} else {
		snprintf(u->why, sizeof(u->why), "the new tandemd died; pid %d serves again",
			(int)getpid());
		enter(l, UPGRADE_IDLE);
		life_event(l, LIFE_BACK);
		l->events->reopen(l->ctx);
		rundir_take(&l->rundir);
		rundir_bury(&l->rundir, u->ended_pid);
		adopt_take_over(l->devices);
		notify_resume(&l->notify);
		service_in_charge(l);
	}
	buf_free(&err);
}

/* One that was told to stop takes the whole service with it; one that had a successor of its own
 * leaves it to that. */
static void act_died(struct life *l)
{
	const struct upgrade *u = &l->upgrade;
	bool told = u->exit_status == 0 && u->exit_signal == 0;
	act_lost(l);
	if (told || rundir_pid(&l->rundir) != u->ended_pid)
		act_settled(l);
	else
		take_back(l);
}

typedef void action_fn(struct life *l);

static action_fn *const actions[UPGRADE_STATES][UPGRADE_EVENTS] = {
	[UPGRADE_CHECKING] = {[ON_EXIT] = act_checked,
		[ON_GOOD] = act_boot,
		[ON_BAD] = act_refused,
		[ON_TIMER] = act_check_late,
		[ON_STOP] = act_called_off},
	[UPGRADE_BOOTING] = {[ON_READY] = act_take,
		[ON_FAILED] = act_undo,
		[ON_EXIT] = act_undone,
		[ON_TIMER] = act_undo_late,
		[ON_STOP] = act_called_off},
	[UPGRADE_TAKING] = {[ON_TAKEN] = act_handed,
		[ON_FAILED] = act_undo_taking,
		[ON_EXIT] = act_undo_taking,
		[ON_TIMER] = act_undo_mute,
		[ON_STOP] = act_called_off_taking},
	[UPGRADE_HANDED] =
		{[ON_EXIT] = act_died, [ON_TIMER] = act_settled, [ON_STOP] = act_settled},
	[UPGRADE_SETTLED] = {[ON_EXIT] = act_lost},
	[UPGRADE_UNDOING] = {[ON_EXIT] = act_undone, [ON_TIMER] = act_push},
};

static void upgrade_event(struct life *l, enum upgrade_event e)
{
	action_fn *act = actions[l->upgrade.state][e];
	if (act)
		act(l);
}

/* --- asked from outside --- */

void upgrade_init(struct life *l)
{
	uv_timer_init(l->loop, &l->upgrade.timer);
	l->upgrade.timer.data = l;
	l->upgrade.kept_fd = -1;
}

void upgrade_fini(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	uv_close((uv_handle_t *)&u->timer, NULL);
	words_close(u);
	talk_close(u->talk);
	u->talk = NULL;
	if (u->kept_fd >= 0)
		close(u->kept_fd);
	if (u->process) /* the successor: it outlives us */
		uv_close((uv_handle_t *)u->process, on_closed);
	u->process = NULL;
}

void upgrade_offer(struct life *l, const char *name, int fd)
{
	struct upgrade *u = &l->upgrade;
	if (u->extra_count == HANDOVER_EXTRA_MAX)
		return;
	struct handover_extra *e = &u->extra[u->extra_count++];
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->fd = fd;
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
	upgrade_event(l, ON_STOP);
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
	int rc = start_check(l);
	if (rc) {
		buf_printf(err, "%s: %s", l->program, uv_strerror(rc));
		return 0;
	}
	u->operation = operation_begin(&l->operations, "upgrade", "all", 1, now_ms())->id;
	enter(l, UPGRADE_CHECKING);
	uv_timer_start(&u->timer, on_timer, CHECK_MS, 0);
	return u->operation;
}
