/*
 * libFuzzer target for the stats and events sockets (sp.h): a peer that sends any bytes, in any
 * pieces, and leaves at any time. What comes back is what a reader of the whole text expects, up to
 * the first byte that breaks the form; then the peer is disconnected. No peer is left over.
 *
 * The first byte says which socket, the second seeds the pieces.
 */
#include "supervisor/tell/pub.h"
#include "supervisor/tell/rep.h"

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUIRE(c)                                                                                 \
	do {                                                                                       \
		if (!(c))                                                                          \
			abort();                                                                   \
	} while (0)

#define QUEUE_BYTES 65536
#define PIECE_BYTES 600 /* less than the buffer of a peer, so that nobody talks too much at once */
#define LATER_MAX 64
#define TURNS_MAX 100000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	uv_loop_t loop;
	char folder[64], rep_path[96], pub_path[96];
	struct rep *rep;
	struct pub *pub;
	struct {
		struct rep_question *q;
		struct slice text; /* of the answer; owned */
	} later[LATER_MAX];
	size_t later_count;
	bool started;
} f;

/* --- both ends --- */

/* The answer: the question's length, and it turned round. */
static void put_answer(struct slice question, struct buf *out)
{
	buf_printf(out, "%zu:", question.n);
	for (size_t i = question.n; i > 0; i--)
		buf_add_char(out, question.p[i - 1]);
}

static bool is_put_off(struct slice question)
{
	return question.n > 0 && (question.p[0] & 1);
}

static enum rep_when on_question(
	void *ctx, struct rep_question *q, struct slice request, struct buf *out)
{
	(void)ctx;
	REQUIRE(request.n <= SP_MESSAGE_BYTES);
	if (!is_put_off(request)) {
		put_answer(request, out);
		return REP_NOW;
	}
	struct buf text;
	buf_init(&text, 0);
	put_answer(request, &text);
	REQUIRE(f.later_count < LATER_MAX);
	f.later[f.later_count].q = q;
	f.later[f.later_count++].text = buf_slice(&text);
	return REP_LATER;
}

static void answer_later(void)
{
	while (f.later_count > 0) {
		f.later_count--;
		rep_reply(f.later[f.later_count].q, f.later[f.later_count].text);
		free((char *)(uintptr_t)f.later[f.later_count].text.p);
	}
}

static void lost_text(void *ctx, uint64_t count, struct buf *out)
{
	(void)ctx;
	buf_printf(out, "lost %llu", (unsigned long long)count);
}

static void remove_folder(void)
{
	unlink(f.rep_path);
	unlink(f.pub_path);
	rmdir(f.folder);
}

static void start(void)
{
	if (f.started)
		return;
	f.started = true;
	strcpy(f.folder, "/tmp/tandem-fuzz-sp-XXXXXX");
	REQUIRE(mkdtemp(f.folder) && uv_loop_init(&f.loop) == 0);
	snprintf(f.rep_path, sizeof(f.rep_path), "%s/rep", f.folder);
	snprintf(f.pub_path, sizeof(f.pub_path), "%s/pub", f.folder);
	REQUIRE(rep_start(&f.loop, f.rep_path, on_question, NULL, &f.rep) == 0);
	REQUIRE(pub_start(&f.loop, f.pub_path, QUEUE_BYTES, lost_text, NULL, &f.pub) == 0);
	atexit(remove_folder);
}

static int dial(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	REQUIRE(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	return fd;
}

/* Lets the loop do all that it can do now; what comes back is read. True: we were hung up on. */
static bool turn(int fd, struct buf *got)
{
	bool ended = false;
	for (unsigned still = 0; still < 3; still++) {
		char bytes[8192];
		uv_run(&f.loop, UV_RUN_NOWAIT);
		answer_later();
		ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n > 0) {
			buf_add(got, bytes, (size_t)n);
			still = 0;
		}
		ended = n == 0 || (n < 0 && errno != EAGAIN);
	}
	return ended;
}

/* --- what a reader of the whole text expects --- */

static bool takes_hello(struct slice *in, char protocol)
{
	const char hello[SP_HELLO_BYTES] = {0, 'S', 'P', 0, 0, protocol, 0, 0};
	if (in->n < sizeof(hello) || memcmp(in->p, hello, sizeof(hello)) != 0)
		return false;
	*in = (struct slice){in->p + sizeof(hello), in->n - sizeof(hello)};
	return true;
}

/* The next message of *in. False: no whole one; *broken: nor will there be. */
static bool next_message(struct slice *in, struct slice *out, bool *broken)
{
	uint64_t length;
	if (in->n < SP_HEAD_BYTES)
		return false;
	memcpy(&length, in->p + 1, sizeof(length));
	length = be64toh(length);
	*broken = in->p[0] != 1 || length > SP_MESSAGE_BYTES;
	if (*broken || in->n - SP_HEAD_BYTES < length)
		return false;
	*out = (struct slice){in->p + SP_HEAD_BYTES, (size_t)length};
	*in = (struct slice){out->p + length, in->n - SP_HEAD_BYTES - (size_t)length};
	return true;
}

static void put_message(struct buf *b, struct slice head, struct slice body)
{
	char bytes[SP_HEAD_BYTES];
	sp_head(bytes, head.n + body.n);
	buf_add(b, bytes, sizeof(bytes));
	buf_add_slice(b, head);
	buf_add_slice(b, body);
}

/* The answers to all of the text; true: it breaks the form somewhere. */
static bool expect_answers(struct slice in, struct buf *out)
{
	struct slice message;
	bool broken = false;
	if (!takes_hello(&in, SP_REQ))
		return in.n >= SP_HELLO_BYTES;
	while (next_message(&in, &message, &broken)) {
		size_t ids = 0;
		bool last = false;
		for (; !last && ids + 4 <= message.n; ids += 4)
			last = (unsigned char)message.p[ids] & 0x80;
		if (!last)
			return true;
		struct buf answer;
		buf_init(&answer, 0);
		put_answer((struct slice){message.p + ids, message.n - ids}, &answer);
		put_message(out, (struct slice){message.p, ids}, buf_slice(&answer));
		buf_free(&answer);
	}
	return broken;
}

/* --- the runs --- */

static size_t piece(size_t left, uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	size_t n = 1 + (*state >> 16) % PIECE_BYTES;
	return n < left ? n : left;
}

/* Sends the text in pieces until we are hung up on. */
static bool talk(int fd, struct slice in, uint32_t seed, struct buf *got)
{
	bool ended = turn(fd, got);
	for (size_t at = 0, n; at < in.n && !ended; at += n) {
		n = piece(in.n - at, &seed);
		ssize_t sent = send(fd, in.p + at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		REQUIRE(sent == (ssize_t)n);
		ended = turn(fd, got);
	}
	return ended;
}

static void put_hello(struct buf *b, char protocol)
{
	const char hello[SP_HELLO_BYTES] = {0, 'S', 'P', 0, 0, protocol, 0, 0};
	buf_add(b, hello, sizeof(hello));
}

static void run_rep(struct slice in, uint32_t seed)
{
	struct buf want, got;
	buf_init(&want, 0);
	buf_init(&got, 0);
	put_hello(&want, SP_REP);
	bool breaks = expect_answers(in, &want);
	int fd = dial(f.rep_path);
	bool ended = talk(fd, in, seed, &got);
	REQUIRE(ended == breaks);
	REQUIRE(slice_eq(buf_slice(&got), buf_slice(&want)));
	close(fd);
	buf_free(&want);
	buf_free(&got);
}

static void run_pub(struct slice in, uint32_t seed)
{
	struct buf want, got;
	struct slice rest = in, message;
	bool broken = false;
	buf_init(&want, 0);
	buf_init(&got, 0);
	put_hello(&want, SP_PUB);
	bool greeted = takes_hello(&rest, SP_SUB);
	bool breaks =
		greeted ? next_message(&rest, &message, &broken) || broken : in.n >= SP_HELLO_BYTES;
	int fd = dial(f.pub_path);
	REQUIRE(talk(fd, in, seed, &got) == breaks);
	REQUIRE(pub_subscribers(f.pub) == (greeted && !breaks));
	if (!breaks) {
		pub_send(f.pub, SLICE("news"));
		if (greeted)
			put_message(&want, SLICE(""), SLICE("news"));
		REQUIRE(!turn(fd, &got));
	}
	REQUIRE(slice_eq(buf_slice(&got), buf_slice(&want)));
	close(fd);
	for (unsigned n = 0; pub_subscribers(f.pub) > 0; n++) {
		REQUIRE(n < TURNS_MAX);
		uv_run(&f.loop, UV_RUN_NOWAIT);
	}
	buf_free(&want);
	buf_free(&got);
}

/* All at once, and gone before an answer. */
static void run_away(const char *path, struct slice in)
{
	int fd = dial(path);
	if (send(fd, in.p, in.n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		REQUIRE(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
	uv_run(&f.loop, UV_RUN_NOWAIT);
	uv_run(&f.loop, UV_RUN_NOWAIT);
	close(fd);
	uv_run(&f.loop, UV_RUN_NOWAIT);
	answer_later();
	uv_run(&f.loop, UV_RUN_NOWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	struct slice in = {(const char *)data + 2, size - 2};
	start();
	if (data[0] & 2)
		run_away(data[0] & 1 ? f.pub_path : f.rep_path, in);
	else if (data[0] & 1)
		run_pub(in, data[1]);
	else
		run_rep(in, data[1]);
	return 0;
}
