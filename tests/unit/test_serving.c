/* What a started llama.cpp says of how it holds its model: lines of b10434 and of older ones. */
#include "workers/backend/serving.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

static struct serving said(const char *const *command, const char *const *lines)
{
	struct serving s;
	serving_init(&s);
	serving_command(&s, (char *const *)(uintptr_t)command);
	for (; lines && *lines; lines++)
		serving_line(&s, slice_str(*lines));
	return s;
}

static void nothing_is_known_of_what_says_nothing(void **state)
{
	(void)state;
	static const char *const plain[] = {"llama-server", "-m", "x.gguf", NULL};
	static const char *const noise[] = {"", "offloaded", "offloaded 3/0 layers to GPU",
		"load_tensors:", "load_tensors: x model buffer size = MiB",
		"flash_attn            = auto", "srv load_model: loading model 'offloaded 1/2'",
		NULL};
	struct serving s = said(plain, noise);
	assert_true(serving_share(&s) < 0);
	assert_int_equal(serving_percent(&s), -1);
	assert_int_equal(serving_gpus(&s), -1);
	assert_int_equal(s.args.flash, -1);
	assert_string_equal(s.args.cache_type, "");
	serving_command(&s, NULL);
	assert_int_equal(s.args.flash, -1);
}

static void weights_on_the_processor(void **state)
{
	(void)state;
	/* without a GPU b10434 counts its layers as offloaded all the same */
	static const char *const lines[] = {
		"0.00.134 I load_tensors: offloaded 31/31 layers to GPU",
		"0.00.134 I load_tensors:   CPU_Mapped model buffer size =    92.10 MiB", NULL};
	struct serving s = said(NULL, lines);
	assert_true(serving_share(&s) > 0.99);
	assert_int_equal(serving_percent(&s), 0);
	assert_int_equal(serving_gpus(&s), 0);
}

static void weights_on_gpus(void **state)
{
	(void)state;
	static const char *const lines[] = {"load_tensors: offloaded 20/29 layers to GPU",
		"load_tensors:   CPU_Mapped model buffer size =  1292.35 MiB",
		"load_tensors:        CUDA0 model buffer size =  2000.50 MiB",
		"load_tensors:        CUDA1 model buffer size =  1000.25 MiB",
		"load_tensors:        CUDA1 model buffer size =     1.00 MiB", NULL};
	struct serving s = said(NULL, lines);
	assert_int_equal(serving_percent(&s), 68);
	assert_int_equal(serving_gpus(&s), 2);
	assert_true(s.gpu_bytes > 3000ll << 20 && s.gpu_bytes < 3003ll << 20);
	static const char *const whole[] = {
		"load_tensors:      Vulkan0 model buffer size =  4020.51 MiB", NULL};
	s = said(NULL, whole);
	assert_int_equal(serving_percent(&s), 100);
	assert_int_equal(serving_gpus(&s), 1);
}

static void more_gpus_than_are_counted(void **state)
{
	(void)state;
	struct serving s;
	serving_init(&s);
	for (int i = 0; i < 2 * SERVING_GPUS_MAX; i++) {
		char line[128];
		snprintf(line, sizeof(line), "load_tensors: GPU%d model buffer size = 1.00 MiB", i);
		serving_line(&s, slice_str(line));
	}
	assert_int_equal(serving_gpus(&s), SERVING_GPUS_MAX);
	serving_line(&s,
		SLICE("load_tensors: a-name-that-is-longer-than-any model buffer size = 1.0 MiB"));
	serving_line(&s, SLICE("load_tensors: CUDA0 model buffer size = 1e300 MiB"));
	serving_line(&s, SLICE("load_tensors: CUDA0 model buffer size = nan MiB"));
	serving_line(&s, SLICE("load_tensors: CUDA0 model buffer size = -5 MiB"));
	assert_true(s.gpu_bytes == (2ll * SERVING_GPUS_MAX) << 20);
}

static void options(void **state)
{
	(void)state;
	static const char *const off[] = {"llama-server", "-fa", "off", "-ctk", "q8_0", NULL},
				 *const on[] = {"llama-server", "--flash-attn", "on",
					 "--cache-type-k", "f16", "-ts", "3,1", NULL},
				 *const one[] = {
					 "llama-server", "--tensor-split", "1,0", "-fa", NULL};
	struct serving s = said(off, NULL);
	assert_int_equal(s.args.flash, 0);
	assert_string_equal(s.args.cache_type, "q8_0");
	s = said(on, NULL);
	assert_int_equal(s.args.flash, 1);
	assert_string_equal(s.args.cache_type, "f16");
	assert_int_equal(serving_gpus(&s), 2);
	s = said(one, NULL);
	assert_int_equal(s.args.flash, -1);
	assert_int_equal(serving_gpus(&s), 1);
}

static void attention_and_cache(void **state)
{
	(void)state;
	static const struct {
		const char *line;
		int flash;
	} lines[] = {
		{"llama_context: flash_attn            = disabled", 0},
		{"llama_context: flash_attn            = enabled", 1},
		{"llama_context: flash_attn    = 0", 0},
		{"llama_context: flash_attn    = 1", 1},
		{"llama_context: flash_attn            = auto", -1},
		{"sched_reserve: Flash Attention was auto, set to disabled", 0},
		{"llama_context: Flash Attention was auto, set to enabled", 1},
		{"0.00.145.616 I resolve_fused_ops: Flash Attention enabled", 1},
	};
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		const char *const one[] = {lines[i].line, NULL};
		struct serving s = said(NULL, one);
		assert_int_equal(s.args.flash, lines[i].flash);
	}
	static const char *const cache[] = {"llama_kv_cache: size =   17.23 MiB (  1024 cells,  30 "
					    "layers,  1/1 seqs), K (q8_0):    "
					    "5.98 MiB, V (f16):   11.25 MiB",
		NULL};
	struct serving s = said(NULL, cache);
	assert_string_equal(s.args.cache_type, "q8_0");
	static const char *const odd[] = {
		"llama_kv_cache: , K (a_type_whose_name_is_longer_than_any): 1", NULL};
	s = said(NULL, odd);
	assert_int_equal(strlen(s.args.cache_type), ENGINE_CACHE_BYTES - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_known_of_what_says_nothing),
		cmocka_unit_test(weights_on_the_processor),
		cmocka_unit_test(weights_on_gpus),
		cmocka_unit_test(more_gpus_than_are_counted),
		cmocka_unit_test(options),
		cmocka_unit_test(attention_and_cache),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
