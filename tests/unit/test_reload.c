/* What a changed key means while tandemd runs. */
#include "supervisor/life/reload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char program[] = "llama-server", flag[] = "-c", small[] = "4096", large[] = "8192";
static char *none[] = {NULL};
static char *command_a[] = {program, flag, small, NULL};
static char *command_b[] = {program, flag, large, NULL};
static char *command_c[] = {program, flag, NULL};

static struct config_device device(void)
{
	struct config_device d = {.name = "gpu0", .roles = ROLE_MAIN, .slots = 1};
	d.backend.type = BACKEND_TYPE_LLAMA_SERVER;
	return d;
}

static void test_a_device(void **state)
{
	(void)state;
	struct config_device a = device(), b = device();
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_NOTHING);
	b.roles = ROLE_MAIN | ROLE_CONDENSE;
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_NOTHING);
	b.slots = 2;
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_WORKER);
	b = device();
	b.model = (char *)"m";
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_WORKER);
	a.model = (char *)"m";
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_NOTHING);
	b.num_ctx = 1;
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_WORKER);
}

static void test_its_backend(void **state)
{
	(void)state;
	struct config_device a = device(), b = device();
	a.backend.url = (char *)"http://127.0.0.1:1";
	b.backend.url = (char *)"http://127.0.0.1:2";
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_WORKER);
	b.backend.type = BACKEND_TYPE_OLLAMA; /* both are somebody else's */
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_WORKER);
	a = b = device();
	a.backend.command = command_a;
	b.backend.command = command_a;
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_NOTHING);
	b.backend.command = command_b;
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_BACKEND);
	b.backend.command = command_c;
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_BACKEND);
	b.backend.command = none;
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_BACKEND);
	b.backend.command = NULL;
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_BACKEND);
	b.backend.command = command_a;
	b.pin = (char *)"1";
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_BACKEND);
}

static void test_the_rest(void **state)
{
	(void)state;
	struct config a, b;
	struct buf fixed;
	buf_init(&fixed, 0);
	assert_int_equal(config_defaults(&a), 0);
	assert_int_equal(config_defaults(&b), 0);
	b.routing.a_max_tokens = 5;
	b.condense.keep_ratio_b = 0.5;
	b.limits.queue = 1;
	b.deadlines.drain_ms = 1;
	reload_fixed_keys(&a, &b, &fixed);
	assert_int_equal(fixed.n, 0);
	assert_false(reload_concerns_workers(&a, &b));
	b.log.level = LOG_ERROR;
	assert_true(reload_concerns_workers(&a, &b));
	b.log.level = a.log.level;
	b.deadlines.backend_idle_ms = 77;
	assert_true(reload_concerns_workers(&a, &b));
	b.listen.port = 1;
	b.metrics.series = 7;
	free(b.run_dir);
	b.run_dir = strdup("/elsewhere");
	b.limits.connections = 3;
	reload_fixed_keys(&a, &b, &fixed);
	assert_string_equal(
		buf_cstr(&fixed), "listen.port, metrics.series, run_dir, limits.connections");
	buf_free(&fixed);
	config_free(&a);
	config_free(&b);
}

static void test_a_copy_is_deep(void **state)
{
	(void)state;
	struct config_device a = device(), b;
	a.model = strdup("m");
	a.backend.command = command_a;
	assert_int_equal(config_device_copy(&b, &a), 0);
	assert_int_equal(reload_device_effect(&a, &b), RELOAD_NOTHING);
	assert_ptr_not_equal(a.model, b.model);
	assert_ptr_not_equal(a.backend.command, b.backend.command);
	assert_ptr_not_equal(a.backend.command[0], b.backend.command[0]);
	free(a.model);
	assert_string_equal(b.model, "m");
	config_device_free(&b);
	assert_null(b.backend.command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_device),
		cmocka_unit_test(test_its_backend),
		cmocka_unit_test(test_the_rest),
		cmocka_unit_test(test_a_copy_is_deep),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
