/*
 * The front doors of this tandemd: the one that accepts (supervisor.front), and those that were
 * shut when a successor took over that then died, whose connections are still served.
 */
#ifndef TANDEM_DOORS_H
#define TANDEM_DOORS_H

#include "common/base/buf.h"

struct supervisor;

/* Take-backs in one life: each leaves a door behind. */
#define DOORS_SHUT_MAX 8

/* Shuts the one that accepted, for good, and opens another one on the socket, which is the front's
 * from then on, also on failure. 0, -EMFILE, or another -errno with words in err. */
int doors_again(struct supervisor *s, int listen_fd, struct buf *err);
/* Of all doors. */
void doors_counts(const struct supervisor *s, unsigned *connections, unsigned *exchanges);
/* As front_quiesce() and front_close_idle(). */
void doors_quiesce(struct supervisor *s);
void doors_close_idle(struct supervisor *s, unsigned idle_ms);
/* As front_stop(). */
void doors_stop(struct supervisor *s);

#endif
