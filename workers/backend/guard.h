/*
 * The short life of `tandem-worker --exec -- COMMAND...` between spawn and exec of a backend.
 *
 * libuv has no hook there, and one thing must be done in that place: the backend gets a guard, a
 * process in its group that holds the read end of the family's lifeline (descriptor GUARD_FD),
 * whose write end only tandemd has (supervisor/devices/orphans.h). When tandemd is gone, however it went, the
 * pipe reads EOF: the guard sends TERM to the group, then KILL. So a backend outlives its worker,
 * but never the whole family, holding a GPU. When the backend ends, the guard ends what it has
 * started and itself. Knows no libuv and no nng: it runs before main() touches them.
 */
#ifndef TANDEM_WORKERS_GUARD_H
#define TANDEM_WORKERS_GUARD_H

#define GUARD_FD 3	      /* the lifeline, in the child */
#define GUARD_GRACE_MS 5000   /* between TERM and KILL */
#define GUARD_EXEC_FAILED 127 /* exit code: the command could not be run; stderr says why */

/* argv is the command, NULL-terminated. Returns only when it could not be run: the exit code. */
int guard_exec(char **argv);

#endif
