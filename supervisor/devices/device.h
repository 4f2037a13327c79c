/*
 * A device: one configured GPU (or CPU), the workers that serve it, and the jobs given to it.
 *
 * One of its workers is current: it gets the work. Jobs wait in the device's queue (queue.h: by
 * class, then fair between clients) until that one is READY and a slot is free; they survive the
 * worker while they wait, and fail with JOB_LOST when it dies under them. Slots are the backend's,
 * so the jobs of an old worker that is still draining count too.
 */
#ifndef TANDEM_DEVICE_H
#define TANDEM_DEVICE_H

#include "common/config/config.h"
#include "proto/proto.h"
#include "supervisor/devices/foresight.h"
#include "supervisor/devices/forget.h"
#include "supervisor/devices/queue.h"
#include "supervisor/devices/rate.h"
#include "supervisor/devices/statefile.h"
#include "supervisor/devices/totals.h"
#include "supervisor/devices/worker.h"

#include <sys/queue.h>

struct devices;
struct job;
struct warming;
struct idle_run;
TAILQ_HEAD(job_list, job);
LIST_HEAD(job_bucket, job);
#define JOB_BUCKETS 256 /* as many as a device has slots at most */

struct device_model {
	char *name;
	int64_t window; /* tokens, 0 unknown */
	char *ollama_json, *openai_json;
};

/* The succession of its workers: the table of succession.c. */
enum succession {
	SETTLED,  /* one worker, which lives a life of its own */
	BESIDE,	  /* a next one boots beside it */
	IN_PLACE, /* it ends, and is to start again then */
	DRAINING, /* it ends: an operator wants the device out of use until a reset */
	DRAINED,
	REMOVED, /* from the configuration: it ends with its last job */
	ENDING,	 /* tandemd does */
	SUCCESSIONS
};

struct device {
	struct devices *all;
	const struct config_device *conf;  /* our copy */
	struct config_device *conf_before; /* while a next worker boots with other settings */
	unsigned number;		   /* unique in this process: names its sockets */
	unsigned
		traits; /* what one of its workers told of its backend when it was ready; 0: none was */
	enum backend_type traits_of; /* ... which was of this kind */

	struct worker_list workers; /* all of them, newest first */
	struct worker *current;	    /* never NULL */
	struct worker *next;	    /* BESIDE: boots beside it; else NULL */
	enum worker_state state;    /* of the current one */
	enum succession succession;
	struct warm_backend warm; /* the backend that we started, which a next worker adopts */
	bool keep_backend;	  /* what the old worker of a succession does with its backend */
	uint64_t operation;	  /* whose part is under way here, 0: none */
	uint64_t generation;	  /* the last one given */
	uint64_t not_ready_since_ms, removed_ms;
	uint64_t restarts;		      /* that nobody has ordered: after deaths */
	uint64_t deaths[CONFIG_RESTARTS_MAX]; /* times of the last ones: a ring */
	uint64_t death_count;
	char last_exit[WORKER_EXIT_BYTES]; /* "" before the first */

	struct device_model *models;
	size_t model_count;
	struct forget_list forgotten;
	char settled[256]; /* what it serves by default where no model is configured; "" unknown */
	struct device_model *incoming; /* a list being received */
	size_t incoming_count;

	struct queue queue;	 /* jobs that take a slot; waiting or running */
	struct job_list passing; /* waiting jobs that take none */
	struct job_list running;
	struct job_bucket by_id[JOB_BUCKETS]; /* the running ones, for each record of the worker */
	unsigned inflight;		      /* running jobs that take a slot */
	unsigned preempting;		      /* of these: told to let go */
	uint64_t jobs_done, jobs_preempted;
	uint64_t loads, load_ms; /* jobs that waited for a load of their model, and how long */
	uint64_t jobs_failed;	 /* not those that were the client's fault (4xx) */
	struct report_sums sums;
	double prefill_tok_s, decode_tok_s; /* learned (rate.h); 0 before the first measurement */
	struct rate_prompts prompts;
	struct foresight foresight; /* for predictions */
	int64_t caches_pid;	    /* of the backend whose caches it knows; 0: not ours */
	uint64_t caches_start;
	uint64_t rates_saved_ms;
	struct warming *warming; /* warming.h; NULL: none */
	uint64_t warmed, warmings_cancelled;
	struct idle_run *noting;  /* idle_notes.h; NULL: none */
	uint64_t notes_paused_ms; /* it writes none before */
	char asked_model[256];	  /* that the newest request of a client named; "" none */
	uint64_t asked_ms;	  /* when */
	uint64_t noted, notings_cancelled;
};

/* The state of its current worker in a word; "drained" where an operator wants it out of use. */
const char *device_state_name(const struct device *d);
/* Why it takes no work while it is not ready, for clients. Static. */
const char *device_absence(const struct device *d);
/* Its counters since it was created. */
struct device_totals device_totals(const struct device *d);
/* The device of that name, or NULL. */
struct device *device_find(struct devices *s, const char *name);
/* An operator wants it out of use. */
static inline bool device_drained(const struct device *d)
{
	return d->succession == DRAINING || d->succession == DRAINED;
}

/* No worker will come by itself: what waits for this device waits in vain. */
static inline bool device_hopeless(const struct device *d)
{
	return d->state == WORKER_FAILED || device_drained(d) || d->succession == REMOVED;
}

static inline const struct worker_backend *device_backend(const struct device *d)
{
	return &d->current->backend;
}

/* enum backend_trait: of its backend, or as configured before that has said a word. */
unsigned device_traits(const struct device *d);
static inline bool device_has(const struct device *d, enum backend_trait trait)
{
	return device_traits(d) & trait;
}

/* What its settings say of its backend's caches, which a reload may have changed. */
void device_foresees(struct device *d);
/* Requests this device takes at once. */
int device_slots(const struct device *d);
/* Below which share of a prompt in its one slot that slot's own is put aside (common/backends.h); 0: unknown, or never. */
double device_similarity(const struct device *d);
/* Window in tokens: configured, else what the backend reports, else 0 (unknown). */
int64_t device_window(const struct device *d);
/* True when the device's models include that name (case-insensitive, ":latest" implied); an empty
 * name is served by none. */
bool device_serves(const struct device *d, struct slice model);
/* A request of a client names this model. */
void device_asked(struct device *d, struct slice model);
/* Do these names mean the same model? (case-insensitive, ":latest" implied) */
bool device_same_model(struct slice a, struct slice b);
/* Replaces or extends the model list by one MODELS record. */
void device_models(struct device *d, const struct proto_models *m);
/* What a KEPT record says. */
void device_kept(struct worker *w, const struct proto_record *r);
/* A worker has told where its backend is, or has become the current one: what is known of caches is
 * of that backend from now on. */
void device_learned(struct worker *w);
/* Frees the lists. */
void device_models_free(struct device *d);
/* What was learned of its speed is kept: now, or where it has just been, not yet (false). */
bool device_keep_rates(struct device *d, bool now);
/* Name the device is asked for by default; never NULL. */
const char *device_model(const struct device *d);

#endif
