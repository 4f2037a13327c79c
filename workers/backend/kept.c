#include "workers/backend/kept.h"

#include "common/base/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_S 86400
#define PATH_BYTES (KEPT_DIR_BYTES + KEPT_NAME_BYTES)
#define HEAD "tandem-slots 2"

/* --- names --- */

void kept_name(const struct kept *k, uint64_t id, char out[KEPT_NAME_BYTES])
{
	snprintf(out, KEPT_NAME_BYTES, "tandem-%.31s-%016" PRIx64 ".bin", k->device, id);
}

void kept_path(const struct kept *k, uint64_t id, char *out, size_t n)
{
	char name[KEPT_NAME_BYTES];
	kept_name(k, id, name);
	snprintf(out, n, "%s/%s", k->dir, name);
}

static void index_path(const struct kept *k, char out[PATH_BYTES])
{
	snprintf(out, PATH_BYTES, "%s/tandem-%.31s.index", k->dir, k->device);
}

bool kept_is_whole(const struct kept *k, const struct kept_file *f)
{
	char path[PATH_BYTES];
	struct stat st;
	kept_path(k, f->id, path, sizeof(path));
	return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == f->bytes;
}

/* --- the index --- */

int kept_print(const struct kept *k, struct buf *out)
{
	buf_add_str(out, HEAD "\n");
	if (k->unused > 0)
		buf_printf(out, "unused %016" PRIx64 " %" PRId64 " %" PRId64 "\n", k->unused_model,
			k->unused, k->unused_s);
	for (size_t i = 0; i < k->count; i++) {
		const struct kept_file *f = &k->files[i];
		buf_printf(out,
			"kept %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %" PRId64 " %" PRId64
			" %" PRId64 "\n",
			f->id, f->model, f->path, f->tokens, f->bytes, f->used_s);
	}
	return buf_error(out);
}

/* A word, `hex` numbers in hex, the others in decimal and not negative. */
static bool parse_line(const char *line, const char *word, uint64_t *n, int count, int hex)
{
	char *end;
	if (strncmp(line, word, strlen(word)) != 0)
		return false;
	line += strlen(word);
	for (int i = 0; i < count; i++) {
		if (line[0] != ' ' || !isxdigit((unsigned char)line[1]))
			return false;
		errno = 0;
		n[i] = strtoull(line + 1, &end, i < hex ? 16 : 10);
		if (end == line + 1 || errno || (i >= hex && n[i] > INT64_MAX / 2))
			return false;
		line = end;
	}
	return *line == '\0';
}

static bool parse_file(struct kept *k, const char *line)
{
	uint64_t n[6];
	if (k->count == KEPT_MAX || !parse_line(line, "kept", n, 6, 3) || n[0] == 0 ||
		n[4] > INT64_MAX / KEPT_MAX || kept_find(k, n[0])) /* so many have a sum */
		return false;
	k->files[k->count++] =
		(struct kept_file){n[0], n[1], n[2], (int64_t)n[3], (int64_t)n[4], (int64_t)n[5]};
	return true;
}

static bool parse_unused(struct kept *k, const char *line)
{
	uint64_t n[3];
	if (!parse_line(line, "unused", n, 3, 1))
		return false;
	k->unused_model = n[0];
	k->unused = (int64_t)n[1];
	k->unused_s = (int64_t)n[2];
	return true;
}
int kept_parse(struct kept *k, struct slice text)
{
	char *copy = slice_dup(text), *rest = copy, *line;
	k->count = 0;
	k->unused = 0;
	if (!copy)
		return -ENOMEM;
	line = strsep(&rest, "\n");
	bool good = line && strcmp(line, HEAD) == 0;
	while (good && (line = strsep(&rest, "\n")) && *line)
		good = parse_unused(k, line) || parse_file(k, line);
	free(copy);
	if (!good) {
		k->count = 0;
		k->unused = 0;
	}
	return good ? 0 : -EPROTO;
}

void kept_read(struct kept *k)
{
	char path[PATH_BYTES], text[KEPT_INDEX_BYTES];
	size_t have = 0;
	ssize_t n;
	k->count = 0;
	index_path(k, path);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return;
	while (have < sizeof(text) && (n = read(fd, text + have, sizeof(text) - have)) > 0)
		have += (size_t)n;
	close(fd);
	if (have < sizeof(text))
		kept_parse(k, (struct slice){text, have});
}

int kept_write(const struct kept *k)
{
	char path[PATH_BYTES];
	struct buf text;
	index_path(k, path);
	if (k->count == 0 && k->unused == 0)
		return unlink(path) && errno != ENOENT ? -errno : 0;
	buf_init(&text, KEPT_INDEX_BYTES);
	int rc = kept_print(k, &text);
	if (rc == 0)
		rc = file_replace(path, buf_slice(&text));
	buf_free(&text);
	return rc;
}

/* --- files --- */

static size_t place(const struct kept *k, uint64_t id)
{
	size_t i = 0;
	while (i < k->count && k->files[i].id != id)
		i++;
	return i;
}

const struct kept_file *kept_find(const struct kept *k, uint64_t id)
{
	size_t i = place(k, id);
	return i < k->count ? &k->files[i] : NULL;
}

static void take_out(struct kept *k, size_t i)
{
	k->count--;
	memmove(&k->files[i], &k->files[i + 1], (k->count - i) * sizeof(k->files[0]));
}

void kept_remove(struct kept *k, uint64_t id)
{
	char path[PATH_BYTES];
	size_t i = place(k, id);
	kept_path(k, id, path, sizeof(path));
	unlink(path);
	if (i < k->count)
		take_out(k, i);
}

static void drop(struct kept *k, size_t i, kept_gone_fn *gone, void *ctx)
{
	struct kept_file f = k->files[i];
	kept_remove(k, f.id);
	if (gone)
		gone(ctx, &f);
}

int64_t kept_bytes(const struct kept *k)
{
	int64_t sum = 0;
	for (size_t i = 0; i < k->count; i++)
		sum += k->files[i].bytes;
	return sum;
}

int64_t kept_unused(const struct kept *k, uint64_t model, int64_t now_s)
{
	bool counts = k->unused_model == model && k->unused_s > now_s - KEPT_UNUSED_DAYS * DAY_S;
	return counts ? k->unused : 0;
}

int64_t kept_judge(struct kept *k, uint64_t model, bool used, int64_t now_s)
{
	int64_t before = kept_unused(k, model, now_s);
	k->unused_model = model;
	k->unused = used ? 0 : before + 1;
	k->unused_s = now_s;
	return k->unused;
}

static void to_front(struct kept *k, const struct kept_file *f)
{
	memmove(&k->files[1], &k->files[0], k->count * sizeof(k->files[0]));
	k->files[0] = *f;
	k->count++;
}

void kept_put(struct kept *k, const struct kept_file *f, kept_gone_fn *gone, void *ctx)
{
	struct kept_file file = *f;
	size_t i = place(k, file.id);
	if (i < k->count)
		take_out(k, i); /* the file itself has been written anew */
	if (k->count == KEPT_MAX)
		drop(k, k->count - 1, gone, ctx);
	to_front(k, &file);
	while (k->count && kept_bytes(k) > k->most)
		drop(k, k->count - 1, gone, ctx);
}

void kept_used(struct kept *k, uint64_t id, int64_t now_s)
{
	size_t i = place(k, id);
	if (i == k->count)
		return;
	struct kept_file f = k->files[i];
	f.used_s = now_s;
	take_out(k, i);
	to_front(k, &f);
}

unsigned kept_sweep(struct kept *k, uint64_t model, uint64_t path, bool others, int64_t now_s,
	kept_gone_fn *gone, void *ctx)
{
	unsigned changed = 0;
	for (size_t i = 0; i < k->count;) {
		const struct kept_file *f = &k->files[i];
		bool other = f->model != model;
		bool stale = other && f->path == path;
		if (stale || (other && !others) || f->used_s < now_s - KEPT_DAYS * DAY_S) {
			changed += stale;
			drop(k, i, gone, ctx);
		} else {
			i++;
		}
	}
	return changed;
}

void kept_remove_strays(const struct kept *k)
{
	char start[KEPT_NAME_BYTES], path[KEPT_DIR_BYTES + 300];
	DIR *dir = opendir(k->dir);
	struct dirent *e;
	int n = snprintf(start, sizeof(start), "tandem-%.31s-", k->device);
	while (dir && (e = readdir(dir))) {
		uint64_t id = 0;
		int end = 0;
		/* what begins "gpu0-1-" is another device's: only a number is ours */
		if (strncmp(e->d_name, start, (size_t)n) != 0 ||
			sscanf(e->d_name + n, "%16" SCNx64 ".bin%n", &id, &end) != 1 || end == 0)
			continue;
		const char *tail = e->d_name + n + end;
		if (strcmp(tail, KEPT_NEW) != 0 && (*tail || kept_find(k, id)))
			continue;
		snprintf(path, sizeof(path), "%s/%s", k->dir, e->d_name);
		unlink(path);
	}
	if (dir)
		closedir(dir);
}
