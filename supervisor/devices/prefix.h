/*
 * What a device's backend has in its prefix caches, as far as we know: for routing by predicted
 * time.
 *
 * A prompt is a chain of links, one for what stands before the messages (model, tools) and one for
 * each message: a hash of all up to there, and the link's tokens. A map remembers the chains that
 * were sent last. What a new prompt shares with one of them from the front is probably cached; how
 * probably is learned from what the backend reports, apart for the chain sent last, for those in
 * other slots, and for those that more prompts came after than there are slots (a backend that
 * keeps evicted prompts in memory still has them; others do not).
 *
 * Pure; belongs to one thread (prefix_add() on any, each chain by itself). Caps: a chain has at
 * most CHAT_MAX_MESSAGES + 1 links, a map slots + PREFIX_EXTRA_CHAINS chains and PREFIX_LINKS_MAX
 * links (the oldest chains go first). Tokens are estimates until the backend has counted a prompt;
 * then its chain is scaled.
 */
#ifndef TANDEM_PREFIX_H
#define TANDEM_PREFIX_H

#include "common/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define PREFIX_LINKS_MAX 262144 /* of a map: 4 MB */
#define PREFIX_EXTRA_CHAINS 8
#define PREFIX_LESSON_TOKENS 256 /* less of a match teaches nothing */

struct prefix_link {
	uint64_t hash; /* of everything up to here */
	double tokens; /* up to here */
};

struct prefix_chain {
	struct prefix_link *links;
	size_t count, room;
};

/* Zero-initialise a chain; then a link for each part, in order. 0 or -ENOMEM. */
int prefix_add(struct prefix_chain *c, struct slice bytes, double tokens);
double prefix_tokens(const struct prefix_chain *c);
/* The links were weighed by something else than tokens: now they are so many, in proportion. */
void prefix_scale(struct prefix_chain *c, double tokens);
void prefix_chain_fini(struct prefix_chain *c);
/* *to is empty before. 0 or -ENOMEM. */
int prefix_chain_copy(const struct prefix_chain *from, struct prefix_chain *to);
/* Links that both begin with. */
size_t prefix_common(const struct prefix_chain *a, const struct prefix_chain *b);

enum prefix_age {
	PREFIX_LAST,	/* the chain sent last */
	PREFIX_SLOTS,	/* others that the slots have room for */
	PREFIX_EVICTED, /* older ones */
	PREFIX_AGES
};

struct prefix_map;

/* What is known of a prompt before it is sent. Tokens. */
struct prefix_match {
	double cached;	/* probably not processed again */
	double fresh;	/* the rest: at least 1 */
	double counted; /* of both: a whole prompt and its answer, as the backend counted them; 0:
			   there is none that it begins with */
	double shared[PREFIX_AGES]; /* with the best chain of each age */
	double moved; /* to and from the backend's memory, if the best one is older than its slots */
};

struct prefix_map *prefix_map_create(unsigned slots); /* NULL: memory is out */
void prefix_map_destroy(struct prefix_map *m);
/* The backend has so many slots from now on. Returns the map, which may have moved; without memory it is as before. */
struct prefix_map *prefix_map_resize(struct prefix_map *m, unsigned slots);
/*
 * The backend has one slot, and puts what that holds aside for a prompt of which it has less than this share
 * (common/backends.h: backend_similarity()); 0: nobody knows. Then older chains are expected to come
 * back, until the backend's counts say otherwise, but for prompts that are more alike.
 */
void prefix_puts_aside(struct prefix_map *m, double similarity);
/* Is a prompt of which the slot has so many tokens one for which it is put aside? */
bool prefix_leaves(const struct prefix_map *m, double shared, double tokens);

struct prefix_match prefix_find(const struct prefix_map *m, const struct prefix_chain *c);

/*
 * The chain is being sent: it is the newest from now on. Takes the links (*c is empty afterwards);
 * when memory is out, or for an empty chain, nothing is remembered. Returns an id for the calls
 * below; 0: none.
 */
uint64_t prefix_sent(struct prefix_map *m, struct prefix_chain *c);

/* The backend has counted: `prompt` tokens in all, of which `cached` were not processed (< 0:
 * unknown); then it wrote `output`. match is what prefix_find() said before it was sent. */
void prefix_counted(struct prefix_map *m, uint64_t id, const struct prefix_match *match,
	double prompt, double cached, double output);
/* It ended early: of the chain, at most the first `tokens` are there. */
void prefix_cut(struct prefix_map *m, uint64_t id, double tokens);
/* The backend's caches are gone (it was restarted, another model was loaded). */
void prefix_forget(struct prefix_map *m);

/* A chain's conversation has this name, until another chain goes on with it. */
void prefix_name(struct prefix_map *m, uint64_t id, uint64_t conversation);
/* The name of the longest chain that is whole in this one; 0: none has one. */
uint64_t prefix_conversation(const struct prefix_map *m, const struct prefix_chain *c);
/* The newest chain of that name, in the backend's tokens. 0, -ENOENT or -ENOMEM. */
int prefix_copy(const struct prefix_map *m, uint64_t conversation, struct prefix_chain *out);

/* What is probably left of the chain that prefix_sent() gave this id, its answer included: tokens, and
 * its age. 0: nothing is known of it any more. */
double prefix_held(const struct prefix_map *m, uint64_t id, enum prefix_age *age);

/* Is it the last one of its slot: have fewer others been sent since than there are slots? */
bool prefix_in_slots(const struct prefix_map *m, uint64_t id);

/* The last lesson of that age: the share that was cached; < 0: there was none. */
double prefix_lesson(const struct prefix_map *m, enum prefix_age age);
/* How much of what should be cached is, 0 to 1, and how often that was seen. */
double prefix_trust(const struct prefix_map *m, enum prefix_age age, unsigned *lessons);

#endif
