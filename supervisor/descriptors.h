/* Enough file descriptors, before anything is started. */
#ifndef TANDEM_DESCRIPTORS_H
#define TANDEM_DESCRIPTORS_H

#include "common/base/buf.h"
#include "common/config/config.h"

/* Raises the soft limit to what limits.connections needs. *connections: how many can be taken. 0, or -EMFILE with
 * words in err. */
int descriptors_raise(const struct config *c, unsigned *connections, struct buf *err);
/* Can what a start opens be opened? 0, or -errno with words in err. */
int descriptors_check(const struct config *c, struct buf *err);

#endif
