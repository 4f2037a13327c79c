/*
 * What is known of each device's backend (pid, start time, URL, a hash of what was run), in
 * RUNDIR/backend-DEVICE.state: after a crash of tandemd it tells whose end is waited for before a device starts,
 * after an upgrade what is adopted (warm.h).
 *
 * The files belong to the tandemd in charge: a successor writes none before it has taken over
 * (devices.files.provisional), a retiring one (devices.keep_backends) none any more. Small local files are read and
 * written, nothing else blocks.
 */
#ifndef TANDEM_STATEFILE_H
#define TANDEM_STATEFILE_H

#include "common/base/buf.h"
#include "common/config/config.h"

#include <stdint.h>

struct devices;

#define STATEFILE_URL_BYTES 256
#define STATEFILE_BYTES 1024
#define STATEFILE_BOOT_BYTES 64

struct warm_backend {
	int64_t pid; /* 0: none */
	uint64_t start;
	uint64_t hash; /* of what was run */
	char url[STATEFILE_URL_BYTES];
};

struct statefiles {
	char boot_id[STATEFILE_BOOT_BYTES]; /* of this start of the machine */
	bool provisional;		    /* the tandemd before us is still in charge */
};

/* --- pure --- */

/* Never 0. */
uint64_t statefile_hash(const struct config_device *conf);
void statefile_print(const struct warm_backend *b, const char *boot_id, struct buf *out);
/* False: not such a text, or of another boot of the machine. */
bool statefile_parse(struct slice text, const char *boot_id, struct warm_backend *out);

/* --- in the run folder --- */

void statefile_boot_id(char out[STATEFILE_BOOT_BYTES]);
/* False: there is none, or none to go by. */
bool statefile_read(const struct devices *s, const char *device, struct warm_backend *out);
/* A failure is logged: it only costs a model load after a crash. */
void statefile_write(const struct devices *s, const char *device, const struct warm_backend *b);
/* When it is about that process; 0: whatever it is about. */
void statefile_remove(const struct devices *s, const char *device, int64_t pid);
typedef void statefile_fn(struct devices *s, const char *device);
/* For each of them. */
void statefile_each(struct devices *s, statefile_fn *fn);

#endif
