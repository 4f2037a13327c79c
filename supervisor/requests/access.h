/*
 * Who may ask, and for what: decided when a request's head is in, before any of its body is.
 *
 *   401  keys are configured, and none of them was sent (Authorization: Bearer KEY, or X-Api-Key)
 *   403  it would change the backend's server, and access.changes does not allow that; or it shows a
 *        ticket to measure (bench.h) that is none. With a good one a chat needs no key
 *   429  its key has as many requests under way as it may (requests= of its line)
 *
 * Each in the form of its dialect. A key of ours is for us: the header that it stands in is not
 * handed on (access_hides()).
 */
#ifndef TANDEM_ACCESS_H
#define TANDEM_ACCESS_H

#include "supervisor/requests/route.h"

struct exchange;
struct keys;
struct requests;

/* Headers that a key of ours stands in; a bit set. */
enum access_header { ACCESS_AUTHORIZATION = 1, ACCESS_API_KEY = 2 };

struct access {
	const struct key *key; /* borrowed until the next reload; NULL: none was sent */
	unsigned own;	       /* enum access_header bits */
};

/* Whose request it is. */
struct access access_of(const struct exchange *x, const struct keys *keys);
bool access_hides(unsigned own, struct slice header);

/* True when the request was refused, and answered. */
bool access_gate(struct requests *s, struct exchange *x, const struct route *route);

#endif
