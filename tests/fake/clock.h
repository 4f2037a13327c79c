/*
 * Tasks at a point of the monotonic clock, in nanoseconds.
 *
 * uv_timer counts whole milliseconds, too coarse for a backend that says 5000 tokens a second, so
 * one timerfd serves an intrusive pairing heap: arming and cancelling allocate nothing. The owner
 * of a task embeds it and cancels it before freeing it. Tasks due at the same instant run in the
 * order they were armed.
 */
#ifndef FAKE_CLOCK_H
#define FAKE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define MS_NS 1000000ull
#define S_NS 1000000000ull

struct clock_task {
	void (*run)(struct clock_task
			*task); /* set by the owner; the task is idle again when it runs */
	uint64_t due;		/* ns */
	uint64_t order;
	struct clock_task *child, *next, *prev;
	bool armed;
};

struct clock {
	uv_poll_t poll;
	int fd;
	struct clock_task *root;
	uint64_t order;	  /* counts armings */
	uint64_t set_for; /* what the timerfd waits for; 0: nothing */
	bool running;
};

/* 0 or a negative errno (libuv's codes are the same). */
int clock_init(struct clock *clock, uv_loop_t *loop);

/* Monotonic now, ns. */
uint64_t clock_now(void);

/* Runs task at due, or in the next turn of the loop when that has passed. Re-arms an armed task. */
void clock_at(struct clock *clock, struct clock_task *task, uint64_t due);

void clock_cancel(struct clock *clock, struct clock_task *task);

#endif
