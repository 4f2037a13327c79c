/*
 * bench-load: an HTTP load generator, one thread, one epoll set. Each connection sends the same
 * request again and again, one at a time, over keep-alive, until a count or a time is reached.
 * Prints one line of JSON: counts and histograms of latency (request sent to reply complete), of
 * the time to the first body byte, and of the gaps between reads that brought body bytes.
 *
 *   bench-load --port N --body FILE [--path P] [--connections N] [--requests N | --ms N] ...
 *
 * Exits 0 when every reply was a whole 200, 1 when one was not, 2 on wrong usage.
 */
#include "tests/bench/histogram.h"
#include "tests/bench/options.h"
#include "tests/bench/reply.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (256u << 10)
#define BATCH 256 /* events of one epoll_wait */
#define MS_NS 1000000ull

struct conn {
	int fd;
	bool open, waits_writable, busy, streaming;
	size_t sent;
	uint64_t replies, start_ns, last_ns, resume_ns;
	struct reply reply;
};

struct load {
	struct load_options o;
	int epoll_fd;
	char *request;
	size_t request_len;
	struct conn *conns;
	unsigned open, streaming, busy;
	bool announced, over;
	uint64_t start_ns, end_ns;
	uint64_t started, done, errors, reconnects, bytes, lines, reads, first_status;
	struct histogram latency, first_byte, gap;
	char data[READ_BYTES];
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* --- connections --- */

static void conn_close(struct load *l, struct conn *c)
{
	if (!c->open)
		return;
	close(c->fd); /* leaves the epoll set by that */
	c->open = false;
	l->open--;
}

static int conn_open(struct load *l, struct conn *c)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)l->o.port)};
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	int one = 1;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	/* The connect blocks: on loopback it takes microseconds, and it is not what is measured. */
	if (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) ||
		fcntl(c->fd, F_SETFL, O_NONBLOCK) ||
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
		epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, c->fd, &ev)) {
		int rc = -errno;

		close(c->fd);
		return rc;
	}
	c->open = true;
	c->waits_writable = false;
	l->open++;
	return 0;
}

static void conn_want_writable(struct load *l, struct conn *c, bool want)
{
	struct epoll_event ev = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data.ptr = c};

	if (c->waits_writable == want)
		return;
	c->waits_writable = want;
	epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
}

/* The reply is whole, or there will be none. */
static void conn_finish(struct load *l, struct conn *c, bool good)
{
	c->busy = false;
	l->busy--;
	if (good)
		l->done++;
	else
		l->errors++;
	if (!good || c->reply.closes)
		conn_close(l, c);
}

static void conn_write(struct load *l, struct conn *c)
{
	while (c->sent < l->request_len) {
		ssize_t n =
			send(c->fd, l->request + c->sent, l->request_len - c->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			conn_want_writable(l, c, true);
			return;
		}
		if (n < 0) {
			conn_finish(l, c, false);
			return;
		}
		c->sent += (size_t)n;
	}
	conn_want_writable(l, c, false);
}

static bool may_start(const struct load *l, uint64_t now)
{
	if (l->over || (l->o.requests && l->started >= l->o.requests))
		return false;
	return !l->o.ms || now - l->start_ns < l->o.ms * MS_NS;
}

static void conn_start(struct load *l, struct conn *c)
{
	uint64_t now = now_ns();

	if (!may_start(l, now))
		return;
	if (!c->open) {
		if (conn_open(l, c)) {
			l->errors++;
			l->over = true;
			return;
		}
		l->reconnects += c->replies > 0;
		now = now_ns();
	}
	reply_init(&c->reply);
	c->sent = 0;
	c->busy = true;
	c->start_ns = now;
	c->last_ns = 0;
	l->busy++;
	l->started++;
	conn_write(l, c);
}

static void note_body(struct load *l, struct conn *c, uint64_t now)
{
	bool counts = c->replies >= l->o.skip;

	l->reads++;
	if (counts && c->last_ns == 0)
		histogram_add(&l->first_byte, now - c->start_ns);
	else if (counts)
		histogram_add(&l->gap, now - c->last_ns);
	c->last_ns = now;
	if (!c->streaming) {
		c->streaming = true;
		l->streaming++;
	}
}

static void conn_done(struct load *l, struct conn *c, uint64_t now)
{
	bool good = c->reply.status == 200 && c->sent == l->request_len;

	if (!good && l->first_status == 0)
		l->first_status = (uint64_t)c->reply.status;
	if (good && c->replies >= l->o.skip)
		histogram_add(&l->latency, now - c->start_ns);
	l->bytes += c->reply.bytes;
	l->lines += c->reply.lines;
	c->replies++;
	conn_finish(l, c, good);
	if (l->o.pause_us)
		c->resume_ns = now + l->o.pause_us * 1000;
	else
		conn_start(l, c);
}

static void conn_read(struct load *l, struct conn *c)
{
	ssize_t n = recv(c->fd, l->data, sizeof(l->data), 0);
	uint64_t now = now_ns(), before = c->reply.bytes;
	long used;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (!c->busy) { /* closed while idle; a byte here belongs to no request */
		l->errors += n > 0;
		conn_close(l, c);
		return;
	}
	if (n <= 0) {
		if (n < 0 || reply_eof(&c->reply)) {
			conn_finish(l, c, false);
			return;
		}
		c->reply.closes = true;
		conn_done(l, c, now);
		return;
	}
	used = reply_feed(&c->reply, l->data, (size_t)n);
	if (used != n) {
		conn_finish(l, c, false);
		return;
	}
	if (c->reply.bytes > before)
		note_body(l, c, now);
	if (c->reply.state == REPLY_DONE)
		conn_done(l, c, now);
}

/* --- the run --- */

/* Starts what its pause is over for. Returns ns until the next one, or UINT64_MAX. */
static uint64_t run_pauses(struct load *l)
{
	uint64_t now = now_ns(), next = UINT64_MAX;

	for (unsigned i = 0; l->o.pause_us && i < l->o.connections; i++) {
		struct conn *c = &l->conns[i];

		if (c->busy || c->resume_ns == 0)
			continue;
		if (c->resume_ns <= now) {
			c->resume_ns = 0;
			conn_start(l, c);
		} else if (may_start(l, now) && c->resume_ns - now < next) {
			next = c->resume_ns - now;
		}
	}
	return next;
}

static void announce(struct load *l)
{
	if (!l->o.announce || l->announced || l->streaming < l->o.connections)
		return;
	l->announced = true;
	fprintf(stderr, "streaming\n");
}

static void handle(struct load *l, const struct epoll_event *ev)
{
	struct conn *c = ev->data.ptr;
	char sink[64];

	if (!c) { /* stdin */
		if (read(STDIN_FILENO, sink, sizeof(sink)) <= 0)
			l->over = true;
		return;
	}
	if (c->open && (ev->events & EPOLLOUT) && c->busy)
		conn_write(l, c);
	if (c->open && (ev->events & ~(uint32_t)EPOLLOUT))
		conn_read(l, c);
}

static void run(struct load *l)
{
	struct epoll_event evs[BATCH];
	uint64_t deadline = l->start_ns + l->o.limit_ms * MS_NS;

	for (unsigned i = 0; i < l->o.connections; i++)
		conn_start(l, &l->conns[i]);
	for (;;) {
		uint64_t wait = run_pauses(l), now = now_ns();
		struct timespec ts;

		if (l->o.hold ? l->over : l->busy == 0 && wait == UINT64_MAX)
			break;
		if (now >= deadline) {
			l->errors += l->busy;
			break;
		}
		if (wait > deadline - now)
			wait = deadline - now;
		ts = (struct timespec){
			(time_t)(wait / 1000000000ull), (long)(wait % 1000000000ull)};
		int n = epoll_pwait2(l->epoll_fd, evs, BATCH, &ts, NULL);

		for (int i = 0; i < n; i++)
			handle(l, &evs[i]);
		announce(l);
	}
	l->end_ns = now_ns();
}

static void print(const struct load *l)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	printf("{\"seconds\":%.6f,\"started\":%llu,\"done\":%llu,\"errors\":%llu,\"status\":%llu,"
	       "\"reconnects\":%llu,\"bytes\":%llu,\"lines\":%llu,\"reads\":%llu,\"cpu_s\":%.6f,",
		(double)(l->end_ns - l->start_ns) / 1e9, (unsigned long long)l->started,
		(unsigned long long)l->done, (unsigned long long)l->errors,
		(unsigned long long)l->first_status, (unsigned long long)l->reconnects,
		(unsigned long long)l->bytes, (unsigned long long)l->lines,
		(unsigned long long)l->reads,
		(double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
			(double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6);
	printf("\"latency\":");
	histogram_print(&l->latency, stdout);
	printf(",\"first_byte\":");
	histogram_print(&l->first_byte, stdout);
	printf(",\"gap\":");
	histogram_print(&l->gap, stdout);
	printf("}\n");
}

/* --- start --- */

/* A pipe or the like on stdin; a file or /dev/null cannot be polled, and --hold needs an end. */
static int watch_stdin(struct load *l)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};

	return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &ev) ? -errno : 0;
}

int main(int argc, char **argv)
{
	static struct load l;
	int rc = load_options_parse(&l.o, argc, argv);

	if (rc)
		return 2;
	l.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	l.conns = calloc(l.o.connections, sizeof(*l.conns));
	rc = !l.conns || l.epoll_fd < 0 ? -ENOMEM
					: load_request_build(&l.o, &l.request, &l.request_len);
	if (rc == 0 && l.o.hold)
		rc = watch_stdin(&l);
	if (rc == 0) {
		for (unsigned i = 0; rc == 0 && i < l.o.connections; i++)
			rc = conn_open(&l, &l.conns[i]);
	}
	if (rc == 0) {
		l.start_ns = now_ns();
		run(&l);
		print(&l);
		rc = l.errors ? 1 : 0;
	} else {
		fprintf(stderr, "bench-load: %s\n", strerror(-rc));
		rc = 1;
	}
	for (unsigned i = 0; l.conns && i < l.o.connections; i++)
		conn_close(&l, &l.conns[i]);
	free(l.conns);
	free(l.request);
	return rc;
}
