/*
 * Signatures of compaction blocks: only what this gateway has written is taken for a conversation, since
 * its roles, calls and results are believed.
 *
 * The key stands in state_dir and lasts over restarts, where that folder does. A signature is 32 hex digits:
 * SipHash of the content under one half of the key, and SipHash of that under the other; so a text that was
 * altered can be told from a signature of somebody else's.
 */
#ifndef TANDEM_COMPACT_KEY_H
#define TANDEM_COMPACT_KEY_H

#include "common/base/buf.h"

#include <stdint.h>

#define COMPACT_KEY_FILE "compaction.key" /* in state_dir; rundir_names.c knows it */
#define COMPACT_SIGNATURE_BYTES 33	  /* NUL included */

#define COMPACT_PATH_BYTES 1152 /* state_dir has at most 1,024 */

struct compact_secret {
	uint64_t content[2], tag[2];
};

struct compact_key {
	struct compact_secret secret;
	bool kept; /* it stands in the file, or is on its way there */
	char path[COMPACT_PATH_BYTES];
};

/* Reads the key, or makes one, which is not written before it has signed something. Blocks on the disk. */
void compact_key_open(struct compact_key *k, const char *state_dir);

/* Takes the key that an older tandemd has made since. Before the first request; blocks on the disk. */
void compact_key_look(struct compact_key *k);

/* True once, where the key is to be written: by compact_key_write(), on any thread, which blocks on the disk. Where
 * that fails the key is this process's alone, and the log says so. */
bool compact_key_claim(struct compact_key *k);
void compact_key_write(const struct compact_key *k);

void compact_sign(
	const struct compact_key *k, struct slice content, char out[COMPACT_SIGNATURE_BYTES]);

enum compact_verdict {
	COMPACT_OURS,
	COMPACT_FOREIGN, /* not our signature */
	COMPACT_ALTERED, /* our signature, of another text */
};
enum compact_verdict compact_verify(
	const struct compact_key *k, struct slice content, struct slice signature);

#endif
