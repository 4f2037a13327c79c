/*
 * What a test cannot do to a real machine, preloaded into one program
 * (tests/process/test_shims.py):
 *
 * SHIM_CLOCK=FILE   the wall clock is off by the seconds that stand in FILE (int64, changed at any
 *                   time); the monotonic clock is the system's
 * SHIM_TIMERS=FILE  while FILE exists, libuv's timers are armed but never run, save those of 0 ms:
 * the loop goes on, what it should look after stands still
 * SHIM_CALLOC=FILE  while FILE exists, there is no memory for one thing of 4,000 to 16,000 bytes: a
 *                   device (or a connection of the stats socket)
 * SHIM_HELD=FILE    what holds the loop for more than SHIM_HELD_MS (10) of processor time between
 *                   two waits is written there, a line "PROGRAM PID MS" each; the time that others
 *                   have the processor does not count
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

static int64_t wall_offset(void)
{
	static const int64_t *offset;
	if (!offset) {
		const char *path = getenv("SHIM_CLOCK");
		int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		if (fd < 0)
			return 0;
		void *at = mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, fd, 0);
		close(fd);
		if (at == MAP_FAILED)
			return 0;
		offset = at;
	}
	return __atomic_load_n(offset, __ATOMIC_RELAXED);
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, t);
	if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		t->tv_sec += wall_offset();
	return rc;
}

time_t time(time_t *out)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	if (out)
		*out = t.tv_sec;
	return t.tv_sec;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec t;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	tv->tv_sec = t.tv_sec;
	tv->tv_usec = t.tv_nsec / 1000;
	return 0;
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
	static int (*real)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t);
	const char *stuck = getenv("SHIM_TIMERS");
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "uv_timer_start");
	if (timeout > 0 && stuck && access(stuck, F_OK) == 0)
		timeout = UINT64_C(1) << 40;
	return real(timer, cb, timeout, repeat);
}

/* dlsym() itself needs memory: the C library's own function, by the name that it has there. */
extern void *__libc_calloc(size_t n, size_t size);

void *calloc(size_t n, size_t size)
{
	const char *empty = getenv("SHIM_CALLOC");
	/* A peer's (4 KB) and a device's (9 KB), but not that of a reload, which holds a configuration. */
	bool is_reload = size >= 6000 && size < 7500;
	if (empty && n == 1 && size >= 4000 && size < 16000 && !is_reload &&
		access(empty, F_OK) == 0)
		return NULL;
	return __libc_calloc(n, size);
}

/* --- how long the loop is held --- */

static int64_t processor_us(void)
{
	struct timespec t;
	syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void note_held(const char *path, int64_t us)
{
	const char *limit = getenv("SHIM_HELD_MS");
	char line[128];
	if (us <= (limit ? atoi(limit) : 10) * 1000)
		return;
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int n = snprintf(line, sizeof(line), "%s %d %.1f\n", program_invocation_short_name,
		getpid(), (double)us / 1000);
	if (fd >= 0 && write(fd, line, (size_t)n) != n)
		abort();
	close(fd);
}

int epoll_pwait(int fd, struct epoll_event *events, int max, int timeout, const sigset_t *mask)
{
	static int loop_fd = -1;
	static int64_t since;
	const char *path = getenv("SHIM_HELD");
	bool of_loop = path && getpid() == gettid() && (loop_fd < 0 || fd == loop_fd);
	if (of_loop && loop_fd >= 0)
		note_held(path, processor_us() - since);
	int n = (int)syscall(SYS_epoll_pwait, fd, events, max, timeout, mask, 8);
	if (of_loop) {
		loop_fd = fd;
		since = processor_us();
	}
	return n;
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
	return epoll_pwait(fd, events, max, timeout, NULL);
}
