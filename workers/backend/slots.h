/*
 * Conversations of a llama-server in files (docs/resume.md): what its slots hold in KV is saved
 * before a planned end and while it is idle, and read back into slots after a start, or before a
 * request that goes on with one that no slot holds any more. So the next turn does not pay its whole
 * prefill.
 *
 * The folder is the server's --slot-save-path: ours (STATE_DIR/kv-DEVICE), or what the command
 * says. Beside the slots' files an index tells which there are (kept.h) and of which model: a key
 * made of the model file's path, size and time and of the arguments that change what KV means.
 * Another model's KV is never restored. Where the supervisor wants no conversation saved while idle
 * (settings.kv_bytes 0), files bridge planned ends alone, and are removed once restored.
 *
 * Which conversation a slot holds is told by its count of tokens (GET /slots), since no answer names
 * its slot: one that fits none is not saved while idle. The answer of the next turn says how much of
 * what was restored the server used; where that fails SLOTS_WRONG_MAX times in a row (hybrid models,
 * sliding windows: the server does not save what it would need), and where a save fails or is slow,
 * nothing more is saved or restored by this worker.
 *
 * Failures are logged, and cost no more than the prefill; kv_ms bounds each operation. Loop thread
 * only; small local files and stat() apart, nothing blocks. The server answers nobody while it saves
 * or restores.
 */
#ifndef TANDEM_WORKERS_SLOTS_H
#define TANDEM_WORKERS_SLOTS_H

#include "workers/worker.h"

#define SLOTS_MAX 256	       /* as many as a device may have */
#define SLOTS_CHATS 64	       /* conversations remembered as being in slots */
#define SLOTS_LEAST_TOKENS 512 /* a shorter one is read as soon as restored */
#define SLOTS_STALL_MS 5000    /* a save that would hold the server longer is not made */
#define SLOTS_GROWN 1.1	  /* a file is written anew when its conversation is so much longer ... */
#define SLOTS_PATIENCE 12 /* ... or after so many times kv_idle_ms */
#define SLOTS_HOURLY 4	  /* times kv_bytes that are written in an hour */
#define SLOTS_WRONG_MAX 3

struct slots;
typedef void slots_done_fn(void *ctx);

/* A job waits for a conversation to be restored. Its memory. */
struct slots_waiter {
	struct slots_waiter *next;
	uint64_t conversation;
	void (*fn)(void *ctx);
	void *ctx;
	bool waiting;
	bool restored; /* when fn is called: it was */
};

/* NULL: not this kind of backend, switched off, no folder to be had, or memory is out. */
struct slots *slots_create(struct worker_self *w);
/* The backend's saved slots are no client's: it is a llama-server of ours whose command names no
 * folder. Also where nothing is saved now: a backend that was adopted may have been given one. */
bool slots_are_kept(const struct settings *x);
/* The request saves, restores or erases a slot: a POST (or whatever is no GET) to /slots/N, as a
 * server reads it that decodes its path and may have a prefix. */
bool slots_is_action(struct slice method, struct slice target);
/* What the command is to be given as --slot-save-path; NULL: it has its own. */
const char *slots_argument(const struct slots *s);

/* The backend serves this model in so many slots; the supervisor hears what is kept. */
void slots_ready(struct slots *s, const char *model_path, int64_t count);
/* Each calls done once, later, and returns true; false: there is nothing to do. After slots_ready().
 * slots_restore() is for a backend that has just begun: its slots are empty. */
bool slots_save(struct slots *s, slots_done_fn *done, void *ctx);
bool slots_restore(struct slots *s, slots_done_fn *done, void *ctx);

/* A job has ended that went on with spec->conversation; usage is NULL where it has none. */
void slots_answered(struct slots *s, const struct proto_job *spec, const struct proto_usage *usage);
/* Restores one before the job's request; w->fn is called later. False: no use. */
bool slots_restore_for(struct slots *s, uint64_t conversation, struct slots_waiter *w);
void slots_forget(struct slots *s, struct slots_waiter *w);

/* What is under way ends, without done. NULL does nothing. */
void slots_cancel(struct slots *s);
/* Frees it with the loop's next turns. NULL does nothing. */
void slots_destroy(struct slots *s);

/* --- pure, for tests --- */

/* 0: the model's file cannot be told. */
uint64_t slots_key(const char *model_path, char *const *command);

/* A slot as GET /slots tells of it; -1: it does not say. */
struct slots_seen {
	int64_t tokens, task;
	bool busy;
};
/* How many; 0: it is no such list. */
unsigned slots_look(struct slice answer, struct slots_seen seen[SLOTS_MAX]);
/* The slot that holds a conversation of so many tokens, of those not taken; -1: none, or it cannot
 * be told. */
int slots_match(const struct slots_seen *seen, unsigned count, const bool *taken, int64_t tokens);
/* The idle one that was used longest ago, or of those that never were the last, as the server itself has it: what is
 * restored at the start goes into the first ones, of which it tells nothing before they are used. -1: none. */
int slots_oldest(const struct slots_seen *seen, unsigned count);

#endif
