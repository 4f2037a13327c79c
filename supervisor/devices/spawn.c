#include "supervisor/devices/spawn.h"

#include <stddef.h>

int spawn_worker(uv_loop_t *loop, uv_process_t *process, const char *const args[], int lifeline_fd,
	uv_exit_cb exit_cb)
{
	uv_stdio_container_t stdio[SPAWN_LIFELINE_FD + 1] = {
		{.flags = UV_IGNORE},
		{.flags = UV_INHERIT_FD, .data.fd = 1},
		{.flags = UV_INHERIT_FD, .data.fd = 2},
		{.flags = UV_INHERIT_FD, .data.fd = lifeline_fd},
	};
	uv_process_options_t o = {
		.exit_cb = exit_cb,
		.file = args[0],
		.args = (char **)args,
		.stdio = stdio,
		.stdio_count = SPAWN_LIFELINE_FD + 1,
	};
	return uv_spawn(loop, process, &o);
}
