/* The PUB socket byte for byte: framing, bounded queues, losses told, strangers turned away. */
#include "supervisor/tell/pub.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define QUEUE_BYTES 65536

struct fixture {
	uv_loop_t loop;
	char folder[64], path[96];
	struct pub *pub;
};

static void lost_text(void *ctx, uint64_t count, struct buf *out)
{
	(void)ctx;
	buf_printf(out, "lost %llu", (unsigned long long)count);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	strcpy(f->folder, "/tmp/tandem-pub-XXXXXX");
	if (!mkdtemp(f->folder) || uv_loop_init(&f->loop))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/events.ipc", f->folder);
	*state = f;
	return pub_start(&f->loop, f->path, QUEUE_BYTES, lost_text, NULL, &f->pub);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	pub_stop(f->pub);
	while (uv_run(&f->loop, UV_RUN_DEFAULT))
		;
	int rc = uv_loop_close(&f->loop);
	if (access(f->path, F_OK) == 0)
		rc = -1; /* the path goes with the socket */
	rmdir(f->folder);
	free(f);
	return rc;
}

/* Runs the loop until the socket has something (or its end) for us, at most 10 s. */
static ssize_t take(struct fixture *f, int fd, void *to, size_t n)
{
	for (int turn = 0; turn < 10000; turn++) {
		uv_run(&f->loop, UV_RUN_NOWAIT);
		ssize_t got = recv(fd, to, n, MSG_DONTWAIT);
		if (got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
			return got;
		usleep(1000);
	}
	fail_msg("nothing came");
	return -1;
}

static void take_all(struct fixture *f, int fd, void *to, size_t n)
{
	for (size_t have = 0; have < n;) {
		ssize_t got = take(f, fd, (char *)to + have, n - have);
		assert_true(got > 0);
		have += (size_t)got;
	}
}

static int dial(struct fixture *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(a.sun_path, f->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static int subscribe(struct fixture *f)
{
	static const char hello[8] = {0, 'S', 'P', 0, 0, 0x21, 0, 0};
	static const char expected[8] = {0, 'S', 'P', 0, 0, 0x20, 0, 0};
	char got[8];
	unsigned before = pub_subscribers(f->pub);
	int fd = dial(f);
	assert_int_equal(write(fd, hello, sizeof(hello)), sizeof(hello));
	take_all(f, fd, got, sizeof(got));
	assert_memory_equal(got, expected, sizeof(got));
	for (int turn = 0; turn < 10000 && pub_subscribers(f->pub) == before; turn++) {
		uv_run(&f->loop, UV_RUN_NOWAIT);
		usleep(1000);
	}
	assert_int_equal(pub_subscribers(f->pub), before + 1);
	return fd;
}

/* The next message as a C string in buf. */
static size_t message(struct fixture *f, int fd, char *out, size_t size)
{
	char head[SP_HEAD_BYTES];
	uint64_t n;
	take_all(f, fd, head, sizeof(head));
	assert_int_equal(head[0], 1);
	memcpy(&n, head + 1, sizeof(n));
	n = be64toh(n);
	assert_true(n < size);
	take_all(f, fd, out, n);
	out[n] = '\0';
	return n;
}

static void test_messages_come_whole_and_in_order(void **state)
{
	struct fixture *f = *state;
	char text[64], got[64];
	int a = subscribe(f), b = subscribe(f);
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "event %d", i);
		pub_send(f->pub, slice_str(text));
	}
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "event %d", i);
		message(f, a, got, sizeof(got));
		assert_string_equal(got, text);
		message(f, b, got, sizeof(got));
		assert_string_equal(got, text);
	}
	assert_int_equal(pub_lost(f->pub), 0);
	close(a);
	close(b);
}

static void test_a_slow_subscriber_is_told_what_it_lost(void **state)
{
	struct fixture *f = *state;
	enum { SENT = 4000, SIZE = 1000 };
	char text[SIZE + 1], got[SIZE + 1];
	int slow = subscribe(f);
	memset(text, 'x', SIZE);
	text[SIZE] = '\0';
	for (int i = 0; i < SENT; i++) {
		snprintf(text, 12, "%011d", i);
		text[11] = 'x';
		pub_send(f->pub, slice_str(text));
		uv_run(&f->loop, UV_RUN_NOWAIT);
	}
	unsigned long long lost = 0, seen = 0, total = pub_lost(f->pub);
	assert_true(total > 0);
	while (lost + seen < SENT) {
		message(f, slow, got, sizeof(got));
		unsigned long long here;
		if (sscanf(got, "lost %llu", &here) == 1) {
			lost += here;
			continue;
		}
		assert_int_equal(strlen(got), SIZE);
		assert_int_equal(atoi(got), seen + lost); /* the losses stand where they were */
		seen++;
	}
	assert_int_equal(lost, total);
	/* There is room again: what comes now is not lost. */
	pub_send(f->pub, SLICE("fresh"));
	message(f, slow, got, sizeof(got));
	assert_string_equal(got, "fresh");
	close(slow);
}

static void test_who_breaks_the_form_is_disconnected(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} cases[] = {
		{"\0SP\0\0\x30\0\0", 8},				    /* a REQ */
		{"GET / HTTP/1.1\r\n", 16},				    /* no SP at all */
		{"\0SP\0\0\x21\0\0\1\0\0\0\0\0\0\0\1x", 18},		    /* a SUB that talks */
		{"\0SP\0\0\x21\0\0\1\xff\xff\xff\xff\xff\xff\xff\xff", 17}, /* a huge message */
	};
	struct fixture *f = *state;
	char got[64];
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int fd = dial(f);
		assert_int_equal(write(fd, cases[i].bytes, cases[i].n), cases[i].n);
		ssize_t n;
		while ((n = take(f, fd, got, sizeof(got))) > 0)
			; /* our hello */
		assert_true(n == 0 || errno == ECONNRESET);
		close(fd);
	}
	/* Others are served, and somebody in the middle of the handshake is in nobody's way. */
	int half = dial(f);
	int fd = subscribe(f);
	pub_send(f->pub, SLICE("x"));
	assert_int_equal(message(f, fd, got, sizeof(got)), 1);
	close(half);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_messages_come_whole_and_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_slow_subscriber_is_told_what_it_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_who_breaks_the_form_is_disconnected, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
