/* Turns a finished selection into a select_result. */
#ifndef TANDEM_TEXT_RESULT_H
#define TANDEM_TEXT_RESULT_H

#include "common/text/cost.h"

/* Fills all of r but index and silent. 0 or -ENOMEM; the caller frees r either way. */
int result_fill(struct select_result *r, const struct cost *l);

#endif
