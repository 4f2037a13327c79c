/*
 * A client's raw bytes (inlet.h): whole and in pieces they come to the same, nothing is ever longer
 * behind the inlet than before it, and a head that is handed out holds no byte that could end a
 * line.
 */
#include "supervisor/front/inlet.h"

#include <stdlib.h>

#define CHECK(x)                                                                                   \
	if (!(x))                                                                                  \
	abort()

struct seen {
	struct inlet in;
	struct buf out;
	size_t heads, head_bytes;
};

static void check_head(const struct head *h)
{
	CHECK(*h->method && !strpbrk(h->method, " \t\r\n:"));
	CHECK((*h->target == '/' || strcmp(h->target, "*") == 0) && !strpbrk(h->target, " \t\r\n"));
	CHECK(h->body_bytes >= -1);
	for (size_t i = 0; i < h->count; i++) {
		CHECK(*h->fields[i].name && !strpbrk(h->fields[i].name, " \t\r\n:"));
		CHECK(!strpbrk(h->fields[i].value, "\r\n"));
	}
}

static void take(struct seen *s, size_t most)
{
	char piece[4096];
	size_t n;
	while ((n = inlet_take(&s->in, piece, most < sizeof(piece) ? most : sizeof(piece))) > 0)
		CHECK(buf_add(&s->out, piece, n) == 0);
	for (struct head *h; (h = inlet_next_head(&s->in)) != NULL; s->heads++) {
		check_head(h);
		s->head_bytes += h->size;
		head_fini(h);
		free(h);
	}
}

static void run(struct seen *s, const char *p, size_t n, size_t step)
{
	*s = (struct seen){.heads = 0};
	buf_init(&s->out, 0);
	inlet_init(&s->in, 2048, 32, NULL);
	for (size_t at = 0; at < n;) {
		size_t some = step < n - at ? step : n - at;
		size_t straight = inlet_passable(&s->in);
		if (straight >= some && some > 3) { /* past it, as a read of the socket would */
			CHECK(buf_add(&s->out, p + at, some) == 0);
			inlet_passed(&s->in, some);
		} else {
			inlet_push(&s->in, p + at, some);
		}
		at += some;
		take(s, step);
	}
}

static void end(struct seen *s)
{
	inlet_fini(&s->in);
	buf_free(&s->out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t steps[] = {1, 7, 64};
	struct seen whole, pieces;
	const char *text = (const char *)data;
	if (size == 0)
		return 0;
	run(&whole, text, size, size);
	CHECK(whole.out.n <= size + 64 * whole.heads);
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		run(&pieces, text, size, steps[i]);
		CHECK(whole.heads == pieces.heads && whole.head_bytes == pieces.head_bytes);
		CHECK(whole.in.state == pieces.in.state);
		CHECK(whole.in.fault.status == pieces.in.fault.status);
		CHECK(slice_eq(buf_slice(&whole.out), buf_slice(&pieces.out)));
		end(&pieces);
	}
	end(&whole);
	return 0;
}
