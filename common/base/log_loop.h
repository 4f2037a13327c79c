/*
 * The log of a process with a libuv loop: what its callbacks have logged is written once for each
 * turn, before the loop waits; what stderr does not take then is tried again soon. One loop a
 * process; keeps no loop alive.
 */
#ifndef TANDEM_LOG_LOOP_H
#define TANDEM_LOG_LOOP_H

#include <uv.h>

void log_loop_start(uv_loop_t *loop);
/* Lines are written at once again; the handles close with the loop's next turns. */
void log_loop_stop(void);

#endif
