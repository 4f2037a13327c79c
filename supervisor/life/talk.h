/*
 * The conversation between an old tandemd and its successor: short lines over a socketpair.
 *
 *   successor -> old   waiting WORDS   what it waits for, told when the upgrade fails by its deadline
 *                      ready           the devices are; it could take over
 *                      taken           it has taken over: accepts, and has the names of the run folder
 *                      failed WORDS    it cannot; it is about to end
 *   old -> successor   take            take over now
 *                      stop            end: the upgrade is called off
 *
 * Nothing blocks. A line longer than TALK_LINE_BYTES, or the end of the other side, is the end.
 */
#ifndef TANDEM_TALK_H
#define TANDEM_TALK_H

#include <uv.h>

#define TALK_LINE_BYTES 1024

struct talk;

struct talk_events {
	void (*line)(void *ctx, const char *line);
	void (*end)(void *ctx); /* at most once, never after talk_close() */
};

/* Owns fd from now on, also when it fails: 0 or -errno. */
int talk_open(uv_loop_t *loop, int fd, const struct talk_events *e, void *ctx, struct talk **out);
/* Without the newline. */
void talk_say(struct talk *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Freed once the loop has let go of it. NULL is ignored. May be called from a callback. */
void talk_close(struct talk *t);

#endif
