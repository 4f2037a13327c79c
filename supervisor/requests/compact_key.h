/*
 * The key that compaction blocks are signed with (compact_signature.h). It stands in state_dir and lasts over
 * restarts, where that folder does.
 */
#ifndef TANDEM_COMPACT_KEY_H
#define TANDEM_COMPACT_KEY_H

#include "supervisor/requests/compact_signature.h"

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

#endif
