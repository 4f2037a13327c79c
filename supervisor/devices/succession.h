/*
 * A device's workers, one after the other: replacement without a gap, back-off or giving up after
 * deaths, draining, removal.
 *
 * Two ways lead from one worker to the next. *Beside*: a next worker boots while the current one
 * serves; once it is ready it is current, and the old one finishes its jobs. A next one that fails
 * leaves the current one as it was. *In place*: where two backends would not fit one GPU (the
 * backend itself is restarted) or the current one does not serve anyway, it drains first, jobs wait
 * in the device's queue meanwhile, and it starts again under a new generation.
 *
 * Every function runs on the loop thread; nothing blocks.
 */
#ifndef TANDEM_SUCCESSION_H
#define TANDEM_SUCCESSION_H

#include "supervisor/devices/device.h"

/* Old workers of one device that still finish jobs; one more and the oldest is told to stop. */
#define SUCCESSION_OLD_MAX 4

/* The current worker is another one, or has another state. */
void device_changed(struct device *d);

/* An operation on it, or a succession of its workers, is under way. */
bool device_busy(const struct device *d);
/*
 * A fresh worker. backend: the backend that we started is restarted as well. The operation's part
 * ends when the new worker is ready, or has failed. -EBUSY: one is under way; -ENOMEM.
 */
int device_restart(struct device *d, bool backend, uint64_t operation);
/*
 * New settings, taken over (also on errors, but for the two below): by a fresh worker beside or in
 * place. When that fails beside, the old worker and the old settings stay. -EBUSY, -ENOMEM: nothing
 * is changed and conf is still the caller's.
 */
int device_reconfigure(struct device *d, struct config_device *conf, bool backend,
	bool keep_backend, uint64_t operation);
/* The current worker finishes its jobs and ends; the device is out of use until device_reset(). */
int device_drain(struct device *d, uint64_t operation);
/* Starts what is failed, drained or backing off, with no history. */
void device_reset(struct device *d);
/* Out of the configuration: drains, for good. */
void device_remove(struct device *d);
/* Ends every worker now (TERM, then KILL): shutdown. True when no process is left. */
bool device_stop(struct device *d);

/* --- for worker_events --- */

/* A worker has ended without having been asked to: what becomes of it. */
enum after_death succession_died(struct worker *w);
/* It has become FAILED: what waits is sent elsewhere. */
void succession_failed(struct worker *w);
void succession_ready(struct worker *w);
/* It is not ready within deadlines.worker_boot_ms, and is left to it. */
void succession_late(struct worker *w);
/* Its process is gone and its jobs are settled. Frees it when the device is through with it. */
void succession_gone(struct worker *w);
/* It does not even die of KILL: another one takes its place. */
void succession_stuck(struct worker *w);

#endif
