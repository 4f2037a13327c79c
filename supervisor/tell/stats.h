/*
 * What is told of a running tandemd: REP (rep.h) at RUNDIR/stats.ipc for who asks (commands.h), PUB
 * at RUNDIR/events.ipc for who listens (events.h), and the documents that the first one answers
 * with. A slow reader of either delays nobody.
 *
 * Each document function appends members to an object that is begun and ended by its caller. Names
 * are part of the interface: they may be added to, never changed (ARCHITECTURE.md lists them).
 */
#ifndef TANDEM_STATS_H
#define TANDEM_STATS_H

#include "supervisor/supervisor.h"
#include "supervisor/tell/rep.h"

/* Listens under names of this process's own; rundir_take() gives them the known ones. 0 or -errno;
 * stats_stop() is due either way. */
int stats_start(struct supervisor *s);
/* Both sockets anew, after a successor that took the names has failed. */
int stats_reopen(struct supervisor *s);
void stats_stop(struct supervisor *s);

/* --- documents --- */

void stats_status(const struct supervisor *s, struct buf *out);
void stats_workers(const struct supervisor *s, struct buf *out);
void stats_jobs(const struct supervisor *s, struct buf *out);
void stats_queues(const struct supervisor *s, struct buf *out);
void stats_backends(const struct supervisor *s, struct buf *out);
void stats_counters(const struct supervisor *s, struct buf *out);
void stats_histograms(const struct supervisor *s, struct buf *out);
void stats_nng(const struct supervisor *s, struct buf *out);
void stats_operation(const struct operation *op, struct buf *out);
/* Asks the driver first where its last word is old. A later answer ends the object itself. */
enum rep_when stats_devices(struct supervisor *s, struct rep_question *q, struct buf *out);

#endif
