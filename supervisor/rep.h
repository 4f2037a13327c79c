/*
 * A REP socket at an ipc path that nng's REQ sockets can ask: each request is answered by a
 * function, in order, one answer under way for each peer.
 *
 * The wire form is spoken here, on a libuv pipe, and not by nng: nng 1.5's listener accepts nobody
 * any more after a peer that left in the middle of the handshake (nng #1518), and who asks for a
 * status may be interrupted at any time. A peer that breaks the form is disconnected.
 *
 * Formats: github.com/nanomsg/nanomsg/tree/master/rfc, sp-ipc-mapping-01 (a hello of 8 bytes, then
 * messages of type 1, length in 8 bytes, bytes) and sp-request-reply-01 (before the body stand
 * request ids of 4 bytes, the last one with its highest bit set; a reply repeats them).
 */
#ifndef TANDEM_REP_H
#define TANDEM_REP_H

#include "common/buf.h"

#include <uv.h>

#define REP_REQUEST_BYTES 4096 /* longest request, its ids included */
#define REP_PEERS_MAX 64       /* more wait */

struct rep;

/* Appends the answer. Borrowed until return. */
typedef void rep_answer_fn(void *ctx, struct slice request, struct buf *out);

/* Listens on path, which must not exist. 0 or -errno. */
int rep_start(
	uv_loop_t *loop, const char *path, rep_answer_fn *answer, void *ctx, struct rep **out);
/* Disconnects everybody and removes the path; *r is freed once the loop has let go of its handles.
 */
void rep_stop(struct rep *r);

#endif
