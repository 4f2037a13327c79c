/*
 * Where log lines go: stderr, without ever waiting for its reader.
 *
 * Lines wait in one buffer until stderr takes them: a full pipe, a terminal that was stopped or a
 * journal that hangs keeps them there, and what does not fit is lost, counted, and told of by the
 * next line that gets through (log.h). Written at once, or with log_out_defer() when log_flush() is
 * called, once for each turn of a loop (log_loop.h); what still waits is written when the process
 * crashes, and at exit (log_defer()).
 *
 * stderr's own flags are never changed, since other processes share them: a pipe or terminal is
 * opened a second time, non-blocking; a socket is sent to without waiting; where neither goes, it
 * is asked for room before each small piece. A piece of up to PIPE_BUF bytes is whole lines, which
 * the system does not mix with those of others. Loop thread only; nothing blocks.
 */
#ifndef TANDEM_LOG_OUT_H
#define TANDEM_LOG_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_BUFFER_BYTES 262144 /* unless log.buffer_bytes says otherwise */
#define LOG_BUFFER_LEAST 16384	/* two lines of the longest */

/* The buffer's size from now on, at least LOG_BUFFER_LEAST. What waits stays; without memory, the
 * old size. */
void log_out_size(size_t bytes);

/* Lines wait for log_out_flush() from now on. The process's crashes are then looked after, too. */
void log_out_defer(bool on);

/* One whole line, with its line feed. False: it does not fit, and is counted as lost. */
bool log_out_put(const char *line, size_t n);

/* Writes what stderr takes now. True: nothing waits any more. */
bool log_out_flush(void);

struct log_lost {
	uint64_t lines, bytes;
};
/* Lost since it was asked last; and since the start. */
struct log_lost log_out_lost(void);
struct log_lost log_out_lost_ever(void);

#endif
