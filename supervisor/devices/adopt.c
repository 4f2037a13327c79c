#include "supervisor/devices/adopt.h"

#include "common/base/log.h"
#include "common/base/proc.h"
#include "supervisor/devices/devices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_BYTES 512
#define FILE_PREFIX "backend-"
#define FILE_SUFFIX ".state"
#define REAP_AGAIN_MS 10

/* A backend that has been told to end, or whose guard sees to that. */
struct adopt_ending {
	TAILQ_ENTRY(adopt_ending) link;
	char device[CONFIG_NAME_BYTES];
	int64_t pid;
	uint64_t start;
	uint64_t deadline_ms; /* of TERM, then of KILL */
	bool killed;
};

/* --- files --- */

static void file_path(const struct devices *s, const char *device, char out[PATH_BYTES])
{
	snprintf(out, PATH_BYTES, "%s/" FILE_PREFIX "%s" FILE_SUFFIX, s->run_dir, device);
}

static bool file_read(const struct devices *s, const char *device, struct adopt_backend *out)
{
	char path[PATH_BYTES], text[ADOPT_FILE_BYTES];
	file_path(s, device, path);
	*out = (struct adopt_backend){0};
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, sizeof(text));
	close(fd);
	return n > 0 && (size_t)n < sizeof(text) &&
	       adopt_parse((struct slice){text, (size_t)n}, s->adopt.boot_id, out);
}

static bool may_write(const struct devices *s)
{
	return !s->adopt.provisional && !s->keep_backends;
}

static void file_write(const struct devices *s, const char *device, const struct adopt_backend *b)
{
	char path[PATH_BYTES], fresh[PATH_BYTES + 4];
	struct buf text;
	if (!may_write(s))
		return;
	file_path(s, device, path);
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	buf_init(&text, ADOPT_FILE_BYTES);
	adopt_print(b, s->adopt.boot_id, &text);
	int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), rc = 0;
	if (fd < 0 || buf_error(&text))
		rc = fd < 0 ? -errno : -ENOMEM;
	else if (write(fd, text.p, text.n) != (ssize_t)text.n)
		rc = -EIO;
	if (fd >= 0)
		close(fd);
	if (rc == 0 && rename(fresh, path))
		rc = -errno;
	if (rc) /* it only costs a model load after a crash */
		log_line(LOG_WARN, "backend_file", LOG_STR("file", path),
			LOG_STR("error", strerror(-rc)), LOG_END);
	buf_free(&text);
}

/* When it is about that process; 0: whatever it is about. */
static void file_remove(const struct devices *s, const char *device, int64_t pid)
{
	char path[PATH_BYTES];
	struct adopt_backend b;
	if (!may_write(s) || (pid && (!file_read(s, device, &b) || b.pid != pid)))
		return;
	file_path(s, device, path);
	unlink(path);
}

typedef void file_fn(struct devices *s, const char *device);

/* For each state file in the run folder. */
static void files_each(struct devices *s, file_fn *fn)
{
	char device[CONFIG_NAME_BYTES];
	size_t before = strlen(FILE_PREFIX), after = strlen(FILE_SUFFIX);
	DIR *dir = opendir(s->run_dir);
	struct dirent *e;
	while (dir && (e = readdir(dir))) {
		size_t n = strlen(e->d_name);
		if (n <= before + after || n - before - after >= sizeof(device) ||
			strncmp(e->d_name, FILE_PREFIX, before) != 0 ||
			strcmp(e->d_name + n - after, FILE_SUFFIX) != 0)
			continue;
		memcpy(device, e->d_name + before, n - before - after);
		device[n - before - after] = '\0';
		fn(s, device);
	}
	if (dir)
		closedir(dir);
}

/* --- endings --- */

static void signal_backend(const struct adopt_ending *e, int number)
{
	if (!proc_alive(e->pid, e->start))
		return;
	kill(-(pid_t)e->pid, number); /* it leads its group */
}

static void ending_over(struct devices *s, struct adopt_ending *e, bool gone)
{
	log_line(gone ? LOG_INFO : LOG_ERROR, gone ? "backend_gone" : "backend_unkillable",
		LOG_STR("device", e->device), LOG_INT("backend_pid", e->pid), LOG_END);
	file_remove(s, e->device, e->pid);
	TAILQ_REMOVE(&s->adopt.endings, e, link);
	free(e);
}

static void on_look(uv_timer_t *t)
{
	struct devices *s = t->data;
	struct adopt_ending *e, *after;
	for (e = TAILQ_FIRST(&s->adopt.endings); e; e = after) {
		after = TAILQ_NEXT(e, link);
		if (!proc_alive(e->pid, e->start)) {
			ending_over(s, e, true);
		} else if (now_ms() >= e->deadline_ms && !e->killed) {
			log_line(LOG_WARN, "backend_kill", LOG_STR("device", e->device),
				LOG_INT("backend_pid", e->pid), LOG_END);
			e->killed = true;
			e->deadline_ms = now_ms() + ADOPT_GONE_MS;
			signal_backend(e, SIGKILL);
		} else if (now_ms() >= e->deadline_ms) {
			ending_over(s, e, false);
		}
	}
	if (!TAILQ_EMPTY(&s->adopt.endings))
		return;
	uv_timer_stop(t);
	s->events->idle(s->ctx);
}

static bool ending(const struct devices *s, int64_t pid)
{
	const struct adopt_ending *e;
	TAILQ_FOREACH(e, &s->adopt.endings, link)
		if (e->pid == pid)
			return true;
	return false;
}

static void end_process(struct devices *s, const char *device, int64_t pid, uint64_t start)
{
	struct adopt_ending *e = ending(s, pid) ? NULL : calloc(1, sizeof(*e));
	if (!e) /* of memory out: the lifeline still has it */
		return;
	snprintf(e->device, sizeof(e->device), "%s", device);
	e->pid = pid;
	e->start = start;
	e->deadline_ms = now_ms() + ADOPT_KILL_MS;
	TAILQ_INSERT_TAIL(&s->adopt.endings, e, link);
	log_line(LOG_INFO, "backend_end", LOG_STR("device", device), LOG_INT("backend_pid", pid),
		LOG_END);
	signal_backend(e, SIGTERM);
	if (!uv_is_active((uv_handle_t *)&s->adopt.look))
		uv_timer_start(&s->adopt.look, on_look, ADOPT_LOOK_MS, ADOPT_LOOK_MS);
}

bool adopt_quiet(const struct devices *s)
{
	return TAILQ_EMPTY(&s->adopt.endings);
}

/* --- reaping --- */

struct search {
	int pid;
	bool found;
};

static void look_for(uv_handle_t *h, void *arg)
{
	struct search *x = arg;
	if (h->type == UV_PROCESS && uv_is_active(h) &&
		uv_process_get_pid((uv_process_t *)h) == x->pid)
		x->found = true;
}

static void on_reap(uv_timer_t *t)
{
	struct devices *s = t->data;
	for (;;) {
		siginfo_t info = {0};
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid == 0)
			return;
		struct search x = {.pid = info.si_pid};
		uv_walk(s->loop, look_for, &x);
		if (x.found) { /* libuv's, which is about to reap it */
			uv_timer_start(t, on_reap, REAP_AGAIN_MS, 0);
			return;
		}
		int status = 0;
		waitpid(info.si_pid, &status, WNOHANG);
		log_line(LOG_DEBUG, "orphan_reaped", LOG_INT("orphan_pid", info.si_pid),
			LOG_INT("status", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
			LOG_INT("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0), LOG_END);
	}
}

/* From the next turn: libuv comes first. */
static void on_child(uv_signal_t *h, int number)
{
	struct devices *s = h->data;
	(void)number;
	if (!uv_is_active((uv_handle_t *)&s->adopt.reap))
		uv_timer_start(&s->adopt.reap, on_reap, 0, 0);
}

/* --- devices --- */

static bool in_use(const struct device *d, int64_t pid);

/* What a backend of this device that we never heard of writes to. */
static bool writes_our_log(const struct device *d, int pid)
{
	char link[32], log[PATH_BYTES];
	struct stat to, ours;
	snprintf(link, sizeof(link), "/proc/%d/fd/1", pid);
	snprintf(log, sizeof(log), "%s/backend-%s.log", d->all->run_dir, d->conf->name);
	/* The file itself: a path through a link (/var/run) has another spelling there. */
	return stat(link, &to) == 0 && lstat(log, &ours) == 0 && to.st_dev == ours.st_dev &&
	       to.st_ino == ours.st_ino;
}

/*
 * A worker may die between the start of its backend and its word of it. Such a backend is our child
 * by now, leads its group and writes the device's log: nobody will ever use it.
 */
static void end_strays(struct device *d)
{
	char path[64];
	int pid;
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	FILE *f = fopen(path, "re");
	while (f && fscanf(f, "%d", &pid) == 1) {
		uint64_t start = pid == d->warm.pid || in_use(d, pid) ? 0 : proc_start(pid);
		if (start && getpgid(pid) == pid && writes_our_log(d, pid))
			end_process(d->all, d->conf->name, pid, start);
	}
	if (f)
		fclose(f);
}

static void forget(struct device *d)
{
	file_remove(d->all, d->conf->name, d->warm.pid);
	d->warm = (struct adopt_backend){0};
}

static bool in_use(const struct device *d, int64_t pid)
{
	const struct worker *w;
	TAILQ_FOREACH(w, &d->workers, link)
		if (worker_has_process(w) && w->backend.pid == pid)
			return true;
	return false;
}

static bool wanted(const struct device *d)
{
	return !d->all->stopping && d->succession != REMOVED && !device_drained(d) &&
	       d->state != WORKER_FAILED && d->warm.hash == adopt_hash(d->conf);
}

void adopt_end(struct device *d)
{
	struct adopt_backend b = d->warm;
	if (b.pid == 0)
		return;
	d->warm = (struct adopt_backend){0}; /* its file stays until it is gone */
	end_process(d->all, d->conf->name, b.pid, b.start);
}

void adopt_settle(struct device *d)
{
	if (d->warm.pid == 0 || d->all->keep_backends)
		return;
	if (!proc_alive(d->warm.pid, d->warm.start))
		forget(d);
	else if (!in_use(d, d->warm.pid) && !wanted(d))
		adopt_end(d);
}

bool adopt_may_spawn(struct device *d)
{
	const struct adopt_ending *e;
	adopt_settle(d);
	TAILQ_FOREACH(e, &d->all->adopt.endings, link)
		if (strcmp(e->device, d->conf->name) == 0)
			return false;
	return true;
}

void adopt_fill(struct worker *w, struct proto_ack *a)
{
	const struct adopt_backend *b = &w->device->warm;
	w->backend_hash = adopt_hash(w->device->conf);
	if (b->pid == 0 || b->hash != w->backend_hash || !proc_alive(b->pid, b->start))
		return;
	a->adopt_pid = b->pid;
	a->adopt_start = b->start;
	a->adopt_url = slice_str(b->url);
}

void adopt_learned(struct worker *w)
{
	struct device *d = w->device;
	struct adopt_backend b = {
		.pid = w->backend.pid, .start = w->backend.start, .hash = w->backend_hash};
	if (w != d->current || b.pid == 0) {
		if (d->warm.pid && !proc_alive(d->warm.pid, d->warm.start))
			forget(d);
		return;
	}
	snprintf(b.url, sizeof(b.url), "%s", w->backend.url);
	bool same = d->warm.pid == b.pid && d->warm.start == b.start && d->warm.hash == b.hash &&
		    strcmp(d->warm.url, b.url) == 0;
	if (same)
		return;
	d->warm = b;
	file_write(d->all, d->conf->name, &b);
}

void adopt_worker_gone(struct worker *w, bool asked)
{
	struct device *d = w->device;
	int64_t pid = w->backend.pid;
	w->backend.pid = 0;
	if (d->all->keep_backends)
		return;
	if (pid && !in_use(d, pid) && proc_alive(pid, w->backend.start)) {
		if (pid != d->warm.pid)
			end_process(d->all, d->conf->name, pid, w->backend.start);
		else if (asked && !w->keep_backend) /* it has not done so itself */
			adopt_end(d);
	}
	end_strays(d);
	adopt_settle(d);
}

bool adopt_kept(const struct worker *w)
{
	struct adopt_backend b;
	return file_read(w->device->all, w->device->conf->name, &b) && b.pid == w->backend.pid;
}

void adopt_device_created(struct device *d)
{
	struct adopt_backend b;
	if (d->all->adopt.inherited && file_read(d->all, d->conf->name, &b) &&
		proc_alive(b.pid, b.start))
		d->warm = b;
}

/* --- life --- */

static void read_boot_id(char out[ADOPT_BOOT_BYTES])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, out, ADOPT_BOOT_BYTES - 1);
	if (fd >= 0)
		close(fd);
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	if (!out[0])
		snprintf(out, ADOPT_BOOT_BYTES, "unknown");
}

/* A tandemd that died left it: the guard ends what it is about. */
static void end_former(struct devices *s, const char *device)
{
	struct adopt_backend b;
	if (file_read(s, device, &b) && proc_alive(b.pid, b.start))
		end_process(s, device, b.pid, b.start);
	else
		file_remove(s, device, 0);
}

static int lifeline_open(struct adopt *a, int write_fd, int read_fd)
{
	int fds[2] = {read_fd, write_fd};
	a->inherited = write_fd >= 0 && read_fd >= 0;
	if (!a->inherited && pipe2(fds, O_CLOEXEC))
		return -errno;
	a->read_fd = fds[0];
	a->write_fd = fds[1];
	fcntl(a->read_fd, F_SETFD, FD_CLOEXEC);
	fcntl(a->write_fd, F_SETFD, FD_CLOEXEC);
	return 0;
}

int adopt_start(struct devices *s, int write_fd, int read_fd)
{
	struct adopt *a = &s->adopt;
	TAILQ_INIT(&a->endings);
	uv_signal_init(s->loop, &a->child);
	uv_timer_init(s->loop, &a->reap);
	uv_timer_init(s->loop, &a->look);
	a->child.data = a->reap.data = a->look.data = s;
	a->read_fd = a->write_fd = -1;
	int rc = lifeline_open(a, write_fd, read_fd);
	if (rc)
		return rc;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	uv_signal_start(&a->child, on_child, SIGCHLD);
	read_boot_id(a->boot_id);
	a->provisional = a->inherited;
	s->keep_backends = a->inherited; /* what the one before us uses is not ours to end */
	if (!a->inherited)
		files_each(s, end_former);
	return 0;
}

void adopt_stop(struct devices *s)
{
	struct adopt *a = &s->adopt;
	struct adopt_ending *e;
	if (!a->look.data)
		return; /* never started */
	while ((e = TAILQ_FIRST(&a->endings))) {
		TAILQ_REMOVE(&a->endings, e, link);
		free(e);
	}
	uv_close((uv_handle_t *)&a->child, NULL);
	uv_close((uv_handle_t *)&a->reap, NULL);
	uv_close((uv_handle_t *)&a->look, NULL);
	if (a->read_fd >= 0)
		close(a->read_fd);
	if (a->write_fd >= 0)
		close(a->write_fd);
	a->read_fd = a->write_fd = -1;
}

/* One whose device we lack, or run otherwise: the retiring tandemd then ends it with its worker. */
static void disown(struct devices *s, const char *device)
{
	const struct device *d = device_find(s, device);
	if (!d || d->warm.pid == 0)
		file_remove(s, device, 0);
}

void adopt_take_over(struct devices *s)
{
	s->adopt.provisional = s->keep_backends = false;
	for (size_t i = 0; i < s->count; i++) {
		struct device *d = s->of[i];
		if (d->warm.pid && d->warm.hash != adopt_hash(d->conf))
			d->warm = (struct adopt_backend){0};
		if (d->warm.pid)
			file_write(s, d->conf->name, &d->warm);
	}
	files_each(s, disown);
}
