#include "common/config/config_text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES 65536
#define INT32_DIGITS 9 /* more may overflow; in hexadecimal "0x" and 7 digits never do */

/* One file under expansion. */
struct scan {
	struct config_text *t;
	struct buf *err;
	const char *path;
	unsigned file;
	unsigned depth;
	const char *p, *end;
	unsigned line;
};

/* from: the scan that stands at the include, NULL for the first file. */
static int expand_file(
	struct config_text *t, const char *path, const struct scan *from, struct buf *err);

static int complain(struct scan *s, unsigned line, const char *what)
{
	buf_printf(s->err, "%s:%u: %s\n", s->path, line, what);
	return -EINVAL;
}

/* --- output --- */

static int put(struct scan *s, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n') {
			s->t->line++;
			s->line++;
		}
	}
	if (buf_add(&s->t->text, p, n) == -E2BIG)
		return complain(s, s->line, "larger than 1 MiB (with what it includes)");
	return buf_error(&s->t->text);
}

static int put_upto(struct scan *s, const char *to)
{
	int rc = put(s, s->p, (size_t)(to - s->p));
	s->p = to;
	return rc;
}

static void put_run(struct config_text *t, unsigned file, unsigned source_line)
{
	t->runs[t->run_count++] = (struct config_run){t->line, file, source_line};
}

/* --- tokens: only what decides where an include or a number may stand --- */

static bool at(const struct scan *s, const char *token)
{
	size_t n = strlen(token);
	return (size_t)(s->end - s->p) >= n && memcmp(s->p, token, n) == 0;
}

static int scan_string(struct scan *s)
{
	const char *p = s->p + 1;
	while (p < s->end && *p != '"')
		p += *p == '\\' && p + 1 < s->end ? 2 : 1;
	if (p >= s->end)
		return complain(s, s->line, "this string is never closed");
	return put_upto(s, p + 1);
}

static int scan_comment(struct scan *s)
{
	const char *stop = memmem(s->p + 2, (size_t)(s->end - s->p - 2), "*/", 2);
	if (!stop)
		return complain(s, s->line, "this comment is never closed");
	return put_upto(s, stop + 2);
}

static int scan_line_comment(struct scan *s)
{
	const char *stop = memchr(s->p, '\n', (size_t)(s->end - s->p));
	return put_upto(s, stop ? stop : s->end);
}

static int scan_name(struct scan *s)
{
	const char *p = s->p;
	while (p < s->end && (isalnum((unsigned char)*p) || strchr("_-*", *p)))
		p++;
	return put_upto(s, p);
}

static int scan_number(struct scan *s)
{
	const char *p = s->p;
	bool hex = p[0] == '0' && p + 1 < s->end && (p[1] == 'x' || p[1] == 'X');
	bool whole = true;
	if (hex) {
		for (p += 2; p < s->end && isxdigit((unsigned char)*p);)
			p++;
	} else {
		for (; p < s->end && (isdigit((unsigned char)*p) || strchr(".eE+-", *p)); p++)
			whole = whole && !strchr(".eE", *p);
	}
	/* Only numbers that may not fit 32 bits, so that messages show the line as it
	 * was written. */
	bool widen = whole && p - s->p > INT32_DIGITS && !(p < s->end && *p == 'L');
	int rc = put_upto(s, p);
	if (rc == 0 && widen)
		rc = put(s, "L", 1);
	return rc;
}

/* `@include "file"` at the start of a line; anything else there is libconfig's to judge. */
static int scan_include(struct scan *s)
{
	const char *p = s->p + strlen("@include");
	while (p < s->end && (*p == ' ' || *p == '\t'))
		p++;
	const char *name = p + 1;
	const char *stop =
		p < s->end && *p == '"' ? memchr(name, '"', (size_t)(s->end - name)) : NULL;
	if (!stop || stop == name || memchr(name, '\n', (size_t)(stop - name)))
		return complain(s, s->line, "@include needs a file name in quotes");

	const char *slash = *name == '/' ? NULL : strrchr(s->path, '/');
	struct buf path;
	buf_init(&path, 4096);
	if (slash)
		buf_add(&path, s->path, (size_t)(slash + 1 - s->path));
	buf_add(&path, name, (size_t)(stop - name));
	const char *full = buf_cstr(&path);
	int rc = buf_error(&path);
	if (rc == 0)
		rc = expand_file(s->t, full, s, s->err);
	buf_free(&path);
	s->p = stop + 1;
	if (rc == 0)
		put_run(s->t, s->file, s->line);
	return rc;
}

static int scan_next(struct scan *s, bool line_start)
{
	unsigned char c = (unsigned char)*s->p;
	if (c == '"')
		return scan_string(s);
	if (c == '#' || at(s, "//"))
		return scan_line_comment(s);
	if (at(s, "/*"))
		return scan_comment(s);
	if (line_start && at(s, "@include"))
		return scan_include(s);
	if (isalpha(c) || c == '*')
		return scan_name(s);
	bool sign = (c == '-' || c == '+') && s->p + 1 < s->end && strchr("0123456789.", s->p[1]);
	if (isdigit(c) || c == '.' || sign)
		return scan_number(s);
	return put_upto(s, s->p + 1);
}

static int scan_file(struct scan *s)
{
	static const char bom[] = "\xef\xbb\xbf";
	const char *nul = memchr(s->p, '\0', (size_t)(s->end - s->p));
	bool line_start = true;

	if (nul)
		return complain(s, 1, "holds NUL bytes: not a text file");
	if (at(s, bom))
		s->p += strlen(bom);
	while (s->p < s->end) {
		char c = *s->p;
		int rc = scan_next(s, line_start);
		if (rc)
			return rc;
		line_start = c == '\n' || (line_start && (c == ' ' || c == '\t'));
	}
	/* What follows an include starts a line of its own; and libconfig wants the last comment
	 * ended. */
	if (s->t->text.n && s->t->text.p[s->t->text.n - 1] != '\n')
		return put(s, "\n", 1);
	return 0;
}

/* --- files --- */

/* 0 or -errno; -E2BIG past the buffer's maximum. */
static int read_file(const char *path, struct buf *out)
{
	struct stat st = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int rc = fd < 0 || fstat(fd, &st) ? -errno : 0;
	if (rc == 0 && S_ISDIR(st.st_mode))
		rc = -EISDIR;
	while (rc == 0) {
		rc = buf_reserve(out, READ_BYTES);
		if (rc)
			break;
		ssize_t n = read(fd, out->p + out->n, READ_BYTES);
		if (n == 0)
			break;
		if (n > 0)
			out->n += (size_t)n;
		else if (errno != EINTR)
			rc = -errno;
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

static int expand_file(
	struct config_text *t, const char *path, const struct scan *from, struct buf *err)
{
	struct scan s = {.t = t, .err = err, .line = 1, .file = t->file_count};
	struct buf raw;
	const char *problem = NULL;
	int rc = -EINVAL;

	buf_init(&raw, CONFIG_TEXT_BYTES + READ_BYTES); /* the rest is put()'s to refuse */
	s.depth = from ? from->depth + 1 : 0;
	if (s.depth == CONFIG_INCLUDE_DEPTH) {
		problem = "nested too deeply (does a file include itself?)";
	} else if (t->file_count == CONFIG_FILES_MAX) {
		problem = "too many included files";
	} else {
		rc = read_file(path, &raw);
		problem = rc == -E2BIG ? "larger than 1 MiB" : strerror(-rc);
	}
	if (rc) {
		if (from)
			buf_printf(err, "%s:%u: @include: ", from->path, from->line);
		buf_printf(err, "%s: %s\n", path, problem);
		rc = !from && (rc == -ENOENT || rc == -EACCES || rc == -ENOMEM) ? rc : -EINVAL;
		goto out;
	}

	s.path = t->files[s.file] = strdup(path);
	if (!s.path) {
		rc = -ENOMEM;
		goto out;
	}
	t->file_count++;
	put_run(t, s.file, 1);
	s.p = raw.p;
	s.end = raw.p + raw.n;
	rc = scan_file(&s);
out:
	buf_free(&raw);
	return rc;
}

int config_text_init(struct config_text *t, const char *path, struct buf *err)
{
	*t = (struct config_text){.line = 1};
	buf_init(&t->text, CONFIG_TEXT_BYTES);
	return expand_file(t, path, NULL, err);
}

void config_text_fini(struct config_text *t)
{
	for (unsigned i = 0; i < t->file_count; i++)
		free(t->files[i]);
	buf_free(&t->text);
	*t = (struct config_text){.line = 1};
}

struct config_place config_text_place(const struct config_text *t, unsigned line)
{
	unsigned i = t->run_count;
	while (i > 1 && t->runs[i - 1].line > line)
		i--;
	if (i == 0)
		return (struct config_place){"?", line};
	const struct config_run *run = &t->runs[i - 1];
	return (struct config_place){t->files[run->file], run->source_line + (line - run->line)};
}

struct slice config_text_line(const struct config_text *t, unsigned line)
{
	if (t->text.n == 0)
		return (struct slice){0};
	const char *p = t->text.p, *end = p + t->text.n;
	for (; line > 1 && p < end; line--) {
		p = memchr(p, '\n', (size_t)(end - p));
		p = p ? p + 1 : end;
	}
	const char *stop = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
	stop = stop ? stop : end;
	while (p < stop && isspace((unsigned char)*p))
		p++;
	while (stop > p && isspace((unsigned char)stop[-1]))
		stop--;
	return (struct slice){p, (size_t)(stop - p)};
}
