/*
 * What chat_early.c and chat_freeze.c share: the beginning of the next request, which is read while nobody waits.
 *
 * Loop thread only, but for chat_next_follow(), which touches what it is given and the answer alone; nothing blocks.
 */
#ifndef TANDEM_CHAT_NEXT_H
#define TANDEM_CHAT_NEXT_H

#include "common/dialect/request.h"
#include "supervisor/requests/warming.h"

struct chat;

/* Puts the answer behind the body of r: what is read early then ends where the next request has
 * something new. False: the body is as it was. */
bool chat_next_follow(const struct chat *c, const struct chat_request *r, struct buf *body);
/* Of the answer; nothing: it is not there. */
struct token_census chat_next_census(const struct chat *c);
/* ... as it is likely to count. */
uint64_t chat_next_tokens(const struct chat *c);
/* How it is read: for whom, and why (static). Borrows auth. */
struct warming_spec chat_next_spec(const struct chat *c, const char *why, const struct buf *auth);

#endif
