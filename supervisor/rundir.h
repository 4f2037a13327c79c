/*
 * The run folder: mode 0700, ours, holding tandemd.pid and the sockets. Blocking file calls; used
 * at start and stop only.
 */
#ifndef TANDEM_RUNDIR_H
#define TANDEM_RUNDIR_H

#include "common/buf.h"

struct rundir {
	int lock_fd; /* tandemd.pid, locked as long as we live */
	char pid_path[512];
};

/*
 * Creates the folder (and missing parents), checks owner and mode, takes the lock and removes
 * sockets that a dead supervisor left. 0; -EBUSY when another tandemd runs there; else -errno.
 * Words in err.
 */
int rundir_open(struct rundir *r, const char *path, struct buf *err);
void rundir_close(struct rundir *r);

#endif
