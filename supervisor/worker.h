/*
 * The life of a device's worker process. See the table in worker.c.
 */
#ifndef TANDEM_WORKER_H
#define TANDEM_WORKER_H

#include "supervisor/device.h"

/* Starts the worker (from WORKER_STOPPED). Failures lead to back-off, never to an error here. */
void worker_start(struct device *d);
/* Asks the worker to exit: TERM, then KILL after WORKER_STOP_MS. */
void worker_stop(struct device *d);
/* True when no process of this device is left. */
bool worker_gone(const struct device *d);

const char *worker_state_name(enum worker_state s);

#endif
