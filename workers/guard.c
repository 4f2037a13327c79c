#include "workers/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Waits until the worker's end of the pipe is gone, then ends the whole group, this process
 * included.
 */
static _Noreturn void guard_watch(pid_t group)
{
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_NAME, "tandem-guard");
	int null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd <= 2 && null >= 0; fd++)
		dup2(null,
			fd); /* stderr would keep the worker's pipe open after the backend's end */

	char byte;
	while (read(GUARD_FD, &byte, 1) < 0 && errno == EINTR)
		;
	kill(-group, SIGTERM);
	poll(NULL, 0, GUARD_GRACE_MS);
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
	/*
	 * Quicker than the guard where the kernel honours it; the guard also ends what the
	 * backend has started.
	 */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	execvp(argv[0], argv);
	fprintf(stderr, "cannot run %s: %s\n", argv[0], strerror(errno));
	return GUARD_EXEC_FAILED;
}
