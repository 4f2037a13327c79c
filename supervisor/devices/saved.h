/*
 * The conversations of a device that wait in files, which its backend can put into a slot again
 * (workers/backend/slots.h): what the supervisor knows of them, to predict and to choose.
 *
 * A conversation is known by the chain of what was last sent of it (prefix.h) and by a number, which
 * names its file. It is worth restoring where reading the file back and then the rest of the prompt
 * is clearly sooner than reading the prompt: bytes by the rate measured against tokens by the rates
 * learned. Most of what is here belongs to files; one may also be `loaded`: in a slot since the
 * backend's start, and not proved by an answer yet.
 *
 * Pure; owns the chains. Caps: SAVED_MAX conversations, PREFIX_LINKS_MAX links together; the oldest
 * are forgotten first (their files stay, and are of no use for requests).
 */
#ifndef TANDEM_SAVED_H
#define TANDEM_SAVED_H

#include "supervisor/devices/prefix.h"

#include <stdbool.h>

#define SAVED_MAX 256
#define SAVED_START_RATE 300000.0 /* bytes/ms read back, before the first measurement */
#define SAVED_GAIN                                                                                 \
	0.8 /* restoring and reading the rest must take at most this share of reading all */

struct saved_chat {
	uint64_t id;
	struct prefix_chain chain; /* in the backend's tokens; empty: unknown */
	double tokens, bytes;	   /* of the file */
	bool there, loaded;
	uint64_t sent; /* of a loaded one: what the device's map calls it (prefix_sent()) */
	/* Restored at a start that is not over: its number among the restores (0: it was not), and the worker's generation. */
	uint64_t ready, ready_of;
};

struct saved {
	struct saved_chat *of; /* the newest first */
	size_t count, links;
	double bytes_per_ms; /* 0: not measured */
	bool off;
	uint64_t saves, restores, wrong; /* counted since the device was created */
};

/* Zero-initialise. */
void saved_fini(struct saved *s);

/* NULL: unknown. */
struct saved_chat *saved_get(struct saved *s, uint64_t id);
/* It is the newest from now on. Takes the chain's links. NULL: memory is out. */
struct saved_chat *saved_put(struct saved *s, uint64_t id, struct prefix_chain *chain);
/* A list of the files begins: none is there until it is named. */
void saved_list(struct saved *s);
/* The backend's slots are empty. */
void saved_unload(struct saved *s);
void saved_restored(struct saved *s, double bytes, double ms);

/* The one that begins most of the prompt, and with how many of its `total` tokens; NULL: none. */
const struct saved_chat *saved_find(
	const struct saved *s, const struct prefix_chain *c, double total, double *tokens);
/* The conversation whose whole chain begins the prompt; 0: none. */
uint64_t saved_conversation(const struct saved *s, const struct prefix_chain *c);
double saved_restore_ms(const struct saved *s, double bytes);
/* Files that are there, and their bytes. */
size_t saved_there(const struct saved *s, double *bytes);

#endif
