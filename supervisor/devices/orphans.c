#include "supervisor/devices/orphans.h"

#include "common/base/log.h"
#include "common/base/proc.h"
#include "supervisor/devices/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define REAP_AGAIN_MS 10

/* A backend that has been told to end, or whose guard sees to that. */
struct orphans_ending {
	TAILQ_ENTRY(orphans_ending) link;
	char device[CONFIG_NAME_BYTES];
	int64_t pid;
	uint64_t start;
	uint64_t deadline_ms; /* of TERM, then of KILL */
	bool killed;
};

/* --- endings --- */

static void signal_backend(const struct orphans_ending *e, int number)
{
	if (!proc_alive(e->pid, e->start))
		return;
	kill(-(pid_t)e->pid, number); /* it leads its group */
}

static void ending_over(struct devices *s, struct orphans_ending *e, bool gone)
{
	log_line(gone ? LOG_INFO : LOG_ERROR, gone ? "backend_gone" : "backend_unkillable",
		LOG_STR("device", e->device), LOG_INT("backend_pid", e->pid), LOG_END);
	statefile_remove(s, e->device, e->pid);
	TAILQ_REMOVE(&s->orphans.endings, e, link);
	free(e);
}

static void on_look(uv_timer_t *t)
{
	struct devices *s = t->data;
	struct orphans_ending *e, *after;
	for (e = TAILQ_FIRST(&s->orphans.endings); e; e = after) {
		after = TAILQ_NEXT(e, link);
		if (!proc_alive(e->pid, e->start)) {
			ending_over(s, e, true);
		} else if (now_ms() >= e->deadline_ms && !e->killed) {
			log_line(LOG_WARN, "backend_kill", LOG_STR("device", e->device),
				LOG_INT("backend_pid", e->pid), LOG_END);
			e->killed = true;
			e->deadline_ms = now_ms() + ORPHANS_GONE_MS;
			signal_backend(e, SIGKILL);
		} else if (now_ms() >= e->deadline_ms) {
			ending_over(s, e, false);
		}
	}
	if (!TAILQ_EMPTY(&s->orphans.endings))
		return;
	uv_timer_stop(t);
	s->events->idle(s->ctx);
}

static bool ending(const struct devices *s, int64_t pid)
{
	const struct orphans_ending *e;
	TAILQ_FOREACH(e, &s->orphans.endings, link)
		if (e->pid == pid)
			return true;
	return false;
}

void orphans_end(struct devices *s, const char *device, int64_t pid, uint64_t start)
{
	struct orphans_ending *e = ending(s, pid) ? NULL : calloc(1, sizeof(*e));
	if (!e) /* of memory out: the lifeline still has it */
		return;
	snprintf(e->device, sizeof(e->device), "%s", device);
	e->pid = pid;
	e->start = start;
	e->deadline_ms = now_ms() + ORPHANS_KILL_MS;
	TAILQ_INSERT_TAIL(&s->orphans.endings, e, link);
	log_line(LOG_INFO, "backend_end", LOG_STR("device", device), LOG_INT("backend_pid", pid),
		LOG_END);
	signal_backend(e, SIGTERM);
	if (!uv_is_active((uv_handle_t *)&s->orphans.look))
		uv_timer_start(&s->orphans.look, on_look, ORPHANS_LOOK_MS, ORPHANS_LOOK_MS);
}

bool orphans_quiet(const struct devices *s)
{
	return TAILQ_EMPTY(&s->orphans.endings);
}

bool orphans_ending(const struct devices *s, const char *device)
{
	const struct orphans_ending *e;
	TAILQ_FOREACH(e, &s->orphans.endings, link)
		if (strcmp(e->device, device) == 0)
			return true;
	return false;
}

/* --- reaping --- */

struct search {
	int pid;
	bool found;
};

static void look_for(uv_handle_t *h, void *arg)
{
	struct search *x = arg;
	if (h->type == UV_PROCESS && uv_is_active(h) &&
		uv_process_get_pid((uv_process_t *)h) == x->pid)
		x->found = true;
}

static void on_reap(uv_timer_t *t)
{
	struct devices *s = t->data;
	for (;;) {
		siginfo_t info = {0};
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid == 0)
			return;
		struct search x = {.pid = info.si_pid};
		uv_walk(s->loop, look_for, &x);
		if (x.found) { /* libuv's, which is about to reap it */
			uv_timer_start(t, on_reap, REAP_AGAIN_MS, 0);
			return;
		}
		int status = 0;
		waitpid(info.si_pid, &status, WNOHANG);
		log_line(LOG_DEBUG, "orphan_reaped", LOG_INT("orphan_pid", info.si_pid),
			LOG_INT("status", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
			LOG_INT("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0), LOG_END);
	}
}

/* From the next turn: libuv comes first. */
static void on_child(uv_signal_t *h, int number)
{
	struct devices *s = h->data;
	(void)number;
	if (!uv_is_active((uv_handle_t *)&s->orphans.reap))
		uv_timer_start(&s->orphans.reap, on_reap, 0, 0);
}

/* --- life --- */

static int lifeline_open(struct orphans *a, int write_fd, int read_fd)
{
	int fds[2] = {read_fd, write_fd};
	a->inherited = write_fd >= 0 && read_fd >= 0;
	if (!a->inherited && pipe2(fds, O_CLOEXEC))
		return -errno;
	a->read_fd = fds[0];
	a->write_fd = fds[1];
	fcntl(a->read_fd, F_SETFD, FD_CLOEXEC);
	fcntl(a->write_fd, F_SETFD, FD_CLOEXEC);
	return 0;
}

int orphans_start(struct devices *s, int write_fd, int read_fd)
{
	struct orphans *a = &s->orphans;
	TAILQ_INIT(&a->endings);
	uv_signal_init(s->loop, &a->child);
	uv_timer_init(s->loop, &a->reap);
	uv_timer_init(s->loop, &a->look);
	a->child.data = a->reap.data = a->look.data = s;
	a->read_fd = a->write_fd = -1;
	int rc = lifeline_open(a, write_fd, read_fd);
	if (rc)
		return rc;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	uv_signal_start(&a->child, on_child, SIGCHLD);
	return 0;
}

void orphans_stop(struct devices *s)
{
	struct orphans *a = &s->orphans;
	struct orphans_ending *e;
	if (!a->look.data)
		return; /* never started */
	while ((e = TAILQ_FIRST(&a->endings))) {
		TAILQ_REMOVE(&a->endings, e, link);
		free(e);
	}
	uv_close((uv_handle_t *)&a->child, NULL);
	uv_close((uv_handle_t *)&a->reap, NULL);
	uv_close((uv_handle_t *)&a->look, NULL);
	if (a->read_fd >= 0)
		close(a->read_fd);
	if (a->write_fd >= 0)
		close(a->write_fd);
	a->read_fd = a->write_fd = -1;
}
