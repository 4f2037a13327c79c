#include "common/config/keys.h"

#include "common/base/hex.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#define RANDOM_BYTES 32
#define HASH_WORD "sha256:"
#define PROBLEMS_TOLD 8 /* the first ones say what is wrong */

/* --- words of a line --- */

const char *key_check_name(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");
	if (n == 0 || name[n])
		return "must consist of a-z, 0-9, '_' and '-'";
	return n < KEY_NAME_BYTES ? NULL : "must be at most 31 bytes long";
}

const char *key_check_class(const char *class)
{
	static const char *const classes[] = {"interactive", "agent", "idle"};
	for (size_t i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		if (strcmp(class, classes[i]) == 0)
			return NULL;
	return "must be interactive, agent or idle";
}

static bool read_hash(const char *word, unsigned char hash[KEY_HASH_BYTES])
{
	const size_t before = sizeof(HASH_WORD) - 1;
	if (strncmp(word, HASH_WORD, before) != 0 || strlen(word) != before + 2 * KEY_HASH_BYTES)
		return false;
	for (size_t i = 0; i < KEY_HASH_BYTES; i++) {
		int high = hex_digit(word[before + 2 * i]),
		    low = hex_digit(word[before + 2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		hash[i] = (unsigned char)(high << 4 | low);
	}
	return true;
}

static const char *read_requests(const char *text, unsigned *out)
{
	char *end;
	errno = 0;
	long n = strtol(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n < 1 || n > KEY_REQUESTS_MAX)
		return "requests= wants a number, 1 to 100000";
	*out = (unsigned)n;
	return NULL;
}

static const char *read_option(const char *word, struct key *k)
{
	if (strncmp(word, "requests=", 9) == 0)
		return read_requests(word + 9, &k->requests);
	if (strncmp(word, "class=", 6) != 0)
		return "an option that is none (requests=N, class=interactive|agent|idle)";
	if (key_check_class(word + 6))
		return "class= must be interactive, agent or idle";
	snprintf(k->class, sizeof(k->class), "%s", word + 6);
	return NULL;
}

/* One line without its comment. What is wrong with it, or NULL; an empty one has no name. */
static const char *read_line(char *line, struct key *k)
{
	static const char blanks[] = " \t\r";
	char *at = NULL, *name = strtok_r(line, blanks, &at), *hash;
	*k = (struct key){.requests = 0};
	if (!name)
		return NULL;
	if (key_check_name(name))
		return "a name of 1 to 31 of a-z, 0-9, '_' and '-' must stand first";
	hash = strtok_r(NULL, blanks, &at);
	if (!hash || !read_hash(hash, k->hash))
		return "behind the name must stand sha256: and 64 hexadecimal digits";
	for (char *word; (word = strtok_r(NULL, blanks, &at)) != NULL;) {
		const char *problem = read_option(word, k);
		if (problem)
			return problem;
	}
	snprintf(k->name, sizeof(k->name), "%s", name);
	return NULL;
}

/* --- the file --- */

static const char *fits(const struct keys *all, const struct key *k)
{
	if (all->count == KEYS_MAX)
		return "more than 1024 keys";
	for (size_t i = 0; i < all->count; i++) {
		if (strcmp(all->of[i].name, k->name) == 0)
			return "the name of an earlier key";
		if (memcmp(all->of[i].hash, k->hash, KEY_HASH_BYTES) == 0)
			return "the hash of an earlier key";
	}
	return NULL;
}

static int read_keys(const char *path, char *text, struct keys *out, struct buf *err)
{
	unsigned number = 0, problems = 0;
	for (char *line = text, *next; line; line = next) {
		struct key k;
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		number++;
		line[strcspn(line, "#")] = '\0';
		const char *problem = read_line(line, &k);
		if (!problem && !k.name[0])
			continue;
		if (!problem)
			problem = fits(out, &k);
		if (problem && ++problems <= PROBLEMS_TOLD)
			buf_printf(err, "%s:%u: %s\n", path, number, problem);
		else if (!problem)
			out->of[out->count++] = k;
		if (out->count == KEYS_MAX && problem)
			break;
	}
	return problems ? -EINVAL : 0;
}

/* All of a file that nobody but its owner and group may write. */
static int read_text(const char *path, struct buf *text, struct buf *err)
{
	char block[4096];
	struct stat st;
	ssize_t n = -1;
	int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st)) {
		rc = -errno;
		buf_printf(err, "%s: cannot be read: %s\n", path, strerror(-rc));
	} else if (!S_ISREG(st.st_mode) || st.st_mode & S_IWOTH) {
		rc = -EINVAL;
		buf_printf(err, "%s: %s\n", path,
			S_ISREG(st.st_mode) ? "must not be writable by everybody (chmod o-w)"
					    : "is no regular file");
	}
	while (rc == 0 && (n = read(fd, block, sizeof(block))) > 0)
		rc = buf_add(text, block, (size_t)n);
	if (rc == 0 && n < 0)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	if (rc && !err->n)
		buf_printf(
			err, "%s: %s\n", path, rc == -E2BIG ? "larger than 1 MiB" : strerror(-rc));
	return rc;
}

int keys_load(const char *path, struct keys *out, struct buf *err)
{
	struct buf text, problems;
	*out = (struct keys){0};
	buf_init(&text, KEYS_FILE_BYTES + 1); /* and a NUL */
	buf_init(&problems, 0);
	int rc = read_text(path, &text, &problems);
	buf_add_char(&text, '\0');
	if (rc == 0)
		rc = buf_error(&text);
	if (rc == -E2BIG && !problems.n)
		buf_printf(&problems, "%s: larger than 1 MiB\n", path);
	if (rc == 0 && !(out->of = calloc(KEYS_MAX, sizeof(*out->of))))
		rc = -ENOMEM;
	if (rc == 0)
		rc = read_keys(path, text.p, out, &problems);
	buf_add_slice(err, buf_slice(&problems));
	buf_free(&problems);
	buf_free(&text);
	if (rc)
		keys_free(out);
	return rc;
}

void keys_free(struct keys *k)
{
	free(k->of);
	*k = (struct keys){0};
}

/* --- one key --- */

static bool hash_of(struct slice text, unsigned char hash[KEY_HASH_BYTES])
{
	return gnutls_hash_fast(GNUTLS_DIG_SHA256, text.p, text.n, hash) == 0;
}

const struct key *keys_find(const struct keys *k, struct slice text)
{
	unsigned char hash[KEY_HASH_BYTES];
	const struct key *found = NULL;
	if (text.n == 0 || text.n > KEY_BYTES_MAX || !hash_of(text, hash))
		return NULL;
	for (size_t i = 0; i < k->count; i++)
		if (gnutls_memcmp(k->of[i].hash, hash, sizeof(hash)) == 0)
			found = &k->of[i];
	return found;
}

static char *put_hex(char *to, const unsigned char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++, to += 2)
		snprintf(to, 3, "%02x", bytes[i]);
	return to;
}

int key_make(const char *name, char text[KEY_TEXT_BYTES], char line[KEY_LINE_BYTES])
{
	unsigned char random[RANDOM_BYTES], hash[KEY_HASH_BYTES];
	if (gnutls_rnd(GNUTLS_RND_KEY, random, sizeof(random)))
		return -EIO;
	put_hex(text + snprintf(text, KEY_TEXT_BYTES, "sk-tandem-"), random, sizeof(random));
	explicit_bzero(random, sizeof(random));
	if (!hash_of(slice_str(text), hash))
		return -EIO;
	put_hex(line + snprintf(line, KEY_LINE_BYTES, "%.31s " HASH_WORD, name), hash,
		sizeof(hash));
	return 0;
}
