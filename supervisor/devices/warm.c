#include "supervisor/devices/warm.h"

#include "common/base/proc.h"
#include "supervisor/devices/devices.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 512

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
			orphans_end(d->all, d->conf->name, pid, start);
	}
	if (f)
		fclose(f);
}

static void forget(struct device *d)
{
	statefile_remove(d->all, d->conf->name, d->warm.pid);
	d->warm = (struct warm_backend){0};
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
	       d->state != WORKER_FAILED && d->warm.hash == statefile_hash(d->conf);
}

void warm_end(struct device *d)
{
	struct warm_backend b = d->warm;
	if (b.pid == 0)
		return;
	d->warm = (struct warm_backend){0}; /* its file stays until it is gone */
	orphans_end(d->all, d->conf->name, b.pid, b.start);
}

void warm_settle(struct device *d)
{
	if (d->warm.pid == 0 || d->all->keep_backends)
		return;
	if (!proc_alive(d->warm.pid, d->warm.start))
		forget(d);
	else if (!in_use(d, d->warm.pid) && !wanted(d))
		warm_end(d);
}

bool warm_may_spawn(struct device *d)
{
	warm_settle(d);
	return !orphans_ending(d->all, d->conf->name);
}

void warm_fill(struct worker *w, struct proto_ack *a)
{
	const struct warm_backend *b = &w->device->warm;
	w->backend_hash = statefile_hash(w->device->conf);
	if (b->pid == 0 || b->hash != w->backend_hash || !proc_alive(b->pid, b->start))
		return;
	a->adopt_pid = b->pid;
	a->adopt_start = b->start;
	a->adopt_url = slice_str(b->url);
}

void warm_learned(struct worker *w)
{
	struct device *d = w->device;
	struct warm_backend b = {
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
	statefile_write(d->all, d->conf->name, &b);
}

void warm_worker_gone(struct worker *w, bool asked)
{
	struct device *d = w->device;
	int64_t pid = w->backend.pid;
	w->backend.pid = 0;
	if (d->all->keep_backends)
		return;
	if (pid && !in_use(d, pid) && proc_alive(pid, w->backend.start)) {
		if (pid != d->warm.pid)
			orphans_end(d->all, d->conf->name, pid, w->backend.start);
		else if (asked && !w->keep_backend) /* it has not done so itself */
			warm_end(d);
	}
	end_strays(d);
	warm_settle(d);
}

bool warm_kept(const struct worker *w)
{
	struct warm_backend b;
	return statefile_read(w->device->all, w->device->conf->name, &b) && b.pid == w->backend.pid;
}

void warm_device_created(struct device *d)
{
	struct warm_backend b;
	if (d->all->orphans.inherited && statefile_read(d->all, d->conf->name, &b) &&
		proc_alive(b.pid, b.start))
		d->warm = b;
}

/* --- all of them --- */

/* A tandemd that died left it: the guard ends what it is about. */
static void end_former(struct devices *s, const char *device)
{
	struct warm_backend b;
	if (statefile_read(s, device, &b) && proc_alive(b.pid, b.start))
		orphans_end(s, device, b.pid, b.start);
	else
		statefile_remove(s, device, 0);
}

void warm_start(struct devices *s)
{
	bool inherited = s->orphans.inherited;
	statefile_boot_id(s->files.boot_id);
	s->files.provisional = inherited;
	s->keep_backends = inherited; /* what the one before us uses is not ours to end */
	if (!inherited)
		statefile_each(s, end_former);
}

/* One whose device we lack, or run otherwise: the retiring tandemd then ends it with its worker. */
static void disown(struct devices *s, const char *device)
{
	const struct device *d = device_find(s, device);
	if (!d || d->warm.pid == 0)
		statefile_remove(s, device, 0);
}

void warm_take_over(struct devices *s)
{
	s->files.provisional = s->keep_backends = false;
	for (size_t i = 0; i < s->count; i++) {
		struct device *d = s->of[i];
		if (d->warm.pid && d->warm.hash != statefile_hash(d->conf))
			d->warm = (struct warm_backend){0};
		if (d->warm.pid)
			statefile_write(s, d->conf->name, &d->warm);
	}
	statefile_each(s, disown);
}
