#include "supervisor/spawn.h"

#include <stddef.h>

int spawn_worker(
	uv_loop_t *loop, uv_process_t *process, const char *const args[], uv_exit_cb exit_cb)
{
	uv_stdio_container_t stdio[3] = {
		{.flags = UV_IGNORE},
		{.flags = UV_INHERIT_FD, .data.fd = 1},
		{.flags = UV_INHERIT_FD, .data.fd = 2},
	};
	uv_process_options_t o = {
		.exit_cb = exit_cb,
		.file = args[0],
		.args = (char **)args,
		.stdio = stdio,
		.stdio_count = 3,
	};
	return uv_spawn(loop, process, &o);
}
