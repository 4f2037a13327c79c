/* libFuzzer target for what clients say of their traces: what is taken is written again the same, and within its caps. */
#include "common/base/trace_context.h"

#include <stdlib.h>

#define REQUIRE(c)                                                                                 \
	do {                                                                                       \
		if (!(c))                                                                          \
			abort();                                                                   \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parent(struct slice in)
{
	struct trace_context t, again;
	char text[TRACE_PARENT_BYTES];
	if (!trace_parent_read(in, &t))
		return;
	trace_parent_write(&t, text);
	REQUIRE(trace_parent_read(slice_str(text), &again));
	REQUIRE(memcmp(t.trace, again.trace, sizeof(t.trace)) == 0);
	REQUIRE(memcmp(t.span, again.span, sizeof(t.span)) == 0 && t.sampled == again.sampled);
	REQUIRE(memcmp(text + 3, in.p + 3, 2 * (TRACE_ID_BYTES + TRACE_SPAN_BYTES) + 1) == 0);
}

/* What is passed on is a tracestate, and stays as it is. */
static void state(struct slice in)
{
	struct buf once, twice;
	buf_init(&once, TRACE_STATE_BYTES);
	buf_init(&twice, TRACE_STATE_BYTES);
	if (trace_state_read(in, &once)) {
		REQUIRE(once.n <= TRACE_STATE_BYTES);
		REQUIRE(trace_state_read(buf_slice(&once), &twice));
		REQUIRE(slice_eq(buf_slice(&once), buf_slice(&twice)));
	} else {
		REQUIRE(once.n == 0);
	}
	buf_free(&once);
	buf_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = {(const char *)data, size};
	parent(in);
	state(in);
	return 0;
}
