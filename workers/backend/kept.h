/*
 * The conversations of a device that wait in files: which there are, of which model, how large.
 *
 * A file is what a llama-server wrote of one slot (slots.h). Beside the files an index lists them, a
 * line each, the one used last first; a file that it does not list is nobody's. Names are made of
 * numbers: a conversation's is the supervisor's (a hash), a model's is slots_key(). The files of one
 * device have together at most `most` bytes; the ones that were used longest ago go first, as do
 * those of a model whose file has changed and those of KEPT_DAYS ago.
 *
 * Loop thread only; local files are written and removed, nothing else blocks. The struct is the
 * caller's memory.
 */
#ifndef TANDEM_WORKERS_KEPT_H
#define TANDEM_WORKERS_KEPT_H

#include "common/base/buf.h"

#include <stdint.h>

#define KEPT_MAX 256 /* conversations; as many as a device may have slots */
#define KEPT_DAYS 30
#define KEPT_UNUSED_DAYS 7 /* then it is tried again: servers learn, too */
#define KEPT_NEW ".new"	   /* behind the name of a file that is being written */
#define KEPT_DIR_BYTES 1200
#define KEPT_NAME_BYTES 96
#define KEPT_INDEX_BYTES 32768

struct kept_file {
	uint64_t id;
	uint64_t model, path; /* slots_key(), and a hash of the model file's path */
	int64_t tokens, bytes;
	int64_t used_s; /* of the calendar */
};

struct kept {
	char dir[KEPT_DIR_BYTES];
	char device[32];
	int64_t most;			  /* bytes */
	struct kept_file files[KEPT_MAX]; /* the one used last first */
	size_t count;
	/* The model whose restored conversations its server did not use, how often in a row, and
	 * when it was last. */
	uint64_t unused_model;
	int64_t unused, unused_s;
};

/* Called for each conversation that goes, when its file is gone. */
typedef void kept_gone_fn(void *ctx, const struct kept_file *f);

/* Reads the index; one that is damaged, foreign or of another version is none. */
void kept_read(struct kept *k);
/* 0 or -errno. */
int kept_write(const struct kept *k);
/* Removes those that are out of date, and all of other models unless `others`. How many of this model's
 * own file had changed. */
unsigned kept_sweep(struct kept *k, uint64_t model, uint64_t path, bool others, int64_t now_s,
	kept_gone_fn *gone, void *ctx);
/* Removes files of this device that the index does not list, and those half written. */
void kept_remove_strays(const struct kept *k);

/* NULL: not kept. Valid until the next change. */
const struct kept_file *kept_find(const struct kept *k, uint64_t id);
/* The one used last; replaces what was kept under that id. Then the cap holds, if need be without it. */
void kept_put(struct kept *k, const struct kept_file *f, kept_gone_fn *gone, void *ctx);
void kept_used(struct kept *k, uint64_t id, int64_t now_s);
/* Its file as well. */
void kept_remove(struct kept *k, uint64_t id);
/* What was restored of that model was used, or not. How often it was not, in a row. */
int64_t kept_judge(struct kept *k, uint64_t model, bool used, int64_t now_s);
int64_t kept_unused(const struct kept *k, uint64_t model, int64_t now_s);
int64_t kept_bytes(const struct kept *k);
/* The file's name in dir, and its path. */
void kept_name(const struct kept *k, uint64_t id, char out[KEPT_NAME_BYTES]);
void kept_path(const struct kept *k, uint64_t id, char *out, size_t n);
/* Its file is there, in its size. */
bool kept_is_whole(const struct kept *k, const struct kept_file *f);

/* --- pure, for tests --- */

/* 0 or -EPROTO: no index, and k has no files. */
int kept_parse(struct kept *k, struct slice text);
int kept_print(const struct kept *k, struct buf *out);

#endif
