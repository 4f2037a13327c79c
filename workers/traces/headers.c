#include "workers/traces/headers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static struct slice trim(struct slice s)
{
	while (s.n && strchr(" \t\r", *s.p))
		s = (struct slice){s.p + 1, s.n - 1};
	while (s.n && strchr(" \t\r", s.p[s.n - 1]))
		s.n--;
	return s;
}

/* Those of the request's own form are not for others to set. */
static bool is_ours(struct slice name)
{
	return slice_ieq(name, SLICE("Content-Type")) || slice_ieq(name, SLICE("Content-Length")) ||
	       slice_ieq(name, SLICE("Transfer-Encoding")) || slice_ieq(name, SLICE("Host"));
}

static bool is_name(struct slice name)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (!letter && !(c >= '0' && c <= '9') && !memchr("!#$%&'*+-.^_`|~", c, 15))
			return false;
	}
	return name.n > 0;
}

static bool is_value(struct slice value)
{
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] != '\t' && (value.p[i] < ' ' || value.p[i] == 0x7f))
			return false;
	return true;
}

/* What is wrong with it; NULL: nothing. */
static const char *take(struct traces_headers *h, struct slice line)
{
	const char *colon = memchr(line.p, ':', line.n);
	if (!colon)
		return "has no colon: Name: value";
	struct slice name = {line.p, (size_t)(colon - line.p)},
		     value = trim((struct slice){colon + 1, line.n - name.n - 1});
	if (!is_name(name) || !is_value(value))
		return "is no header: Name: value";
	if (is_ours(name))
		return "is a header that tandem sets";
	if (h->count == TRACES_HEADERS_MAX)
		return "is one header too many";
	h->of[h->count++] = (struct proto_header){name, value};
	return NULL;
}

int headers_parse(struct traces_headers *h, struct buf *why)
{
	unsigned number = 0;
	h->count = 0;
	for (size_t i = 0; i < h->text.n;) {
		const char *p = h->text.p + i, *end = memchr(p, '\n', h->text.n - i);
		size_t n = end ? (size_t)(end - p) : h->text.n - i;
		struct slice line = trim((struct slice){p, n});
		const char *wrong = NULL;
		i += n + 1;
		number++;
		if (line.n && *line.p != '#')
			wrong = take(h, line);
		if (wrong) {
			buf_printf(why, "line %u %s", number, wrong);
			return -EINVAL;
		}
	}
	return 0;
}

/* 0 or -errno. */
static int read_all(int fd, struct buf *text, struct buf *why)
{
	struct stat st;
	char piece[4096];
	ssize_t n;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		buf_add_str(why, "is no regular file");
		return -EINVAL;
	}
	if (st.st_mode & S_IROTH) {
		buf_add_str(why, "may be read by everybody: chmod o-r");
		return -EPERM;
	}
	while ((n = read(fd, piece, sizeof(piece))) > 0)
		if (buf_add(text, piece, (size_t)n)) {
			buf_add_str(why, "is too long");
			return -E2BIG;
		}
	explicit_bzero(piece, sizeof(piece));
	if (n == 0)
		return 0;
	buf_add_str(why, "cannot be read");
	return -EIO;
}

int headers_read(struct traces_headers *h, const char *path, struct buf *why)
{
	*h = (struct traces_headers){.count = 0};
	buf_init(&h->text, TRACES_HEADERS_BYTES);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		int rc = -errno;
		buf_printf(why, "cannot be read: %s", strerror(-rc));
		return rc;
	}
	int rc = read_all(fd, &h->text, why);
	close(fd);
	return rc ? rc : headers_parse(h, why);
}

void headers_fini(struct traces_headers *h)
{
	if (h->text.p)
		explicit_bzero(h->text.p, h->text.cap);
	buf_free(&h->text);
	h->count = 0;
}
