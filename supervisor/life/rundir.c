#include "supervisor/life/rundir.h"

#include "common/base/file.h"
#include "common/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ipc socket paths must fit sockaddr_un (108 bytes, NUL included) with
 * "/w400000-999-9999999.ipc.down" (worker_process.c) behind the folder. */
_Static_assert(CONFIG_RUN_DIR_MAX + sizeof("/w400000-999-9999999.ipc.down") <= 108, "sun_path");
_Static_assert(CONFIG_RUN_DIR_MAX + sizeof("/events.400000.ipc") <= RUNDIR_BYTES, "rundir_socket");

/* Sockets with a known name. */
static const char *const known[] = {"stats", "events"};
#define KNOWN (sizeof(known) / sizeof(known[0]))

static int make_parents(const char *path)
{
	char part[RUNDIR_BYTES];
	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		size_t n = (size_t)(slash - path);
		memcpy(part, path, n);
		part[n] = '\0';
		if (mkdir(part, 0755) && errno != EEXIST)
			return -errno;
	}
	return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

/* --- whose it is --- */

static int refuse(const char *path, int error, const char *why, struct buf *err)
{
	buf_printf(err, "run folder %s: %s (set run_dir, or -R)", path, why);
	return -error;
}

/* A folder, no link to one. One of another user is left to `theirs`: 0 or the -errno to give. */
static int check_kind(const char *path, const struct stat *st, int theirs, struct buf *err)
{
	if (S_ISLNK(st->st_mode))
		return refuse(path, ENOTDIR, "is a symbolic link; name the folder itself", err);
	if (!S_ISDIR(st->st_mode))
		return refuse(path, ENOTDIR, "not a folder", err);
	if (st->st_uid != geteuid())
		return theirs ? refuse(path, EPERM, "not a folder of this user", err) : 0;
	return access(path, W_OK | X_OK) ? refuse(path, errno, strerror(errno), err) : 0;
}

/* Bears our mark, or holds nothing but names of ours; else the first other name is in err. */
static int check_content(const char *path, struct buf *err)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	struct stat st;
	int rc = dir ? 0 : refuse(path, errno, strerror(errno), err);
	bool marked = dir && fstatat(dirfd(dir), RUNDIR_MARK, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		      S_ISREG(st.st_mode) && st.st_uid == geteuid();
	while (dir && !marked && rc == 0 && (e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			rundir_name(e->d_name) != RUNDIR_FOREIGN)
			continue;
		rc = -ENOTEMPTY;
		buf_printf(err,
			"run folder %s: holds \"%.100s\", which is not tandem's: a run folder must "
			"be "
			"empty, or one that tandem has made (set run_dir, or -R)",
			path, e->d_name);
	}
	if (dir)
		closedir(dir);
	return rc;
}

static int take_folder(const char *path, struct buf *err)
{
	struct stat st;
	if (lstat(path, &st))
		return refuse(path, errno, strerror(errno), err);
	int rc = check_kind(path, &st, -EPERM, err);
	if (rc == 0)
		rc = check_content(path, err);
	if (rc)
		return rc;
	if ((st.st_mode & 077) && chmod(path, 0700)) {
		buf_printf(err, "run folder %s: cannot make it private: %s", path, strerror(errno));
		return -EPERM;
	}
	return 0;
}

/* The nearest folder above a missing one. */
static int check_missing(const char *path, struct buf *err)
{
	char part[RUNDIR_BYTES];
	struct stat st;
	snprintf(part, sizeof(part), "%s", path);
	for (;;) {
		char *slash = strrchr(part, '/');
		slash[slash == part] = '\0'; /* "/" itself stays */
		if (stat(part, &st) == 0)
			break;
		if (errno != ENOENT || slash == part)
			return refuse(path, errno, strerror(errno), err);
	}
	if (!S_ISDIR(st.st_mode))
		return refuse(path, ENOTDIR, strerror(ENOTDIR), err);
	/* Where this user may not write, the service manager may have the folder made. */
	return access(part, W_OK) && errno == EROFS ? refuse(path, EROFS, strerror(EROFS), err) : 0;
}

/* Without slashes at its end, which would follow a link. Absolute, and short enough. */
static int normal(const char *path, char out[RUNDIR_BYTES], struct buf *err)
{
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	if (path[0] != '/' || n > CONFIG_RUN_DIR_MAX) {
		buf_printf(err, "run folder %s: must be absolute and at most %d bytes", path,
			CONFIG_RUN_DIR_MAX);
		return -EINVAL;
	}
	memcpy(out, path, n);
	out[n] = '\0';
	return 0;
}

int rundir_check(const char *given, struct buf *err)
{
	char path[RUNDIR_BYTES];
	struct stat st;
	int rc = normal(given, path, err);
	if (rc)
		return rc;
	if (lstat(path, &st))
		return errno == ENOENT ? check_missing(path, err)
				       : refuse(path, errno, strerror(errno), err);
	rc = check_kind(path, &st, 0, err);
	return rc == 0 && st.st_uid == geteuid() ? check_content(path, err) : rc;
}

/* --- what is in it --- */

/* A socket of that process (w1f-0-1.ipc, w1f-0-1.ipc.down, stats.1f.ipc); 0: of any. */
static bool is_socket_of(const char *name, int64_t pid)
{
	char start[24], part[24];
	snprintf(start, sizeof(start), "w%llx-", (unsigned long long)pid);
	snprintf(part, sizeof(part), ".%llx.ipc", (unsigned long long)pid);
	return strstr(name, ".ipc") &&
	       (pid == 0 || strstr(name, part) || strncmp(name, start, strlen(start)) == 0);
}

/* Removes the sockets of a dead supervisor. */
static void remove_sockets(const char *path, int64_t pid)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	while (dir && (e = readdir(dir)))
		if (rundir_name(e->d_name) == RUNDIR_SOCKET && is_socket_of(e->d_name, pid))
			unlinkat(dirfd(dir), e->d_name, 0);
	if (dir)
		closedir(dir);
}

static void mark(const struct rundir *r)
{
	char file[RUNDIR_BYTES];
	snprintf(file, sizeof(file), "%.*s/" RUNDIR_MARK, CONFIG_RUN_DIR_MAX, r->path);
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0)
		close(fd);
	else
		log_line(LOG_WARN, "run_dir_mark", LOG_STR("path", file),
			LOG_STR("error", strerror(errno)), LOG_END);
}

/* Where all is ours, the next one knows the folder by that. */
static void unmark(const struct rundir *r)
{
	DIR *dir = opendir(r->path);
	struct dirent *e;
	bool foreign = false;
	while (dir && (e = readdir(dir)))
		foreign = foreign || (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
					     rundir_name(e->d_name) == RUNDIR_FOREIGN);
	if (dir && !foreign)
		unlinkat(dirfd(dir), RUNDIR_MARK, 0);
	if (dir)
		closedir(dir);
}

/* --- the lock: of the folder itself, which nobody replaces by accident --- */

static void pid_path(const struct rundir *r, char out[RUNDIR_BYTES])
{
	snprintf(out, RUNDIR_BYTES, "%.*s/" RUNDIR_PID_FILE, CONFIG_RUN_DIR_MAX, r->path);
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

static void write_pid(const struct rundir *r)
{
	char file[RUNDIR_BYTES], text[32];
	pid_path(r, file);
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	int rc = file_replace(file, (struct slice){text, (size_t)n});
	if (rc)
		log_line(LOG_WARN, "pid_file", LOG_STR("path", file),
			LOG_STR("error", strerror(-rc)), LOG_END);
}

/* --- life --- */

int rundir_open(struct rundir *r, const char *given, struct buf *err)
{
	*r = (struct rundir){.lock_fd = -1};
	int rc = normal(given, r->path, err);
	if (rc)
		return rc;
	rc = make_parents(r->path);
	if (rc)
		return refuse(r->path, -rc, strerror(-rc), err);
	rc = take_folder(r->path, err);
	if (rc == 0)
		rc = lock(r, err);
	if (rc)
		return rc;
	remove_sockets(r->path, 0);
	mark(r);
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
	int rc = normal(path, r->path, err);
	if (rc)
		return rc;
	if (lstat(r->path, &ours) == 0 && fstat(lock_fd, &theirs) == 0 && same_file(&ours, &theirs))
		return 0;
	buf_printf(err,
		"run folder %s: not the one of the tandemd that runs (run_dir needs a restart)",
		path);
	return -EXDEV;
}

void rundir_socket(const struct rundir *r, const char *name, char out[RUNDIR_BYTES])
{
	snprintf(out, RUNDIR_BYTES, "%.*s/%.8s.%x.ipc", CONFIG_RUN_DIR_MAX, r->path, name,
		(unsigned)getpid());
}

void rundir_take(struct rundir *r)
{
	char from[RUNDIR_BYTES], to[RUNDIR_BYTES];
	for (size_t i = 0; i < KNOWN; i++) {
		rundir_socket(r, known[i], from);
		snprintf(to, sizeof(to), "%.*s/%s.ipc", CONFIG_RUN_DIR_MAX, r->path, known[i]);
		rmdir(to); /* an empty folder in its place is nobody's */
		if (rename(from, to) && errno != ENOENT)
			log_line(LOG_ERROR, "run_dir_rename", LOG_STR("path", to),
				LOG_STR("error", strerror(errno)), LOG_END);
	}
	mark(r); /* one that an older tandemd has made has none */
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
	snprintf(path, sizeof(path), "%.*s/%s.ipc", CONFIG_RUN_DIR_MAX, r->path, name);
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
		rc = take_folder(fresh.path, err);
	if (rc == 0)
		rc = lock(&fresh, err);
	if (rc)
		return rc;
	close(r->lock_fd);
	*r = fresh;
	mark(r);
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
		snprintf(file, sizeof(file), "%.*s/%s.ipc", CONFIG_RUN_DIR_MAX, r->path, known[i]);
		unlink(file);
	}
	pid_path(r, file);
	if (remove) {
		unlink(file);
		unmark(r);
	}
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	*r = (struct rundir){.lock_fd = -1};
}
