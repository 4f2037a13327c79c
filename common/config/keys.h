/*
 * The keys that clients must have: a file with a line for each, that holds its name and a hash of it.
 *
 *   NAME sha256:HEX [requests=N] [class=interactive|agent|idle]
 *
 * Empty lines and what stands behind a "#" count for nothing. The hash is SHA-256 (FIPS 180-4) of the key's
 * bytes, plain: a key is made of 256 random bits, which no table and no guessing finds, so a slow or
 * salted hash would only cost time with each request. What people think of themselves is no key.
 *
 * keys_find() takes as long for a key that is nearly right as for any other. Keys and hashes are
 * never logged. keys_load() blocks for the disk; the rest does not.
 */
#ifndef TANDEM_KEYS_H
#define TANDEM_KEYS_H

#include "common/base/buf.h"

#include <stdint.h>

#define KEY_NAME_BYTES 32 /* as of a device: [a-z0-9_-]+, NUL included */
#define KEY_CLASS_BYTES 16
#define KEY_HASH_BYTES 32
#define KEY_BYTES_MAX 512 /* of a key; longer ones are no key */
#define KEY_REQUESTS_MAX 100000
#define KEYS_MAX 1024 /* of one file */
#define KEYS_FILE_BYTES (1 << 20)

struct key {
	char name[KEY_NAME_BYTES];
	unsigned char hash[KEY_HASH_BYTES];
	unsigned requests;	     /* under way at once; 0: no bound of its own */
	char class[KEY_CLASS_BYTES]; /* in place of X-Tandem-Class; empty: what the client says */
};

struct keys {
	size_t count;
	struct key *of;
};

/* Reads a file of keys. 0, or -EINVAL, -ENOMEM or -errno with a line "FILE[:LINE]: what is wrong\n"
 * for each problem in err; *out is empty then. keys_free() frees what it holds. */
int keys_load(const char *path, struct keys *out, struct buf *err);
void keys_free(struct keys *k);

/* The one that a client has sent, or NULL. */
const struct key *keys_find(const struct keys *k, struct slice text);

/* A new key: "sk-tandem-" and 256 random bits in hexadecimal, NUL-terminated; and its line for the file,
 * without options and line feed. 0 or -EIO. */
#define KEY_TEXT_BYTES 75
#define KEY_LINE_BYTES (KEY_NAME_BYTES + 72)
int key_make(const char *name, char text[KEY_TEXT_BYTES], char line[KEY_LINE_BYTES]);

/* What is wrong with a name, with a class ("must be ..."), or NULL. */
const char *key_check_name(const char *name);
const char *key_check_class(const char *class);

#endif
