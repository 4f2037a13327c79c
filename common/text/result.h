/* Turns a finished layout into a select_result. */
#ifndef TANDEM_TEXT_RESULT_H
#define TANDEM_TEXT_RESULT_H

#include "common/text/layout.h"

/* Fills all of r but index and silent. 0 or -ENOMEM; the caller frees r either way. */
int result_fill(struct select_result *r, const struct layout *l);

#endif
