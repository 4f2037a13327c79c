#include "supervisor/requests/compact_signature.h"

#include "common/base/hash.h"
#include "common/base/hex.h"
#include "common/base/sip.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

void compact_secret_path(const char *state_dir, char out[COMPACT_PATH_BYTES])
{
	snprintf(out, COMPACT_PATH_BYTES, "%s/" COMPACT_KEY_FILE, state_dir);
}

bool compact_secret_read(const char *path, struct compact_secret *out)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, out, sizeof(*out));
	close(fd);
	return n == (ssize_t)sizeof(*out);
}

static uint64_t hash(const uint64_t key[2], const void *p, size_t n)
{
	struct sip sip;
	sip_init(&sip, key);
	sip_add(&sip, p, n);
	return sip_end(&sip);
}

static void write_signature(uint64_t of_content, uint64_t tag, char out[COMPACT_SIGNATURE_BYTES])
{
	snprintf(out, COMPACT_SIGNATURE_BYTES, "%016" PRIx64 "%016" PRIx64, of_content, tag);
}

void compact_sign(
	const struct compact_secret *s, struct slice content, char out[COMPACT_SIGNATURE_BYTES])
{
	uint64_t of_content = hash(s->content, content.p, content.n);
	write_signature(of_content, hash(s->tag, &of_content, sizeof(of_content)), out);
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
	const struct compact_secret *s, struct slice content, struct slice signature)
{
	char want[COMPACT_SIGNATURE_BYTES];
	uint64_t said;
	if (!read_half(signature, &said))
		return COMPACT_FOREIGN;
	write_signature(said, hash(s->tag, &said, sizeof(said)), want);
	if (!slice_eq(signature, slice_str(want)))
		return COMPACT_FOREIGN;
	return hash(s->content, content.p, content.n) == said ? COMPACT_OURS : COMPACT_ALTERED;
}

uint64_t compact_name(struct slice signature)
{
	return hash_bytes(signature.p, signature.n) | 1;
}
