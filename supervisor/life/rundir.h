/*
 * The run folder: mode 0700, ours, holding tandemd.pid and the sockets. Blocking file calls; used
 * at start, stop and when one tandemd takes over from another.
 *
 * A folder that others use must come to no harm by a wrong run_dir: only one that is empty, holds
 * nothing but names of ours, or bears our mark (a file, RUNDIR_MARK) is taken, made private and
 * tidied, and only names of ours are removed. The mark goes at the end, unless somebody has put
 * something of his own beside ours.
 *
 * Two tandemds share it during an upgrade. The names that others know (tandemd.pid, stats.ipc, ...)
 * belong to one of them: sockets are bound under a name of the process's own (rundir_socket) and
 * get the known name by rename(2) in rundir_take(), so that there is no moment without one.
 */
#ifndef TANDEM_RUNDIR_H
#define TANDEM_RUNDIR_H

#include "common/base/buf.h"
#include "common/config/config.h"

#include <stdbool.h>
#include <stdint.h>

#define RUNDIR_BYTES 128 /* of a path in it */
#define RUNDIR_PID_FILE "tandemd.pid"
#define RUNDIR_MARK ".tandem"

struct rundir {
	int lock_fd; /* the folder, locked as long as one of its holders lives; -1: not ours */
	bool owner;  /* the known names are ours */
	char path[RUNDIR_BYTES];
};

enum rundir_name {
	RUNDIR_FOREIGN,
	RUNDIR_FILE,   /* ours, and may stay for the next one */
	RUNDIR_SOCKET, /* ours, and of no use once its tandemd is gone */
};

/* Whose a name in the folder is. Pure. */
enum rundir_name rundir_name(const char *name);

/*
 * What can be told of a folder without touching it, for a check of the configuration: 0, or -errno
 * with words in err. One of another user is not judged: the service's may be another than who
 * checks. A missing one only has to stand where something can be written.
 */
int rundir_check(const char *path, struct buf *err);
/*
 * Creates the folder (and missing parents), checks owner, kind and content, makes it private, takes
 * the lock and removes sockets that a dead supervisor left. 0; -EBUSY when another tandemd runs
 * there; else -errno. Words in err.
 */
int rundir_open(struct rundir *r, const char *path, struct buf *err);
/* The same for a successor, whose predecessor's lock comes with it. Touches nothing. */
int rundir_join(struct rundir *r, const char *path, int lock_fd, struct buf *err);

/* Path to bind the socket NAME.ipc at ("stats", "events"). */
void rundir_socket(const struct rundir *r, const char *name, char out[RUNDIR_BYTES]);
/* The known names are this process's from now on. */
void rundir_take(struct rundir *r);

/* People and cleaners remove what they do not know. */
enum rundir_state {
	RUNDIR_GOOD,
	RUNDIR_NAMES_GONE,  /* a known name is missing */
	RUNDIR_NAMES_TAKEN, /* or is that of something else */
	RUNDIR_GONE,	    /* the folder is, or another one has its place */
};
enum rundir_state rundir_look(const struct rundir *r);
/* Makes the folder again, and locks it; its sockets are to be bound again, and rundir_take() then
 * gives them their names. 0, -EBUSY (another tandemd has it by now) or -errno, with words in err.
 */
int rundir_mend(struct rundir *r, struct buf *err);

/* Removes the sockets of a process that has died. */
void rundir_bury(const struct rundir *r, int64_t pid);

/* They are the successor's: nothing of them is touched, until they are taken back. */
void rundir_leave(struct rundir *r);
/* Whose they are, by the pid file; 0: nobody can tell. While the lock is held. */
int64_t rundir_pid(const struct rundir *r);
/* And so is the lock: nothing is taken back any more. */
void rundir_unlock(struct rundir *r);
/* Removes the names if they are ours. */
void rundir_close(struct rundir *r);

#endif
