#include "supervisor/devices/statefile.h"

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "supervisor/devices/devices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

uint64_t statefile_hash(const struct config_device *conf)
{
	uint64_t h = hash_fnv_text(HASH_FNV_START, backend_type_name(conf->backend.type));
	h = hash_fnv_text(h, conf->pin);
	for (char **arg = conf->backend.command; arg && *arg; arg++)
		h = hash_fnv_text(h, *arg);
	return h ? h : 1;
}

void statefile_print(const struct warm_backend *b, const char *boot_id, struct buf *out)
{
	buf_printf(out,
		"tandem-backend 1\nboot %s\npid %" PRId64 "\nstart %" PRIu64 "\nhash %016" PRIx64
		"\nurl %s\n",
		boot_id, b->pid, b->start, b->hash, b->url);
}

/* The rest of the line after "name ", as a string of at most n - 1 bytes. */
static bool take(struct slice *text, const char *name, char *to, size_t n)
{
	size_t len = strlen(name);
	const char *end = text->n ? memchr(text->p, '\n', text->n) : NULL;
	size_t line = end ? (size_t)(end - text->p) : 0;
	if (!end || line < len + 1 || memcmp(text->p, name, len) != 0 || text->p[len] != ' ' ||
		line - len - 1 >= n)
		return false;
	memcpy(to, text->p + len + 1, line - len - 1);
	to[line - len - 1] = '\0';
	text->p += line + 1;
	text->n -= line + 1;
	return strlen(to) == line - len - 1;
}

static bool number(const char *text, int base, uint64_t *out)
{
	char *end;
	errno = 0;
	*out = strtoull(text, &end, base);
	return errno == 0 && *text != '-' && end > text && !*end;
}

bool statefile_parse(struct slice text, const char *boot_id, struct warm_backend *out)
{
	char value[STATEFILE_URL_BYTES];
	uint64_t pid;
	*out = (struct warm_backend){0};
	bool ok = take(&text, "tandem-backend", value, sizeof(value)) && strcmp(value, "1") == 0 &&
		  take(&text, "boot", value, sizeof(value)) && strcmp(value, boot_id) == 0 &&
		  take(&text, "pid", value, sizeof(value)) && number(value, 10, &pid) && pid > 1 &&
		  pid <= INT32_MAX && take(&text, "start", value, sizeof(value)) &&
		  number(value, 10, &out->start) && out->start > 0 &&
		  take(&text, "hash", value, sizeof(value)) && number(value, 16, &out->hash) &&
		  take(&text, "url", out->url, sizeof(out->url)) && text.n == 0;
	if (ok)
		out->pid = (int64_t)pid;
	else
		*out = (struct warm_backend){0};
	return ok;
}

/* --- in the run folder --- */

#define PATH_BYTES 512
#define FILE_PREFIX "backend-"
#define FILE_SUFFIX ".state"

static void file_path(const struct devices *s, const char *device, char out[PATH_BYTES])
{
	snprintf(out, PATH_BYTES, "%s/" FILE_PREFIX "%s" FILE_SUFFIX, s->run_dir, device);
}

bool statefile_read(const struct devices *s, const char *device, struct warm_backend *out)
{
	char path[PATH_BYTES], text[STATEFILE_BYTES];
	file_path(s, device, path);
	*out = (struct warm_backend){0};
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, sizeof(text));
	close(fd);
	return n > 0 && (size_t)n < sizeof(text) &&
	       statefile_parse((struct slice){text, (size_t)n}, s->files.boot_id, out);
}

static bool may_write(const struct devices *s)
{
	return !s->files.provisional && !s->keep_backends;
}

void statefile_write(const struct devices *s, const char *device, const struct warm_backend *b)
{
	char path[PATH_BYTES], fresh[PATH_BYTES + 4];
	struct buf text;
	if (!may_write(s))
		return;
	file_path(s, device, path);
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	buf_init(&text, STATEFILE_BYTES);
	statefile_print(b, s->files.boot_id, &text);
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

void statefile_remove(const struct devices *s, const char *device, int64_t pid)
{
	char path[PATH_BYTES];
	struct warm_backend b;
	if (!may_write(s) || (pid && (!statefile_read(s, device, &b) || b.pid != pid)))
		return;
	file_path(s, device, path);
	unlink(path);
}

void statefile_each(struct devices *s, statefile_fn *fn)
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

void statefile_boot_id(char out[STATEFILE_BOOT_BYTES])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, out, STATEFILE_BOOT_BYTES - 1);
	if (fd >= 0)
		close(fd);
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	if (!out[0])
		snprintf(out, STATEFILE_BOOT_BYTES, "unknown");
}
