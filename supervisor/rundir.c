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

/* Removes the sockets of a dead supervisor. */
static void remove_stale(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	while (dir && (e = readdir(dir)))
		if (rundir_name(e->d_name) == RUNDIR_SOCKET)
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

/* --- the lock --- */

static void pid_path(const struct rundir *r, char out[RUNDIR_BYTES])
{
	snprintf(out, RUNDIR_BYTES, "%.*s/" RUNDIR_PID_FILE, CONFIG_RUN_DIR_MAX, r->path);
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
	remove_stale(r->path);
	mark(r);
	write_pid(r);
	r->owner = true;
	return 0;
}

int rundir_join(struct rundir *r, const char *path, int lock_fd, struct buf *err)
{
	struct stat ours, theirs;
	char file[RUNDIR_BYTES];
	*r = (struct rundir){.lock_fd = lock_fd};
	int rc = normal(path, r->path, err);
	if (rc)
		return rc;
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
	snprintf(out, RUNDIR_BYTES, "%.*s/%.8s.%x.ipc", CONFIG_RUN_DIR_MAX, r->path, name,
		(unsigned)getpid());
}

void rundir_take(struct rundir *r)
{
	char from[RUNDIR_BYTES], to[RUNDIR_BYTES];
	for (size_t i = 0; i < KNOWN; i++) {
		rundir_socket(r, known[i], from);
		snprintf(to, sizeof(to), "%.*s/%s.ipc", CONFIG_RUN_DIR_MAX, r->path, known[i]);
		if (rename(from, to) && errno != ENOENT)
			log_line(LOG_ERROR, "run_dir_rename", LOG_STR("path", to),
				LOG_STR("error", strerror(errno)), LOG_END);
	}
	mark(r); /* one that an older tandemd has made has none */
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
		snprintf(file, sizeof(file), "%.*s/%s.ipc", CONFIG_RUN_DIR_MAX, r->path, known[i]);
		unlink(file);
	}
	pid_path(r, file);
	if (r->owner) {
		unlink(file);
		unmark(r);
	}
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	*r = (struct rundir){.lock_fd = -1};
}
