/*
 * One process that sends spans to a collector (workers/traces/): started, fed, listened to, and ended.
 *
 * Spans are counted when they are given to it and when it tells what became of them; what it had not told of when it
 * died counts as dropped. It may outlive its being used: one that was let go sends what it has, and is listened to until
 * it has ended. Nothing waits; loop thread only.
 */
#ifndef TANDEM_TRACES_PROCESS_H
#define TANDEM_TRACES_PROCESS_H

#include "common/base/buf.h"

#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

/* For what waits when it has to end: tandemd's own end waits for it. */
#define TRACES_LAST_MS 500

struct traces_process;
LIST_HEAD(traces_process_list, traces_process);

enum traces_fate { TRACES_SENT, TRACES_REJECTED, TRACES_DROPPED, TRACES_FATES };

struct traces_process_events {
	/* So many more spans have come to that. */
	void (*told)(void *ctx, enum traces_fate what, uint64_t spans);
	/* It has ended, so long after its start; what it had said may still come. Returns whether it was to go on. */
	bool (*exited)(void *ctx, struct traces_process *p, uint64_t lived_ms);
};

/* Starts path, whose first line of input is settings (copied), and puts it into list. 0 or a negative libuv error. */
int traces_process_start(uv_loop_t *loop, const char *path, struct slice settings,
	struct traces_process_list *list, const struct traces_process_events *events, void *ctx,
	struct traces_process **out);
/* Copies text, which tells of so many spans, as long as at most `most` bytes wait then. False: it has no room; one that
 * takes nothing for long is killed. */
bool traces_process_give(struct traces_process *p, struct slice text, size_t spans, size_t most);
/* The end of its input: it sends what it has, and ends, or is killed soon. */
void traces_process_let_go(struct traces_process *p);
/* Nobody wants to know of those in the list any more; they end by themselves, and the loop waits for that. */
void traces_process_forget_all(struct traces_process_list *list);

int traces_process_pid(const struct traces_process *p);

#endif
