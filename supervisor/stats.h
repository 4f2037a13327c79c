/*
 * The stats socket: nng REP at RUNDIR/stats.ipc. One plain text request, one JSON answer, so that
 * `nngcat --req --data status` reads it.
 *
 *   status   the whole state (see ARCHITECTURE.md for the fields)
 *
 * Anything else is answered with {"error": "..."}. One request a loop turn; a slow reader delays
 * nobody.
 */
#ifndef TANDEM_STATS_H
#define TANDEM_STATS_H

#include "supervisor/supervisor.h"

struct stats_server;

/* 0 or -errno. */
int stats_start(struct supervisor *s, struct stats_server **out);
void stats_stop(struct stats_server *st);

/* Appends the status document. */
void stats_status(const struct supervisor *s, struct buf *out);

#endif
