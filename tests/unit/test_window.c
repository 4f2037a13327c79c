/* supervisor/window: steps of a model's window, and what /api/show says of its cost. */
#include "supervisor/devices/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define KV 57344.0 /* of qwen2.5-7B: 28 layers x 4 heads x (128 + 128) x 2 bytes */
#define GB 1e9
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
	const char *what;
	struct window_facts f;
	int64_t to;
} steps[] = {
	{"a prompt that did not fit",
		{.current = 4096, .needed = 5000, .kv_bytes = KV, .slots = 1, .free_bytes = 8 * GB},
		8192},
	{"few steps",
		{.current = 4096,
			.needed = 30000,
			.kv_bytes = KV,
			.slots = 1,
			.free_bytes = 8 * GB},
		32768},
	{"as far as it fits",
		{.current = 4096,
			.needed = 30000,
			.kv_bytes = KV,
			.slots = 1,
			.free_bytes = 1.6 * GB},
		16384},
	{"each slot has its own",
		{.current = 4096,
			.needed = 30000,
			.kv_bytes = KV,
			.slots = 4,
			.free_bytes = 1.8 * GB},
		8192},
	{"no room",
		{.current = 4096,
			.needed = 30000,
			.kv_bytes = KV,
			.slots = 1,
			.free_bytes = 0.6 * GB},
		4096},
	{"the spare is kept",
		{.current = 4096,
			.needed = 5000,
			.kv_bytes = 1,
			.slots = 1,
			.free_bytes = 0.5 * GB},
		4096},
	{"fits already",
		{.current = 8192, .needed = 8192, .kv_bytes = KV, .slots = 1, .free_bytes = 8 * GB},
		8192},
	{"nothing is wanted", {.current = 8192, .kv_bytes = KV, .slots = 1, .free_bytes = 8 * GB},
		8192},
	{"the model's limit",
		{.current = 4096,
			.needed = 50000,
			.trained = 12000,
			.kv_bytes = KV,
			.slots = 1,
			.free_bytes = 80 * GB},
		12000},
	{"at the model's limit",
		{.current = 12000,
			.needed = 50000,
			.trained = 12000,
			.kv_bytes = KV,
			.slots = 1,
			.free_bytes = 80 * GB},
		12000},
	{"the configured limit",
		{.current = 4096,
			.needed = 50000,
			.trained = 131072,
			.most = 20000,
			.kv_bytes = KV,
			.slots = 1,
			.free_bytes = 80 * GB},
		20000},
	{"doublings of an odd window",
		{.current = 6144,
			.needed = 20000,
			.kv_bytes = KV,
			.slots = 1,
			.free_bytes = 80 * GB},
		24576},
	{"a client's window is taken as it is",
		{.current = 4096,
			.wished = 20000,
			.kv_bytes = KV,
			.slots = 1,
			.free_bytes = 80 * GB},
		20000},
	{"... as far as it fits",
		{.current = 4096,
			.wished = 20000,
			.kv_bytes = KV,
			.slots = 1,
			.free_bytes = 1.2 * GB},
		8192},
	{"no figures: nobody said so",
		{.current = 4096, .needed = 20000, .slots = 1, .free_bytes = -1}, 4096},
	{"no figures of the model",
		{.current = 4096, .needed = 20000, .slots = 1, .free_bytes = 80 * GB}, 4096},
	{"no figures: a client's",
		{.current = 4096, .needed = 5000, .wished = 20000, .slots = 1, .free_bytes = -1},
		20000},
	{"no figures: what the client named bounds it",
		{.current = 4096, .needed = 50000, .wished = 20000, .slots = 1, .free_bytes = -1},
		20000},
	{"no figures: the configured limit",
		{.current = 4096,
			.needed = 20000,
			.most = 65536,
			.slots = 1,
			.kv_bytes = KV,
			.free_bytes = -1},
		32768},
	{"no figures: the configured limit bounds the client",
		{.current = 4096, .wished = 100000, .most = 65536, .slots = 1, .free_bytes = -1},
		65536},
	{"what could not be loaded",
		{.current = 4096,
			.needed = 30000,
			.refused = 32768,
			.kv_bytes = KV,
			.slots = 1,
			.free_bytes = 80 * GB},
		16384},
	{"... nor less",
		{.current = 4096,
			.needed = 30000,
			.refused = 8192,
			.kv_bytes = KV,
			.slots = 1,
			.free_bytes = 80 * GB},
		4096},
	{"an unknown window",
		{.current = 0, .needed = 3000, .kv_bytes = KV, .slots = 1, .free_bytes = 80 * GB},
		4096},
	{"absurd wishes",
		{.current = 4096,
			.needed = INT64_MAX,
			.wished = INT64_MAX,
			.kv_bytes = 1e-3,
			.slots = 1,
			.free_bytes = 80 * GB},
		1 << 30},
	{"absurd costs",
		{.current = 4096,
			.needed = INT64_MAX,
			.kv_bytes = 1e300,
			.slots = 256,
			.free_bytes = 80 * GB},
		4096},
};

static void grows_in_few_steps(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(steps); i++) {
		struct window_step step;
		window_decide(&steps[i].f, &step);
		if (step.to != steps[i].to)
			fail_msg("%s: %lld, not %lld (%s)", steps[i].what, (long long)step.to,
				(long long)steps[i].to, step.reason);
		assert_true(step.reason[0]);
	}
}

/* Whatever the facts: never smaller, never over a limit, never more than fits. */
static void holds_its_bounds(void **state)
{
	(void)state;
	unsigned seed = 1;
	for (int i = 0; i < 200000; i++) {
		int64_t v[6];
		for (int k = 0; k < 6; k++) {
			seed = seed * 1664525u + 1013904223u;
			v[k] = (seed >> 8) % 3 ? (int64_t)((seed >> 10) % 200000) : 0;
		}
		struct window_facts f = {.current = v[0],
			.needed = v[1],
			.wished = v[2],
			.trained = v[3],
			.most = v[4],
			.refused = v[5],
			.kv_bytes = (seed >> 9) % 2 ? KV : 0,
			.slots = 1 + (int)((seed >> 12) % 4),
			.free_bytes = (double)((seed >> 7) % 20) * GB - GB};
		struct window_step step;
		window_decide(&f, &step);
		assert_true(step.to >= f.current);
		if (step.to == f.current)
			continue;
		assert_true(f.trained == 0 || step.to <= f.trained);
		assert_true(f.most == 0 || step.to <= f.most);
		assert_true(f.refused == 0 || step.to < f.refused);
		if (f.kv_bytes > 0 && f.free_bytes >= 0)
			assert_true((double)(step.to - f.current) * f.kv_bytes * f.slots +
					    WINDOW_SPARE_BYTES <=
				    f.free_bytes);
	}
}

static void reads_what_a_token_costs(void **state)
{
	(void)state;
	static const struct {
		const char *show;
		double kv;
		int64_t trained;
	} models[] = {
		/* qwen2.5-7B: no key_length, so embedding / heads */
		{"{\"model_info\":{\"general.architecture\":\"qwen2\",\"qwen2.block_count\":28,"
		 "\"qwen2.attention.head_count\":28,\"qwen2.attention.head_count_kv\":4,"
		 "\"qwen2.embedding_length\":3584,\"qwen2.context_length\":32768}}",
			57344, 32768},
		/* qwen3-1.7B */
		{"{\"model_info\":{\"general.architecture\":\"qwen3\",\"qwen3.block_count\":28,"
		 "\"qwen3.attention.head_count\":16,\"qwen3.attention.head_count_kv\":8,"
		 "\"qwen3.attention.key_length\":128,\"qwen3.attention.value_length\":128,"
		 "\"qwen3.embedding_length\":2048,\"qwen3.context_length\":40960}}",
			114688, 40960},
		/* heads by layer; layers of another kind have none */
		{"{\"model_info\":{\"general.architecture\":\"h\",\"h.block_count\":4,"
		 "\"h.attention.head_count_kv\":[0,0,8,0],\"h.attention.key_length\":64,"
		 "\"h.attention.value_length\":64}}",
			2048, 0},
		/* one KV head each */
		{"{\"model_info\":{\"general.architecture\":\"l\",\"l.block_count\":2,"
		 "\"l.attention.head_count\":8,\"l.embedding_length\":512}}",
			4096, 0},
		{"{\"model_info\":{\"general.architecture\":\"q\"}}", 0, 0},
		{"{\"model_info\":{}}", 0, 0},
		{"{\"model_info\":{\"general.architecture\":\"q\",\"q.block_count\":-5,"
		 "\"q.attention.head_count_kv\":[1e300,\"x\"],\"q.attention.key_length\":\"a\","
		 "\"q.context_length\":1e300}}",
			0, 0},
		{"{\"error\":\"model 'x' not found\"}", 0, 0},
		{"not JSON", 0, 0},
		{"", 0, 0},
	};
	for (size_t i = 0; i < COUNT(models); i++) {
		double kv = -1;
		int64_t trained = -1;
		window_read_model(slice_str(models[i].show), &kv, &trained);
		assert_float_equal(kv, models[i].kv, 0.5);
		assert_int_equal(trained, models[i].trained);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grows_in_few_steps),
		cmocka_unit_test(holds_its_bounds),
		cmocka_unit_test(reads_what_a_token_costs),
	};
	return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
