/*
 * A small store of facts that should last over restarts: one LMDB file, bounded, safe against
 * crashes. Losing it costs time, never an answer, so nothing here is fatal: a file that is damaged,
 * foreign or of another format is moved aside (to PATH.bad, one is kept) and a new one begun.
 *
 * Values lie in two generations. New ones go into the young generation; when it has grown to a
 * quarter of max_bytes the old one is dropped and the young one becomes old. So what was neither
 * written nor touched for a while goes, without any bookkeeping. Each value carries a check sum:
 * what does not fit its sum is not there.
 *
 * Reads are of mapped memory and may be made on any thread; writes wait for the disk: off the loop.
 * One struct store a process and path (LMDB's rule), shared by its threads. Several processes may
 * have the same file open (an upgrade's predecessor and successor).
 */
#ifndef TANDEM_STORE_H
#define TANDEM_STORE_H

#include "common/base/buf.h"

#include <stdint.h>

#define STORE_FORMAT 1
#define STORE_KEY_MAX 64
#define STORE_VALUE_MAX 65536
#define STORE_BYTES_MIN 262144 /* of max_bytes */
#define STORE_CHECK_S 20       /* a file that takes longer to be looked through is damaged */

/* What a value is; part of its key. */
enum store_kind {
	STORE_DECISION = 'd',
	STORE_NOTE = 'n',
	STORE_DIGEST = 'g', /* the notes that one was made with */
	STORE_RATES = 'r',
	STORE_WINDOW = 'w',
	STORE_TOKENS = 'k',
	STORE_CHAIN = 'c' /* of a conversation that waits in a file */
};

struct store;

struct store_value {
	enum store_kind kind;
	struct slice key, value;
};

/*
 * Opens or creates the file; its folder is there. A file that is there is looked through in a child
 * process first, since LMDB trusts its pages. 0, or -errno: there is no store (no permission, no
 * space). `moved` says what was wrong with a file that was moved aside; empty otherwise. Blocks on
 * the disk.
 */
int store_open(const char *path, size_t max_bytes, struct store **out, struct buf *moved);
/* The same to look only: nothing is created, moved or written, but for a mark in LMDB's table of
 * readers where that is there. 0, or -errno: -ENOENT, -EPROTO where the file is damaged or foreign.
 */
int store_open_reading(const char *path, size_t max_bytes, struct store **out);
/* NULL does nothing. */
void store_close(struct store *s);

/* Appends the value. 0, -ENOENT, or buf's error. *old (may be NULL): it is in the old generation,
 * and goes unless it is put again. */
int store_get(struct store *s, enum store_kind kind, struct slice key, struct buf *out, bool *old);

/* Writes all of them in one transaction, on the disk on return. 0; -E2BIG (a key or value is too
 * long), -ENOSPC or another -errno: none of them is written. */
int store_put(struct store *s, const struct store_value *values, size_t count);

/* Calls fn for each value of that kind, in no order; one that is in both generations may come
 * twice. fn must not use the store. 0 or -errno. */
typedef void store_fn(void *ctx, struct slice key, struct slice value);
int store_each(struct store *s, enum store_kind kind, store_fn *fn, void *ctx);

#endif
