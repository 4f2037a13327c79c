/*
 * `flush`: an answer that comes once everything that tandemd and its workers have logged so far has
 * been written. Lines are written once for each turn of a loop (log_loop.h), so who reads the log
 * right after an answer may come too early; who asks this first does not.
 *
 * Each worker is pinged: it writes its log, and reports its counters, before it answers. A worker
 * that ends has written its log, too. One that does not answer is waited for FLUSH_MS; the answer
 * says then that not all is written. Loop thread only; nothing blocks.
 */
#ifndef TANDEM_FLUSH_H
#define TANDEM_FLUSH_H

#include "supervisor/tell/rep.h"

#define FLUSH_MS 1000

struct devices;
struct flush;

struct flush *flush_create(uv_loop_t *loop, struct devices *devices); /* NULL when memory is out */
/* Answers with the member "flushed", now or later. At most one question for each peer. */
enum rep_when flush_ask(struct flush *f, struct rep_question *q, struct buf *out);
/* A worker has answered, or has ended. f may be NULL. */
void flush_look(struct flush *f);
/* Answers what was put off; frees f once the loop has let go. May be NULL. */
void flush_destroy(struct flush *f);

#endif
