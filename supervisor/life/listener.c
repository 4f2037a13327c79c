#include "supervisor/life/listener.h"

#include "common/base/log.h"
#include "supervisor/requests/request.h"
#include "supervisor/supervisor.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */
#define FDS_MAX 64

static int given_count(void)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	if (!pid || !count || strtoll(pid, NULL, 10) != (long long)getpid())
		return 0;
	int n = atoi(count);
	return n < 0 || n > FDS_MAX ? 0 : n;
}

static bool usable(const struct config *c, const struct notify *n, int fd, bool stored)
{
	bool same = false;
	struct buf err;
	buf_init(&err, 256);
	int rc = front_check_listener(fd, c->listen.address, c->listen.port, &same, &err);
	if (rc)
		log_line(LOG_WARN, "listener_refused", LOG_STR("why", buf_cstr(&err)), LOG_END);
	else if (!same)
		log_line(LOG_WARN, stored ? "listener_outdated" : "listener_mismatch",
			LOG_STR("why", "not at listen.address and listen.port"),
			LOG_STR("address", c->listen.address), LOG_INT("port", c->listen.port),
			LOG_END);
	buf_free(&err);
	if (rc == 0 && !same && stored)
		notify_say(n, "FDSTOREREMOVE=1\nFDNAME=" LISTENER_STORED_NAME);
	return rc == 0 && (same || !stored);
}

int listener_given(const struct config *c, const struct notify *n, bool *by_unit)
{
	int count = given_count(), taken = -1;
	const char *names = getenv("LISTEN_FDNAMES");
	struct slice name = slice_str(names ? names : "");
	for (int fd = FIRST_FD; fd < FIRST_FD + count; fd++) {
		size_t length = name.n ? strcspn(name.p, ":") : 0;
		bool stored = slice_eq((struct slice){name.p, length}, SLICE(LISTENER_STORED_NAME));
		size_t used = length + (length < name.n);
		name = (struct slice){name.p + used, name.n - used};
		if (fcntl(fd, F_SETFD, FD_CLOEXEC))
			continue;
		if (taken >= 0 || !usable(c, n, fd, stored)) {
			close(fd);
			continue;
		}
		taken = fd;
		*by_unit = !stored;
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return taken;
}

int supervisor_open_front(struct supervisor *s, int listen_fd, struct buf *err)
{
	const struct config *c = &s->config;
	struct front_options o = {
		.address = c->listen.address,
		.port = c->listen.port,
		.connections = s->connections_max,
		.header_bytes = (size_t)c->limits.header_bytes,
		.header_total_bytes = (size_t)c->limits.header_total_bytes,
		.headers = (size_t)c->limits.headers,
		.head_ms = (unsigned)c->deadlines.head_ms,
		.body_ms = (unsigned)c->deadlines.body_ms,
		.body_rate = (unsigned)c->limits.body_rate,
		/* Credit bounds what a worker sends; beside it stand heartbeats and an in-band
		   error. */
		.stream_bytes = (size_t)(c->limits.stream_bytes > PROTO_WINDOW_BYTES
						 ? c->limits.stream_bytes
						 : PROTO_WINDOW_BYTES) +
				65536,
		.idle_ms = (unsigned)c->limits.idle_ms,
		.listen_fd = listen_fd,
	};
	int rc = front_start(s->loop, &o, &request_front_events, s, &s->front, err);
	if (rc == 0)
		s->loopback = front_is_loopback(s->front);
	return rc;
}
