#include "workers/backend/launcher_private.h"

#include "common/base/log.h"
#include "workers/backend/backend.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#define LAUNCHER_TAIL_BYTES 2000

static void launcher_ended(struct launcher *l);

/* --- what it prints --- */

static bool line_has(struct slice line, const char *const *phrases)
{
	for (; *phrases; phrases++)
		if (memmem(line.p, line.n, *phrases, strlen(*phrases)))
			return true;
	return false;
}

void launcher_on_line(void *ctx, struct slice line)
{
	/* llama.cpp's httplib, Go's net, and the C library */
	static const char *const bind_phrases[] = {
		"couldn't bind", "address already in use", "Address already in use", NULL};
	/* llama.cpp's arg and backend loaders, ggml-vulkan, ggml-cuda, Ollama's discovery */
	static const char *const no_gpu_phrases[] = {"no usable GPU found", "No devices found",
		"no CUDA-capable device", "failed to initialize CUDA",
		"no compatible GPUs were discovered", NULL};
	struct launcher *l = ctx;
	log_line(LOG_DEBUG, "backend_log", LOG_INT("backend_pid", l->pid), LOG_SLICE("line", line),
		LOG_END);
	if (line_has(line, bind_phrases))
		l->said |= SAID_PORT_TAKEN;
	serving_line(&l->serving, line);
	if (l->settings->pin && !(l->said & SAID_NO_GPU) && line_has(line, no_gpu_phrases)) {
		l->said |= SAID_NO_GPU;
		log_line(LOG_WARN, "backend_without_gpu", LOG_STR("pin", l->settings->pin),
			LOG_SLICE("line", line), LOG_END);
	}
}

static void on_look(uv_timer_t *timer)
{
	struct launcher *l = timer->data;
	outlog_look(&l->log);
}

void launcher_look_every(struct launcher *l, uint64_t ms)
{
	if (!l->look_open) {
		uv_timer_init(l->loop, &l->look_timer);
		l->look_timer.data = l;
		l->look_open = true;
		l->handles++;
	}
	uv_timer_start(&l->look_timer, on_look, ms, ms);
}

void launcher_settled(struct launcher *l)
{
	if (!l->look_open || l->run != RUN_ALIVE)
		return;
	outlog_look(&l->log); /* what it said about its GPU counts now */
	launcher_look_every(l, OUTLOG_CALM_MS);
}

/* --- how it ends --- */

void launcher_on_handle_closed(uv_handle_t *handle)
{
	struct launcher *l = handle->data;
	if (handle == (uv_handle_t *)&l->end) {
		close(l->pidfd);
		l->pidfd = -1;
	}
	if (--l->handles == 0) {
		if (l->destroyed)
			free(l);
		else if (l->run == RUN_ENDED || (l->run == RUN_NONE && l->wish == WISH_STOP))
			launcher_ended(l);
	}
}

static void close_timer(uv_timer_t *timer, bool *open)
{
	if (!*open)
		return;
	*open = false;
	uv_close((uv_handle_t *)timer, launcher_on_handle_closed);
}

static void process_gone(struct launcher *l)
{
	l->run = RUN_ENDED;
	close_timer(&l->kill_timer, &l->timer_open);
	close_timer(&l->look_timer, &l->look_open);
	/* its last lines are in the file already: take them before looking at why it ended */
	outlog_end(&l->log);
}

void launcher_on_exit(uv_process_t *process, int64_t status, int term_signal)
{
	struct launcher *l = process->data;
	l->exit_status = status;
	l->exit_signal = term_signal;
	kill(-l->pid, SIGKILL); /* what it has started goes with it; its guard sees to that, too */
	uv_close((uv_handle_t *)&l->process, launcher_on_handle_closed);
	process_gone(l);
}

void launcher_on_adopted_end(uv_poll_t *end, int status, int events)
{
	struct launcher *l = end->data;
	(void)status, (void)events;
	uv_close((uv_handle_t *)&l->end, launcher_on_handle_closed);
	process_gone(l);
}

static void end_words(const struct launcher *l, struct buf *why)
{
	const char *name = l->settings->command[0];
	if (l->adopted)
		buf_printf(why, "%s (pid %d, adopted) has ended", name, (int)l->pid);
	else if (l->exit_signal)
		buf_printf(why, "%s was killed by signal %d", name, l->exit_signal);
	else
		buf_printf(why, "%s exited with status %d", name, (int)l->exit_status);
}

/* Every handle of the last run is closed. */
static void launcher_ended(struct launcher *l)
{
	struct buf why;
	buf_init(&why, 0);
	l->run = RUN_NONE;
	if (l->wish == WISH_STOP) {
		l->stopped(l->ctx);
		return;
	}
	bool again = l->wish == WISH_REPLACE;
	if (!again && l->said & SAID_PORT_TAKEN && ++l->bind_tries < LAUNCHER_BIND_TRIES) {
		log_line(LOG_INFO, "backend_port_taken", LOG_INT("try", l->bind_tries), LOG_END);
		again = true;
	}
	if (again)
		l->wish = WISH_RUN;
	if (again && launcher_start(l, &why) == 0) {
		buf_free(&why);
		return;
	}
	if (!again)
		end_words(l, &why);
	launcher_tail(l, &why);
	l->events.exited(l->ctx, buf_slice(&why));
	buf_free(&why);
}

/* --- state --- */

bool launcher_adopted(const struct launcher *l)
{
	return l->adopted;
}

/* --- stopping --- */

/* To the group. An adopted process is nobody's to reap here: its number is looked at before it is
 * used. */
static void signal_group(struct launcher *l, int number)
{
	if (!l->adopted || pidfd_send_signal(l->pidfd, 0, NULL, 0) == 0)
		kill(-l->pid, number);
}

static void on_kill_timer(uv_timer_t *timer)
{
	struct launcher *l = timer->data;
	log_line(LOG_WARN, "backend_kill", LOG_INT("backend_pid", l->pid), LOG_END);
	signal_group(l, SIGKILL);
}

void launcher_replace(struct launcher *l)
{
	log_line(LOG_WARN, "backend_replaced", LOG_INT("backend_pid", l->pid), LOG_END);
	l->wish = WISH_REPLACE;
	signal_group(l, SIGKILL);
}

void launcher_stop(struct launcher *l, void (*stopped)(void *ctx))
{
	l->stopped = stopped;
	l->wish = WISH_STOP;
	if (l->run != RUN_ALIVE) {
		if (l->handles == 0)
			stopped(l->ctx);
		return; /* else launcher_ended() is on its way */
	}
	signal_group(l, SIGTERM);
	uv_timer_init(l->loop, &l->kill_timer);
	l->kill_timer.data = l;
	l->timer_open = true;
	l->handles++;
	uv_timer_start(&l->kill_timer, on_kill_timer, LAUNCHER_STOP_MS, 0);
}

bool launcher_leave(struct launcher *l)
{
	if (l->options.lifeline_fd < 0 && !(l->adopted && l->run == RUN_ALIVE))
		return false;
	if (l->run == RUN_ALIVE)
		log_line(LOG_INFO, "backend_left", LOG_INT("backend_pid", l->pid), LOG_END);
	l->wish = WISH_LEAVE;
	return true;
}

void launcher_tail(const struct launcher *l, struct buf *out)
{
	tail_write(&l->log.tail, LAUNCHER_TAIL_BYTES, out);
}

bool launcher_without_gpu(const struct launcher *l)
{
	return l->said & SAID_NO_GPU;
}

double launcher_gpu_share(const struct launcher *l)
{
	double share = serving_share(&l->serving);
	return share >= 0 || l->adopted ? share : l->options.kind->gpu_share;
}

const struct serving *launcher_serving(const struct launcher *l)
{
	return &l->serving;
}

int launcher_create(uv_loop_t *loop, const struct launcher_options *o,
	const struct launcher_events *e, void *ctx, struct launcher **out)
{
	struct launcher *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->loop = loop;
	l->options = *o;
	l->settings = o->settings;
	l->events = *e;
	l->ctx = ctx;
	l->own_lifeline = l->pidfd = l->log.fd = -1;
	*out = l;
	return 0;
}

void launcher_destroy(struct launcher *l)
{
	if (!l)
		return;
	l->destroyed = true;
	if (l->run == RUN_ALIVE) {
		l->run = RUN_NONE;
		if (l->wish != WISH_LEAVE)
			signal_group(l, SIGKILL);
		uv_close(l->adopted ? (uv_handle_t *)&l->end : (uv_handle_t *)&l->process,
			launcher_on_handle_closed);
	}
	close_timer(&l->kill_timer, &l->timer_open);
	close_timer(&l->look_timer, &l->look_open);
	outlog_close(&l->log);
	if (l->own_lifeline >= 0)
		close(l->own_lifeline);
	if (l->handles == 0)
		free(l);
}
