/* A record as spans: which there are, how they hang together, and that all of it is JSON. */
#include "supervisor/tell/otlp.h"

#include "common/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SPANS_MAX 32

struct spans {
	struct buf text;
	struct json_value of[SPANS_MAX];
	size_t count;
};

static const char *provider(const void *ctx, const char *device)
{
	(void)ctx;
	return strcmp(device, "gpu0") == 0 ? "ollama" : NULL;
}

static const struct otlp_facts facts = {.provider = provider};

static void read_spans(struct spans *s, size_t told)
{
	struct json_value root, one;
	struct json_error bad;
	struct buf whole;
	buf_init(&whole, 0);
	buf_add_char(&whole, '[');
	buf_add_slice(&whole, buf_slice(&s->text));
	buf_add_char(&whole, ']');
	buf_free(&s->text);
	s->text = whole;
	s->count = 0;
	assert_int_equal(json_parse(buf_slice(&s->text), JSON_MAX_DEPTH, &root, &bad), 0);
	struct json_iter it = json_iter(root);
	while (json_array_next(&it, &one))
		s->of[s->count++] = one;
	assert_int_equal(s->count, told);
}

static bool is(struct json_value span, const char *member, const char *want)
{
	char *text = json_string_dup(json_get(span, member));
	bool same = text && strcmp(text, want) == 0;
	free(text);
	return same;
}

/* The nth of that name. */
static struct json_value named(const struct spans *s, const char *name, size_t n)
{
	for (size_t i = 0; i < s->count; i++)
		if (is(s->of[i], "name", name) && n-- == 0)
			return s->of[i];
	fail_msg("no span %s", name);
	return (struct json_value){0};
}

static bool is_child(struct json_value child, struct json_value parent)
{
	return slice_eq(json_get(child, "parentSpanId").raw, json_get(parent, "spanId").raw);
}

static bool has(struct json_value span, const char *key, const char *raw)
{
	struct json_iter it = json_iter(json_get(span, "attributes"));
	struct json_value one, value;
	while (json_array_next(&it, &one))
		if (is(one, "key", key)) {
			struct json_value name;
			struct json_iter in = json_iter(json_get(one, "value"));
			return json_object_next(&in, &name, &value) &&
			       slice_eq(value.raw, slice_str(raw));
		}
	return false;
}

static void begin(struct record *r)
{
	*r = (struct record){.begun_ms = 1000,
		.begun_at_ms = 1700000000000,
		.ended_ms = 2000,
		.over = true,
		.dialect = DIALECT_OLLAMA_CHAT,
		.method = "POST",
		.path = "/api/chat",
		.model = "m \"1b\"\n",
		.status = 200,
		.routed = true,
		.operation = "chat",
		.id = "r-1",
		.measure = {.way = MEASURE_A, .outcome = MEASURE_DONE, .first_ms = -1},
		.trace = {.on = true, .at = {.trace = {1}, .span = {2}, .sampled = true}}};
	steps_init(&r->steps, 32);
}

static void test_a_call_holds_its_steps(void **state)
{
	struct record r;
	struct spans s = {.count = 0};
	(void)state;
	begin(&r);
	steps_enter(&r.steps, STEP_READ, NULL, 1000);
	steps_enter(&r.steps, STEP_PARSE, NULL, 1010);
	steps_call(&r.steps);
	steps_enter(&r.steps, STEP_QUEUE, "gpu0", 1020);
	steps_enter(&r.steps, STEP_PREFILL, "gpu0", 1030);
	steps_last(&r.steps, STEP_PREFILL)->tokens = 7;
	steps_leave(&r.steps, STEP_FAILED, "worker_lost", 1100);
	steps_point(&r.steps, STEP_RETRY, "gpu1", "worker_lost", 1100);
	steps_call(&r.steps);
	steps_enter(&r.steps, STEP_PREFILL, "gpu1", 1200);
	steps_enter(&r.steps, STEP_DECODE, "gpu1", 1300);
	steps_last(&r.steps, STEP_DECODE)->tokens = 9;
	steps_close(&r.steps, STEP_DONE, 2000);
	buf_init(&s.text, 0);
	read_spans(&s, otlp_spans(&r, &facts, &s.text));
	struct json_value root = named(&s, "POST /api/chat", 0),
			  first = named(&s, "chat m \"1b\"\n", 0),
			  second = named(&s, "chat m \"1b\"\n", 1);
	assert_int_equal(s.count, 9);
	assert_true(is(root, "traceId", "01000000000000000000000000000000"));
	assert_true(is(root, "spanId", "0200000000000000"));
	assert_true(is(root, "startTimeUnixNano", "1700000000000000000"));
	assert_true(is(root, "endTimeUnixNano", "1700000001000000000"));
	assert_true(json_is(json_get(root, "parentSpanId"), JSON_NONE));
	assert_true(json_is(json_get(root, "status"), JSON_NONE));
	assert_true(is_child(named(&s, "read", 0), root));
	assert_true(is_child(named(&s, "queue", 0), root));
	assert_true(is_child(first, root));
	assert_true(is_child(named(&s, "prefill", 0), first));
	assert_true(is_child(named(&s, "prefill", 1), second));
	assert_true(is_child(named(&s, "decode", 0), second));
	assert_true(has(first, "gen_ai.usage.input_tokens", "\"7\""));
	assert_true(has(first, "gen_ai.provider.name", "\"ollama\""));
	assert_true(has(first, "error.type", "\"worker_lost\""));
	assert_true(has(second, "gen_ai.usage.output_tokens", "\"9\""));
	assert_false(has(second, "gen_ai.provider.name", "\"ollama\""));
	assert_true(is(second, "startTimeUnixNano", "1700000000200000000"));
	assert_true(is(second, "endTimeUnixNano", "1700000001000000000"));
	/* Its id is the one that went to the device. */
	char id[2 * TRACE_SPAN_BYTES + 1];
	uint8_t span[TRACE_SPAN_BYTES];
	trace_span_within(&r.trace.at, 'c', 2, span);
	trace_hex(span, sizeof(span), id);
	assert_true(is(second, "spanId", id));
	struct json_iter events = json_iter(json_get(root, "events"));
	struct json_value event;
	assert_true(json_array_next(&events, &event));
	assert_true(is(event, "name", "tandem.retry"));
	assert_false(json_array_next(&events, &event));
	buf_free(&s.text);
	steps_fini(&r.steps);
}

static void test_what_failed_and_where_it_came_from(void **state)
{
	struct record r;
	struct spans s = {.count = 0};
	(void)state;
	begin(&r);
	r.status = 502;
	r.measure.outcome = MEASURE_FAILED;
	r.trace.remote = true;
	r.trace.parent[7] = 9;
	r.trace.state = (char *)(uintptr_t) "a=1";
	r.routed = false;
	r.operation = NULL;
	steps_call(&r.steps);
	steps_enter(&r.steps, STEP_ANSWER, "gpu0", 1000);
	steps_close(&r.steps, STEP_FAILED, 2000);
	buf_init(&s.text, 0);
	read_spans(&s, otlp_spans(&r, &facts, &s.text));
	struct json_value root = s.of[0];
	assert_int_equal(s.count, 3); /* the request, the call, the answer */
	assert_true(is(root, "name", "POST"));
	assert_true(is(root, "parentSpanId", "0000000000000009"));
	assert_true(is(root, "traceState", "a=1"));
	assert_true(has(root, "error.type", "\"502\""));
	assert_false(json_is(json_get(root, "status"), JSON_NONE));
	assert_true(is(s.of[1], "name", "POST"));
	assert_false(has(s.of[1], "gen_ai.operation.name", "\"chat\""));
	buf_free(&s.text);
	r.trace.state = NULL;
	steps_fini(&r.steps);
}

static void test_what_comes_late(void **state)
{
	struct record r;
	struct spans s = {.count = 0};
	(void)state;
	begin(&r);
	struct step late = {.kind = STEP_WARM,
		.outcome = STEP_DONE,
		.device = "gpu0",
		.begun_ms = 2500,
		.ended_ms = 3000,
		.tokens = 5,
		.cached = -1};
	buf_init(&s.text, 0);
	read_spans(&s, otlp_late_span(&r, &late, &facts, &s.text));
	assert_int_equal(s.count, 1);
	assert_true(is(s.of[0], "name", "warm"));
	assert_true(is(s.of[0], "parentSpanId", "0200000000000000"));
	assert_true(is(s.of[0], "endTimeUnixNano", "1700000002000000000"));
	assert_true(has(s.of[0], "tandem.tokens", "\"5\""));
	buf_free(&s.text);
	steps_fini(&r.steps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_call_holds_its_steps),
		cmocka_unit_test(test_what_failed_and_where_it_came_from),
		cmocka_unit_test(test_what_comes_late),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
