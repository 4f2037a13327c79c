/* A chat that an operator measures a device with (bench.h): where it goes, and that it stands in
 * nobody's way. */
#include "supervisor/requests/chat.h"
#include "supervisor/requests/chat_reply.h"

#include <stdio.h>

#define BENCH_STATUS 409 /* a try that other work stands in the way of is no failure */

void chat_bench_begin(struct chat *c)
{
	const char *ticket = exchange_header(c->base.exchange, BENCH_HEADER);
	const char *device = bench_device(&c->base.all->bench, ticket, now_ms());
	c->bench = device != NULL;
	if (device)
		snprintf(c->pinned, sizeof(c->pinned), "%s", device);
}

void chat_bench_plan(struct chat *c)
{
	c->class = CLASS_IDLE;
	c->plan = (struct plan){.strategy = STRATEGY_A};
	snprintf(c->plan.reason, sizeof(c->plan.reason), "measured for the operator");
}

static bool device_is_idle(const struct device *d)
{
	return d->inflight == 0 && jobs_waiting(d) == 0;
}

bool chat_bench_may_run(struct chat *c)
{
	struct device *d = c->device;
	char text[128] = BENCH_BUSY_TEXT;
	bool there = strcmp(d->conf->name, c->pinned) == 0 && d->state == WORKER_READY &&
		     !device_hopeless(d);
	if (there && !device_is_idle(d))
		jobs_yield(d); /* what is read or written ahead comes back later */
	if (there && device_is_idle(d))
		return true;
	if (!there)
		snprintf(text, sizeof(text), "device %s is not available", c->pinned);
	chat_answer_error(c, there ? BENCH_STATUS : 503, slice_str(text), (struct slice){0},
		(struct slice){0}, 1);
	return false;
}

void chat_bench_yielded(struct chat *c)
{
	chat_answer_error(c, BENCH_STATUS, SLICE(BENCH_YIELDED_TEXT), (struct slice){0},
		(struct slice){0}, 1);
}
