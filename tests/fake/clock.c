#include "tests/fake/clock.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SLACK_NS 20000ull /* tasks this close to due run now: one wake-up serves a burst */

uint64_t clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * S_NS + (uint64_t)ts.tv_nsec;
}

static bool before(const struct clock_task *a, const struct clock_task *b)
{
	return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static struct clock_task *meld(struct clock_task *a, struct clock_task *b)
{
	if (!a || !b)
		return a ? a : b;
	if (before(b, a)) {
		struct clock_task *t = a;

		a = b;
		b = t;
	}
	b->prev = a;
	b->next = a->child;
	if (a->child)
		a->child->prev = b;
	a->child = b;
	return a;
}

/* Melds a list of siblings: in pairs from the left, then the pairs from the right. */
static struct clock_task *meld_siblings(struct clock_task *t)
{
	struct clock_task *pairs = NULL, *root = NULL;

	while (t) {
		struct clock_task *a = t, *b = t->next, *rest = b ? b->next : NULL;

		a->next = a->prev = NULL;
		if (b)
			b->next = b->prev = NULL;
		a = meld(a, b);
		a->next = pairs;
		pairs = a;
		t = rest;
	}
	while (pairs) {
		struct clock_task *rest = pairs->next;

		pairs->next = NULL;
		root = meld(root, pairs);
		pairs = rest;
	}
	return root;
}

static void set_timer(struct clock *clock)
{
	uint64_t due = clock->root ? clock->root->due : 0;
	struct itimerspec when = {0};

	if (clock->running || due == clock->set_for)
		return;
	clock->set_for = due;
	when.it_value.tv_sec = (time_t)(due / S_NS);
	when.it_value.tv_nsec = (long)(due % S_NS);
	timerfd_settime(clock->fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void clock_cancel(struct clock *clock, struct clock_task *task)
{
	struct clock_task *children = task->child;

	if (!task->armed)
		return;
	task->armed = false;
	task->child = NULL;
	if (task == clock->root) {
		clock->root = meld_siblings(children);
	} else {
		if (task->prev->child == task)
			task->prev->child = task->next;
		else
			task->prev->next = task->next;
		if (task->next)
			task->next->prev = task->prev;
		clock->root = meld(clock->root, meld_siblings(children));
	}
	task->next = task->prev = NULL;
	set_timer(clock);
}

void clock_at(struct clock *clock, struct clock_task *task, uint64_t due)
{
	clock_cancel(clock, task);
	task->due = due ? due : 1;
	task->order = ++clock->order;
	task->armed = true;
	clock->root = meld(clock->root, task);
	set_timer(clock);
}

static void on_timer(uv_poll_t *poll, int status, int events)
{
	struct clock *clock = poll->data;
	uint64_t limit = clock_now() + SLACK_NS, last = clock->order, expired;

	(void)status;
	(void)events;
	if (read(clock->fd, &expired, sizeof(expired)) < 0 && errno != EAGAIN)
		return;
	clock->set_for = 0;
	clock->running = true;
	/* What a task arms for now waits for the next turn, so that sockets get theirs. */
	while (clock->root && clock->root->due <= limit && clock->root->order <= last) {
		struct clock_task *task = clock->root;

		clock_cancel(clock, task);
		task->run(task);
	}
	clock->running = false;
	set_timer(clock);
}

int clock_init(struct clock *clock, uv_loop_t *loop)
{
	int err;

	*clock = (struct clock){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)};
	if (clock->fd < 0)
		return -errno;
	err = uv_poll_init(loop, &clock->poll, clock->fd);
	if (!err) {
		clock->poll.data = clock;
		err = uv_poll_start(&clock->poll, UV_READABLE, on_timer);
	}
	if (err)
		close(clock->fd);
	return err;
}
