/*
 * Who a process is: its pid and its start time, since a pid alone is given to somebody else one
 * day. Reads /proc, which does not block on what the process itself waits for.
 */
#ifndef TANDEM_PROC_H
#define TANDEM_PROC_H

#include "common/base/buf.h"

#include <stdint.h>

/*
 * Opens /dev/null as those of the descriptors 0, 1 and 2 that are closed: else a file or socket of
 * ours would become what is read from, printed to and logged to. First thing in main().
 */
void proc_keep_std(void);

/* State letter and start time (fields 3 and 22) of the text of /proc/PID/stat; a name with spaces
 * and brackets in it is no trouble. False when it is no such text. */
bool proc_parse_stat(struct slice text, char *state, uint64_t *start);

/* The start time, in clock ticks since boot, of a process that runs. 0: there is none of that pid,
 * or only what waits to be reaped. */
uint64_t proc_start(int64_t pid);

/* That very process runs. */
static inline bool proc_alive(int64_t pid, uint64_t start)
{
	return start && proc_start(pid) == start;
}

#endif
