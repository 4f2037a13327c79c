/*
 * The stats socket: REP (rep.h) at RUNDIR/stats.ipc. One plain text request, one JSON answer, so
 * that `nngcat --req --data status` reads it.
 *
 *   status   the whole state (see ARCHITECTURE.md for the fields)
 *
 * Anything else is answered with {"error": "..."}. A slow reader delays nobody.
 */
#ifndef TANDEM_STATS_H
#define TANDEM_STATS_H

#include "supervisor/rep.h"
#include "supervisor/supervisor.h"

/* Listens under a name of this process's own; rundir_take() gives it the known one. 0 or -errno.
 * *out is ended by rep_stop(). */
int stats_start(struct supervisor *s, struct rep **out);
/* Anew, after a successor that took the name has failed. */
int stats_restart(struct supervisor *s);

/* Appends the status document. */
void stats_status(const struct supervisor *s, struct buf *out);

#endif
