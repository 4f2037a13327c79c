/*
 * The short life of `tandem-worker --exec -- COMMAND...` between spawn and exec of a backend.
 *
 * libuv has no hook there, and two things must be done in that place: the backend gets a guard, and
 * it dies with the worker. The guard is a process in the backend's group that holds the read end of
 * a pipe (descriptor GUARD_FD) whose write end only the worker has. When the worker is gone,
 * however it went, the pipe reads EOF: the guard sends TERM to the group, then KILL. So a killed
 * worker leaves no backend, nor what the backend has started, holding a GPU. Knows no libuv and no
 * nng: it runs before main() touches them.
 */
#ifndef TANDEM_WORKERS_GUARD_H
#define TANDEM_WORKERS_GUARD_H

#define GUARD_FD 3	      /* the pipe, in the child */
#define GUARD_GRACE_MS 5000   /* between TERM and KILL */
#define GUARD_EXEC_FAILED 127 /* exit code: the command could not be run; stderr says why */

/* argv is the command, NULL-terminated. Returns only when it could not be run: the exit code. */
int guard_exec(char **argv);

#endif
