/* Whose a name in the run folder is. */
#include "supervisor/life/rundir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_names(void **state)
{
	static const struct {
		const char *name;
		enum rundir_name whose;
	} cases[] = {
		{"tandemd.pid", RUNDIR_FILE},
		{".tandem", RUNDIR_FILE},
		{"backend-gpu0.state", RUNDIR_FILE},
		{"backend-gpu0.state.new", RUNDIR_FILE},
		{"backend-a_b-c.log", RUNDIR_FILE},
		{"backend-gpu0.log.1", RUNDIR_FILE},
		{"kv-gpu0", RUNDIR_FILE},
		{"tandem.mdb", RUNDIR_FILE},
		{"tandem.mdb-lock", RUNDIR_FILE},
		{"tandem.mdb.bad", RUNDIR_FILE},
		{"tandem.mdb2", RUNDIR_FOREIGN},
		{"stats.ipc", RUNDIR_SOCKET},
		{"events.ipc", RUNDIR_SOCKET},
		{"stats.1f.ipc", RUNDIR_SOCKET},
		{"w3fa-0-12.ipc", RUNDIR_SOCKET},
		{"w3fa-0-12.ipc.down", RUNDIR_SOCKET},
		{"", RUNDIR_FOREIGN},
		{"w3fa-0-12.ipc.down.txt", RUNDIR_FOREIGN},
		{"w3fa-0-12.ipc2", RUNDIR_FOREIGN},
		{"w3fA-0-12.ipc", RUNDIR_FOREIGN},
		{"w-0-12.ipc", RUNDIR_FOREIGN},
		{"w3fa-0.ipc", RUNDIR_FOREIGN},
		{"w123456789-0-12.ipc", RUNDIR_FOREIGN},
		{"my.ipc", RUNDIR_FOREIGN},
		{"stats..ipc", RUNDIR_FOREIGN},
		{"stats.xy.ipc", RUNDIR_FOREIGN},
		{"stats.ipc~", RUNDIR_FOREIGN},
		{"backend-.log", RUNDIR_FOREIGN},
		{"backend-GPU.log", RUNDIR_FOREIGN},
		{"backend-gpu0.log.2", RUNDIR_FOREIGN},
		{"backend-gpu0", RUNDIR_FOREIGN},
		{"kv-", RUNDIR_FOREIGN},
		{"kv-a/b", RUNDIR_FOREIGN},
		{"kv-abcdefghijklmnopqrstuvwxyz0123456789", RUNDIR_FOREIGN},
		{"tandemd.pid.bak", RUNDIR_FOREIGN},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (rundir_name(cases[i].name) != cases[i].whose)
			fail_msg("%s: %d", cases[i].name, rundir_name(cases[i].name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_names)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
