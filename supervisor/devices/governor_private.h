/* Between governor.c (when and how far) and, below it, governor_ask.c (what Ollama is asked and told). */
#ifndef TANDEM_GOVERNOR_PRIVATE_H
#define TANDEM_GOVERNOR_PRIVATE_H

#include "supervisor/devices/devices.h"
#include "supervisor/devices/governor.h"
#include "supervisor/devices/job.h"
#include "supervisor/devices/window.h"

enum phase {
	PHASE_QUIET,   /* nothing is wanted */
	PHASE_WANTED,  /* waits for the device to be idle */
	PHASE_ASKING,  /* /api/show */
	PHASE_LOOKING, /* the GPU's memory */
	PHASE_LOADING,
};

struct entry {
	LIST_ENTRY(entry) link;
	struct governor *governor;
	struct device *device;
	struct slice model; /* owned */
	enum phase phase;
	int64_t set;	/* the window in force; 0: the device's */
	int64_t before; /* ... before the step under way */
	int64_t needed, wished, refused;
	int64_t denied;	   /* so much was wanted when it last stayed as it was */
	uint64_t until_ms; /* ... and is not looked at again before */
	bool known;	   /* kv_bytes, trained */
	double kv_bytes;
	int64_t trained;
	struct job *job;
	struct buf body, answer; /* of the job */
	uint64_t used_ms, idle_since_ms, began_ms;
};

struct governor {
	struct devices *devices;
	LIST_HEAD(, entry) entries;
	size_t count;
	struct entry *looking; /* waits for the GPU's figures */
	uv_timer_t timer;
};

/* Nothing is wanted any more. */
void governor_quiet(struct entry *e);
/* Asks Ollama what it knows of the model; the answer leads back to PHASE_WANTED. */
void governor_ask_model(struct entry *e);
/* Has the model loaded with another window than it has now. */
void governor_load(struct entry *e, const struct window_step *step, int64_t from);

#endif
