/*
 * The conversations that clients lead, as far as the guardian of the prefix knows them: what was sent
 * last of each (guard.h), and what became of it.
 *
 * At most limits.conversations, each with at most limits.conversation_bytes of hashes and tools; what was
 * not gone on with longest goes first. What is too large is known by its messages alone, or not at
 * all. Nothing outlives the process: what is forgotten is a new conversation. Pure, but for memory; the
 * loop's thread only; looking one up is linear in the conversations, and in the messages of some.
 */
#ifndef TANDEM_GUARDIAN_H
#define TANDEM_GUARDIAN_H

#include "common/guard/guard.h"
#include "common/layout/layout.h"

#include <sys/queue.h>

#define GUARDIAN_TEXT_BYTES 64
/* Messages of a client's conversations, newest first, that are looked through for one whose beginning
 * has changed. */
#define GUARDIAN_LOOKS 32768

struct conversation {
	TAILQ_ENTRY(conversation) link; /* newest first */
	uint64_t id;
	uint64_t client, model;		 /* hashes */
	char agent[GUARDIAN_TEXT_BYTES]; /* what the client calls itself; "" */
	char host[GUARDIAN_TEXT_BYTES];
	char model_name[GUARDIAN_TEXT_BYTES];
	uint64_t last_ms;
	uint64_t turns;
	struct guard_prompt prompt; /* as it was sent last */
	uint64_t block;		    /* of a compaction, that it begins with (chat.h); 0: none */
	struct buf tools;	    /* the array that was sent with it */

	/* Of breaks. */
	uint64_t breaks, repairs, lost_tokens;
	struct guard_change last; /* valid when either is above 0 */
	bool last_repaired;

	/* Of the last answer; device "": there was none yet. */
	char device[GUARDIAN_TEXT_BYTES];
	unsigned device_number;
	uint64_t chain;			/* in the device's map of prefixes (prefix.h) */
	int64_t tokens, cached, output; /* < 0: unknown */
	double level[LAYOUT_LEVELS];	/* tokens of the prompt by layout level */
};

TAILQ_HEAD(conversation_list, conversation);

struct guardian_counts {
	uint64_t seen[GUARD_KINDS];	/* requests by what they were; GUARD_FIRST_BREAK: broken */
	uint64_t broken[GUARD_KINDS];	/* changes by kind: left as they were, */
	uint64_t repaired[GUARD_KINDS]; /* ... mended */
	uint64_t lost_tokens, lost_ms, saved_tokens; /* estimates */
};

struct guardian {
	struct conversation_list list;
	size_t count, most, bytes_most;
	uint64_t last_id;
	struct guardian_counts counts;
};

struct guardian *guardian_create(size_t most, size_t bytes_most); /* NULL when memory is out */
void guardian_destroy(struct guardian *g);			  /* NULL is fine */
/* Other bounds; what is above goes at once. */
void guardian_limit(struct guardian *g, size_t most, size_t bytes_most);

/* The conversation that this prompt goes on with, or one that it may have come from; NULL: none. */
struct conversation *guardian_find(
	struct guardian *g, uint64_t client, uint64_t model, const struct guard_prompt *p);
/* The same tools as they were sent last in any conversation of this client; empty: they were not. Valid
 * until something is remembered. */
struct slice guardian_tools(
	struct guardian *g, uint64_t client, uint64_t model, const struct guard_prompt *p);
struct conversation *guardian_by_id(struct guardian *g, uint64_t id);

/* May a conversation with this prompt be remembered? It may have to do without its lines for that. */
bool guardian_has_room(const struct guardian *g, struct guard_prompt *p);

/* A new one, in the place of the oldest where there is no room. NULL: none may be, or memory is
 * out. */
struct conversation *guardian_begin(struct guardian *g, uint64_t client, uint64_t model);

/* It was gone on with: the newest from now on. p (there is room for it; NULL: what is known stays) is
 * taken over, and empty afterwards; tools are copied, where they fit as well. */
void guardian_went_on(struct guardian *g, struct conversation *c, struct guard_prompt *p,
	struct slice tools, uint64_t now);

/* What it takes in memory. */
size_t conversation_bytes(const struct conversation *c);

#endif
