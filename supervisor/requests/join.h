/*
 * Retries: a chat request that equals one under way gets its answer instead of a run of its own.
 *
 * Clients that give up waiting ask again and often leave the first request open (Cline's time-out
 * bounds the headers alone), and a backend with one slot would then write the same answer several
 * times over. A request JOINS an open one, its lead, when address, target, the headers that matter
 * and every byte of the body are equal, the lead is at least limits.coalesce_after_ms old, and no
 * byte of its answer has gone out. Sooner it is no retry but a second sample. What they then have
 * in common is audience.h's.
 */
#ifndef TANDEM_JOIN_H
#define TANDEM_JOIN_H

#include "supervisor/requests/chat.h"

#define JOIN_MAX 4 /* requests that may join one */

/* Its body is complete. True: it is JOINED and needs nothing more. False: others may join it. */
bool join_try(struct chat *c);

/* Are these header values, NULL when absent, the same? */
bool join_same_value(const char *a, const char *b);

#endif
