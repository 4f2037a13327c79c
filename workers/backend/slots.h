/*
 * Conversations of a llama-server that is restarted: what its slots hold in KV is saved to files
 * before it ends and restored after it is up again, so that the next turn does not pay its whole
 * prefill.
 *
 * The folder is the server's --slot-save-path: ours (STATE_DIR/kv-DEVICE), or what the command
 * says. Beside the slots' files an index tells which there are and of which model: a key made of
 * the model file's path, size and time and of the arguments that change what KV means. Another
 * model's KV is never restored. Files are removed once restored. Failures are logged, and cost no
 * more than the prefill; kv_ms bounds all of a save and all of a restore. Loop thread only; small
 * local files and stat() apart, nothing blocks.
 */
#ifndef TANDEM_WORKERS_SLOTS_H
#define TANDEM_WORKERS_SLOTS_H

#include "workers/worker.h"

#define SLOTS_MAX 256 /* as many as a device may have */
#define SLOTS_INDEX_BYTES 8192

struct slots;
typedef void slots_done_fn(void *ctx);

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
/* Each calls done once, later, and returns true; false: there is nothing to do. */
bool slots_save(
	struct slots *s, const char *model_path, int64_t count, slots_done_fn *done, void *ctx);
bool slots_restore(struct slots *s, const char *model_path, slots_done_fn *done, void *ctx);
/* What is under way ends, without done. NULL does nothing. */
void slots_cancel(struct slots *s);
void slots_destroy(struct slots *s);

/* --- pure, for tests --- */

/* 0: the model's file cannot be told. */
uint64_t slots_key(const char *model_path, char *const *command);
/* The ids of an index with that key, at most SLOTS_MAX; -1: another key, or no index at all. */
int slots_parse(struct slice text, uint64_t key, unsigned ids[SLOTS_MAX]);

#endif
