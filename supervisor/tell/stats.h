/*
 * The documents that the stats socket answers with (commands.h).
 *
 * Each document function appends members to an object that is begun and ended by its caller. Names
 * are part of the interface: they may be added to, never changed (ARCHITECTURE.md lists them).
 */
#ifndef TANDEM_STATS_H
#define TANDEM_STATS_H

#include "supervisor/tell/rep.h"
#include "supervisor/tell/tell.h"

void stats_status(const struct tell *t, struct buf *out);
void stats_workers(const struct tell *t, struct buf *out);
void stats_jobs(const struct tell *t, struct buf *out);
void stats_queues(const struct tell *t, struct buf *out);
void stats_backends(const struct tell *t, struct buf *out);
void stats_counters(const struct tell *t, struct buf *out);
void stats_histograms(const struct tell *t, struct buf *out);
void stats_nng(const struct tell *t, struct buf *out);
void stats_operation(const struct operation *op, struct buf *out);
/* Asks the driver first where its last word is old. A later answer ends the object itself. */
enum rep_when stats_devices(struct tell *t, struct rep_question *q, struct buf *out);

#endif
