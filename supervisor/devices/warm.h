/*
 * Backends that outlive their workers: what is known of the one that a device's workers have started stands in
 * device.warm and in its state file (statefile.h). The next worker of the device gets it with ACK and adopts it;
 * one that nobody will use any more is ended (orphans.h).
 *
 * Loop thread only; small local files are read and written, nothing else blocks.
 */
#ifndef TANDEM_WARM_H
#define TANDEM_WARM_H

#include <stdbool.h>

struct devices;
struct device;
struct worker;
struct proto_ack;

/* Reads the files of a former run. After orphans_start(), before any device is created. */
void warm_start(struct devices *s);
/* We are in charge from now on: the files say what our devices use. */
void warm_take_over(struct devices *s);

/* A new device: what a predecessor's file says of it. */
void warm_device_created(struct device *d);
/* What its next worker may adopt. */
void warm_fill(struct worker *w, struct proto_ack *a);
/* w is the device's current worker, or has told a new state. */
void warm_learned(struct worker *w);
/* The process of w is gone; asked: it was told to end. */
void warm_worker_gone(struct worker *w, bool asked);
/* Ends the device's backend when nobody uses it nor will. */
void warm_settle(struct device *d);
/* Ends it though a next worker could adopt it. */
void warm_end(struct device *d);
/* True when no former backend of the device still holds its GPU. */
bool warm_may_spawn(struct device *d);
/* What a worker that we end leaves running is still somebody's. */
bool warm_kept(const struct worker *w);

#endif
