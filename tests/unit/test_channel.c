/*
 * The link: two ends in one loop, and this program run again as the peer (argv: "peer" ROLE URL).
 * Nothing here waits for a time: loops run until the event that a test expects, and a watchdog
 * timer fails the test when it does not come.
 */
#include "proto/channel.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define GENERATION 7
#define QUEUE_BYTES (8u << 20)
#define WATCHDOG_MS 20000

static char *program;
static char folder[64];

/*
 * nng 1.5.2 loses a message that it is about to send when the peer dies: up to one frame for each
 * death. Nothing of ours can free it, and LeakSanitizer cannot tell it from one that we forgot.
 */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libnng.so\n";
}

/* --- one end and what it saw --- */

struct end {
	uv_loop_t *loop;
	struct channel *channel;
	struct channel_options options;
	uint64_t generation;
	size_t records, bytes;
	uint64_t last_job;
	bool in_order;
	int joined, left, broken;
	char what[128];
	/* what to do in a callback */
	struct end *other;
	size_t until; /* stop the loop at so many records */
	unsigned rooms;
	bool echo, close_on_record, close_on_peer, close_on_broken;
};

static void close_end(struct end *e)
{
	if (e->channel)
		channel_close(e->channel);
	e->channel = NULL;
}

static struct proto_record delta(uint64_t job, struct slice bytes)
{
	struct proto_record r = {.type = PROTO_DELTA, .job = job};
	r.u.delta.bytes = bytes;
	return r;
}

static struct proto_record body(uint64_t job, struct slice bytes)
{
	struct proto_record r;
	r.type = PROTO_BODY;
	r.job = job;
	r.u.body.bytes = bytes;
	r.u.body.last = false;
	return r;
}

static void on_record(void *ctx, const struct proto_record *r)
{
	struct end *e = ctx;
	e->records++;
	e->in_order = e->in_order && r->job == e->last_job + 1;
	e->last_job = r->job;
	if (r->type == PROTO_DELTA)
		e->bytes += r->u.delta.bytes.n;
	if (r->type == PROTO_BODY)
		e->bytes += r->u.body.bytes.n;
	if (e->echo && r->type == PROTO_BODY) {
		struct proto_record back = delta(r->job, r->u.body.bytes);
		assert_int_equal(channel_put(e->channel, &back), 0);
	}
	if (e->close_on_record)
		close_end(e);
	if (e->records == e->until)
		uv_stop(e->loop);
}

static void on_peer(void *ctx, bool connected)
{
	struct end *e = ctx;
	if (connected)
		e->joined++;
	else
		e->left++;
	if (e->close_on_peer)
		close_end(e);
	uv_stop(e->loop);
}

static void on_broken(void *ctx, int error, const char *what)
{
	struct end *e = ctx;
	e->broken = error;
	snprintf(e->what, sizeof e->what, "%s", what);
	if (e->close_on_broken)
		close_end(e);
	uv_stop(e->loop);
}

static void on_room(void *ctx)
{
	struct end *e = ctx;
	e->rooms++;
}

static const struct channel_events events = {
	.record = on_record, .peer = on_peer, .broken = on_broken, .room = on_room};

/* --- fixture --- */

struct rig {
	uv_loop_t loop;
	uv_timer_t watchdog;
	char url[128];
	struct end a, b; /* supervisor's, worker's */
};

static void on_watchdog(uv_timer_t *t)
{
	(void)t;
	fail_msg("nothing happened for %d ms", WATCHDOG_MS);
}

static void end_init(struct end *e, struct rig *rig, struct end *other)
{
	*e = (struct end){
		.loop = &rig->loop, .other = other, .in_order = true, .generation = GENERATION};
	e->options = (struct channel_options){.generation = GENERATION, .queue_bytes = QUEUE_BYTES};
}

/* Every link has its own, as in the supervisor: a closed one lingers a little. */
static void new_url(struct rig *rig)
{
	static int number;
	snprintf(rig->url, sizeof rig->url, "ipc://%s/w%d.ipc", folder, number++);
}

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof *rig);
	if (!rig || uv_loop_init(&rig->loop) || uv_timer_init(&rig->loop, &rig->watchdog))
		return -1;
	uv_timer_start(&rig->watchdog, on_watchdog, WATCHDOG_MS, 0);
	new_url(rig);
	end_init(&rig->a, rig, &rig->b);
	end_init(&rig->b, rig, &rig->a);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;
	close_end(&rig->a);
	close_end(&rig->b);
	uv_close((uv_handle_t *)&rig->watchdog, NULL);
	while (uv_run(&rig->loop, UV_RUN_DEFAULT))
		;
	int rc = uv_loop_close(&rig->loop);
	free(rig);
	return rc;
}

static void listen_end(struct rig *rig)
{
	new_url(rig);
	uv_timer_start(&rig->watchdog, on_watchdog, WATCHDOG_MS, 0);
	assert_int_equal(channel_listen(&rig->loop, rig->url, &rig->a.options, &events, &rig->a,
				 &rig->a.channel),
		0);
}

static void dial_end(struct rig *rig)
{
	assert_int_equal(channel_dial(&rig->loop, rig->url, &rig->b.options, &events, &rig->b,
				 &rig->b.channel),
		0);
}

#define RUN_UNTIL(rig, condition)                                                                  \
	do {                                                                                       \
		while (!(condition))                                                               \
			uv_run(&(rig)->loop, UV_RUN_ONCE);                                         \
	} while (0)

static void connect_ends(struct rig *rig)
{
	listen_end(rig);
	dial_end(rig);
	RUN_UNTIL(rig, rig->a.joined && rig->b.joined);
}

static void put_bodies(struct end *e, uint64_t from, uint64_t to, size_t n)
{
	static char text[PROTO_PIECE_BYTES];
	for (uint64_t i = from; i <= to; i++) {
		struct proto_record r = body(i, (struct slice){text, n});
		assert_int_equal(channel_put(e->channel, &r), 0);
	}
}

/* --- tests: two ends in one loop --- */

static void test_echo(void **state)
{
	struct rig *rig = *state;
	connect_ends(rig);
	assert_int_equal(channel_peer_pid(rig->a.channel), getpid());
	assert_int_equal(channel_peer_pid(rig->b.channel), getpid());
	rig->b.echo = true;
	put_bodies(&rig->a, 1, 10000, 200);
	RUN_UNTIL(rig, rig->a.records == 10000);
	assert_true(rig->a.in_order && rig->b.in_order);
	assert_int_equal(rig->a.bytes, 10000 * 200);
	assert_int_equal(channel_backlog(rig->a.channel), 0);
	/* 2 MB left in frames of at least 32 KB, not in 10000. */
	assert_in_range(channel_counts(rig->a.channel).frames_out, 1, 70);
}

static void test_one_turn_is_one_frame(void **state)
{
	struct rig *rig = *state;
	connect_ends(rig);
	put_bodies(&rig->a, 1, 20, 10);
	assert_int_equal(channel_counts(rig->a.channel).frames_out, 0);
	RUN_UNTIL(rig, rig->b.records == 20);
	assert_int_equal(channel_counts(rig->a.channel).frames_out, 1);
	put_bodies(&rig->a, 21, 21, 10);
	channel_flush(rig->a.channel);
	channel_flush(rig->a.channel);
	put_bodies(&rig->a, 22, 22, 10);
	RUN_UNTIL(rig, rig->b.records == 22);
	assert_int_equal(channel_counts(rig->a.channel).frames_out, 3);
	assert_true(rig->b.in_order);
}

static void test_put_before_the_peer_comes(void **state)
{
	struct rig *rig = *state;
	listen_end(rig);
	put_bodies(&rig->a, 1, 1000, 1000);
	dial_end(rig);
	RUN_UNTIL(rig, rig->b.records == 1000);
	assert_true(rig->b.in_order);
}

static void on_prepare(uv_prepare_t *p)
{
	struct end *e = p->data;
	put_bodies(e, 1, 1, 10);
	uv_prepare_stop(p);
}

static void test_put_from_prepare_does_not_sleep(void **state)
{
	struct rig *rig = *state;
	uv_prepare_t prepare;
	connect_ends(rig);
	uv_prepare_init(&rig->loop, &prepare);
	prepare.data = &rig->a;
	uv_prepare_start(&prepare, on_prepare);
	RUN_UNTIL(rig, rig->b.records == 1); /* or the watchdog */
	uv_close((uv_handle_t *)&prepare, NULL);
	uv_run(&rig->loop, UV_RUN_NOWAIT);
}

static void test_largest_frame(void **state)
{
	struct rig *rig = *state;
	static char text[PROTO_PIECE_BYTES];
	static struct proto_record r;
	connect_ends(rig);
	/* All but full with headers, so that one record is a whole frame of nearly the limit. */
	r.type = PROTO_JOB;
	r.job = 1;
	r.u.job.body_bytes = -1;
	static struct proto_header headers[PROTO_FRAME_MAX / sizeof text - 1];
	r.u.job.headers = headers;
	r.u.job.header_count = PROTO_FRAME_MAX / sizeof text - 1;
	for (size_t i = 0; i < r.u.job.header_count; i++)
		r.u.job.headers[i].value = (struct slice){text, sizeof text};
	r.u.job.path = (struct slice){text, sizeof text - 400};
	assert_int_equal(channel_put(rig->a.channel, &r), 0);
	RUN_UNTIL(rig, rig->b.records == 1);
	assert_false(rig->b.left);
}

static void test_large_records_share_no_frame(void **state)
{
	struct rig *rig = *state;
	connect_ends(rig);
	put_bodies(&rig->a, 1, 100, PROTO_PIECE_BYTES);
	RUN_UNTIL(rig, rig->b.records == 100);
	assert_int_equal(rig->b.bytes, 100 * (size_t)PROTO_PIECE_BYTES);
	assert_int_equal(channel_counts(rig->a.channel).frames_out, 100);
}

static void test_refused_records(void **state)
{
	struct rig *rig = *state;
	static char text[PROTO_PIECE_BYTES + 1];
	connect_ends(rig);
	struct proto_record r = body(1, (struct slice){text, sizeof text});
	put_bodies(&rig->a, 1, 1, 10);
	assert_int_equal(channel_put(rig->a.channel, &r), -E2BIG);
	r = delta(1, SLICE("from the wrong side"));
	assert_int_equal(channel_put(rig->a.channel, &r), -EINVAL);
	r = body(1, SLICE("from the wrong side"));
	assert_int_equal(channel_put(rig->b.channel, &r), -EINVAL);
	put_bodies(&rig->a, 2, 2, 10);
	RUN_UNTIL(rig, rig->b.records == 2);
	assert_true(rig->b.in_order && !rig->a.broken);
}

static void test_waits_for_a_slow_reader(void **state)
{
	struct rig *rig = *state;
	rig->a.options.queue_bytes = 64u << 20;
	connect_ends(rig);
	put_bodies(&rig->a, 1, 600, PROTO_PIECE_BYTES); /* more than nng and the kernel hold */
	assert_in_range(channel_backlog(rig->a.channel), 1, 64u << 20);
	bool full = channel_full(rig->a.channel);
	assert_int_equal(full, channel_backlog(rig->a.channel) >= 32u << 20);
	RUN_UNTIL(rig, rig->b.records == 600);
	assert_true(rig->b.in_order);
	assert_int_equal(channel_backlog(rig->a.channel), 0);
	assert_int_equal(rig->a.broken, 0);
}

static void test_high_water(void **state)
{
	struct rig *rig = *state;
	connect_ends(rig);
	uint64_t put = 0;
	while (!channel_full(rig->a.channel) && put < 1000) {
		put++;
		put_bodies(&rig->a, put, put, PROTO_PIECE_BYTES);
	}
	assert_in_range(channel_backlog(rig->a.channel), QUEUE_BYTES / 2,
		QUEUE_BYTES / 2 + 2 * PROTO_PIECE_BYTES);
	assert_int_equal(rig->a.rooms, 0);
	RUN_UNTIL(rig, rig->b.records == put);
	RUN_UNTIL(rig, rig->a.rooms == 1);
	assert_false(channel_full(rig->a.channel));
	assert_int_equal(rig->a.broken, 0);
}

static void test_queue_cap(void **state)
{
	struct rig *rig = *state;
	static char text[PROTO_PIECE_BYTES];
	struct proto_record r;
	int rc, taken = 0;
	connect_ends(rig);
	do {
		r = body((uint64_t)++taken, (struct slice){text, sizeof text});
		rc = channel_put(rig->a.channel, &r);
		assert_in_range(channel_backlog(rig->a.channel), 0, QUEUE_BYTES);
	} while (rc == 0 && taken < 10000);
	assert_int_equal(rc, -ENOBUFS);
	assert_int_equal(rig->a.broken, 0); /* never from inside a call */
	RUN_UNTIL(rig, rig->a.broken);
	assert_int_equal(rig->a.broken, -ENOBUFS);
	assert_int_equal(channel_put(rig->a.channel, &r), -ENOBUFS);
	/* What the peer says is still heard. */
	r = delta(1, SLICE("done"));
	assert_int_equal(channel_put(rig->b.channel, &r), 0);
	rig->a.broken = 0;
	RUN_UNTIL(rig, rig->a.records == 1);
	assert_int_equal(rig->a.broken, 0); /* told once */
}

static void test_turn_is_bounded(void **state)
{
	struct rig *rig = *state;
	rig->b.options.turn_frames = 3;
	connect_ends(rig);
	for (uint64_t i = 1; i <= 50; i++) {
		put_bodies(&rig->a, i, i, 10);
		channel_flush(rig->a.channel);
	}
	while (rig->b.records < 50) {
		size_t before = rig->b.records;
		uv_run(&rig->loop, UV_RUN_ONCE);
		/* A turn may both be woken and find the socket readable. */
		assert_in_range(rig->b.records - before, 0, 6);
	}
}

static void test_peer_closes(void **state)
{
	struct rig *rig = *state;
	struct proto_record r = body(1, SLICE("x"));
	connect_ends(rig);
	close_end(&rig->b);
	RUN_UNTIL(rig, rig->a.left);
	assert_int_equal(channel_put(rig->a.channel, &r), -EPIPE);
	assert_int_equal(rig->a.broken, 0);
	assert_int_equal(rig->a.joined, 1);
	assert_int_equal(rig->a.left, 1);
}

static void count_handle(uv_handle_t *handle, void *n)
{
	(void)handle;
	++*(int *)n;
}

/* Runs the loop until only the watchdog is left of its handles. */
static void settle(struct rig *rig)
{
	for (;;) {
		int n = 0;
		uv_walk(&rig->loop, count_handle, &n);
		if (n == 1)
			return;
		uv_run(&rig->loop, UV_RUN_ONCE);
	}
}

/* One end says that it has no more to say; the other has said all that it wanted. */
static void test_hang_up(void **state)
{
	struct rig *rig = *state;
	struct proto_record r = body(101, SLICE("x"));
	connect_ends(rig);
	put_bodies(&rig->a, 1, 100, 10);
	channel_hang_up(rig->a.channel);
	assert_int_equal(channel_put(rig->a.channel, &r), -EPIPE);
	channel_hang_up(rig->a.channel); /* again: nothing */
	r = delta(1, SLICE("not too late"));
	assert_int_equal(channel_put(rig->b.channel, &r), 0);
	RUN_UNTIL(rig, rig->b.left);
	assert_int_equal(rig->b.records, 100);
	r = delta(2, SLICE("too late"));
	assert_int_equal(channel_put(rig->b.channel, &r), -EPIPE);
	RUN_UNTIL(rig, rig->a.left); /* hung up on in its turn */
	assert_int_equal(rig->a.records, 1);
	assert_int_equal(rig->a.broken | rig->b.broken, 0);
	assert_int_equal(rig->a.left + rig->b.left, 2);
}

static void test_close_while_it_hangs_up(void **state)
{
	struct rig *rig = *state;
	for (int i = 0; i < 40; i++) {
		end_init(&rig->a, rig, NULL);
		end_init(&rig->b, rig, NULL);
		connect_ends(rig);
		put_bodies(&rig->a, 1, 3, 1000);
		channel_hang_up(rig->a.channel);
		/* Where both have left nothing comes any more: a turn that waits would wait for
		 * ever.
		 */
		for (int turns = 0; turns < i % 8 && !(rig->a.left && rig->b.left); turns++)
			uv_run(&rig->loop, i < 8 ? UV_RUN_NOWAIT : UV_RUN_ONCE);
		close_end(i % 2 ? &rig->a : &rig->b);
		for (int turns = 0; turns < i % 3; turns++)
			uv_run(&rig->loop, UV_RUN_NOWAIT);
		close_end(i % 2 ? &rig->b : &rig->a);
		settle(rig);
	}
}

struct owned {
	const void *channel;
	int handles;
};

static void count_owned(uv_handle_t *handle, void *arg)
{
	struct owned *o = arg;
	o->handles += handle->data == o->channel;
}

/* A closed end must not wait out its patience with one that has only seen that: that made each stop
 * of a worker a second longer. */
static void test_a_closed_end_is_let_go(void **state)
{
	struct rig *rig = *state;
	uint64_t start = uv_hrtime();
	for (int i = 0; i < 10; i++) {
		end_init(&rig->a, rig, NULL);
		end_init(&rig->b, rig, NULL);
		connect_ends(rig);
		struct owned closed = {.channel = (i % 2 ? &rig->a : &rig->b)->channel};
		close_end(i % 2 ? &rig->a : &rig->b);
		do { /* the other one stays open meanwhile */
			uv_run(&rig->loop, UV_RUN_ONCE);
			closed.handles = 0;
			uv_walk(&rig->loop, count_owned, &closed);
		} while (closed.handles);
		close_end(i % 2 ? &rig->b : &rig->a);
		settle(rig);
	}
	assert_in_range((uv_hrtime() - start) / 1000000, 0, 5000); /* ten seconds, without */
}

static void test_close_in_callbacks(void **state)
{
	struct rig *rig = *state;
	connect_ends(rig);
	rig->b.close_on_record = true;
	put_bodies(&rig->a, 1, 10, 10); /* nine more in the same frame */
	RUN_UNTIL(rig, rig->a.left);
	assert_int_equal(rig->b.records, 1);
	assert_null(rig->b.channel);
	close_end(&rig->a);

	end_init(&rig->a, rig, NULL);
	end_init(&rig->b, rig, NULL);
	rig->a.close_on_peer = true; /* when it joins */
	listen_end(rig);
	dial_end(rig);
	RUN_UNTIL(rig, rig->b.left);
	assert_null(rig->a.channel);
	close_end(&rig->b);

	end_init(&rig->a, rig, NULL);
	end_init(&rig->b, rig, NULL);
	connect_ends(rig);
	rig->a.close_on_peer = true; /* when it leaves */
	close_end(&rig->b);
	RUN_UNTIL(rig, !rig->a.channel);
	assert_int_equal(rig->a.left, 1);

	end_init(&rig->a, rig, NULL);
	end_init(&rig->b, rig, NULL);
	rig->a.close_on_broken = true;
	connect_ends(rig);
	struct proto_record r = body(1, SLICE("x"));
	while (channel_put(rig->a.channel, &r) == 0)
		channel_flush(rig->a.channel);
	RUN_UNTIL(rig, !rig->a.channel);
	assert_int_equal(rig->a.broken, -ENOBUFS);
}

static size_t count_entries(const char *path)
{
	DIR *d = opendir(path);
	size_t n = 0;
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void test_nothing_left_after_200_links(void **state)
{
	struct rig *rig = *state;
	size_t fds = 0, threads = 0;
	for (int i = 0; i < 200; i++) {
		end_init(&rig->a, rig, NULL);
		end_init(&rig->b, rig, NULL);
		connect_ends(rig);
		put_bodies(&rig->a, 1, 3, 1000); /* some of it lost in the close */
		channel_flush(rig->a.channel);
		close_end(i % 2 ? &rig->a : &rig->b);
		RUN_UNTIL(rig, (i % 2 ? &rig->b : &rig->a)->left);
		close_end(i % 2 ? &rig->b : &rig->a);
		settle(rig);
		if (i == 5) { /* nng and libuv keep a few for good */
			fds = count_entries("/proc/self/fd");
			threads = count_entries("/proc/self/task");
		}
	}
	while (count_entries("/proc/self/fd") !=
		fds) /* nng's poller closes them; the alarm ends this */
		sched_yield();
	assert_int_equal(count_entries("/proc/self/task"), threads);
}

static void test_addresses(void **state)
{
	struct rig *rig = *state;
	struct channel *c = NULL;
	char long_url[256] = "ipc:///tmp/";
	struct stat st;

	memset(long_url + strlen(long_url), 'x', 200);
	assert_int_equal(
		channel_listen(&rig->loop, long_url, &rig->a.options, &events, NULL, &c), -EINVAL);
	assert_int_equal(
		channel_listen(&rig->loop, "tcp://127.0.0.1:0", &rig->a.options, &events, NULL, &c),
		-EINVAL);
	assert_int_equal(channel_dial(&rig->loop, "inproc://x", &rig->a.options, &events, NULL, &c),
		-EINVAL);
	assert_int_equal(channel_listen(&rig->loop, "ipc:///nonexistent/x", &rig->a.options,
				 &events, NULL, &c),
		-ENOENT);
	int rc = channel_dial(&rig->loop, rig->url, &rig->b.options, &events, &rig->b, &c);
	assert_true(rc == -ECONNREFUSED || rc == -ENOENT);
	listen_end(rig);
	assert_int_equal(stat(rig->url + strlen("ipc://"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(channel_listen(&rig->loop, rig->url, &rig->a.options, &events, NULL, &c),
		-EADDRINUSE);
	assert_null(c);
	/* Nobody may dial now: to tell a stale file nng has connected to it, and hung up in the
	 * handshake (#1518). */
}

/* --- tests: a peer that is no channel --- */

/*
 * The way to the supervisor of a worker that has its own ideas: SP by hand, for nng at both ends of
 * a pipe in one process may hang when it is closed (link.h). Handshake and framing: nanomsg's RFC
 * sp-ipc-mapping-01; the first 4 bytes of a pair1 message count its hops.
 */
static int raw_dial(const char *url)
{
	static const char hello[8] = {0, 'S', 'P', 0, 0, 0x11, 0, 0};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char answer[sizeof hello];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s", url + strlen("ipc://"));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(send(fd, hello, sizeof hello, MSG_NOSIGNAL), sizeof hello);
	assert_int_equal(recv(fd, answer, sizeof answer, MSG_WAITALL), sizeof answer);
	assert_memory_equal(answer, hello, sizeof hello);
	return fd;
}

static void raw_send_head(int fd, uint64_t n)
{
	char head[13] = {1};
	n += 4;
	for (int i = 0; i < 8; i++)
		head[1 + i] = (char)(n >> (56 - 8 * i));
	head[12] = 1;
	assert_int_equal(send(fd, head, sizeof head, MSG_NOSIGNAL), sizeof head);
}

static void raw_send(int fd, struct slice bytes)
{
	raw_send_head(fd, bytes.n);
	assert_int_equal(send(fd, bytes.p, bytes.n, MSG_NOSIGNAL), bytes.n);
}

static struct slice encode(
	struct proto_writer *w, uint64_t generation, const struct proto_record *r)
{
	proto_writer_init(w, generation);
	assert_int_equal(proto_put(w, r), 0);
	return proto_writer_frame(w);
}

static void test_garbage(void **state)
{
	struct rig *rig = *state;
	static const struct {
		struct slice bytes;
		int error;
		const char *what;
	} cases[] = {
		{{"", 0}, -EPROTO, "frame: cut short"},
		{SLICE("GET / HTTP/1.1\r\n\r\n"), -EPROTO, "frame: not an array"},
		{SLICE("\xdd\x04\x00\x00\x00\x01\x07"), -EPROTO, "frame: a length past the end"},
		{SLICE("\x93\x03\x07\x98\x05\x01\xa1x\xc2\xc2\x00\xa0\x00"), -EPROTO,
			"delta.bytes: wrong type"},
		{SLICE("\x92\x04\x07"), -EPROTONOSUPPORT, "version 4, not 3"},
		/* A cancel comes from the supervisor alone. */
		{SLICE("\x93\x03\x07\x92\x23\x01"), -EPROTO, "a record from the wrong side"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct proto_record good = delta(1, SLICE("good"));
		struct proto_writer w;
		end_init(&rig->a, rig, NULL);
		listen_end(rig);
		int raw = raw_dial(rig->url);
		struct slice frame = encode(&w, GENERATION, &good);
		raw_send(raw, frame);
		raw_send(raw, cases[i].bytes);
		raw_send(raw, frame); /* not read any more */
		proto_writer_fini(&w);
		RUN_UNTIL(rig, rig->a.broken);
		assert_int_equal(rig->a.broken, cases[i].error);
		assert_string_equal(rig->a.what, cases[i].what);
		channel_drain(rig->a.channel);
		assert_int_equal(rig->a.records, 1);
		close(raw);
		RUN_UNTIL(rig, rig->a.left);
		assert_int_equal(rig->a.records, 1);
		close_end(&rig->a);
		uv_run(&rig->loop, UV_RUN_NOWAIT);
	}
}

static void test_records_before_a_broken_one(void **state)
{
	struct rig *rig = *state;
	listen_end(rig);
	int raw = raw_dial(rig->url);
	/* delta, then a cancel, then a delta */
	raw_send(raw,
		SLICE("\x95\x03\x07\x98\x05\x01\xc4\x00\xc3\xc2\x00\xa0\x00\x92\x23\x01\x98\x05"
		      "\x02\xc4\x00\xc3\xc2\x00\xa0\x00"));
	RUN_UNTIL(rig, rig->a.broken);
	assert_int_equal(rig->a.records, 1);
	close(raw);
}

static void test_other_generation(void **state)
{
	struct rig *rig = *state;
	struct proto_record r = delta(1, SLICE("x"));
	listen_end(rig);
	int raw = raw_dial(rig->url);
	static const uint64_t generations[] = {GENERATION - 1, 0, UINT64_MAX, GENERATION};
	for (size_t i = 0; i < 4; i++) {
		struct proto_writer w;
		raw_send(raw, encode(&w, generations[i], &r));
		proto_writer_fini(&w);
	}
	RUN_UNTIL(rig, rig->a.records == 1);
	assert_int_equal(channel_counts(rig->a.channel).stale_frames, 3);
	assert_int_equal(rig->a.broken, 0);
	close(raw);
}

static void test_oversized_message(void **state)
{
	struct rig *rig = *state;
	listen_end(rig);
	int raw = raw_dial(rig->url);
	raw_send_head(raw, PROTO_FRAME_MAX + 1);
	RUN_UNTIL(rig, rig->a.left); /* nng hangs up, before the message has come */
	assert_int_equal(rig->a.records, 0);
	close(raw);
}

static void test_hung_up_in_a_message(void **state)
{
	struct rig *rig = *state;
	struct proto_record r = delta(1, SLICE("x"));
	struct proto_writer w;
	listen_end(rig);
	int raw = raw_dial(rig->url);
	struct slice frame = encode(&w, GENERATION, &r);
	raw_send(raw, frame);
	raw_send_head(raw, frame.n);
	assert_int_equal(send(raw, frame.p, frame.n / 2, MSG_NOSIGNAL), frame.n / 2);
	close(raw);
	proto_writer_fini(&w);
	RUN_UNTIL(rig, rig->a.left);
	assert_int_equal(rig->a.records, 1);
	assert_int_equal(rig->a.broken, 0);
}

static int try_dial(const char *url)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s", url + strlen("ipc://"));
	int rc = connect(fd, (struct sockaddr *)&address, sizeof address) ? -errno : 0;
	close(fd);
	return rc;
}

static void test_nobody_finds_a_link_that_is_made(void **state)
{
	struct rig *rig = *state;
	connect_ends(rig);
	put_bodies(&rig->a, 1, 100, 10);
	RUN_UNTIL(rig, rig->b.records == 100);
	assert_int_equal(try_dial(rig->url), -ENOENT);
	close_end(&rig->b);
	RUN_UNTIL(rig, rig->a.left);
	/* Its place stays empty. */
	assert_int_equal(try_dial(rig->url), -ENOENT);
	assert_int_equal(rig->a.joined, 1);
	assert_int_equal(channel_counts(rig->a.channel).strangers, 0);
}

/* --- tests: another process --- */

struct child {
	uv_process_t process;
	bool exited;
	int64_t status;
	int signal;
	int out; /* read end of its standard output */
};

static void on_exit_cb(uv_process_t *p, int64_t status, int signal)
{
	struct child *c = p->data;
	c->exited = true;
	c->status = status;
	c->signal = signal;
	uv_close((uv_handle_t *)p, NULL);
}

static void spawn(struct rig *rig, struct child *c, const char *role)
{
	char *args[] = {
		program, (char *)(uintptr_t) "peer", (char *)(uintptr_t)role, rig->url, NULL};
	int out[2];
	assert_int_equal(pipe(out), 0);
	uv_stdio_container_t stdio[3] = {
		{.flags = UV_IGNORE},
		{.flags = UV_INHERIT_FD, .data.fd = out[1]},
		{.flags = UV_INHERIT_FD, .data.fd = 2},
	};
	uv_process_options_t options = {.file = program,
		.args = args,
		.exit_cb = on_exit_cb,
		.stdio = stdio,
		.stdio_count = 3};
	*c = (struct child){.out = out[0]};
	c->process.data = c;
	assert_int_equal(uv_spawn(&rig->loop, &c->process, &options), 0);
	close(out[1]);
}

static void wait_for_exit(struct rig *rig, struct child *c)
{
	RUN_UNTIL(rig, c->exited);
	close(c->out);
}

static void test_echo_across_processes(void **state)
{
	struct rig *rig = *state;
	struct child child;
	listen_end(rig);
	spawn(rig, &child, "echo");
	RUN_UNTIL(rig, rig->a.joined);
	assert_int_equal(channel_peer_pid(rig->a.channel), child.process.pid);
	put_bodies(&rig->a, 1, 10000, 200);
	RUN_UNTIL(rig, rig->a.records == 10000);
	assert_true(rig->a.in_order);
	close_end(&rig->a);
	wait_for_exit(rig, &child); /* its end of the link is gone: it goes */
	assert_int_equal(child.status, 0);
}

static void test_killed_while_it_sends(void **state)
{
	struct rig *rig = *state;
	struct child child;
	listen_end(rig);
	spawn(rig, &child, "flood");
	RUN_UNTIL(rig, rig->a.records >= 1000);
	assert_int_equal(uv_process_kill(&child.process, SIGKILL), 0);
	wait_for_exit(rig, &child);
	assert_int_equal(child.signal, SIGKILL);
	size_t before = rig->a.records;
	channel_drain(rig->a.channel);
	print_message("  %zu records before the exit was seen, %zu after\n", before,
		rig->a.records - before);
	size_t drained = rig->a.records;
	RUN_UNTIL(rig, rig->a.left);
	assert_int_equal(rig->a.records, drained);
	assert_true(rig->a.in_order && !rig->a.broken);
}

static void test_killed_while_we_do_not_read(void **state)
{
	struct rig *rig = *state;
	struct child child;
	char sign;
	listen_end(rig);
	spawn(rig, &child, "flood");
	RUN_UNTIL(rig, rig->a.records > 0);
	/* It says when it cannot send: all buffers between us are full, and nng would not see its
	 * death. */
	assert_int_equal(read(child.out, &sign, 1), 1);
	size_t before = rig->a.records;
	assert_int_equal(uv_process_kill(&child.process, SIGKILL), 0);
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)child.process.pid, &info, WEXITED | WNOWAIT), 0);
	channel_drain(rig->a.channel);
	print_message("  %zu records drained\n", rig->a.records - before);
	assert_in_range(rig->a.records - before, 1, SIZE_MAX);
	assert_in_range(rig->a.records, 120 * 7, SIZE_MAX); /* at least 7 make a frame */
	assert_true(rig->a.in_order);
	size_t drained = rig->a.records;
	wait_for_exit(rig, &child);
	RUN_UNTIL(rig, rig->a.left);
	assert_int_equal(rig->a.records, drained);
}

/* Closing while messages are under way is where nng before 1.8 waits for ever: link.h. */
static void test_close_under_fire(void **state)
{
	struct rig *rig = *state;
	for (int i = 0; i < 60; i++) {
		struct child child;
		bool killed = i % 3;
		end_init(&rig->a, rig, NULL);
		listen_end(rig);
		spawn(rig, &child, "flood");
		RUN_UNTIL(rig, rig->a.joined);
		for (uint64_t job = 1; rig->a.records < 200; job++) {
			if (channel_backlog(rig->a.channel) < QUEUE_BYTES / 2)
				put_bodies(&rig->a, job, job, 3000);
			channel_flush(rig->a.channel);
			uv_run(&rig->loop, UV_RUN_NOWAIT);
		}
		if (killed) {
			uv_process_kill(&child.process, SIGKILL);
			for (int turns = 0; turns < i; turns++) {
				struct proto_record r = body(1, SLICE("into the void"));
				channel_put(rig->a.channel, &r);
				channel_flush(rig->a.channel);
				uv_run(&rig->loop, UV_RUN_NOWAIT);
			}
		} else {
			close_end(&rig->a); /* it sees that, and leaves */
		}
		wait_for_exit(rig, &child);
		assert_int_equal(child.signal, killed ? SIGKILL : 0);
		if (killed)
			RUN_UNTIL(rig, rig->a.left);
		assert_true(rig->a.in_order && !rig->a.broken);
		close_end(&rig->a);
		settle(rig);
	}
}

static void test_drain_without_a_peer(void **state)
{
	struct rig *rig = *state;
	listen_end(rig);
	uint64_t start = uv_hrtime();
	channel_drain(rig->a.channel);
	assert_in_range(uv_hrtime() - start, 0, 50000000);
}

static void test_queue_for_the_dead_is_dropped(void **state)
{
	struct rig *rig = *state;
	struct child child;
	rig->a.options.queue_bytes = 64u << 20;
	listen_end(rig);
	spawn(rig, &child, "sleep");
	RUN_UNTIL(rig, rig->a.joined);
	put_bodies(&rig->a, 1, 600, PROTO_PIECE_BYTES);
	assert_in_range(channel_backlog(rig->a.channel), 1, 64u << 20);
	assert_int_equal(uv_process_kill(&child.process, SIGKILL), 0);
	wait_for_exit(rig, &child);
	RUN_UNTIL(rig, rig->a.left);
	assert_int_equal(channel_backlog(rig->a.channel), 0);
	assert_int_equal(rig->a.broken, 0);
}

static void test_last_word(void **state)
{
	struct rig *rig = *state;
	for (int i = 0; i < 20; i++) {
		struct child child;
		end_init(&rig->a, rig, NULL);
		listen_end(rig);
		spawn(rig, &child, "last-word");
		wait_for_exit(rig, &child);
		channel_drain(rig->a.channel);
		assert_int_equal(rig->a.records, 1);
		assert_int_equal(rig->a.bytes, strlen("so it ends"));
		close_end(&rig->a);
		uv_run(&rig->loop, UV_RUN_NOWAIT);
	}
}

static void test_stranger(void **state)
{
	struct rig *rig = *state;
	struct child child;
	if (geteuid() != 0)
		skip(); /* only root can become somebody else */
	listen_end(rig);
	assert_int_equal(chmod(folder, 0711), 0);
	assert_int_equal(chmod(rig->url + strlen("ipc://"), 0666), 0);
	spawn(rig, &child, "stranger");
	RUN_UNTIL(rig, channel_counts(rig->a.channel).strangers > 0);
	wait_for_exit(rig, &child);
	assert_int_equal(chmod(folder, 0700), 0);
	assert_int_equal(child.status, 0); /* it was turned away */
	assert_int_equal(rig->a.joined + (int)rig->a.records, 0);
}

static void test_incarnations(void **state)
{
	struct rig *rig = *state;
	size_t connected = 0;
	for (int i = 0; i < 60; i++) {
		struct child child;
		end_init(&rig->a, rig, NULL);
		listen_end(rig);
		spawn(rig, &child, "echo");
		if (i % 3) { /* some before they can connect, some during, some after */
			for (int turns = 0; turns < i % 7 && !rig->a.joined; turns++)
				uv_run(&rig->loop, UV_RUN_NOWAIT);
			uv_process_kill(&child.process, SIGKILL);
		} else {
			RUN_UNTIL(rig, rig->a.joined);
			put_bodies(&rig->a, 1, 1, 10);
			RUN_UNTIL(rig, rig->a.records == 1);
			uv_process_kill(&child.process, SIGKILL);
			connected++;
		}
		wait_for_exit(rig, &child);
		channel_drain(rig->a.channel);
		close_end(&rig->a);
	}
	assert_int_equal(connected, 20);
}

/* --- this program as the peer --- */

static uint64_t flood_next = 1;

static void on_flood(uv_idle_t *idle)
{
	static bool told;
	static char text[4000];
	struct end *e = idle->data;
	for (int i = 0; i < 16 && channel_backlog(e->channel) < QUEUE_BYTES / 2; i++) {
		struct proto_record r = delta(flood_next, (struct slice){text, sizeof text});
		if (channel_put(e->channel, &r))
			_exit(4);
		flood_next++;
	}
	/* nng here holds 128 frames, so the other 122 are with the peer or on the way. */
	if (channel_counts(e->channel).frames_out >= 250 &&
		channel_backlog(e->channel) >= QUEUE_BYTES / 2 && !told) {
		told = true;
		if (write(1, "!", 1) != 1)
			_exit(5);
	}
}

static int peer_main(const char *role, const char *url)
{
	static struct rig rig;
	uv_idle_t flood;
	if (strcmp(role, "stranger") == 0 && setuid(65534) != 0)
		return 6;
	if (uv_loop_init(&rig.loop))
		return 7;
	end_init(&rig.b, &rig, NULL);
	rig.b.echo = strcmp(role, "echo") == 0;
	int rc = channel_dial(&rig.loop, url, &rig.b.options, &events, &rig.b, &rig.b.channel);
	if (strcmp(role, "stranger") == 0 && rc)
		return 0; /* nng may see the end before it reports the connection */
	if (rc)
		return 8;
	if (strcmp(role, "last-word") == 0) {
		struct proto_record r = delta(1, SLICE("so it ends"));
		rc = channel_put(rig.b.channel, &r);
		channel_flush(rig.b.channel);
		_exit(rc ? 9 : 0);
	}
	if (strcmp(role, "sleep") == 0)
		pause();
	if (strcmp(role, "flood") == 0) {
		uv_idle_init(&rig.loop, &flood);
		flood.data = &rig.b;
		uv_idle_start(&flood, on_flood);
	}
	while (!rig.b.left)
		uv_run(&rig.loop, UV_RUN_ONCE);
	close_end(&rig.b);
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static int remove_folder(void)
{
	DIR *d = opendir(folder);
	struct dirent *entry;
	int left = 0;
	while (d && (entry = readdir(d)))
		if (entry->d_name[0] != '.') {
			fprintf(stderr, "left behind: %s/%s\n", folder, entry->d_name);
			unlinkat(dirfd(d), entry->d_name, 0);
			left++;
		}
	if (d)
		closedir(d);
	rmdir(folder);
	return left;
}

int main(int argc, char **argv)
{
	program = argv[0];
	alarm(300);
	if (argc == 4 && strcmp(argv[1], "peer") == 0)
		return peer_main(argv[2], argv[3]);
	snprintf(folder, sizeof folder, "/tmp/tandem-channel-XXXXXX");
	if (argc == 2)
		cmocka_set_test_filter(argv[1]);
	if (!mkdtemp(folder))
		return 1;
	const struct CMUnitTest tests[] = {
		T(test_echo),
		T(test_one_turn_is_one_frame),
		T(test_put_before_the_peer_comes),
		T(test_put_from_prepare_does_not_sleep),
		T(test_largest_frame),
		T(test_large_records_share_no_frame),
		T(test_refused_records),
		T(test_waits_for_a_slow_reader),
		T(test_high_water),
		T(test_queue_cap),
		T(test_turn_is_bounded),
		T(test_peer_closes),
		T(test_hang_up),
		T(test_close_while_it_hangs_up),
		T(test_a_closed_end_is_let_go),
		T(test_close_in_callbacks),
		T(test_nothing_left_after_200_links),
		T(test_addresses),
		T(test_garbage),
		T(test_records_before_a_broken_one),
		T(test_other_generation),
		T(test_oversized_message),
		T(test_hung_up_in_a_message),
		T(test_nobody_finds_a_link_that_is_made),
		T(test_echo_across_processes),
		T(test_killed_while_it_sends),
		T(test_killed_while_we_do_not_read),
		T(test_close_under_fire),
		T(test_drain_without_a_peer),
		T(test_queue_for_the_dead_is_dropped),
		T(test_last_word),
		T(test_stranger),
		T(test_incarnations),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	return remove_folder() ? 1 : rc;
}
