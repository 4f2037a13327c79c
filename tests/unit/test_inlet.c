/* What of a client's bytes reaches libmicrohttpd, and what is refused: whole, byte by byte, and in
 * pieces. tests/attack/test_heads.py has the long table of heads. */
#include "supervisor/front/inlet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define POST "POST / HTTP/1.1\r\nHost: x\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define SHORT_CHUNKED "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"

struct run {
	struct inlet in;
	struct buf out;
	unsigned heads;
};

static void take(struct run *r, size_t most)
{
	char piece[64];
	size_t n;
	while ((n = inlet_take(&r->in, piece, most)) > 0)
		assert_int_equal(buf_add(&r->out, piece, n), 0);
	for (struct head *h; (h = inlet_next_head(&r->in)) != NULL; r->heads++) {
		head_fini(h);
		free(h);
	}
}

/* Pushes the text in pieces of `step` bytes (0: all at once). */
static void run(struct run *r, struct slice text, size_t step)
{
	*r = (struct run){.heads = 0};
	buf_init(&r->out, 0);
	inlet_init(&r->in, 1000, 20, NULL);
	for (size_t at = 0; at < text.n;) {
		size_t n = step && step < text.n - at ? step : text.n - at;
		inlet_push(&r->in, text.p + at, n);
		at += n;
		take(r, step ? step : 64);
	}
}

static void end(struct run *r)
{
	inlet_fini(&r->in);
	buf_free(&r->out);
}

struct expected {
	struct slice in;
	const char *out;
	unsigned heads;
	int status; /* 0: all of it is good */
};

#define CASE(text, ...)                                                                            \
	{                                                                                          \
		SLICE(text), __VA_ARGS__                                                           \
	}

static const struct expected cases[] = {
	CASE("GET /a HTTP/1.1\r\nHost: x\r\nCookie: y\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", 1, 0),
	CASE("\r\n\r\nGET /a HTTP/1.0\n\n", "GET / HTTP/1.0\r\n\r\n", 1, 0),
	CASE("GET /a HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n",
		"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 1, 0),
	CASE(POST "Connection: CLOSE\r\nContent-Length: 003\r\n\r\nabcGET / "
		  "HTTP/1.1\r\nHost:\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
		"GET / HTTP/1.1\r\n\r\n",
		2, 0),
	CASE(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", 1, 0),
	CASE(CHUNKED "0005;a=\"b;c\" \r\n12345\r\nA\r\n1234567890\r\n00\r\nX-T: y\r\n\r\n",
		SHORT_CHUNKED "5\r\n12345\r\na\r\n1234567890\r\n0\r\n\r\n", 1, 0),
	CASE(CHUNKED "1 ;x\r\na\r\n0\r\n\r\n", SHORT_CHUNKED "1\r\na\r\n0\r\n\r\n", 1, 0),
	/* What is wrong ends it there, and what came before stands. */
	CASE(POST "Content-Length : 5\r\n\r\n12345", "", 0, 400),
	CASE("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost : x\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n", 1, 400),
	CASE(POST "Content-Length: 5\0\r\n\r\n12345", "", 0, 400),
	CASE(POST "X: a\rContent-Length: 5\r\n\r\n12345", "", 0, 400),
	CASE(POST "Transfer-Encoding: chunked\0x\r\n\r\n0\r\n\r\n", "", 0, 400),
	CASE("\x16\x03\x01\x02", "", 0, 400),
	CASE("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", "", 0, 400),
	CASE("hello\r\n", "", 0, 400),
	CASE("\xff", "", 0, 400),
	CASE("\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n", "", 0, 400),
	CASE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", 0, 505),
	CASE(CHUNKED "5\n12345\r\n", SHORT_CHUNKED, 1, 400),
	CASE(CHUNKED "5\r\n12345X", SHORT_CHUNKED "5\r\n12345", 1, 400),
	CASE(CHUNKED "5 5\r\n", SHORT_CHUNKED, 1, 400),
	CASE(CHUNKED "\r\n", SHORT_CHUNKED, 1, 400),
	CASE(CHUNKED "-1\r\n", SHORT_CHUNKED, 1, 400),
	CASE(CHUNKED "0x5\r\n", SHORT_CHUNKED, 1, 400),
	CASE(CHUNKED "5;\x01\r\n", SHORT_CHUNKED, 1, 400),
	CASE(CHUNKED "ffffffffffffffff\r\n", SHORT_CHUNKED, 1, 413),
	CASE(CHUNKED "0\r\nfolded\r\n", SHORT_CHUNKED, 1, 400),
	CASE(CHUNKED "0\r\nA: b\r\n c\r\n", SHORT_CHUNKED, 1, 400),
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		for (size_t step = 0; step < 8; step++) {
			const struct expected *e = &cases[i];
			struct run r;
			run(&r, e->in, step);
			assert_string_equal(buf_cstr(&r.out), e->out);
			assert_int_equal(r.heads, e->heads);
			assert_int_equal(r.in.fault.status, e->status);
			assert_int_equal(r.in.state == INLET_REFUSED, e->status != 0);
			end(&r);
		}
}

static void repeated(const char *before, char c, size_t n, const char *after, int status)
{
	struct buf text;
	buf_init(&text, 0);
	buf_add_str(&text, before);
	for (size_t i = 0; i < n; i++)
		buf_add_char(&text, c);
	buf_add_str(&text, after);
	for (size_t step = 0; step < 200; step += 50) {
		struct run r;
		run(&r, buf_slice(&text), step);
		assert_int_equal(r.in.fault.status, status);
		end(&r);
	}
	buf_free(&text);
}

static void test_caps(void **state)
{
	(void)state;
	repeated("GET /", 'a', 900, " HTTP/1.1\r\nHost: x\r\n\r\n", 0);
	repeated("GET /", 'a', 1000, " HTTP/1.1\r\nHost: x\r\n\r\n", 414);
	repeated("GET / HTTP/1.1\r\nHost: x\r\nA: ", 'a', 900, "\r\n\r\n", 0);
	repeated("GET / HTTP/1.1\r\nHost: x\r\nA: ", 'a', 1000, "\r\n\r\n", 431);
	repeated(CHUNKED "5;", 'a', INLET_CHUNK_LINE_BYTES - 3, "\r\n12345\r\n0\r\n\r\n", 0);
	repeated(CHUNKED "5;", 'a', INLET_CHUNK_LINE_BYTES, "\r\n12345\r\n0\r\n\r\n", 400);
	repeated(CHUNKED, '0', 60000, "5\r\n", 400);
	repeated("", '\n', 65536, "", 400);
	repeated("A", 'A', 31, " / HTTP/1.1\r\nHost: x\r\n\r\n", 0);
	repeated("A", 'A', 32, " / HTTP/1.1\r\nHost: x\r\n\r\n", 400);

	struct buf text;
	buf_init(&text, 0);
	buf_add_str(&text, "GET / HTTP/1.1\r\nHost: x\r\n");
	for (int i = 0; i < 20; i++)
		buf_add_str(&text, "a: b\r\n");
	buf_add_str(&text, "\r\n");
	struct run r;
	run(&r, buf_slice(&text), 0);
	assert_int_equal(r.in.fault.status, 431); /* 21 headers */
	end(&r);
	buf_clear(&text);
	buf_add_str(&text, CHUNKED "0\r\n");
	for (int i = 0; i < 2000; i++)
		buf_add_str(&text, "a: b\r\n");
	run(&r, buf_slice(&text), 100);
	assert_int_equal(r.in.fault.status, 431);
	end(&r);
	buf_free(&text);
}

/* What the rest of the supervisor is told of a head. */
static void test_head(void **state)
{
	(void)state;
	struct inlet in;
	struct slice text =
		SLICE("POST HTTP://Other:1?x=/api/delete HTTP/1.1\r\nhost: x\r\nX-A:\t a b \t\r\n"
		      "X-B:\r\nCONTENT-LENGTH: 7\r\n\r\n");
	inlet_init(&in, 1000, 20, NULL);
	inlet_push(&in, text.p, text.n);
	struct head *h = inlet_next_head(&in);
	assert_non_null(h);
	assert_string_equal(h->method, "POST");
	assert_string_equal(h->target, "/?x=/api/delete");
	assert_string_equal(head_value(h, "Host"), "Other:1");
	assert_string_equal(head_value(h, "x-a"), "a b");
	assert_string_equal(head_value(h, "x-b"), "");
	assert_null(head_value(h, "x-c"));
	assert_int_equal(h->body_bytes, 7);
	assert_int_equal(h->size, text.n);
	assert_int_equal(inlet_passable(&in), 0); /* the head is not taken yet */
	head_fini(h);
	free(h);
	inlet_fini(&in);
}

static void test_authorities(void **state)
{
	(void)state;
	static const char *const good[] = {"", "x", "x:1", "127.0.0.1:8512", "[::1]", "[::1]:80",
		"[::ffff:1.2.3.4]", "a.b-c_d", "x:", "\xc3\xa4.local"};
	static const char *const bad[] = {"[::1]evil", "[::1]:8x", "[]", "[::1", "a b", "a/b",
		"a@b", "a:b", "x:123456", "[x]", "a:1:2", ":80", "a,b", "a?b", "a\\b", "a\"b"};
	for (size_t i = 0; i < COUNT(good); i++)
		assert_true(head_authority_sound(good[i]));
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_false(head_authority_sound(bad[i]));
}

/* Bytes of a body of known length may go past the inlet. */
static void test_passing(void **state)
{
	(void)state;
	struct inlet in;
	char space[64];
	struct slice text = SLICE(POST "Content-Length: 10\r\n\r\n1");
	inlet_init(&in, 1000, 20, NULL);
	inlet_push(&in, text.p, text.n);
	assert_int_equal(inlet_passable(&in), 0);
	while (inlet_take(&in, space, sizeof(space)) > 0)
		;
	assert_int_equal(inlet_passable(&in), 9);
	inlet_passed(&in, 9);
	assert_int_equal(inlet_passable(&in), 0);
	assert_int_equal(in.state, INLET_HEAD);
	assert_int_equal(in.body_bytes, 10);
	inlet_fini(&in);
}

/* Heads above 16 KB share a room: taken as they come, given back with the head, however it ends. */
static void test_room(void **state)
{
	(void)state;
	struct head_room room = {.max = 50000};
	struct inlet a, b, c;
	struct buf text;
	buf_init(&text, 0);
	buf_add_str(&text, "GET / HTTP/1.1\r\nHost: x\r\nX: ");
	while (text.n < 30000)
		buf_add_char(&text, 'y');
	inlet_init(&a, 100000, 20, &room);
	inlet_init(&b, 100000, 20, &room);
	inlet_init(&c, 100000, 20, &room);
	inlet_push(&a, text.p, HEAD_SMALL_BYTES);
	assert_int_equal(room.used, 0);
	inlet_push(&a, text.p + HEAD_SMALL_BYTES, text.n - HEAD_SMALL_BYTES);
	assert_int_equal(room.used, text.n);
	inlet_push(&b, text.p, text.n);
	assert_int_equal(b.state, INLET_REFUSED);
	assert_int_equal(b.fault.status, 503);
	inlet_push(&c, text.p, HEAD_SMALL_BYTES); /* exempt */
	assert_int_equal(c.state, INLET_HEAD);
	assert_int_equal(room.used, text.n);
	inlet_push(&a, "\r\n\r\n", 4);
	struct head *h = inlet_next_head(&a);
	assert_non_null(h);
	assert_int_equal(room.used, text.n + 4);
	head_fini(h);
	free(h);
	assert_int_equal(room.used, 0);
	inlet_push(&c, text.p + HEAD_SMALL_BYTES, text.n - HEAD_SMALL_BYTES);
	assert_int_equal(room.used, text.n);
	inlet_push(&c, "\1", 1); /* a fault gives it back, too */
	assert_int_equal(c.state, INLET_REFUSED);
	assert_int_equal(room.used, 0);
	inlet_push(&a, text.p, text.n);
	inlet_fini(&a);
	inlet_fini(&b);
	inlet_fini(&c);
	assert_int_equal(room.used, 0);
	buf_free(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_caps),
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_authorities),
		cmocka_unit_test(test_passing),
		cmocka_unit_test(test_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
