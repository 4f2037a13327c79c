/*
 * The front doors of this tandemd: the one that accepts (life.front), the one that has /metrics alone (life.metrics) where
 * the configuration wants it apart, and those that were shut when a successor took over that then died, whose
 * connections are still served.
 */
#ifndef TANDEM_DOORS_H
#define TANDEM_DOORS_H

#include "common/base/buf.h"
#include "common/config/config.h"

struct life;

/* Take-backs in one life: each leaves its doors behind. */
#define DOORS_TAKEN_BACK_MAX 8
#define DOORS_SHUT_MAX (2 * DOORS_TAKEN_BACK_MAX)

/* A predecessor's socket at metrics.address (ours from then on), or -1: doors_open() uses it where it is the one that the
 * configuration says. */
void doors_take_metrics(struct life *l, int fd);
/* Opens one on an already listening socket (ours from then on), or with -1 on a new one; and that of
 * /metrics. 0 or -errno with words in err. */
int doors_open(struct life *l, int listen_fd, struct buf *err);
/* Shuts the one that accepted, for good, and opens another one on the socket, which is the front's
 * from then on, also on failure. 0, -EMFILE, or another -errno with words in err. */
int doors_again(struct life *l, int listen_fd, struct buf *err);
/* May the doors that are open be, under this configuration? A socket that was given may listen elsewhere
 * than listen.address says. False: words in err. */
bool doors_may_stay(const struct life *l, const struct config *c, struct buf *err);
/* Of all doors. */
void doors_counts(const struct life *l, unsigned *connections, unsigned *exchanges);
/* As front_quiesce() and front_close_idle(). */
void doors_quiesce(struct life *l);
void doors_close_idle(struct life *l, unsigned idle_ms);
/* Nothing is taken back any more: a socket on which nobody accepts is closed. */
void doors_let_go(struct life *l);
/* As front_stop(). */
void doors_stop(struct life *l);

#endif
