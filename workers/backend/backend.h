/*
 * The one backend of this worker: where it is, whether it answers, what it serves.
 *
 * Attached (a URL), started (a command), or both: attach if it answers, else start. A probe is a
 * short list of GETs, one after the other; what they teach becomes a view, which is told to the
 * supervisor when it changed (STATE, MODELS). What differs between kinds of backends stands behind
 * struct backend_kind; nothing else knows the kind, only traits (backends.h). Loop thread only;
 * nothing blocks.
 */
#ifndef TANDEM_WORKERS_BACKEND_H
#define TANDEM_WORKERS_BACKEND_H

#include "common/base/json.h"
#include "common/dialect/backend.h"
#include "workers/backend/slots.h"
#include "workers/worker.h"

#define BACKEND_PROBE_MS 10000	    /* one GET of a probe */
#define BACKEND_PROBE_BYTES 8388608 /* its answer */
#define BACKEND_ASIDE_MS 1000	    /* the question aside, and paths that it need not have */
#define BACKEND_READY_MS 10000	    /* between probes while it is ready */
#define BACKEND_DOWN_MS 2000	    /* while it is not */
#define BACKEND_LOADING_MS 500
#define BACKEND_BOOT_MS 50	/* after a start; doubles up to BACKEND_LOADING_MS */
#define BACKEND_SILENT_PROBES 3 /* failed probes that take READY away; a refusal does at once */
#define BACKEND_MODELS_MAX 4096 /* of one list */
#define BACKEND_MODEL_JSON_BYTES 65536 /* of one model's object; larger ones are left out */

struct backend_model {
	char *name;
	int64_t window;	   /* tokens a slot, 0 unknown */
	char *ollama_json; /* its object in /api/tags */
	char *openai_json; /* its object in /v1/models */
	char *show_json;   /* its answer of /api/show; NULL where the backend answers that itself */
};

/* What one probe has learned. Owns its strings. */
struct backend_view {
	struct backend_model *models;
	size_t count;
	int64_t window, slots;
	char *model; /* served by default; NULL unknown */
	/* llama-server's /props, until /v1/models completes the models */
	bool tools, vision, audio, thinking;
	bool replays; /* TRAIT_REPLAYS */
	char *model_path, *chat_template;
	const char *format; /* of the models' files: static, NULL unknown */
	int64_t modified;   /* when the model's file was written, seconds of the epoch; 0 unknown */
	double gpu_share;   /* of the model on a GPU, 0 to 1; < 0 unknown */
	struct proto_serving serving; /* of the model served by default; no cache_type */
	bool guesses;		      /* it may be able to guess ahead: backend_kind.aside tells */
};

enum probe_verdict {
	PROBE_OK,      /* on to the next step */
	PROBE_LOADING, /* it is there, but not ready */
	PROBE_WRONG,   /* this is not the backend it should be */
};

/* An answer given here instead of by the backend. */
struct backend_answer {
	int status;
	const char *content_type;
	struct buf body;
};

struct command;

/*
 * What one kind of backend does differently: a file that fills this, and a row of backends.h. NULL
 * where it does nothing.
 */
struct backend_kind {
	/* Targets of a probe's GETs, NULL-terminated; learn() sees each answer. */
	const char *const *steps;
	/* Of these (bits), paths that it need not have: whatever refuses them is learned from. */
	unsigned optional;
	enum probe_verdict (*learn)(const struct settings *s, struct backend_view *v, unsigned step,
		int status, struct slice body);
	/* Paths that it has no answer for but we do. *body: only with the request's body. */
	bool (*owns)(struct slice path, bool *body);
	/* Forms of requests for embeddings (bits: enum embed_form) that are not its own, or are so in
	 * part: those are read (task_embed.c). */
	unsigned embeds;
	/* Answers a path that is owned, from the view. 0 or -ENOMEM. */
	int (*answer)(const struct settings *s, const struct backend_view *v, struct slice method,
		struct slice path, struct slice body, struct backend_answer *out);
	/* Tells a command that we start where to listen: 127.0.0.1 and this port. 0 or -ENOMEM. */
	int (*listen)(struct command *c, int port);
	/*
	 * Asked after a whole probe, until it has been answered once, while no request is under way:
	 * it may wait for the engine. Whatever comes of it, the probe was well. NULL: nothing.
	 */
	const char *aside;
	/* What it tells of guessing ahead: 0, 1, -1 unknown. */
	int (*learn_aside)(int status, struct slice body);
	/* Of a started one that said nothing of it: the share of its model on a GPU; < 0 unknown */
	double gpu_share;
};

#define BACKEND_KIND_OF_ROW(type, kind, ...) extern const struct backend_kind kind##_kind;
BACKEND_ROWS(BACKEND_KIND_OF_ROW)

/* The row's kind; type < BACKEND_TYPES. */
const struct backend_kind *backend_kind(enum backend_type type);

/* Nothing is known of it. */
void backend_view_init(struct backend_view *v);
/* What a backend tells of itself, where it is a number that can be true: from 0. Else *out stays. */
void backend_learn_number(struct json_value v, int64_t *out);
/* "Name:latest" and "name" are the same model, in any case, as Ollama has it. */
bool backend_same_model(const char *a, const char *b);
/*
 * What is served where a request names no model: the configured one, else the one settled on as
 * long as it is listed, else the first that can answer. NULL: none. Borrowed from s or v.
 */
const char *backend_view_default(const struct settings *s, const struct backend_view *v);
/* Adds a model; takes the strings of m over, also on failure. 0, -ENOMEM or -E2BIG. */
int backend_view_add(struct backend_view *v, struct backend_model *m);
void backend_view_fini(struct backend_view *v);
/* Changes when the models do. Never 0. */
uint64_t backend_view_hash(const struct backend_view *v);
/* Sends the list as MODELS records. */
void backend_view_tell(const struct backend_view *v, struct worker_self *w);

/*
 * Called once, after the next whole probe (whatever it found) that began after backend_refresh().
 */
struct backend_waiter {
	struct backend_waiter *next;
	uint64_t probe; /* its number */
	void (*fn)(void *ctx);
	void *ctx;
	bool waiting;
};

/* 0 or -ENOMEM. The worker's http and settings are there. */
int backend_create(struct worker_self *w, struct backend **out);
/* Probes, or starts it. */
void backend_start(struct backend *b);
/* A connection was refused: look now, not at the next tick. */
void backend_suspect(struct backend *b);
/* It is not our own process, whose death we would see. */
bool backend_is_doubtful(const struct backend *b);
bool backend_is_up(const struct backend *b);
void backend_refresh(struct backend *b, struct backend_waiter *waiter);
void backend_forget(struct backend *b, struct backend_waiter *waiter);
enum backend_end {
	BACKEND_LEAVE,	/* what we started stays, for the next worker */
	BACKEND_SAVE,	/* it ends, but its conversations are saved first (slots.h) */
	BACKEND_ABRUPT, /* it ends */
};
/* Stops what we started, then stopped(ctx): at once when there is nothing. Probing ends now. */
void backend_stop(struct backend *b, enum backend_end how, void (*stopped)(void *ctx), void *ctx);
/* A stop under way saves nothing more. */
void backend_hurry(struct backend *b);
/* Frees it; its handles close with the loop's last turns. NULL does nothing. */
void backend_destroy(struct backend *b);

/* A JOB_CHAT or JOB_WARM has ended, with these counts; usage is NULL where it failed. */
void backend_answered(
	struct backend *b, const struct proto_job *spec, const struct proto_usage *usage);
/* A conversation that is kept in a file is put into a slot again, then w->fn is called; false: it
 * cannot be, and the request goes as it is. */
bool backend_restore(struct backend *b, uint64_t conversation, struct slots_waiter *w);
void backend_restore_forget(struct backend *b, struct slots_waiter *w);

/* enum backend_trait: what it has, as far as it has said. */
unsigned backend_traits(const struct backend *b);
/* Its conversations are (or were) saved in a folder of ours, which no client writes to or reads
 * from. */
bool backend_has_our_folder(const struct backend *b);
const struct backend_view *backend_view(const struct backend *b);

#endif
