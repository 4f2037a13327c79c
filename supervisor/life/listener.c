#include "supervisor/life/listener.h"

#include "common/base/log.h"
#include "supervisor/front/front.h"

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
