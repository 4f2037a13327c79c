/*
 * What an operator can ask of a running tandemd. Called on the loop thread by whoever reads the
 * asking (commands of the stats socket, signals); nothing blocks.
 *
 * Each returns the number of an operation (operation.h) whose outcome comes later, or 0 with one
 * line of words in err when it is refused at once (no such device, another one under way, ...).
 */
#ifndef TANDEM_CONTROL_H
#define TANDEM_CONTROL_H

#include "common/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct life;

/* device: a name, or NULL for all of them. */

/* A new worker is started; once it is ready it takes the work and the old one finishes what it has.
 * backend: the backend that we started is restarted as well. */
uint64_t control_restart(struct life *l, const char *device, bool backend, struct buf *err);
/* No new work; done when the last job has ended. The device stays out of use until it is reset. */
uint64_t control_drain(struct life *l, const char *device, struct buf *err);
/* A failed, backing-off or drained device starts afresh, with no history of restarts. */
uint64_t control_reset(struct life *l, const char *device, struct buf *err);
/* Reads the configuration file again. A bad one changes nothing and is the operation's why. */
uint64_t control_reload(struct life *l, struct buf *err);
/* A new tandemd takes over; this one finishes its streams and ends. */
uint64_t control_upgrade(struct life *l, struct buf *err);

#endif
