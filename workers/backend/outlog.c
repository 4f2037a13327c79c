#include "workers/backend/outlog.h"

#include "common/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_file(struct outlog *o, const char *run_dir, const char *device)
{
	struct stat st;
	int n = snprintf(o->path, sizeof(o->path), "%s/backend-%s.log", run_dir, device);
	if (n < 0 || (size_t)n + 2 >= sizeof(o->path))
		return -ENAMETOOLONG;
	int fd = open(
		o->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	return fd;
}

static int open_memory(struct outlog *o)
{
	o->path[0] = '\0';
	int fd = memfd_create("backend-log", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	fcntl(fd, F_SETFL, O_APPEND);
	return fd;
}

static int64_t size_of(const struct outlog *o)
{
	struct stat st;
	return fstat(o->fd, &st) ? 0 : (int64_t)st.st_size;
}

static void feed(struct outlog *o, int64_t most, outlog_line_fn *line)
{
	char piece[16384];
	while (most > 0) {
		size_t want = most < (int64_t)sizeof(piece) ? (size_t)most : sizeof(piece);
		ssize_t n = pread(o->fd, piece, want, o->at);
		if (n <= 0)
			return;
		o->at += n;
		most -= n;
		tail_feed(&o->tail, (struct slice){piece, (size_t)n}, line, o->ctx);
	}
}

int outlog_open(struct outlog *o, const char *run_dir, const char *device, int64_t cap, bool resume,
	outlog_line_fn *line, void *ctx)
{
	*o = (struct outlog){.fd = -1, .cap = cap, .line = line, .ctx = ctx};
	o->fd = run_dir ? open_file(o, run_dir, device) : open_memory(o);
	if (o->fd < 0 && run_dir) {
		log_line(LOG_WARN, "backend_log_file", LOG_STR("file", o->path),
			LOG_STR("error", strerror(-o->fd)), LOG_END);
		o->fd = open_memory(o);
	}
	if (o->fd < 0)
		return o->fd;
	o->at = size_of(o);
	if (resume) {
		int64_t back = o->at < OUTLOG_KEEP_BYTES ? o->at : OUTLOG_KEEP_BYTES;
		o->at -= back;
		feed(o, back, NULL);
	}
	return 0;
}

/* The last part stays readable for people; what is written between copy and cut is lost. */
static void cut(struct outlog *o, int64_t size)
{
	char kept[OUTLOG_KEEP_BYTES], path[sizeof(o->path) + 2];
	int64_t n = o->cap < OUTLOG_KEEP_BYTES ? o->cap : OUTLOG_KEEP_BYTES;
	ssize_t got = pread(o->fd, kept, (size_t)n, size - n);
	if (o->path[0] && got > 0) {
		snprintf(path, sizeof(path), "%s.1", o->path);
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd >= 0) {
			ssize_t put = write(fd, kept, (size_t)got);
			if (put < got)
				log_line(LOG_WARN, "backend_log_file", LOG_STR("file", path),
					LOG_STR("error", "cut short"), LOG_END);
			close(fd);
		}
	}
	if (ftruncate(o->fd, 0) == 0)
		o->at = 0;
}

void outlog_look(struct outlog *o)
{
	if (o->fd < 0)
		return;
	int64_t size = size_of(o);
	if (size < o->at) /* another worker of the device has cut it */
		o->at = 0;
	if (size - o->at > OUTLOG_TURN_BYTES) /* faster than anybody reads: the newest counts */
		o->at = size - OUTLOG_TURN_BYTES;
	feed(o, OUTLOG_TURN_BYTES, o->line);
	size = size_of(o);
	if (size > o->cap)
		cut(o, size);
}

void outlog_end(struct outlog *o)
{
	outlog_look(o);
	tail_end(&o->tail, o->line, o->ctx);
}

void outlog_close(struct outlog *o)
{
	if (o->fd >= 0)
		close(o->fd);
	o->fd = -1;
}
