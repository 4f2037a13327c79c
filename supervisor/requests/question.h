/*
 * The frame of a request that asks who stands above the requests (requests_events.scrape, .page): a body is thrown away; at
 * its end the request is handed out, and held until it is answered, which may be later, also when its client has left.
 *
 * A kind puts struct question first and names these operations in its request_ops, or calls them from its own. Loop thread
 * only; nothing blocks.
 */
#ifndef TANDEM_QUESTION_H
#define TANDEM_QUESTION_H

#include "supervisor/requests/request.h"

#define QUESTION_TEXT "text/plain; charset=utf-8"

struct question {
	struct request base;
	bool over; /* it is answered, or nobody waits for that */
};

/* --- operations --- */

size_t question_body(struct request *r, const char *p, size_t n);
void question_sent(struct request *r, size_t n);
void question_gone(struct request *r);
void question_cancel(struct request *r);

/* --- its life --- */

/* Its body is over: to whom it is handed out, once. */
void question_ask(struct request *r, void (*who)(void *ctx, struct request *r));
/* Its client still waits. */
bool question_wanted(const struct request *r);
/* It is answered: who answers lets go of it. */
void question_over(struct request *r);

/* In the place of one, or of its answer. */
void question_out_of_memory(struct exchange *x);

#endif
