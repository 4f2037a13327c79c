/*
 * Retries: a chat request that equals one under way gets its answer instead of a run of its own.
 *
 * Clients that give up waiting ask again and often leave the first request open (Cline's time-out
 * bounds the headers alone), and a backend with one slot would then write the same answer several
 * times over. A request JOINS an open one, its lead, when address, target, the headers that matter
 * and every byte of the body are equal, the lead is at least limits.coalesce_after_ms old, and no
 * byte of its answer has gone out. Sooner it is no retry but a second sample.
 *
 * The lead does all the work; the joined ones have an exchange, an id, headers and heartbeats of
 * their own. The slowest member decides the worker's credit. When the lead's client leaves, the
 * first joined one's exchange takes its place: a lead always has a client. The lead's end is the
 * end of all.
 */
#ifndef TANDEM_COALESCE_H
#define TANDEM_COALESCE_H

#include "supervisor/requests/chat.h"

#define COALESCE_MAX 4 /* requests that may join one */

void coalesce_init(struct chat *c);

/* Its body is complete. True: it is JOINED and needs nothing more. False: others may join it. */
bool coalesce_join(struct chat *c);

/* Copies what a joined request says of its answer from the lead, so that heartbeats, headers and
 * errors are made for it as for any other. Nothing for one that has no lead. */
void coalesce_mirror(struct chat *c);

/* What a lead does, for those that joined it; without them nothing. */
void coalesce_head(struct chat *c, int status, const char *content_type, int64_t body_bytes);
void coalesce_error(struct chat *c, int status, struct slice message, struct slice body,
	struct slice content_type, int retry_after_s);
void coalesce_end(struct chat *c);

/* Answer bytes for c and those that joined it; as exchange_write() for c alone. A joined one that
 * cannot take them gets a broken stream. */
int coalesce_write(struct chat *c, struct slice bytes);
/* The socket of c's client took n bytes: credit for the worker, as far as all have taken theirs. */
void coalesce_sent(struct chat *c, size_t n);

/* The answer's job is a new one, with a whole window of credit. */
void coalesce_submitted(struct chat *c);
/* Bytes that the slowest of them has not taken yet. */
size_t coalesce_backlog(const struct chat *c);

/* c's client has left. True: another one's exchange has taken its place and c goes on. */
bool coalesce_hand_over(struct chat *c);
/* c is over: nobody can join it, it has no lead, and who still waits for it gets a broken stream.
 */
void coalesce_leave(struct chat *c);

/* Are these header values, NULL when absent, the same? */
bool coalesce_same_value(const char *a, const char *b);

#endif
