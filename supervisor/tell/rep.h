/*
 * A REP socket at an ipc path that nng's REQ sockets can ask (sp.h says why not nng's own): each
 * request is answered by a function, in order, one answer under way for each peer. A peer that
 * reads slowly waits for itself alone.
 *
 * sp-request-reply-01: before the body stand request ids of 4 bytes, the last one with its highest
 * bit set; a reply repeats them.
 */
#ifndef TANDEM_REP_H
#define TANDEM_REP_H

#include "supervisor/tell/sp.h"

#define REP_REQUEST_BYTES SP_MESSAGE_BYTES /* longest request, its ids included */

struct rep;
struct rep_question; /* one request that is not answered yet */

enum rep_when {
	REP_NOW,   /* the answer is in out */
	REP_LATER, /* rep_reply() brings it, exactly once */
};

/* Appends the answer, or keeps q for later. request is borrowed until return. */
typedef enum rep_when rep_answer_fn(
	void *ctx, struct rep_question *q, struct slice request, struct buf *out);

/* Listens on path, which must not exist. 0 or -errno. */
int rep_start(
	uv_loop_t *loop, const char *path, rep_answer_fn *answer, void *ctx, struct rep **out);
/* Answers a request that was put off, also after rep_stop(). */
void rep_reply(struct rep_question *q, struct slice answer);
/* Disconnects everybody and removes the path; *r is freed once the loop has let go of its handles
 * and what was put off is answered. */
void rep_stop(struct rep *r);

#endif
