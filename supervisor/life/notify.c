#include "supervisor/life/notify.h"

#include "common/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_BYTES 1024

/* --- start and end --- */

static int open_socket(struct notify *n, const char *name)
{
	size_t length = strlen(name);
	if ((name[0] != '/' && name[0] != '@') || length < 2 || length >= sizeof(n->to.sun_path))
		return -EINVAL;
	n->to = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(n->to.sun_path, name, length);
	if (name[0] == '@')
		n->to.sun_path[0] = '\0'; /* an abstract name has no NUL behind it */
	n->to_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length +
				  (name[0] == '@' ? 0 : 1));
	n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return n->fd < 0 ? -errno : 0;
}

static uint64_t watchdog_period(void)
{
	const char *period = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	if (!period || (pid && strtoll(pid, NULL, 10) != (long long)getpid()))
		return 0;
	char *end;
	errno = 0;
	uint64_t us = strtoull(period, &end, 10);
	return errno || *end || us == UINT64_MAX ? 0 : us;
}

void notify_init(struct notify *n, uv_loop_t *loop)
{
	const char *name = getenv("NOTIFY_SOCKET");
	n->fd = -1;
	int rc = name ? open_socket(n, name) : 0;
	if (rc)
		log_line(LOG_WARN, "notify_socket", LOG_STR("path", name),
			LOG_STR("error", strerror(-rc)), LOG_END);
	n->watchdog_us = watchdog_period();
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	uv_timer_init(loop, &n->watchdog);
	n->watchdog.data = n;
}

void notify_fini(struct notify *n)
{
	uv_close((uv_handle_t *)&n->watchdog, NULL);
	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
}

void notify_environment(const struct notify *n, struct buf *out)
{
	if (n->fd < 0)
		return;
	const char *path = n->to.sun_path;
	size_t length = n->to_bytes - offsetof(struct sockaddr_un, sun_path);
	buf_add_str(out, path[0] ? "NOTIFY_SOCKET=" : "NOTIFY_SOCKET=@");
	buf_add(out, path + (path[0] ? 0 : 1), length - 1);
	buf_add_char(out, '\0');
	if (n->watchdog_us) { /* without a pid: the successor's is not known yet */
		buf_printf(out, "WATCHDOG_USEC=%llu", (unsigned long long)n->watchdog_us);
		buf_add_char(out, '\0');
	}
}

/* --- messages --- */

static void send_message(const struct notify *n, const char *text, int fd)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec part = {.iov_base = (char *)text, .iov_len = strlen(text)};
	struct msghdr m = {.msg_name = (void *)&n->to,
		.msg_namelen = n->to_bytes,
		.msg_iov = &part,
		.msg_iovlen = 1};
	if (n->fd < 0 || n->quiet)
		return;
	if (fd >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	if (sendmsg(n->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_line(LOG_WARN, "notify_lost", LOG_STR("message", text),
			LOG_STR("error", strerror(errno)), LOG_END);
}

void notify_say(const struct notify *n, const char *format, ...)
{
	char text[MESSAGE_BYTES];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	send_message(n, text, -1);
}

void notify_reloading(const struct notify *n)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	notify_say(n, "RELOADING=1\nMONOTONIC_USEC=%llu",
		(unsigned long long)t.tv_sec * 1000000u + (unsigned long long)t.tv_nsec / 1000u);
}

void notify_store(const struct notify *n, int fd, const char *name)
{
	char text[MESSAGE_BYTES];
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
	send_message(n, text, fd);
}

/* --- watchdog --- */

static void on_beat(uv_timer_t *t)
{
	notify_say(t->data, "WATCHDOG=1");
}

void notify_watchdog_start(struct notify *n)
{
	uint64_t period = n->watchdog_us / 2000u; /* half of it, in ms */
	if (n->fd >= 0 && n->watchdog_us)
		uv_timer_start(&n->watchdog, on_beat, 0, period ? period : 1);
}

void notify_watchdog_stop(struct notify *n)
{
	uv_timer_stop(&n->watchdog);
}

void notify_resume(struct notify *n)
{
	n->quiet = false;
	notify_say(n, "MAINPID=%d", (int)getpid());
}
