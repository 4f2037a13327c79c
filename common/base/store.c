#include "common/base/store_private.h"

#include "common/base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHARE 4 /* a generation grows to max_bytes / SHARE; dropping one needs room too */
#define READERS_MAX 64

static int to_errno(int rc)
{
	switch (rc) {
	case MDB_SUCCESS:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
		return -ENOSPC;
	default:
		return rc > 0 ? -rc : -EPROTO; /* LMDB's own are negative */
	}
}

/* --- values --- */

static MDB_val meta_key(void)
{
	static char name[] = "tandem";
	return (MDB_val){sizeof(name) - 1, name};
}

int store_read_meta(struct store *s, MDB_txn *txn, struct meta *m)
{
	MDB_val key = meta_key(), value;
	int rc = mdb_get(txn, s->meta, &key, &value);
	if (rc)
		return rc;
	if (value.mv_size != sizeof(*m))
		return MDB_INCOMPATIBLE;
	memcpy(m, value.mv_data, sizeof(*m));
	return m->format == STORE_FORMAT && m->young < GENERATIONS ? 0 : MDB_INCOMPATIBLE;
}

static int write_meta(struct store *s, MDB_txn *txn, uint32_t young)
{
	struct meta m = {STORE_FORMAT, young};
	MDB_val key = meta_key(), value = {sizeof(m), &m};
	return mdb_put(txn, s->meta, &key, &value, 0);
}

static uint64_t check_sum(struct slice key, struct slice value)
{
	return hash_mix(hash_bytes(key.p, key.n) ^ hash_mix(hash_bytes(value.p, value.n)));
}

struct key_bytes {
	char p[STORE_KEY_MAX + 1];
	size_t n;
};

static int make_key(enum store_kind kind, struct slice key, struct key_bytes *out)
{
	if (key.n == 0 || key.n > STORE_KEY_MAX)
		return -E2BIG;
	out->p[0] = (char)kind;
	memcpy(out->p + 1, key.p, key.n);
	out->n = key.n + 1;
	return 0;
}

/* The value without its sum; false when it does not fit it. */
bool store_open_value(MDB_val key, MDB_val stored, struct slice *value)
{
	uint64_t sum;
	if (stored.mv_size < SUM_BYTES)
		return false;
	memcpy(&sum, stored.mv_data, SUM_BYTES);
	*value = (struct slice){(char *)stored.mv_data + SUM_BYTES, stored.mv_size - SUM_BYTES};
	return sum == check_sum((struct slice){key.mv_data, key.mv_size}, *value);
}

int store_put_one(struct store *s, MDB_txn *txn, const struct meta *m, const struct store_value *v)
{
	struct key_bytes k;
	if (make_key(v->kind, v->key, &k))
		return MDB_BAD_VALSIZE;
	MDB_val key = {k.n, k.p}, stored = {SUM_BYTES + v->value.n, NULL};
	uint64_t sum = check_sum((struct slice){k.p, k.n}, v->value);
	int rc = mdb_put(txn, s->generation[m->young], &key, &stored, MDB_RESERVE);
	if (rc)
		return rc;
	memcpy(stored.mv_data, &sum, SUM_BYTES);
	if (v->value.n)
		memcpy((char *)stored.mv_data + SUM_BYTES, v->value.p, v->value.n);
	return 0;
}

/* --- opening --- */

int store_open_env(const char *path, size_t max_bytes, unsigned flags, MDB_env **env)
{
	int rc = mdb_env_create(env);
	if (rc)
		return rc;
	mdb_env_set_maxdbs(*env, 1 + GENERATIONS);
	mdb_env_set_maxreaders(*env, READERS_MAX);
	rc = mdb_env_set_mapsize(*env, max_bytes);
	if (rc == 0)
		rc = mdb_env_open(*env, path, MDB_NOSUBDIR | MDB_NOTLS | flags, 0600);
	int fd;
	if (rc == 0 && mdb_env_get_fd(*env, &fd) == 0)
		fcntl(fd, F_SETFD, FD_CLOEXEC); /* LMDB gives this one to children */
	if (rc) {
		mdb_env_close(*env);
		*env = NULL;
	}
	return rc;
}

int store_open_tables(struct store *s, MDB_txn *txn, unsigned flags)
{
	static const char *const names[GENERATIONS] = {"generation-0", "generation-1"};
	int rc = mdb_dbi_open(txn, "meta", flags, &s->meta);
	for (int i = 0; i < GENERATIONS && rc == 0; i++)
		rc = mdb_dbi_open(txn, names[i], flags, &s->generation[i]);
	return rc;
}

bool store_is_ours(int rc)
{
	return rc == 0 || rc == EACCES || rc == EPERM || rc == EROFS || rc == ENOSPC ||
	       rc == EDQUOT || rc == ENOMEM || rc == EMFILE || rc == ENFILE || rc == EAGAIN;
}

static void move_aside(const char *path, const char *why, struct buf *moved)
{
	char bad[4096], lock[4096];
	snprintf(lock, sizeof(lock), "%s-lock", path);
	int n = snprintf(bad, sizeof(bad), "%s.bad", path);
	int rc = n > 0 && (size_t)n < sizeof(bad) ? rename(path, bad) : -1;
	if (rc)
		rc = unlink(path);
	unlink(lock);
	buf_printf(moved, "%s%s", why, rc ? ", and it cannot be moved aside" : "");
}

static int open_store(const char *path, size_t max_bytes, struct store *s)
{
	MDB_txn *txn = NULL;
	struct meta m;
	int dead, rc = store_open_env(path, max_bytes, 0, &s->env);
	if (rc)
		return rc;
	mdb_reader_check(s->env, &dead); /* of processes that were killed */
	rc = mdb_txn_begin(s->env, NULL, 0, &txn);
	if (rc == 0)
		rc = store_open_tables(s, txn, MDB_CREATE);
	if (rc == 0) {
		rc = store_read_meta(s, txn, &m);
		if (rc == MDB_NOTFOUND)
			rc = write_meta(s, txn, 0);
	}
	if (rc == 0) {
		rc = mdb_txn_commit(txn);
		txn = NULL;
	}
	if (txn)
		mdb_txn_abort(txn);
	if (rc) {
		mdb_env_close(s->env);
		s->env = NULL;
	}
	return rc;
}

int store_open(const char *path, size_t max_bytes, struct store **out, struct buf *moved)
{
	struct stat st;
	struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->max_bytes = max_bytes > STORE_BYTES_MIN ? max_bytes : STORE_BYTES_MIN;
	if (stat(path, &st) == 0 && (st.st_size > 0 || !S_ISREG(st.st_mode))) {
		const char *why = S_ISREG(st.st_mode)
					  ? store_look_through(path, s->max_bytes, false)
					  : "not a file";
		if (why)
			move_aside(path, why, moved);
	}
	int rc = open_store(path, s->max_bytes, s);
	if (!store_is_ours(rc) && moved->n == 0 && stat(path, &st) == 0) {
		move_aside(path, mdb_strerror(rc), moved);
		rc = open_store(path, s->max_bytes, s);
	}
	if (rc) {
		free(s);
		return to_errno(rc);
	}
	*out = s;
	return 0;
}

unsigned store_reading_flags(const char *path)
{
	char lock[4096];
	int n = snprintf(lock, sizeof(lock), "%s-lock", path);
	bool nobody = n > 0 && (size_t)n < sizeof(lock) && access(lock, F_OK);
	return MDB_RDONLY | (nobody ? MDB_NOLOCK : 0);
}

static int open_to_read(const char *path, struct store *s)
{
	MDB_txn *txn = NULL;
	struct meta m;
	int rc = store_open_env(path, s->max_bytes, store_reading_flags(path), &s->env);
	if (rc)
		return rc;
	rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
	if (rc == 0)
		rc = store_open_tables(s, txn, 0);
	if (rc == 0)
		rc = store_read_meta(s, txn, &m);
	if (rc == 0) {
		rc = mdb_txn_commit(txn); /* keeps the tables open */
		txn = NULL;
	}
	if (txn)
		mdb_txn_abort(txn);
	if (rc)
		mdb_env_close(s->env);
	return rc;
}

int store_open_reading(const char *path, size_t max_bytes, struct store **out)
{
	struct stat st;
	if (stat(path, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return -EPROTO;
	if (access(path, R_OK))
		return -errno;
	struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->max_bytes = max_bytes > STORE_BYTES_MIN ? max_bytes : STORE_BYTES_MIN;
	int rc = store_look_through(path, s->max_bytes, true) ? -EPROTO
							      : to_errno(open_to_read(path, s));
	if (rc == -ENOENT) /* a table, not the file */
		rc = -EPROTO;
	if (rc) {
		free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	mdb_env_close(s->env);
	free(s);
}

/* --- reading --- */

/* From the young generation, else from the old one. */
static int find(struct store *s, MDB_txn *txn, MDB_val key, struct slice *value, bool *old)
{
	struct meta m;
	int rc = store_read_meta(s, txn, &m);
	for (uint32_t i = 0; i < GENERATIONS && rc == 0; i++) {
		MDB_val stored;
		rc = mdb_get(txn, s->generation[(m.young + i) % GENERATIONS], &key, &stored);
		if (rc == 0 && store_open_value(key, stored, value)) {
			*old = i > 0;
			return 0;
		}
		rc = rc == MDB_NOTFOUND ? 0 : rc;
	}
	return rc ? rc : MDB_NOTFOUND;
}

int store_get(struct store *s, enum store_kind kind, struct slice key, struct buf *out, bool *old)
{
	struct key_bytes k;
	struct slice value;
	MDB_txn *txn;
	bool is_old = false;
	int rc = make_key(kind, key, &k);
	if (rc)
		return rc;
	rc = to_errno(mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn));
	if (rc)
		return rc;
	rc = to_errno(find(s, txn, (MDB_val){k.n, k.p}, &value, &is_old));
	if (rc == 0)
		rc = buf_add_slice(out, value);
	mdb_txn_abort(txn);
	if (old)
		*old = is_old;
	return rc;
}

static int each_of(MDB_txn *txn, MDB_dbi table, enum store_kind kind, store_fn *fn, void *ctx)
{
	char first = (char)kind;
	MDB_val key = {1, &first}, stored;
	MDB_cursor *cursor;
	struct slice value;
	int rc = mdb_cursor_open(txn, table, &cursor);
	if (rc)
		return rc;
	rc = mdb_cursor_get(cursor, &key, &stored, MDB_SET_RANGE);
	for (; rc == 0 && *(char *)key.mv_data == first;
		rc = mdb_cursor_get(cursor, &key, &stored, MDB_NEXT))
		if (store_open_value(key, stored, &value))
			fn(ctx, (struct slice){(char *)key.mv_data + 1, key.mv_size - 1}, value);
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

int store_each(struct store *s, enum store_kind kind, store_fn *fn, void *ctx)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
	if (rc)
		return to_errno(rc);
	for (int i = 0; i < GENERATIONS && rc == 0; i++)
		rc = each_of(txn, s->generation[i], kind, fn, ctx);
	mdb_txn_abort(txn);
	return to_errno(rc);
}

/* --- writing --- */

/* The young generation becomes the old one, whose values go. */
static int age(struct store *s, MDB_txn *txn, struct meta *m)
{
	m->young = (m->young + 1) % GENERATIONS;
	int rc = mdb_drop(txn, s->generation[m->young], 0);
	return rc ? rc : write_meta(s, txn, m->young);
}

static bool is_full(struct store *s, MDB_txn *txn, const struct meta *m)
{
	MDB_stat st;
	if (mdb_stat(txn, s->generation[m->young], &st))
		return false;
	size_t pages = st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages;
	return pages * st.ms_psize >= s->max_bytes / SHARE;
}

static int put_all(struct store *s, const struct store_value *values, size_t count, bool make_room)
{
	MDB_txn *txn;
	struct meta m;
	int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
	if (rc)
		return rc;
	rc = store_read_meta(s, txn, &m);
	if (rc == 0 && (make_room || is_full(s, txn, &m)))
		rc = age(s, txn, &m);
	for (size_t i = 0; i < count && rc == 0; i++)
		rc = store_put_one(s, txn, &m, &values[i]);
	if (rc) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

int store_put(struct store *s, const struct store_value *values, size_t count)
{
	struct key_bytes k;
	for (size_t i = 0; i < count; i++)
		if (make_key(values[i].kind, values[i].key, &k) ||
			values[i].value.n > STORE_VALUE_MAX)
			return -E2BIG;
	int rc = put_all(s, values, count, false);
	/* Pages that are freed can be used by the second transaction after: dropping both
	 * generations gives room for sure. */
	for (int tries = 0; rc == MDB_MAP_FULL && tries < 4; tries++) {
		rc = put_all(s, values, 0, true);
		if (rc == 0)
			rc = put_all(s, values, count, false);
	}
	return to_errno(rc);
}
