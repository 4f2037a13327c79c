/*
 * Drives the HTTP front door alone, for tests: events go to stdout as lines, commands come from
 * stdin.
 *
 *   front_driver [connections [header_bytes [stream_bytes [idle_ms [headers [head_ms [body_ms
 *   [body_rate [certificate key]]]]]]]]]     first line: "listen 127.0.0.1:PORT"
 *
 * Events:   head ID METHOD TARGET BODY_BYTES PEER | body_end ID BYTES SUM | gone ID | done ID SENT
 * Commands: reply ID STATUS N | head ID STATUS BODY_BYTES | write ID N | end ID | abort ID | take
 * ID N | heads ID NAME VALUE quiesce | counts | stop write, head, heads, reply answer "rc ID N".
 * Bodies are made of the pattern 'a'..'z'. Paths that act by themselves, without events: /hello
 * replies at once /late      replies when the body has ended /stream?CHUNKS,SIZE   as fast as the
 * socket takes it, a chunk at a time, a chunk per loop turn and /slow...   takes no body bytes
 * until told so with "take"; everything else takes all and waits for commands
 */
#include "common/base/log.h"
#include "supervisor/front/front.h"
#include "supervisor/front/origin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct item {
	struct item *next;
	struct exchange *x;
	unsigned id;
	bool quiet, late, slow;
	size_t allowance; /* bytes a slow body may still take */
	uint64_t bytes, sum, sent;
	unsigned chunks, size; /* of a stream, still to be written */
	bool streaming;
};

static struct item *items;
static unsigned last_id;
static struct front *front;
static uv_loop_t loop;
static uv_pipe_t commands;
static uv_prepare_t turn;
static unsigned streams;
static char pattern[26 * 40000];

static struct item *find(unsigned id)
{
	struct item *i = items;
	while (i && i->id != id)
		i = i->next;
	return i;
}

static struct slice bytes(size_t from, size_t n)
{
	return (struct slice){pattern + from % 26, n};
}

static void on_head(void *ctx, struct exchange *x)
{
	(void)ctx;
	const char *target = exchange_target(x);
	struct item *i = calloc(1, sizeof(*i));
	if (!i)
		abort();
	i->x = x;
	i->id = ++last_id;
	i->next = items;
	items = i;
	exchange_set_context(x, i);
	i->late = strncmp(target, "/late", 5) == 0;
	i->streaming = sscanf(target, "/stream?%u,%u", &i->chunks, &i->size) == 2;
	bool hello = strncmp(target, "/hello", 6) == 0 || strncmp(target, "/gate", 5) == 0;
	i->quiet = hello || i->late || i->streaming;
	i->slow = strncmp(target, "/slow", 5) == 0;
	if (!i->quiet)
		printf("head %u %s %s %" PRId64 " %s\n", i->id, exchange_method(x), target,
			exchange_body_bytes(x), exchange_peer(x));
	if (target[1] == 'g' && origin_gate(x, front_is_loopback(front), NULL))
		return;
	if (hello) {
		exchange_reply(x, 200, "text/plain", SLICE("hello\n"));
	} else if (i->streaming) {
		streams++;
		exchange_head(x, 200, -1);
	}
}

static size_t on_body(void *ctx, struct exchange *x, const char *p, size_t n)
{
	(void)ctx;
	struct item *i = exchange_context(x);
	if (i->slow && n > i->allowance)
		n = i->allowance;
	if (i->slow)
		i->allowance -= n;
	for (size_t k = 0; k < n; k++)
		i->sum += (unsigned char)p[k];
	i->bytes += n;
	return n;
}

static void on_body_end(void *ctx, struct exchange *x)
{
	(void)ctx;
	struct item *i = exchange_context(x);
	if (!i->quiet)
		printf("body_end %u %" PRIu64 " %" PRIu64 "\n", i->id, i->bytes, i->sum);
	if (i->late)
		exchange_reply(x, 200, "text/plain", SLICE("late\n"));
}

static void on_sent(void *ctx, struct exchange *x, size_t n)
{
	(void)ctx;
	struct item *i = exchange_context(x);
	i->sent += n;
}

static void on_gone(void *ctx, struct exchange *x)
{
	(void)ctx;
	struct item *i = exchange_context(x);
	printf("gone %u\n", i->id);
	if (i->streaming) {
		i->streaming = false;
		streams--;
	}
}

static void on_done(void *ctx, struct exchange *x)
{
	(void)ctx;
	struct item *i = exchange_context(x), **at = &items;
	if (!i->quiet)
		printf("done %u %" PRIu64 "\n", i->id, i->sent);
	if (i->streaming)
		streams--;
	while (*at != i)
		at = &(*at)->next;
	*at = i->next;
	free(i);
}

/* One chunk of each stream a turn, as a worker's link would bring them. */
static void on_turn(uv_prepare_t *h)
{
	(void)h;
	for (struct item *i = items; i; i = i->next) {
		if (!i->streaming)
			continue;
		if (i->chunks > 0 && exchange_write(i->x, pattern, i->size) == 0)
			i->chunks--;
		if (i->chunks == 0) {
			i->streaming = false;
			streams--;
			exchange_end(i->x);
		}
	}
}

static void on_closed(uv_handle_t *h)
{
	(void)h;
}

static void stop(void)
{
	uv_close((uv_handle_t *)&commands, on_closed);
	uv_close((uv_handle_t *)&turn, on_closed);
	front_stop(front);
}

static void command(const char *line)
{
	unsigned id = 0;
	long long a = 0, b = 0;
	char word[16] = "", name[64] = "", value[1024] = "";
	sscanf(line, "%15s %u %lld %lld", word, &id, &a, &b);
	struct item *i = find(id);
	unsigned connections, exchanges;
	if (strcmp(word, "quiesce") == 0) {
		front_quiesce(front);
		printf("quiesced\n");
	} else if (strcmp(word, "counts") == 0) {
		front_counts(front, &connections, &exchanges);
		printf("counts %u %u\n", connections, exchanges);
	} else if (strcmp(word, "stop") == 0) {
		stop();
	} else if (!i) {
		printf("rc %u %d\n", id, -1000);
	} else if (strcmp(word, "reply") == 0) {
		printf("rc %u %d\n", id,
			exchange_reply(i->x, (int)a, "text/plain", bytes(0, (size_t)b)));
	} else if (strcmp(word, "heads") == 0) {
		sscanf(line, "%*s %*u %63s %1023[^\n]", name, value);
		printf("rc %u %d\n", id, exchange_add_header(i->x, name, slice_str(value)));
	} else if (strcmp(word, "head") == 0) {
		printf("rc %u %d\n", id, exchange_head(i->x, (int)a, b));
	} else if (strcmp(word, "write") == 0) {
		printf("rc %u %d\n", id, exchange_write(i->x, pattern, (size_t)a));
	} else if (strcmp(word, "end") == 0) {
		exchange_end(i->x);
	} else if (strcmp(word, "abort") == 0) {
		exchange_abort(i->x);
	} else if (strcmp(word, "take") == 0) {
		i->allowance = (size_t)a;
		exchange_resume_body(i->x);
	}
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *out)
{
	static char space[65536];
	(void)h;
	(void)hint;
	*out = uv_buf_init(space, sizeof(space));
}

static void on_commands(uv_stream_t *s, ssize_t n, const uv_buf_t *in)
{
	static char line[2048];
	static size_t have;
	(void)s;
	if (n < 0) {
		stop();
		return;
	}
	for (ssize_t k = 0; k < n; k++) {
		if (in->base[k] != '\n' && have < sizeof(line) - 1) {
			line[have++] = in->base[k];
			continue;
		}
		line[have] = '\0';
		have = 0;
		command(line);
	}
}

int main(int argc, char **argv)
{
	static const struct front_events events = {
		on_head, on_body, on_body_end, on_sent, on_gone, on_done};
	struct front_options o = {.address = "127.0.0.1",
		.connections = argc > 1 ? (unsigned)atoi(argv[1]) : 2048,
		.header_bytes = argc > 2 ? (size_t)atoi(argv[2]) : 32768,
		.header_total_bytes = SIZE_MAX,
		.stream_bytes = argc > 3 ? (size_t)atoi(argv[3]) : 1 << 20,
		.idle_ms = argc > 4 ? (unsigned)atoi(argv[4]) : 60000,
		.headers = argc > 5 ? (size_t)atoi(argv[5]) : 1000,
		.head_ms = argc > 6 ? (unsigned)atoi(argv[6]) : 30000,
		.body_ms = argc > 7 ? (unsigned)atoi(argv[7]) : 30000,
		.body_rate = argc > 8 ? (unsigned)atoi(argv[8]) : 0,
		.certificate = argc > 10 ? argv[9] : NULL,
		.key = argc > 10 ? argv[10] : NULL,
		.listen_fd = -1};
	struct buf err;
	log_init("front", NULL, getenv("FRONT_LOG") ? LOG_DEBUG : LOG_INFO, LOG_LOGFMT, false);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t k = 0; k < sizeof(pattern); k++)
		pattern[k] = (char)('a' + k % 26);
	buf_init(&err, 4096);
	uv_loop_init(&loop);
	uv_pipe_init(&loop, &commands, 0);
	uv_pipe_open(&commands, 0);
	uv_read_start((uv_stream_t *)&commands, on_alloc, on_commands);
	uv_prepare_init(&loop, &turn);
	if (front_start(&loop, &o, &events, NULL, &front, &err)) {
		fprintf(stderr, "%s\n", buf_cstr(&err));
		return 1;
	}
	uv_prepare_start(&turn, on_turn);
	printf("listen %s\n", front_address(front));
	uv_run(&loop, UV_RUN_DEFAULT);
	buf_free(&err);
	printf("stopped %s\n",
		uv_loop_close(&loop) == 0 && !items && streams == 0 ? "clean" : "with leftovers");
	return 0;
}
