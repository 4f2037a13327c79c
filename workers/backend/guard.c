#include "workers/backend/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUARD_LEADER_FD (GUARD_FD + 1)

/* True when the leader's end came first. Without a pidfd (an old kernel) only the
 * lifeline counts. */
static bool wait_for_an_end(void)
{
	struct pollfd fds[] = {
		{.fd = GUARD_FD, .events = POLLIN}, {.fd = GUARD_LEADER_FD, .events = POLLIN}};
	for (;;) {
		if (poll(fds, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return false;
		}
		if (fds[0].revents & POLLIN) { /* EOF reads as 0; a byte would be nobody's */
			char byte;
			if (read(GUARD_FD, &byte, 1) > 0)
				continue;
		}
		if (fds[1].revents & POLLIN)
			return true;
		if (fds[0].revents)
			return false;
		if (fds[1].revents)
			fds[1].fd = -1;
	}
}

/* Waits until tandemd or the backend is gone, then ends the whole group, this process included. */
static _Noreturn void guard_watch(pid_t group)
{
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_NAME, "tandem-guard");
	int leader = pidfd_open(group, 0);
	if (leader >= 0 && leader != GUARD_LEADER_FD) {
		dup2(leader, GUARD_LEADER_FD);
		close(leader);
	}
	int null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd <= 2 && null >= 0; fd++)
		dup2(null, fd); /* nothing of ours goes into the backend's log */
	close_range(GUARD_LEADER_FD + 1, ~0U, 0);
	if (!wait_for_an_end()) {
		kill(-group, SIGTERM);
		struct pollfd fd = {.fd = GUARD_LEADER_FD, .events = POLLIN};
		poll(leader >= 0 ? &fd : NULL, leader >= 0, GUARD_GRACE_MS);
	}
	kill(-group, SIGKILL);
	_exit(0);
}

/* A grandchild, so that the backend never meets a child it did not start. */
static int guard_start(pid_t group)
{
	pid_t child = fork();
	if (child < 0)
		return -errno;
	if (child == 0) {
		if (fork() == 0)
			guard_watch(group);
		_exit(0);
	}
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int guard_exec(char **argv)
{
	/* curl's sockets are not CLOEXEC: a backend must not hold connections to another one */
	close_range(GUARD_FD + 1, ~0U, 0);
	/* We lead our own group: uv_spawn() called setsid(). */
	int rc = guard_start(getpid());
	if (rc) {
		fprintf(stderr, "cannot start the guard of %s: %s\n", argv[0], strerror(-rc));
		return GUARD_EXEC_FAILED;
	}
	close(GUARD_FD);
	execvp(argv[0], argv);
	fprintf(stderr, "cannot run %s: %s\n", argv[0], strerror(errno));
	return GUARD_EXEC_FAILED;
}
