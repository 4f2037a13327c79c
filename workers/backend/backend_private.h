/*
 * Between backend.c (life, and what we start), probe.c (one look at it, and what that means), learned.c (what
 * it has told) and backend_tell.c (what the supervisor hears). Nobody else includes this.
 */
#ifndef TANDEM_WORKERS_BACKEND_PRIVATE_H
#define TANDEM_WORKERS_BACKEND_PRIVATE_H

#include "workers/backend/backend.h"
#include "workers/backend/launcher.h"
#include "workers/backend/serving.h"
#include "workers/backend/slots.h"
#include "workers/http/http.h"

/* What a probe found. */
enum finding {
	FOUND_READY,
	FOUND_LOADING,
	FOUND_REFUSED,	    /* nobody listens */
	FOUND_CLOSED,	    /* somebody accepts and closes: a proxy before nobody */
	FOUND_SILENT,	    /* no whole answer in time */
	FOUND_WRONG,	    /* an answer, but not one of this kind of backend */
	FOUND_BUSY,	    /* it wants to be asked less often (429) */
	FOUND_CLOSED_TO_US, /* no trust, no key, or not this one: backend.why says it */
};

/* The conversations of what we start (slots.h). */
enum conversations {
	CONVERSATIONS_IDLE, /* also where none are saved */
	CONVERSATIONS_DUE,  /* a fresh backend: nothing restored yet */
	CONVERSATIONS_RESTORING,
	CONVERSATIONS_SAVING,
};

#define BACKEND_WHY_BYTES 600 /* the detail of a STATE */

struct backend {
	struct worker_self *worker;
	const struct backend_kind *kind;
	struct launcher *launcher; /* NULL: no command */
	struct slots *slots;	   /* NULL: its conversations are not saved */
	enum conversations conversations;
	char *url;   /* where it is; NULL before a start */
	int64_t pid; /* of the backend we started, 0: none */
	uint64_t pid_start;
	uv_timer_t next, boot;
	unsigned handles;
	bool closing;

	enum proto_backend_state state;
	struct backend_view view; /* the last whole one */
	struct buf told;      /* the last STATE, as bytes, to see whether it changed; empty: none */
	uint64_t models_told; /* hash of the last MODELS */

	/* the probe under way */
	struct http_transfer *transfer;
	struct backend_view learning;
	struct buf body;
	unsigned step;
	int status;
	uint64_t number; /* of the last probe begun */
	int speculation; /* by the question aside: 0, 1, -1 unknown */
	bool aside_told;
	bool probing, again;
	char why[BACKEND_WHY_BYTES]; /* of FOUND_CLOSED_TO_US */
	unsigned failures;
	bool boot_adopted;  /* the boot deadline is an adopted one's */
	int64_t boot_delay; /* > 0: started and not ready yet */
	struct backend_waiter *waiters;

	void (*stopped)(void *ctx);
	void *stopped_ctx;
};

/* enum backend_trait: of the kind, and what the last look has found. */
static inline unsigned backend_all_traits(const struct backend *b)
{
	return b->worker->settings.traits | (b->view.replays ? TRAIT_REPLAYS : 0);
}

/* backend.c: starts the command. */
void backend_launch(struct backend *b);

/* probe.c: begins one now, or another one behind that under way; the next one, in ms. */
void backend_probe(struct backend *b);
void backend_look_again(struct backend *b, int64_t ms);

/* learned.c: backend.learning is whole; it becomes backend.view. */
void backend_learned(struct backend *b);

/* backend_tell.c: tells the supervisor, where anything of it is new. */
void backend_tell(struct backend *b, enum proto_backend_state state, struct slice detail);
void backend_tell_models(struct backend *b);

#endif
