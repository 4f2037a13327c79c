#include "workers/backend/launcher.h"

#include "common/base/log.h"
#include "common/base/proc.h"
#include "workers/backend/backend.h"
#include "workers/backend/command.h"
#include "workers/backend/guard.h"
#include "workers/backend/outlog.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define LAUNCHER_TAIL_BYTES 2000

struct launcher {
	uv_loop_t *loop;
	struct launcher_options options;
	const struct settings *settings;
	struct launcher_events events;
	void (*stopped)(void *ctx); /* set: stopping */
	void *ctx;

	uv_process_t process; /* of one that we started */
	uv_poll_t end;	      /* of an adopted one */
	int pidfd;
	uv_timer_t kill_timer, look_timer;
	unsigned handles; /* open uv handles */
	bool alive;	  /* the process has not ended */
	bool started;	  /* it was alive, and its end has not been told yet */
	bool adopted;
	bool replacing; /* its end is the start of the next one */
	bool left;	/* not ours any more */
	bool timer_open, look_open;
	bool destroyed;
	pid_t pid;
	int own_lifeline; /* write end of our own one, -1: the family's is used */
	int64_t exit_status;
	int exit_signal;
	unsigned bind_tries;
	bool bind_failed, no_gpu;
	double gpu_share; /* of its model's layers; < 0: it has not said */
	struct outlog log;
};

static void launcher_ended(struct launcher *l);

/* --- what it prints --- */

static bool line_has(struct slice line, const char *const *phrases)
{
	for (; *phrases; phrases++)
		if (memmem(line.p, line.n, *phrases, strlen(*phrases)))
			return true;
	return false;
}

static void on_line(void *ctx, struct slice line)
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
		l->bind_failed = true;
	unsigned on_gpu, layers;
	const char *offloaded = memmem(line.p, line.n, "offloaded ", 10);
	char text[64] = "";
	if (offloaded)
		snprintf(text, sizeof(text), "%.*s", (int)(line.p + line.n - offloaded), offloaded);
	if (sscanf(text, "offloaded %u/%u layers to GPU", &on_gpu, &layers) == 2 && layers > 0)
		l->gpu_share = on_gpu < layers ? (double)on_gpu / layers : 1;
	if (l->settings->pin && !l->no_gpu && line_has(line, no_gpu_phrases)) {
		l->no_gpu = true;
		log_line(LOG_WARN, "backend_without_gpu", LOG_STR("pin", l->settings->pin),
			LOG_SLICE("line", line), LOG_END);
	}
}

static void on_look(uv_timer_t *timer)
{
	struct launcher *l = timer->data;
	outlog_look(&l->log);
}

static void look_every(struct launcher *l, uint64_t ms)
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
	if (!l->look_open || !l->alive)
		return;
	outlog_look(&l->log); /* what it said about its GPU counts now */
	look_every(l, OUTLOG_CALM_MS);
}

static int open_log(struct launcher *l, bool resume)
{
	outlog_close(&l->log);
	return outlog_open(&l->log, l->settings->run_dir, l->options.device,
		l->settings->backend_log_bytes, resume, on_line, l);
}

/* --- how it ends --- */

static void on_handle_closed(uv_handle_t *handle)
{
	struct launcher *l = handle->data;
	if (handle == (uv_handle_t *)&l->end) {
		close(l->pidfd);
		l->pidfd = -1;
	}
	if (--l->handles == 0) {
		if (l->destroyed)
			free(l);
		else if (!l->alive && (l->started || l->stopped))
			launcher_ended(l);
	}
}

static void close_timer(uv_timer_t *timer, bool *open)
{
	if (!*open)
		return;
	*open = false;
	uv_close((uv_handle_t *)timer, on_handle_closed);
}

static void process_gone(struct launcher *l)
{
	l->alive = false;
	close_timer(&l->kill_timer, &l->timer_open);
	close_timer(&l->look_timer, &l->look_open);
	/* its last lines are in the file already: take them before looking at why it ended */
	outlog_end(&l->log);
}

static void on_exit_cb(uv_process_t *process, int64_t status, int term_signal)
{
	struct launcher *l = process->data;
	l->exit_status = status;
	l->exit_signal = term_signal;
	kill(-l->pid, SIGKILL); /* what it has started goes with it; its guard sees to that, too */
	uv_close((uv_handle_t *)&l->process, on_handle_closed);
	process_gone(l);
}

static void on_adopted_end(uv_poll_t *end, int status, int events)
{
	struct launcher *l = end->data;
	(void)status, (void)events;
	uv_close((uv_handle_t *)&l->end, on_handle_closed);
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
	l->started = false;
	if (l->stopped) {
		l->stopped(l->ctx);
		return;
	}
	bool again = l->replacing;
	if (!again && l->bind_failed && ++l->bind_tries < LAUNCHER_BIND_TRIES) {
		log_line(LOG_INFO, "backend_port_taken", LOG_INT("try", l->bind_tries), LOG_END);
		again = true;
	}
	l->replacing = false;
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

/* --- how it starts --- */

static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int port = -EADDRNOTAVAIL;
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
		getsockname(fd, (struct sockaddr *)&a, &len) == 0)
		port = ntohs(a.sin_port);
	close(fd);
	return port;
}

/* The process alone: arguments and environment are the caller's. */
static int spawn(struct launcher *l, const struct command *c, int lifeline_fd)
{
	uv_stdio_container_t stdio[GUARD_FD + 1] = {
		{.flags = UV_IGNORE},
		{.flags = UV_INHERIT_FD, .data.fd = l->log.fd},
		{.flags = UV_INHERIT_FD, .data.fd = l->log.fd},
		{.flags = UV_INHERIT_FD, .data.fd = lifeline_fd},
	};
	uv_process_options_t options = {
		.exit_cb = on_exit_cb,
		.file = "/proc/self/exe",
		.args = c->args,
		.env = c->env,
		.flags = UV_PROCESS_DETACHED, /* its own session and group */
		.stdio = stdio,
		.stdio_count = GUARD_FD + 1,
	};
	l->process.data = l;
	int rc = uv_spawn(l->loop, &l->process, &options);
	l->handles++; /* initialised, whatever uv_spawn() says */
	if (rc) {
		uv_close((uv_handle_t *)&l->process, on_handle_closed);
		return rc;
	}
	l->pid = l->process.pid;
	l->alive = l->started = true;
	return 0;
}

int launcher_start(struct launcher *l, struct buf *err)
{
	struct command command = {0};
	char url[64];
	int own[2] = {-1, -1}, lifeline_fd = l->options.lifeline_fd;
	int port = free_port(), rc = port < 0 ? port : 0;
	if (rc == 0 && lifeline_fd < 0) { /* nobody's family: it goes when we go */
		rc = pipe2(own, O_CLOEXEC) ? -errno : 0;
		lifeline_fd = own[0];
	}
	if (rc == 0)
		rc = open_log(l, false);
	if (rc == 0)
		rc = command_init(&command, l->settings, port, l->options.slots_dir);
	l->bind_failed = l->no_gpu = l->adopted = false;
	if (rc == 0)
		rc = spawn(l, &command, lifeline_fd);
	if (rc == 0) {
		if (l->own_lifeline >= 0)
			close(l->own_lifeline);
		l->own_lifeline = own[1];
		own[1] = -1;
		look_every(l, OUTLOG_BOOT_MS);
		snprintf(url, sizeof(url), "http://127.0.0.1:%d", port);
		log_line(LOG_INFO, "backend_started", LOG_STR("command", l->settings->command[0]),
			LOG_INT("backend_pid", l->pid), LOG_STR("url", url),
			LOG_STR("pin", l->settings->pin ? l->settings->pin : ""), LOG_END);
		l->events.running(l->ctx, url, l->pid, proc_start(l->pid));
	} else {
		buf_printf(err, "cannot start %s: %s", l->settings->command[0], strerror(-rc));
	}
	for (int i = 0; i < 2; i++)
		if (own[i] >= 0)
			close(own[i]);
	command_fini(&command);
	return rc;
}

int launcher_adopt(struct launcher *l, int64_t pid, uint64_t start, const char *url)
{
	int fd = pidfd_open((pid_t)pid, 0);
	if (fd < 0)
		return -errno;
	/* after the open: what has the start time now is what the descriptor stands for */
	int rc = proc_alive(pid, start) ? open_log(l, true) : -ESRCH;
	if (rc == 0)
		rc = uv_poll_init(l->loop, &l->end, fd);
	if (rc) {
		close(fd);
		return rc;
	}
	l->pidfd = fd;
	l->end.data = l;
	l->handles++;
	l->pid = (pid_t)pid;
	l->alive = l->started = l->adopted = true;
	l->bind_failed = l->no_gpu = false;
	uv_poll_start(&l->end, UV_READABLE, on_adopted_end);
	look_every(l, OUTLOG_BOOT_MS);
	log_line(LOG_INFO, "backend_adopted", LOG_INT("backend_pid", pid), LOG_STR("url", url),
		LOG_END);
	l->events.running(l->ctx, url, pid, start);
	return 0;
}

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
	l->replacing = true;
	signal_group(l, SIGKILL);
}

void launcher_stop(struct launcher *l, void (*stopped)(void *ctx))
{
	l->stopped = stopped;
	if (!l->alive) {
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
	if (l->options.lifeline_fd < 0 && !(l->adopted && l->alive))
		return false;
	if (l->alive)
		log_line(LOG_INFO, "backend_left", LOG_INT("backend_pid", l->pid), LOG_END);
	l->left = true;
	return true;
}

void launcher_tail(const struct launcher *l, struct buf *out)
{
	tail_write(&l->log.tail, LAUNCHER_TAIL_BYTES, out);
}

bool launcher_without_gpu(const struct launcher *l)
{
	return l->no_gpu;
}

double launcher_gpu_share(const struct launcher *l)
{
	if (l->gpu_share >= 0 || l->adopted)
		return l->gpu_share;
	return backend_kind(l->settings->type)->gpu_share;
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
	l->gpu_share = -1;
	*out = l;
	return 0;
}

void launcher_destroy(struct launcher *l)
{
	if (!l)
		return;
	l->destroyed = true;
	if (l->alive) {
		l->alive = false;
		if (!l->left)
			signal_group(l, SIGKILL);
		uv_close(l->adopted ? (uv_handle_t *)&l->end : (uv_handle_t *)&l->process,
			on_handle_closed);
	}
	close_timer(&l->kill_timer, &l->timer_open);
	close_timer(&l->look_timer, &l->look_open);
	outlog_close(&l->log);
	if (l->own_lifeline >= 0)
		close(l->own_lifeline);
	if (l->handles == 0)
		free(l);
}
