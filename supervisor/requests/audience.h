/*
 * Who gets an answer: a lead, which does all the work, and the requests that joined it (join.h), which have an exchange,
 * an id, headers and heartbeats of their own. The slowest member decides the worker's credit. When the lead's client
 * leaves, the first joined one's exchange takes its place: a lead always has a client. The lead's end is the end of all
 * (chat_reply.c, which tells them).
 */
#ifndef TANDEM_AUDIENCE_H
#define TANDEM_AUDIENCE_H

#include "supervisor/requests/chat.h"

void audience_init(struct chat *c);

/* Copies what a joined request says of its answer from the lead, so that heartbeats, headers and
 * errors are made for it as for any other. Nothing for one that has no lead. */
void audience_mirror(struct chat *c);

/* The socket of c's client took n bytes: credit for the worker, as far as all have taken theirs. */
void audience_sent(struct chat *c, size_t n);
/* The answer's job is a new one, with a whole window of credit. */
void audience_submitted(struct chat *c);
/* Bytes that the slowest of them has not taken yet. */
size_t audience_backlog(const struct chat *c);

/* The exchange of heir, which has joined c, and what belongs to it, change places with c's; who else has joined c has joined
 * the one that heir was. */
void audience_give_place(struct chat *c, struct chat *heir);
/* c is over: nobody can join it, and it has no lead. Those that joined it are its caller's to end. */
void audience_leave(struct chat *c);

#endif
