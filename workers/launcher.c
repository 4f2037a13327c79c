#include "workers/launcher.h"

#include "common/log.h"
#include "workers/guard.h"
#include "workers/tail.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LAUNCHER_TAIL_BYTES 2000
#define LAUNCHER_READ_BYTES 4096

extern char **environ;

struct launcher {
	uv_loop_t *loop;
	const struct settings *settings;
	launcher_running_fn *running;
	launcher_exited_fn *exited;
	launcher_stopped_fn *stopped; /* set: stopping */
	void *ctx;

	uv_process_t process;
	uv_pipe_t output;
	uv_timer_t kill_timer;
	unsigned handles; /* open uv handles */
	bool alive;	  /* the process has not been reaped */
	bool started;	  /* it was alive, and its end has not been told yet */
	bool output_open;
	bool timer_open;
	bool destroyed;
	pid_t pid;
	int guard_fd; /* our end of the guard's pipe */
	int64_t exit_status;
	int exit_signal;
	unsigned bind_tries;
	bool bind_failed, no_gpu;
	struct tail tail;
	char read_buf[LAUNCHER_READ_BYTES];
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
	log_line(LOG_DEBUG, "backend_log", LOG_SLICE("line", line), LOG_END);
	if (line_has(line, bind_phrases))
		l->bind_failed = true;
	if (l->settings->pin && !l->no_gpu && line_has(line, no_gpu_phrases)) {
		l->no_gpu = true;
		log_line(LOG_WARN, "backend_without_gpu", LOG_STR("pin", l->settings->pin),
			LOG_SLICE("line", line), LOG_END);
	}
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct launcher *l = handle->data;
	if (--l->handles == 0) {
		if (l->destroyed)
			free(l);
		else if (!l->alive && (l->started || l->stopped))
			launcher_ended(l);
	}
}

static void close_output(struct launcher *l)
{
	if (!l->output_open)
		return;
	l->output_open = false;
	tail_end(&l->tail, on_line, l);
	uv_close((uv_handle_t *)&l->output, on_handle_closed);
}

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
	struct launcher *l = handle->data;
	(void)hint;
	*buf = uv_buf_init(l->read_buf, sizeof(l->read_buf));
}

static void on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct launcher *l = stream->data;
	if (n > 0)
		tail_feed(&l->tail, (struct slice){buf->base, (size_t)n}, on_line, l);
	else if (n < 0)
		close_output(l);
}

/* --- how it ends --- */

static void close_timer(struct launcher *l)
{
	if (!l->timer_open)
		return;
	l->timer_open = false;
	uv_close((uv_handle_t *)&l->kill_timer, on_handle_closed);
}

static void on_exit_cb(uv_process_t *process, int64_t status, int term_signal)
{
	struct launcher *l = process->data;
	l->exit_status = status;
	l->exit_signal = term_signal;
	/* what it has started, and its guard, go with it */
	kill(-l->pid, SIGKILL);
	close(l->guard_fd);
	l->guard_fd = -1;
	l->alive = false;
	uv_close((uv_handle_t *)&l->process, on_handle_closed);
	close_timer(l);
	/* its last lines are already in the pipe: take them before looking at why it ended */
	if (l->output_open) {
		ssize_t n;
		int fd;
		if (uv_fileno((uv_handle_t *)&l->output, &fd) == 0)
			while ((n = read(fd, l->read_buf, sizeof(l->read_buf))) > 0)
				tail_feed(&l->tail, (struct slice){l->read_buf, (size_t)n}, on_line,
					l);
	}
	close_output(l);
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
	if (l->bind_failed && ++l->bind_tries < LAUNCHER_BIND_TRIES) {
		log_line(LOG_INFO, "backend_port_taken", LOG_INT("try", l->bind_tries), LOG_END);
		if (launcher_start(l, &why) == 0) {
			buf_free(&why);
			return;
		}
	} else if (l->exit_signal) {
		buf_printf(&why, "%s was killed by signal %d", l->settings->command[0],
			l->exit_signal);
	} else {
		buf_printf(&why, "%s exited with status %d", l->settings->command[0],
			(int)l->exit_status);
	}
	launcher_tail(l, &why);
	l->exited(l->ctx, buf_slice(&why));
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

static void strings_free(char **list)
{
	for (char **s = list; s && *s; s++)
		free(*s);
	free(list);
}

/* tandem-worker --exec -- COMMAND... [--host 127.0.0.1 --port N] */
static char **build_args(const struct settings *s, int port)
{
	size_t count = 0;
	while (s->command[count])
		count++;
	char **args = calloc(count + 3 + 4 + 1, sizeof(*args)), **a = args;
	char number[16];
	snprintf(number, sizeof(number), "%d", port);
	if (!args)
		return NULL;
	bool ok = (*a++ = strdup("tandem-worker")) && (*a++ = strdup("--exec")) &&
		  (*a++ = strdup("--"));
	for (size_t i = 0; i < count && ok; i++)
		ok = (*a++ = strdup(s->command[i]));
	if (ok && s->type == BACKEND_TYPE_LLAMA_SERVER)
		ok = (*a++ = strdup("--host")) && (*a++ = strdup("127.0.0.1")) &&
		     (*a++ = strdup("--port")) && (*a++ = strdup(number));
	if (ok)
		return args;
	strings_free(args);
	return NULL;
}

#define ENV_EXTRA 6

static bool env_is(const char *entry, const char *name)
{
	size_t n = strlen(name);
	return strncmp(entry, name, n) == 0 && entry[n] == '=';
}

/* Our environment with some variables replaced. */
static char **build_env(const struct settings *s, int port)
{
	char *set[ENV_EXTRA][2] = {{NULL}};
	char selector[128], host[32];
	size_t sets = 0, count = 0;
	if (s->pin) {
		snprintf(selector, sizeof(selector), "level_zero:%s", s->pin);
		static const char *const names[] = {
			"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES"};
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++, sets++) {
			set[sets][0] = (char *)names[i];
			set[sets][1] = s->pin;
		}
		set[sets][0] = (char *)"ONEAPI_DEVICE_SELECTOR";
		set[sets++][1] = selector;
	}
	if (s->type == BACKEND_TYPE_OLLAMA) {
		snprintf(host, sizeof(host), "127.0.0.1:%d", port);
		set[sets][0] = (char *)"OLLAMA_HOST";
		set[sets++][1] = host;
		if (!getenv("OLLAMA_NOPRUNE")) { /* several serve one folder of models
						    (protocols.md 1.13) */
			set[sets][0] = (char *)"OLLAMA_NOPRUNE";
			set[sets++][1] = (char *)"1";
		}
	}
	while (environ[count])
		count++;
	char **env = calloc(count + sets + 1, sizeof(*env)), **e = env;
	if (!env)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		bool replaced = false;
		for (size_t k = 0; k < sets; k++)
			replaced |= env_is(environ[i], set[k][0]);
		if (!replaced && !(*e++ = strdup(environ[i])))
			goto error;
	}
	for (size_t k = 0; k < sets; k++) {
		char *entry;
		if (asprintf(&entry, "%s=%s", set[k][0], set[k][1]) < 0)
			goto error;
		*e++ = entry;
	}
	return env;
error:
	strings_free(env);
	return NULL;
}

static int open_output(struct launcher *l, int fd)
{
	int rc = uv_pipe_init(l->loop, &l->output, 0);
	if (rc)
		return rc;
	l->output.data = l;
	l->output_open = true;
	l->handles++;
	rc = uv_pipe_open(&l->output, fd);
	return rc ? rc : uv_read_start((uv_stream_t *)&l->output, on_alloc, on_output);
}

/* The process alone: pipes, arguments and environment are the caller's. */
static int spawn(struct launcher *l, char **args, char **env, int output_fd, int guard_fd)
{
	uv_stdio_container_t stdio[GUARD_FD + 1] = {
		{.flags = UV_IGNORE},
		{.flags = UV_INHERIT_FD, .data.fd = output_fd},
		{.flags = UV_INHERIT_FD, .data.fd = output_fd},
		{.flags = UV_INHERIT_FD, .data.fd = guard_fd},
	};
	uv_process_options_t options = {
		.exit_cb = on_exit_cb,
		.file = "/proc/self/exe",
		.args = args,
		.env = env,
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
	int out[2] = {-1, -1}, guard[2] = {-1, -1};
	char **args = NULL, **env = NULL, url[64];
	int port = free_port(), rc = port < 0 ? port : 0;
	if (rc == 0 && (pipe2(out, O_CLOEXEC) || pipe2(guard, O_CLOEXEC)))
		rc = -errno;
	if (rc == 0) {
		args = build_args(l->settings, port);
		env = build_env(l->settings, port);
		if (!args || !env)
			rc = -ENOMEM;
	}
	l->bind_failed = l->no_gpu = false;
	l->tail = (struct tail){0};
	if (rc == 0)
		rc = spawn(l, args, env, out[1], guard[0]);
	if (rc == 0) {
		l->guard_fd = guard[1];
		guard[1] = -1;
		/* without its output we can still live */
		if (fcntl(out[0], F_SETFL, O_NONBLOCK) == 0 && open_output(l, out[0]) == 0)
			out[0] = -1;
		snprintf(url, sizeof(url), "http://127.0.0.1:%d", port);
		log_line(LOG_INFO, "backend_started", LOG_STR("command", l->settings->command[0]),
			LOG_INT("backend_pid", l->pid), LOG_STR("url", url),
			LOG_STR("pin", l->settings->pin ? l->settings->pin : ""), LOG_END);
		l->running(l->ctx, url, l->pid);
	} else {
		buf_printf(err, "cannot start %s: %s", l->settings->command[0], strerror(-rc));
	}
	for (int i = 0; i < 2; i++) {
		if (out[i] >= 0)
			close(out[i]);
		if (guard[i] >= 0)
			close(guard[i]);
	}
	strings_free(args);
	strings_free(env);
	return rc;
}

/* --- stopping --- */

static void on_kill_timer(uv_timer_t *timer)
{
	struct launcher *l = timer->data;
	log_line(LOG_WARN, "backend_kill", LOG_INT("backend_pid", l->pid), LOG_END);
	kill(-l->pid, SIGKILL);
}

void launcher_stop(struct launcher *l, launcher_stopped_fn *stopped)
{
	l->stopped = stopped;
	if (!l->alive) {
		if (l->handles == 0)
			stopped(l->ctx);
		return; /* else launcher_ended() is on its way */
	}
	kill(-l->pid, SIGTERM);
	uv_timer_init(l->loop, &l->kill_timer);
	l->kill_timer.data = l;
	l->timer_open = true;
	l->handles++;
	uv_timer_start(&l->kill_timer, on_kill_timer, LAUNCHER_STOP_MS, 0);
}

void launcher_tail(const struct launcher *l, struct buf *out)
{
	tail_write(&l->tail, LAUNCHER_TAIL_BYTES, out);
}

bool launcher_without_gpu(const struct launcher *l)
{
	return l->no_gpu;
}

int launcher_create(uv_loop_t *loop, const struct settings *s, launcher_running_fn *running,
	launcher_exited_fn *exited, void *ctx, struct launcher **out)
{
	struct launcher *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->loop = loop;
	l->settings = s;
	l->running = running;
	l->exited = exited;
	l->ctx = ctx;
	l->guard_fd = -1;
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
		kill(-l->pid, SIGKILL);
		close(l->guard_fd);
		uv_close((uv_handle_t *)&l->process, on_handle_closed);
	}
	close_timer(l);
	if (l->output_open) {
		l->output_open = false;
		uv_close((uv_handle_t *)&l->output, on_handle_closed);
	}
	if (l->handles == 0)
		free(l);
}
