/* A worker's process: how it is started, and what its exit leaves to be cleared away. */
#include "supervisor/devices/worker.h"

#include "common/base/log.h"
#include "supervisor/devices/devices.h"
#include "supervisor/devices/spawn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void link_url(const struct worker *w, char *out, size_t n, bool with_scheme)
{
	/* Our pid: during an upgrade two tandemds have sockets in the folder. */
	snprintf(out, n, "%s%s/w%x-%u-%llu.ipc", with_scheme ? "ipc://" : "",
		w->device->all->run_dir, (unsigned)getpid(), w->device->number,
		(unsigned long long)w->generation);
}

static void on_process_closed(uv_handle_t *h)
{
	free(h);
}

static void close_link(struct worker *w)
{
	char path[512];
	link_url(w, path, sizeof(path), false);
	channel_close(w->channel);
	w->channel = NULL;
	unlink(path);
}

/* What is left of it when its process is gone, or given up. */
static void clear_away(struct worker *w)
{
	/* What it said before it died still counts: an answer's END may be in the socket. The state
	 * changes first, so that the slot this frees gives no job to a dead worker. */
	worker_event(w, EV_EXIT);
	channel_drain(w->channel);
	close_link(w);
	uv_timer_stop(&w->ping);
	w->process = NULL;
	w->pid = 0;
	w->on->gone(w);
}

static void abandon(struct worker *w)
{
	uv_process_t *p = w->process;
	log_line(LOG_ERROR, "worker_unkillable", LOG_STR("device", w->device->conf->name),
		LOG_INT("worker_pid", w->pid), LOG_END);
	p->data = NULL; /* its exit may still be seen */
	uv_unref((uv_handle_t *)p);
	w->asked_to_end = true;
	clear_away(w);
}

static void kill_process(struct worker *w, int signum)
{
	if (w->process)
		uv_process_kill(w->process, signum);
}

static void on_process_exit(uv_process_t *p, int64_t status, int signal)
{
	struct worker *w = p->data;
	uv_close((uv_handle_t *)p, on_process_closed);
	if (!w)
		return; /* abandoned */
	struct device *d = w->device;
	if (signal)
		snprintf(d->last_exit, sizeof(d->last_exit), "signal %d", signal);
	else
		snprintf(d->last_exit, sizeof(d->last_exit), "exit %lld", (long long)status);
	w->asked_to_end = w->state == WORKER_STOPPING || w->state == WORKER_DRAINING;
	log_line(w->asked_to_end ? LOG_INFO : LOG_WARN, "worker_exit",
		LOG_STR("device", d->conf->name), LOG_INT("generation", w->generation),
		LOG_INT("worker_pid", w->pid), LOG_STR("exit", d->last_exit),
		LOG_STR("detail", w->backend.detail), LOG_END);
	clear_away(w);
}

static int spawn(struct worker *w)
{
	struct device *d = w->device;
	struct devices *s = d->all;
	char url[512], generation[24];
	s->events->run_dir_used(s->ctx); /* its socket is made there */
	w->generation = ++d->generation;
	report_begin(&w->report, now_ms());
	link_url(w, url, sizeof(url), true);
	snprintf(generation, sizeof(generation), "%llu", (unsigned long long)w->generation);
	const char *args[] = {s->worker_path, "--link", url, "--generation", generation, "--device",
		d->conf->name, "--lifeline", SPAWN_LIFELINE_ARG, NULL};
	struct channel_options o = {
		.generation = w->generation, .queue_bytes = (size_t)s->config->limits.link_bytes};
	int rc = channel_listen(s->loop, url, &o, &worker_link_events, w, &w->channel);
	if (rc)
		return rc;
	w->process = calloc(1, sizeof(*w->process));
	rc = w->process
		     ? spawn_worker(s->loop, w->process, args, s->orphans.read_fd, on_process_exit)
		     : -ENOMEM;
	if (rc == 0) {
		w->process->data = w;
		w->pid = w->process->pid;
		return 0;
	}
	if (w->process) /* libuv wants even a handle whose spawn failed to be closed */
		uv_close((uv_handle_t *)w->process, on_process_closed);
	w->process = NULL;
	close_link(w);
	return rc;
}

const struct worker_hands worker_hands = {.spawn = spawn,
	.kill = kill_process,
	.abandon = abandon,
	.ack = worker_send_ack,
	.drain = worker_send_drain,
	.watch = worker_ping_start};
