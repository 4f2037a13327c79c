/* How a backend is started, or taken over from an earlier worker. */
#include "workers/backend/launcher_private.h"

#include "common/base/log.h"
#include "common/base/proc.h"
#include "workers/backend/backend.h"
#include "workers/backend/command.h"
#include "workers/backend/guard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_log(struct launcher *l, bool resume)
{
	outlog_close(&l->log);
	return outlog_open(&l->log, l->settings->run_dir, l->options.device,
		l->settings->backend_log_bytes, resume, launcher_on_line, l);
}

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
		.exit_cb = launcher_on_exit,
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
		uv_close((uv_handle_t *)&l->process, launcher_on_handle_closed);
		return rc;
	}
	l->pid = l->process.pid;
	l->run = RUN_ALIVE;
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
		rc = command_init(
			&command, l->settings, l->options.kind->listen, port, l->options.slots_dir);
	l->said = 0;
	serving_init(&l->serving);
	serving_command(&l->serving, l->settings->command);
	l->adopted = false;
	if (rc == 0)
		rc = spawn(l, &command, lifeline_fd);
	if (rc == 0) {
		if (l->own_lifeline >= 0)
			close(l->own_lifeline);
		l->own_lifeline = own[1];
		own[1] = -1;
		launcher_look_every(l, OUTLOG_BOOT_MS);
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
	l->run = RUN_ALIVE;
	l->adopted = true;
	l->said = 0;
	serving_init(&l->serving);
	serving_command(&l->serving, l->settings->command);
	uv_poll_start(&l->end, UV_READABLE, launcher_on_adopted_end);
	launcher_look_every(l, OUTLOG_BOOT_MS);
	log_line(LOG_INFO, "backend_adopted", LOG_INT("backend_pid", pid), LOG_STR("url", url),
		LOG_END);
	l->events.running(l->ctx, url, pid, start);
	return 0;
}
