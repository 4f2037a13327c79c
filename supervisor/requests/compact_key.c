#include "supervisor/requests/compact_key.h"

#include "common/base/file.h"
#include "common/base/hex.h"
#include "common/base/log.h"
#include "common/base/sip.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include <uv.h>

/* --- the key --- */

/* The whole of it or nothing, of a file that is no link. */
static bool read_key(const char *path, struct compact_secret *secret)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, secret, sizeof(*secret));
	close(fd);
	return n == (ssize_t)sizeof(*secret);
}

void compact_key_open(struct compact_key *k, const char *state_dir)
{
	*k = (struct compact_key){0};
	snprintf(k->path, sizeof(k->path), "%s/" COMPACT_KEY_FILE, state_dir);
	k->kept = read_key(k->path, &k->secret);
	if (!k->kept && uv_random(NULL, NULL, &k->secret, sizeof(k->secret), 0, NULL))
		log_line(LOG_ERROR, "compaction_key", LOG_STR("why", "no random numbers"), LOG_END);
}

void compact_key_look(struct compact_key *k)
{
	struct compact_secret secret;
	if (k->kept || !read_key(k->path, &secret))
		return;
	k->secret = secret;
	k->kept = true;
}

bool compact_key_claim(struct compact_key *k)
{
	bool first = !k->kept;
	k->kept = true;
	return first;
}

void compact_key_write(const struct compact_key *k)
{
	int rc = file_replace(k->path, (struct slice){(const char *)&k->secret, sizeof(k->secret)});
	if (rc)
		log_line(LOG_WARN, "compaction_key", LOG_STR("file", k->path),
			LOG_STR("why", strerror(-rc)),
			LOG_STR("result", "compaction blocks will not outlast this process"),
			LOG_END);
}

/* --- signatures --- */

static uint64_t hash(const uint64_t key[2], const void *p, size_t n)
{
	struct sip s;
	sip_init(&s, key);
	sip_add(&s, p, n);
	return sip_end(&s);
}

static void write_signature(uint64_t of_content, uint64_t tag, char out[COMPACT_SIGNATURE_BYTES])
{
	snprintf(out, COMPACT_SIGNATURE_BYTES, "%016" PRIx64 "%016" PRIx64, of_content, tag);
}

void compact_sign(
	const struct compact_key *k, struct slice content, char out[COMPACT_SIGNATURE_BYTES])
{
	uint64_t of_content = hash(k->secret.content, content.p, content.n);
	write_signature(of_content, hash(k->secret.tag, &of_content, sizeof(of_content)), out);
}

/* Of the first half. False: it has no form of ours. */
static bool read_half(struct slice signature, uint64_t *out)
{
	*out = 0;
	if (signature.n != COMPACT_SIGNATURE_BYTES - 1)
		return false;
	for (size_t i = 0; i < 16; i++) {
		int digit = hex_digit(signature.p[i]);
		if (digit < 0)
			return false;
		*out = *out << 4 | (uint64_t)digit;
	}
	return true;
}

enum compact_verdict compact_verify(
	const struct compact_key *k, struct slice content, struct slice signature)
{
	char want[COMPACT_SIGNATURE_BYTES];
	uint64_t said;
	if (!read_half(signature, &said))
		return COMPACT_FOREIGN;
	write_signature(said, hash(k->secret.tag, &said, sizeof(said)), want);
	if (!slice_eq(signature, slice_str(want)))
		return COMPACT_FOREIGN;
	return hash(k->secret.content, content.p, content.n) == said ? COMPACT_OURS
								     : COMPACT_ALTERED;
}
