#include "supervisor/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ipc socket paths must fit sockaddr_un (108 bytes) with "/w15-4294967295.ipc.down" behind the
 * folder. */
#define RUNDIR_PATH_MAX 76

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

int rundir_open(struct rundir *r, const char *path, struct buf *err)
{
	r->lock_fd = -1;
	if (path[0] != '/' || strlen(path) > RUNDIR_PATH_MAX) {
		buf_printf(err, "run folder %s: must be absolute and at most %d bytes", path,
			RUNDIR_PATH_MAX);
		return -EINVAL;
	}
	int rc = make_parents(path);
	if (rc) {
		buf_printf(err, "run folder %s: %s (set run_dir, or -R)", path, strerror(-rc));
		return rc;
	}
	rc = check_folder(path, err);
	if (rc)
		return rc;
	snprintf(r->pid_path, sizeof(r->pid_path), "%s/tandemd.pid", path);
	struct stat st = {0};
	do { /* once more when its holder has removed it between our open() and flock() */
		if (r->lock_fd >= 0)
			close(r->lock_fd);
		r->lock_fd = open(r->pid_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (r->lock_fd < 0) {
			rc = -errno;
			buf_printf(err, "%s: %s", r->pid_path, strerror(-rc));
			return rc;
		}
		if (flock(r->lock_fd, LOCK_EX | LOCK_NB)) {
			char pid[32] = "";
			ssize_t n = read(r->lock_fd, pid, sizeof(pid) - 1);
			buf_printf(err,
				"another tandemd (pid %.*s) already runs with run folder %s",
				n > 0 ? (int)strcspn(pid, "\n") : 1, n > 0 ? pid : "?", path);
			close(r->lock_fd);
			r->lock_fd = -1;
			return -EBUSY;
		}
	} while (fstat(r->lock_fd, &st) == 0 && st.st_nlink == 0);
	remove_stale(path);
	if (ftruncate(r->lock_fd, 0) == 0)
		dprintf(r->lock_fd, "%d\n", (int)getpid());
	return 0;
}

void rundir_close(struct rundir *r)
{
	if (r->lock_fd < 0)
		return;
	unlink(r->pid_path);
	close(r->lock_fd);
	r->lock_fd = -1;
}
