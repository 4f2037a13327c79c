/* Looks through a store's file before it is trusted. */
#include "common/base/store_private.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Every page of the tables is read. */
static int walk(struct store *s, MDB_txn *txn)
{
	struct meta m;
	int rc = store_read_meta(s, txn, &m);
	for (int i = 0; i < GENERATIONS && rc == 0; i++) {
		MDB_cursor *cursor;
		MDB_val key, value;
		struct slice v;
		rc = mdb_cursor_open(txn, s->generation[i], &cursor);
		if (rc)
			return rc;
		while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0)
			if (!store_open_value(key, value, &v)) {
				rc = MDB_CORRUPTED;
				break;
			}
		mdb_cursor_close(cursor);
		rc = rc == MDB_NOTFOUND ? 0 : rc;
	}
	return rc;
}

/* LMDB's table 0: the pages that may be written next. A list is its count, then page numbers, the
 * largest first. */
static int walk_free(MDB_env *env, MDB_txn *txn)
{
	MDB_envinfo info;
	MDB_cursor *cursor;
	MDB_val key, value;
	int rc = mdb_env_info(env, &info);
	if (rc == 0)
		rc = mdb_cursor_open(txn, 0, &cursor);
	if (rc)
		return rc;
	while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
		const size_t *list = value.mv_data;
		size_t have = value.mv_size / sizeof(*list), n = have ? list[0] : 0;
		bool good = n > 0 && n < have;
		for (size_t i = 1; good && i <= n; i++)
			good = list[i] > 1 && list[i] <= info.me_last_pgno &&
			       (i == 1 || list[i] < list[i - 1]);
		if (!good) {
			rc = MDB_CORRUPTED;
			break;
		}
	}
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

/* Every value is written again in its place. */
static int rewrite(MDB_txn *txn, MDB_dbi table, char *copy)
{
	MDB_cursor *cursor;
	MDB_val key, value;
	int rc = mdb_cursor_open(txn, table, &cursor);
	if (rc)
		return rc;
	while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
		if (value.mv_size > SUM_BYTES + STORE_VALUE_MAX) {
			rc = MDB_CORRUPTED;
			break;
		}
		memcpy(copy, value.mv_data, value.mv_size);
		value.mv_data = copy;
		rc = mdb_cursor_put(cursor, &key, &value, MDB_CURRENT);
		if (rc)
			break;
	}
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

/* Writes to the tables and empties them: what a later write would trip over is met now. */
static int try_writing(struct store *s, MDB_txn *txn)
{
	static char copy[SUM_BYTES + STORE_VALUE_MAX];
	char text[2] = "";
	int rc = 0;
	for (int i = 0; i < GENERATIONS && rc == 0; i++) {
		rc = rewrite(txn, s->generation[i], copy);
		for (int k = 1; k < 256 && rc == 0; k++) {
			MDB_val key = {1, text}, value = {sizeof(text), text};
			text[0] = (char)k;
			rc = mdb_put(txn, s->generation[i], &key, &value, 0);
		}
		if (rc == 0)
			rc = mdb_drop(txn, s->generation[i], 0);
	}
	return rc == MDB_MAP_FULL ? 0 : rc;
}

/* In a transaction that is not committed. */
static int try_in(struct store *s, unsigned flags)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(s->env, NULL, flags, &txn);
	if (rc)
		return rc;
	rc = store_open_tables(s, txn, 0);
	if (rc == 0 && flags == MDB_RDONLY)
		rc = walk(s, txn);
	if (rc == 0)
		rc = flags == MDB_RDONLY ? walk_free(s->env, txn) : try_writing(s, txn);
	mdb_txn_abort(txn);
	return rc;
}

/* A value comes and goes, for good: commits have their own pages to trip over. */
static int try_commits(struct store *s)
{
	static const struct store_value trial = {'t', {"trial", 5}, {"", 0}};
	char text[] = "ttrial"; /* its key in the tables */
	int rc = 0;
	for (uint32_t i = 0; i < 2 * GENERATIONS && rc == 0; i++) {
		MDB_val key = {sizeof(text) - 1, text};
		MDB_txn *txn;
		rc = mdb_txn_begin(s->env, NULL, 0, &txn);
		if (rc)
			return rc;
		rc = store_open_tables(s, txn, 0);
		if (rc == 0 && i < GENERATIONS)
			rc = store_put_one(s, txn, &(struct meta){.young = i}, &trial);
		else if (rc == 0)
			rc = mdb_del(txn, s->generation[i - GENERATIONS], &key, NULL);
		if (rc)
			mdb_txn_abort(txn);
		else
			rc = mdb_txn_commit(txn);
	}
	return rc == MDB_MAP_FULL ? 0 : rc;
}

static int check_file(const char *path, size_t max_bytes, bool reading)
{
	struct store s = {0};
	int rc = store_open_env(path, max_bytes, reading ? store_reading_flags(path) : 0, &s.env);
	if (rc == 0)
		rc = try_in(&s, MDB_RDONLY);
	if (rc == 0 && !reading)
		rc = try_in(&s, 0);
	if (rc == 0 && !reading)
		rc = try_commits(&s);
	if (s.env)
		mdb_env_close(s.env);
	return rc;
}

/*
 * LMDB believes what a page says of itself: a damaged one may end the process. So a child looks
 * first, and its end is its verdict. It calls nothing but LMDB; with reading it writes nothing.
 * NULL: the file is good.
 */
const char *store_look_through(const char *path, size_t max_bytes, bool reading)
{
	int status = 0;
	pid_t pid = fork();
	if (pid < 0)
		return NULL; /* then we trust it, as LMDB does */
	if (pid == 0) {
		static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM};
		for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
			signal(deadly[i], SIG_DFL);
		close(STDERR_FILENO); /* what an assertion of LMDB says */
		alarm(STORE_CHECK_S);
		int rc = check_file(path, max_bytes, reading);
		_exit(store_is_ours(rc) ? 0 : rc == MDB_INCOMPATIBLE || rc == MDB_NOTFOUND ? 1 : 2);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status))
		return "reading it ended a process";
	switch (WEXITSTATUS(status)) {
	case 0:
		return NULL;
	case 1:
		return "no store of this format";
	default:
		return "damaged";
	}
}
