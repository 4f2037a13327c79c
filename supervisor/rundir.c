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

static void remove_stale(const char *path)
{
	char file[RUNDIR_PATH_MAX + 300];
	DIR *dir = opendir(path);
	struct dirent *e;
	while (dir && (e = readdir(dir))) {
		if (strstr(e->d_name, ".ipc")) { /* w0-1.ipc, w0-1.ipc.down */
			snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
			unlink(file);
		}
	}
	if (dir)
		closedir(dir);
}

/* --- the lock --- */

static void pid_path(const struct rundir *r, char out[RUNDIR_BYTES])
{
	snprintf(out, RUNDIR_BYTES, "%.*s/tandemd.pid", RUNDIR_PATH_MAX, r->path);
}

static int lock(struct rundir *r, struct buf *err)
{
	char file[RUNDIR_BYTES];
	struct stat st = {0};
	pid_path(r, file);
	do { /* once more when its holder has removed it between our open() and flock() */
		if (r->lock_fd >= 0)
			close(r->lock_fd);
		r->lock_fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (r->lock_fd < 0) {
			int rc = -errno;
			buf_printf(err, "%s: %s", file, strerror(-rc));
			return rc;
		}
		if (flock(r->lock_fd, LOCK_EX | LOCK_NB)) {
			char pid[32] = "";
			ssize_t n = read(r->lock_fd, pid, sizeof(pid) - 1);
			buf_printf(err,
				"another tandemd (pid %.*s) already runs with run folder %s",
				n > 0 ? (int)strcspn(pid, "\n") : 1, n > 0 ? pid : "?", r->path);
			close(r->lock_fd);
			r->lock_fd = -1;
			return -EBUSY;
		}
	} while (fstat(r->lock_fd, &st) == 0 && st.st_nlink == 0);
	return 0;
}

static void write_pid(const struct rundir *r)
{
	char text[32];
	/* Not at the file's position: a successor's descriptor shares ours. */
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(r->lock_fd, 0) || pwrite(r->lock_fd, text, (size_t)n, 0) != n)
		log_line(LOG_WARN, "pid_file", LOG_STR("error", strerror(errno)), LOG_END);
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
	remove_stale(path);
	write_pid(r);
	r->owner = true;
	return 0;
}

int rundir_join(struct rundir *r, const char *path, int lock_fd, struct buf *err)
{
	struct stat ours, theirs;
	char file[RUNDIR_BYTES];
	*r = (struct rundir){.lock_fd = lock_fd};
	int rc = check_length(path, err);
	if (rc)
		return rc;
	snprintf(r->path, sizeof(r->path), "%s", path);
	pid_path(r, file);
	if (stat(file, &ours) == 0 && fstat(lock_fd, &theirs) == 0 &&
		ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino)
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
		if (rename(from, to) && errno != ENOENT)
			log_line(LOG_ERROR, "run_dir_rename", LOG_STR("path", to),
				LOG_STR("error", strerror(errno)), LOG_END);
	}
	write_pid(r);
	r->owner = true;
}

void rundir_leave(struct rundir *r)
{
	r->owner = false;
	close(r->lock_fd); /* the lock is the successor's alone: a third one can follow it */
	r->lock_fd = -1;
}

void rundir_close(struct rundir *r)
{
	char file[RUNDIR_BYTES];
	for (size_t i = 0; r->owner && i < KNOWN; i++) {
		snprintf(file, sizeof(file), "%.*s/%s.ipc", RUNDIR_PATH_MAX, r->path, known[i]);
		unlink(file);
	}
	pid_path(r, file);
	if (r->owner)
		unlink(file);
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	*r = (struct rundir){.lock_fd = -1};
}
