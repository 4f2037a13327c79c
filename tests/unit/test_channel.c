/*
 * The link: two ends in one loop, and this program run again as the peer (argv: "peer" ROLE URL).
 * Nothing here waits for a time: loops run until the event that a test expects, and a watchdog
 * timer fails the test when it does not come.
 */
#include "proto/channel.h"

#include <dirent.h>
#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pair1/pair.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define GENERATION 7
#define QUEUE_BYTES (8u << 20)
#define WATCHDOG_MS 20000

static char folder[64];

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
	struct proto_record r;
	r.type = PROTO_DELTA;
	r.job = job;
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

static const struct channel_events events = {on_record, on_peer, on_broken};

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

static int set_up(void **state)
{
	static int number;
	struct rig *rig = calloc(1, sizeof *rig);
	if (!rig || uv_loop_init(&rig->loop) || uv_timer_init(&rig->loop, &rig->watchdog))
		return -1;
	uv_timer_start(&rig->watchdog, on_watchdog, WATCHDOG_MS, 0);
	snprintf(rig->url, sizeof rig->url, "ipc://%s/w%d.ipc", folder, number++);
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
	(void)argc, (void)argv;
	snprintf(folder, sizeof folder, "/tmp/tandem-channel-XXXXXX");
	if (!mkdtemp(folder))
		return 1;
	const struct CMUnitTest tests[] = {
		T(test_echo),
		T(test_one_turn_is_one_frame),
		T(test_put_before_the_peer_comes),
		T(test_put_from_prepare_does_not_sleep),
		T(test_large_records_share_no_frame),
		T(test_refused_records),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	return remove_folder() ? 1 : rc;
}
