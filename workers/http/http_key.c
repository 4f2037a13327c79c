/*
 * The key of a backend: the only line of a file that belongs to somebody. It is looked at with each
 * request, so that a new key counts at once; it stays in memory, and in no log.
 */
#include "workers/http/http_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORDS_BYTES 512

struct http_key {
	char *path;
	struct stat seen;				 /* of the file that header was read from */
	char header[sizeof("Bearer ") + HTTP_KEY_BYTES]; /* empty: none */
	char words[WORDS_BYTES];
};

struct http_key *http_key_create(const char *path)
{
	struct http_key *k = calloc(1, sizeof(*k));
	if (k)
		k->path = strdup(path);
	if (k && !k->path) {
		free(k);
		return NULL;
	}
	return k;
}

void http_key_destroy(struct http_key *k)
{
	if (!k)
		return;
	explicit_bzero(k->header, sizeof(k->header));
	free(k->path);
	free(k);
}

static const char *no_key(struct http_key *k, const char *why)
{
	explicit_bzero(k->header, sizeof(k->header));
	snprintf(k->words, sizeof(k->words), "the key file %.300s %s", k->path, why);
	return NULL;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
	       a->st_mode == b->st_mode && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static struct slice trim(struct slice s)
{
	while (s.n && strchr(" \t\r\n", *s.p))
		s = (struct slice){s.p + 1, s.n - 1};
	while (s.n && strchr(" \t\r\n", s.p[s.n - 1]))
		s.n--;
	return s;
}

static const char *take(struct http_key *k, const struct stat *st, struct slice text)
{
	struct slice key = trim(text);
	if (key.n == 0)
		return no_key(k, "is empty");
	for (size_t i = 0; i < key.n; i++)
		if (key.p[i] <= ' ' || key.p[i] >= 0x7f)
			return no_key(k, "holds more than one word of plain ASCII");
	snprintf(k->header, sizeof(k->header), "Bearer %.*s", (int)key.n, key.p);
	k->seen = *st;
	return k->header;
}

static const char *read_file(struct http_key *k, int fd)
{
	struct stat st;
	char text[HTTP_KEY_BYTES + 1];
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return no_key(k, "is no regular file");
	if (st.st_mode & S_IROTH)
		return no_key(k, "may be read by everybody: chmod o-r");
	ssize_t n = read(fd, text, sizeof(text));
	if (n < 0)
		return no_key(k, "cannot be read");
	const char *header = n > HTTP_KEY_BYTES ? no_key(k, "is too long for a key")
						: take(k, &st, (struct slice){text, (size_t)n});
	explicit_bzero(text, sizeof(text));
	return header;
}

const char *http_key_header(struct http_key *k)
{
	struct stat st;
	char why[128];
	if (k->header[0] && stat(k->path, &st) == 0 && is_same(&st, &k->seen))
		return k->header;
	int fd = open(k->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		snprintf(why, sizeof(why), "cannot be read: %s", strerror(errno));
		return no_key(k, why);
	}
	const char *header = read_file(k, fd);
	close(fd);
	return header;
}

const char *http_key_words(const struct http_key *k)
{
	return k->words;
}

bool http_key_hides(struct slice name)
{
	static const char *const names[] = {
		"authorization", "x-api-key", "api-key", "cookie", NULL};
	for (const char *const *n = names; *n; n++)
		if (slice_ieq(name, slice_str(*n)))
			return true;
	return false;
}
