#include "supervisor/rundir.h"

#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ipc socket paths must fit sockaddr_un (108 bytes, NUL included) with
 * "/w400000-999-9999999.ipc.down" (worker.c) behind the folder. */
#define RUNDIR_PATH_MAX 76
_Static_assert(RUNDIR_PATH_MAX + sizeof("/w400000-999-9999999.ipc.down") <= 108, "sun_path");
_Static_assert(RUNDIR_PATH_MAX + sizeof("/events.400000.ipc") <= RUNDIR_BYTES, "rundir_socket");

/* Sockets with a known name. */
static const char *const known[] = {"stats", "events"};
#define KNOWN (sizeof(known) / sizeof(known[0]))

static int make_parents(const char *path)
{
	char part[RUNDIR_PATH_MAX + 1];
	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		size_t n = (size_t)(slash - path);
		memcpy(part, path, n);
		part[n] = '\0';
		if (mkdir(part, 0755) && errno != EEXIST)
			return -errno;
	}
	return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

static int check_folder(const char *path, struct buf *err)
{
	struct stat st;
	if (lstat(path, &st)) {
		int rc = -errno;
		buf_printf(err, "run folder %s: %s", path, strerror(-rc));
		return rc;
	}
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid()) {
		buf_printf(err, "run folder %s: not a folder of this user", path);
		return -EPERM;
	}
	if ((st.st_mode & 077) && chmod(path, 0700)) {
		buf_printf(err, "run folder %s: cannot make it private: %s", path, strerror(errno));
		return -EPERM;
	}
	return 0;
}

/* A socket of that process (w1f-0-1.ipc, w1f-0-1.ipc.down, stats.1f.ipc); 0: of any. */
static bool is_socket_of(const char *name, int64_t pid)
{
	char start[24], part[24];
	snprintf(start, sizeof(start), "w%llx-", (unsigned long long)pid);
	snprintf(part, sizeof(part), ".%llx.ipc", (unsigned long long)pid);
	return strstr(name, ".ipc") &&
	       (pid == 0 || strstr(name, part) || strncmp(name, start, strlen(start)) == 0);
}

static void remove_sockets(const char *path, int64_t pid)
{
	char file[RUNDIR_PATH_MAX + 300];
	DIR *dir = opendir(path);
	struct dirent *e;
	while (dir && (e = readdir(dir))) {
		if (is_socket_of(e->d_name, pid)) {
			snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
			unlink(file);
		}
	}
	if (dir)
		closedir(dir);
}

/* --- the lock: of the folder itself, which nobody replaces by accident --- */

static void pid_path(const struct rundir *r, char out[RUNDIR_BYTES])
{
	snprintf(out, RUNDIR_BYTES, "%.*s/tandemd.pid", RUNDIR_PATH_MAX, r->path);
}

/* What stands in the pid file; 0: nothing. */
static int64_t read_pid(const struct rundir *r)
{
	char file[RUNDIR_BYTES], text[32];
	pid_path(r, file);
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return strtoll(text, NULL, 10);
}

static int lock(struct rundir *r, struct buf *err)
{
	r->lock_fd = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (r->lock_fd < 0) {
		int rc = -errno;
		buf_printf(err, "run folder %s: %s", r->path, strerror(-rc));
		return rc;
	}
	if (flock(r->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	buf_printf(err, "another tandemd (pid %lld) already runs with run folder %s",
		(long long)read_pid(r), r->path);
	close(r->lock_fd);
	r->lock_fd = -1;
	return -EBUSY;
}

/* A new file that takes the name: what stood there, a link even, is not written to. */
static void write_pid(const struct rundir *r)
{
	char file[RUNDIR_BYTES], fresh[RUNDIR_BYTES + 4], text[32];
	pid_path(r, file);
	snprintf(fresh, sizeof(fresh), "%s.new", file);
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid()), rc = 0;
	unlink(fresh);
	int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write(fd, text, (size_t)n) != n || rename(fresh, file))
		rc = errno ? errno : EIO;
	if (fd >= 0)
		close(fd);
	if (rc)
		log_line(LOG_WARN, "pid_file", LOG_STR("path", file),
			LOG_STR("error", strerror(rc)), LOG_END);
}

/* --- life --- */

static int check_length(const char *path, struct buf *err)
{
	if (path[0] == '/' && strlen(path) <= RUNDIR_PATH_MAX)
		return 0;
	buf_printf(
		err, "run folder %s: must be absolute and at most %d bytes", path, RUNDIR_PATH_MAX);
	return -EINVAL;
}

int rundir_open(struct rundir *r, const char *path, struct buf *err)
{
	*r = (struct rundir){.lock_fd = -1};
	int rc = check_length(path, err);
	if (rc)
		return rc;
	snprintf(r->path, sizeof(r->path), "%s", path);
	rc = make_parents(path);
	if (rc) {
		buf_printf(err, "run folder %s: %s (set run_dir, or -R)", path, strerror(-rc));
		return rc;
	}
	rc = check_folder(path, err);
	if (rc == 0)
		rc = lock(r, err);
	if (rc)
		return rc;
	remove_sockets(path, 0);
	write_pid(r);
	r->owner = true;
	return 0;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

int rundir_join(struct rundir *r, const char *path, int lock_fd, struct buf *err)
{
	struct stat ours, theirs;
	*r = (struct rundir){.lock_fd = lock_fd};
	int rc = check_length(path, err);
	if (rc)
		return rc;
	snprintf(r->path, sizeof(r->path), "%s", path);
	if (lstat(path, &ours) == 0 && fstat(lock_fd, &theirs) == 0 && same_file(&ours, &theirs))
		return 0;
	buf_printf(err,
		"run folder %s: not the one of the tandemd that runs (run_dir needs a restart)",
		path);
	return -EXDEV;
}

void rundir_socket(const struct rundir *r, const char *name, char out[RUNDIR_BYTES])
{
	snprintf(out, RUNDIR_BYTES, "%.*s/%.8s.%x.ipc", RUNDIR_PATH_MAX, r->path, name,
		(unsigned)getpid());
}

void rundir_take(struct rundir *r)
{
	char from[RUNDIR_BYTES], to[RUNDIR_BYTES];
	for (size_t i = 0; i < KNOWN; i++) {
		rundir_socket(r, known[i], from);
		snprintf(to, sizeof(to), "%.*s/%s.ipc", RUNDIR_PATH_MAX, r->path, known[i]);
		rmdir(to); /* an empty folder in its place is nobody's */
		if (rename(from, to) && errno != ENOENT)
			log_line(LOG_ERROR, "run_dir_rename", LOG_STR("path", to),
				LOG_STR("error", strerror(errno)), LOG_END);
	}
	write_pid(r);
	r->owner = true;
}

void rundir_bury(const struct rundir *r, int64_t pid)
{
	if (pid > 0)
		remove_sockets(r->path, pid);
}

/* 0 also where nothing of that name is ours to look after. */
static int look_at(const struct rundir *r, const char *name)
{
	char path[RUNDIR_BYTES];
	struct stat st;
	snprintf(path, sizeof(path), "%.*s/%s.ipc", RUNDIR_PATH_MAX, r->path, name);
	if (lstat(path, &st))
		return errno == ENOENT ? -ENOENT : -errno;
	return S_ISSOCK(st.st_mode) ? 0 : -EEXIST;
}

enum rundir_state rundir_look(const struct rundir *r)
{
	struct stat now, ours;
	if (!r->owner || fstat(r->lock_fd, &ours))
		return RUNDIR_GOOD;
	if (lstat(r->path, &now))
		return RUNDIR_GONE;
	if (!same_file(&now, &ours))
		return RUNDIR_GONE;
	for (size_t i = 0; i < KNOWN; i++) {
		int rc = look_at(r, known[i]);
		if (rc)
			return rc == -ENOENT ? RUNDIR_NAMES_GONE : RUNDIR_NAMES_TAKEN;
	}
	return read_pid(r) == getpid() ? RUNDIR_GOOD : RUNDIR_NAMES_GONE;
}

int rundir_mend(struct rundir *r, struct buf *err)
{
	struct rundir fresh = {.lock_fd = -1, .owner = true};
	snprintf(fresh.path, sizeof(fresh.path), "%s", r->path);
	int rc = make_parents(fresh.path);
	if (rc)
		buf_printf(err, "run folder %s: %s", fresh.path, strerror(-rc));
	else
		rc = check_folder(fresh.path, err);
	if (rc == 0)
		rc = lock(&fresh, err);
	if (rc)
		return rc;
	close(r->lock_fd);
	*r = fresh;
	return 0;
}

void rundir_leave(struct rundir *r)
{
	r->owner = false;
}

int64_t rundir_pid(const struct rundir *r)
{
	return read_pid(r);
}

void rundir_unlock(struct rundir *r)
{
	if (r->lock_fd >= 0)
		close(r->lock_fd); /* the lock is the successor's alone: a third can follow it */
	r->lock_fd = -1;
}

void rundir_close(struct rundir *r)
{
	char file[RUNDIR_BYTES];
	bool remove = r->owner && rundir_look(r) != RUNDIR_GONE;
	for (size_t i = 0; remove && i < KNOWN; i++) {
		snprintf(file, sizeof(file), "%.*s/%s.ipc", RUNDIR_PATH_MAX, r->path, known[i]);
		unlink(file);
	}
	pid_path(r, file);
	if (remove)
		unlink(file);
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	*r = (struct rundir){.lock_fd = -1};
}
