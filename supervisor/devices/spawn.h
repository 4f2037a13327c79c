/*
 * Starting a worker process: fork + exec from the main thread only (nng must not be used in a
 * forked child; PR_SET_PDEATHSIG follows the spawning thread). A child gets stdin from /dev/null,
 * our stdout and stderr, the read end of the lifeline (warm.h) as SPAWN_LIFELINE_FD, and no other
 * descriptor.
 */
#ifndef TANDEM_SPAWN_H
#define TANDEM_SPAWN_H

#include <uv.h>

#define SPAWN_LIFELINE_FD 3
#define SPAWN_LIFELINE_ARG "3"

/* 0 or a negative libuv error. exit_cb comes once; the handle is the caller's to close. args[0] is
 * the program. */
int spawn_worker(uv_loop_t *loop, uv_process_t *process, const char *const args[], int lifeline_fd,
	uv_exit_cb exit_cb);

#endif
