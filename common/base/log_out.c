#include "common/base/log_out.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ASKED_PIECE 256	     /* bytes written to what may block after it was asked for room */
#define SOCKET_PIECE_HEAD 64 /* of half a socket's buffer, kept by the kernel */

enum kind {
	KIND_ASKED,  /* of unknown nature: poll() before each small piece */
	KIND_FILE,   /* never blocks as a pipe does */
	KIND_SOCKET, /* MSG_DONTWAIT */
	KIND_OPENED, /* opened a second time, non-blocking */
};

static struct {
	char *p;
	size_t size, from, to; /* what waits is p[from, to) */
	int fd;
	enum kind kind;
	size_t whole; /* bytes that go whole or not at all, so that nobody else's come between */
	bool deferred, watched;
	struct log_lost lost, ever;
} out = {.fd = STDERR_FILENO, .whole = PIPE_BUF};

/* --- the way out --- */

/* A second description of the same pipe or terminal, with flags of our own. */
static int open_again(void)
{
	return open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* Linux makes pieces of its own of what is longer than half of a socket's buffer (unix(7) does not
 * say it: unix_stream_sendmsg()), and may take only the first of them. */
static size_t whole_of_socket(void)
{
	int buffer = 0;
	socklen_t n = sizeof(buffer);
	if (getsockopt(STDERR_FILENO, SOL_SOCKET, SO_SNDBUF, &buffer, &n))
		return PIPE_BUF;
	int most = buffer / 2 - SOCKET_PIECE_HEAD;
	return most < 1 ? 1 : most < PIPE_BUF ? (size_t)most : PIPE_BUF;
}

static void find_way(void)
{
	struct stat st;
	out.whole = PIPE_BUF;
	out.fd = STDERR_FILENO;
	out.kind = KIND_ASKED;
	if (fstat(STDERR_FILENO, &st))
		return;
	if (S_ISREG(st.st_mode)) { /* its offset is shared with others: never a second one */
		out.kind = KIND_FILE;
	} else if (S_ISSOCK(st.st_mode)) {
		out.kind = KIND_SOCKET;
		out.whole = whole_of_socket();
	} else if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
		int fd = open_again();
		if (fd >= 0) {
			out.fd = fd;
			out.kind = KIND_OPENED;
		}
	}
}

static bool has_room(void)
{
	struct pollfd p = {.fd = out.fd, .events = POLLOUT};
	return poll(&p, 1, 0) == 1 && (p.revents & (POLLOUT | POLLERR | POLLHUP | POLLNVAL));
}

/* As many whole lines as fit in most bytes; a line that is longer alone. */
static size_t piece_of(size_t most)
{
	size_t n = out.to - out.from;
	const char *p = out.p + out.from;
	if (n <= most)
		return n;
	for (size_t end = most; end > 0; end--)
		if (p[end - 1] == '\n')
			return end;
	const char *end = memchr(p, '\n', n);
	return end ? (size_t)(end - p) + 1 : n;
}

/* Calls nothing that a signal handler may not. */
static ssize_t write_some(void)
{
	const char *p = out.p + out.from;
	size_t n = out.to - out.from;
	switch (out.kind) {
	case KIND_FILE:
		return write(out.fd, p, n);
	case KIND_SOCKET:
		return send(out.fd, p, piece_of(out.whole), MSG_DONTWAIT | MSG_NOSIGNAL);
	case KIND_OPENED:
		return write(out.fd, p, piece_of(out.whole));
	case KIND_ASKED:
		break;
	}
	if (!has_room()) {
		errno = EAGAIN;
		return -1;
	}
	return write(out.fd, p, n < ASKED_PIECE ? n : ASKED_PIECE);
}

static void count_lost(const char *p, size_t n)
{
	uint64_t lines = 0;
	for (size_t i = 0; i < n; i++)
		lines += p[i] == '\n';
	out.lost.lines += lines;
	out.lost.bytes += n;
	out.ever.lines += lines;
	out.ever.bytes += n;
}

bool log_out_flush(void)
{
	while (out.from < out.to) {
		ssize_t n = write_some();
		if (n > 0) {
			out.from += (size_t)n;
		} else if (n == 0 || errno == EAGAIN || errno == EWOULDBLOCK) {
			return false;
		} else if (errno != EINTR) { /* a reader that is gone, a full disk */
			count_lost(out.p + out.from, out.to - out.from);
			out.from = out.to;
		}
	}
	out.from = out.to = 0;
	return true;
}

/* --- the buffer --- */

void log_out_size(size_t bytes)
{
	size_t waits = out.to - out.from;
	if (bytes < LOG_BUFFER_LEAST)
		bytes = LOG_BUFFER_LEAST;
	if (bytes < waits || bytes == out.size)
		return;
	char *p = malloc(bytes);
	if (!p)
		return;
	if (waits)
		memcpy(p, out.p + out.from, waits);
	free(out.p);
	out.p = p;
	out.size = bytes;
	out.from = 0;
	out.to = waits;
}

static bool make_room(size_t n)
{
	if (!out.p)
		log_out_size(LOG_BUFFER_BYTES);
	if (out.size - out.to >= n)
		return true;
	if (out.from == 0 || out.size - (out.to - out.from) < n)
		return false;
	memmove(out.p, out.p + out.from, out.to - out.from);
	out.to -= out.from;
	out.from = 0;
	return true;
}

bool log_out_put(const char *line, size_t n)
{
	if (!make_room(n) && (log_out_flush(), !make_room(n))) {
		count_lost(line, n);
		return false;
	}
	memcpy(out.p + out.to, line, n);
	out.to += n;
	if (!out.deferred)
		log_out_flush();
	return true;
}

struct log_lost log_out_lost(void)
{
	struct log_lost lost = out.lost;
	out.lost = (struct log_lost){0};
	return lost;
}

struct log_lost log_out_lost_ever(void)
{
	return out.ever;
}

/* --- ends --- */

static void on_crash(int signum)
{
	while (out.from < out.to) {
		ssize_t n = write_some();
		if (n <= 0)
			break;
		out.from += (size_t)n;
	}
	signal(signum, SIG_DFL);
	raise(signum); /* comes when this returns */
}

/* Only where nobody else wants to hear of it: a sanitizer does. */
static void watch_crashes(void)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
	struct sigaction crash = {.sa_handler = on_crash}, old;
	sigemptyset(&crash.sa_mask);
	for (size_t i = 0; i < sizeof(fatal) / sizeof(*fatal); i++)
		if (sigaction(fatal[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			sigaction(fatal[i], &crash, NULL);
}

void log_out_defer(bool on)
{
	out.deferred = on;
	if (!out.watched) {
		out.watched = true;
		find_way();
		watch_crashes();
	}
	if (!on)
		log_out_flush();
}
