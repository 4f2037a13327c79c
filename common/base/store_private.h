/* What store.c and store_check.c share: the tables of the file. rc are LMDB's codes. */
#ifndef TANDEM_STORE_PRIVATE_H
#define TANDEM_STORE_PRIVATE_H

#include "common/base/store.h"

#include <lmdb.h>

#define GENERATIONS 2
#define SUM_BYTES sizeof(uint64_t)

struct store {
	MDB_env *env;
	MDB_dbi meta, generation[GENERATIONS];
	size_t max_bytes;
};

/* What the meta table says, under the key "tandem". */
struct meta {
	uint32_t format, young;
};

int store_open_env(const char *path, size_t max_bytes, unsigned flags, MDB_env **env);
/* To open a file for reading only: who writes one has a table of readers beside it; without it
 * nobody does, and none is made. */
unsigned store_reading_flags(const char *path);
int store_open_tables(struct store *s, MDB_txn *txn, unsigned flags);
int store_read_meta(struct store *s, MDB_txn *txn, struct meta *m);
/* The value without its sum; false when it does not fit it. */
bool store_open_value(MDB_val key, MDB_val stored, struct slice *value);
int store_put_one(struct store *s, MDB_txn *txn, const struct meta *m, const struct store_value *v);
/* Success, or an error of the machine, which another file would have as well. */
bool store_is_ours(int rc);

/* What is wrong with the file; NULL: nothing. reading: it is not tried whether it can be written.
 * Blocks. */
const char *store_look_through(const char *path, size_t max_bytes, bool reading);

#endif
