/*
 * Signatures of compaction blocks: only what this gateway has written is taken for a conversation, since
 * its roles, calls and results are believed.
 *
 * A signature is 32 hex digits: SipHash of the content under one half of the key, and SipHash of that under the
 * other; so a text that was altered can be told from a signature of somebody else's. Pure, but for the file.
 */
#ifndef TANDEM_COMPACT_SIGNATURE_H
#define TANDEM_COMPACT_SIGNATURE_H

#include "common/base/buf.h"

#include <stdint.h>

#define COMPACT_KEY_FILE "compaction.key" /* in state_dir; rundir_names.c knows it */
#define COMPACT_PATH_BYTES 1152		  /* state_dir has at most 1,024 */
#define COMPACT_SIGNATURE_BYTES 33	  /* NUL included */

struct compact_secret {
	uint64_t content[2], tag[2];
};

/* The file of a state_dir. */
void compact_secret_path(const char *state_dir, char out[COMPACT_PATH_BYTES]);
/* The whole of it, of a file that is no link; else false. Blocks on the disk. */
bool compact_secret_read(const char *path, struct compact_secret *out);

void compact_sign(
	const struct compact_secret *s, struct slice content, char out[COMPACT_SIGNATURE_BYTES]);

enum compact_verdict {
	COMPACT_OURS,
	COMPACT_FOREIGN, /* not our signature */
	COMPACT_ALTERED, /* our signature, of another text */
};
enum compact_verdict compact_verify(
	const struct compact_secret *s, struct slice content, struct slice signature);

/* What a block that is ours is known by; never 0. */
uint64_t compact_name(struct slice signature);

#endif
