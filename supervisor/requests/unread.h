/*
 * Early freezes whose prompts are not read yet.
 *
 * Such a prompt is read in the gap before the next request (warming.h); where that gap was too short, the request
 * would wait for the rest. But what the conversation was sent before may still be there, put aside
 * by the backend (prefix_puts_aside()), and may still fit: then the freeze is put off once more, and
 * the next gap goes on reading where this one ended. Both prompts follow from the messages alone, so
 * nothing is lost either way.
 *
 * The newest UNREAD_MAX are remembered, in memory only; one that is forgotten counts as read. Pure; loop
 * thread only. Tokens are the backend's.
 */
#ifndef TANDEM_UNREAD_H
#define TANDEM_UNREAD_H

#include "supervisor/devices/foresight.h"
#include "supervisor/requests/plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNREAD_MAX 32

struct unread_freeze {
	uint64_t chain;	 /* the group end that it is made at; 0: none */
	unsigned device; /* that reads it, by its number */
	double tokens;	 /* of the frozen prompt */
	double cached;	 /* of these, there before it was read */
	double alike;	 /* of these, what it has in common with what was sent last */
	uint64_t before; /* what was sent last, as the device's map calls it (prefix_sent()) */
	double counted;	 /* its tokens */
	double original; /* those of the client's own prompt by then, as it was estimated */
	double window;	 /* of its layout, in start tokens: the freeze may come with a larger one */
};

struct unread {
	struct unread_freeze of[UNREAD_MAX];
	unsigned next;
};

/* The newest one, in the place of an older one of the same chain. */
void unread_put(struct unread *u, const struct unread_freeze *f);
/* It is read. */
void unread_done(struct unread *u, uint64_t chain);
/* The one that a conversation is waiting for, if any: the newest whose chain is among these. */
const struct unread_freeze *unread_find(
	const struct unread *u, const uint64_t *chains, size_t count);

struct unread_facts {
	const struct foresight *foresight; /* of its device */
	const struct plan_facts *plan;	   /* of the client's prompt now */
	double gain_ms;			   /* less is not worth putting it off */
};

/* Is what was sent before, with what is new, the sooner one by so much? */
bool unread_is_later(const struct unread_freeze *f, const struct unread_facts *now);

#endif
