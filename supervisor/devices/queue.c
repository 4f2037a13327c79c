#include "supervisor/devices/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *job_class_name(enum job_class c)
{
	static const char *const names[JOB_CLASSES] = {"interactive", "agent", "map", "idle"};
	return names[c];
}

void queue_init(struct queue *q)
{
	memset(q, 0, sizeof(*q));
	TAILQ_INIT(&q->all);
}

/* --- clients --- */

static void forget(struct queue *q, struct queue_flow *f)
{
	q->class[f->class].debtors--;
	LIST_REMOVE(f, link);
	free(f);
}

static bool is_debtor(const struct queue_flow *f)
{
	return f->waiting == 0 && f->running == 0;
}

void queue_fini(struct queue *q)
{
	for (int c = 0; c < JOB_CLASSES; c++) {
		struct queue_flow *f;
		while ((f = LIST_FIRST(&q->class[c].flows))) {
			LIST_REMOVE(f, link);
			free(f);
		}
	}
	queue_init(q);
}

/* Clients without jobs that the virtual time has passed owe nothing any more; where the class is
 * idle, nobody does. */
static void forget_paid(struct queue *q, enum job_class class)
{
	bool idle = q->class[class].waiting == 0 && q->class[class].running == 0;
	struct queue_flow *next;
	for (struct queue_flow *f = LIST_FIRST(&q->class[class].flows); f; f = next) {
		next = LIST_NEXT(f, link);
		if (is_debtor(f) && (idle || f->finish <= q->class[class].now))
			forget(q, f);
	}
}

/* A client's last job has left. */
static void add_debtor(struct queue *q, struct queue_flow *added)
{
	enum job_class class = added->class;
	q->class[class].debtors++;
	forget_paid(q, class);
	if (q->class[class].debtors <= QUEUE_DEBTORS_MAX)
		return;
	struct queue_flow *f, *least = NULL;
	LIST_FOREACH(f, &q->class[class].flows, link)
		if (is_debtor(f) && (!least || f->finish < least->finish))
			least = f;
	forget(q, least);
}

static struct queue_flow *flow_of(struct queue *q, enum job_class class, uint64_t client)
{
	struct queue_flow *f;
	LIST_FOREACH(f, &q->class[class].flows, link)
		if (f->client == client) {
			if (is_debtor(f))
				q->class[class].debtors--;
			return f;
		}
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->client = client;
	f->class = class;
	TAILQ_INIT(&f->entries);
	LIST_INSERT_HEAD(&q->class[class].flows, f, link);
	return f;
}

/* --- coming --- */

int queue_put(struct queue *q, struct queue_entry *e, enum job_class class, uint64_t client,
	uint64_t cost)
{
	struct queue_flow *f = flow_of(q, class, client);
	if (!f)
		return -ENOMEM;
	uint64_t now = q->class[class].now;
	e->flow = f;
	e->cost = cost ? cost : 1;
	e->start = f->finish > now ? f->finish : now;
	e->order = ++q->arrivals;
	e->waiting = true;
	e->lifted = false;
	f->finish = e->start + e->cost;
	f->waiting++;
	q->class[class].waiting++;
	TAILQ_INSERT_TAIL(&f->entries, e, in_flow);
	TAILQ_INSERT_TAIL(&q->all, e, in_all);
	return 0;
}

void queue_put_back(struct queue *q, struct queue_entry *e)
{
	struct queue_flow *f = e->flow;
	struct queue_entry *other;
	f->running--;
	f->waiting++;
	q->class[f->class].running--;
	q->class[f->class].waiting++;
	e->waiting = true;
	/* Others of its client may have been put back before it. */
	TAILQ_FOREACH(other, &f->entries, in_flow)
		if (other->order > e->order)
			break;
	if (other)
		TAILQ_INSERT_BEFORE(other, e, in_flow);
	else
		TAILQ_INSERT_TAIL(&f->entries, e, in_flow);
	TAILQ_FOREACH(other, &q->all, in_all)
		if (other->order > e->order)
			break;
	if (other)
		TAILQ_INSERT_BEFORE(other, e, in_all);
	else
		TAILQ_INSERT_TAIL(&q->all, e, in_all);
}

/* --- going --- */

/* The class whose turn it is; JOB_CLASSES: nothing waits. */
static int next_class(const struct queue *q)
{
	int first = 0;
	while (first < JOB_CLASSES && q->class[first].waiting == 0)
		first++;
	for (int c = first + 1; c < JOB_CLASSES; c++)
		if (q->class[c].waiting > 0 && q->class[c].passed_over >= QUEUE_LIFT)
			return c;
	return first;
}

struct queue_entry *queue_next(const struct queue *q)
{
	int class = next_class(q);
	struct queue_entry *best = NULL;
	const struct queue_flow *f;
	if (class == JOB_CLASSES)
		return NULL;
	LIST_FOREACH(f, &q->class[class].flows, link) {
		struct queue_entry *e = TAILQ_FIRST(&f->entries);
		if (e && (!best || e->start < best->start ||
				 (e->start == best->start && e->order < best->order)))
			best = e;
	}
	return best;
}

static void stop_waiting(struct queue *q, struct queue_entry *e)
{
	struct queue_flow *f = e->flow;
	TAILQ_REMOVE(&f->entries, e, in_flow);
	TAILQ_REMOVE(&q->all, e, in_all);
	e->waiting = false;
	f->waiting--;
	if (--q->class[f->class].waiting == 0)
		q->class[f->class].passed_over = 0;
}

struct queue_entry *queue_take(struct queue *q)
{
	struct queue_entry *e = queue_next(q);
	if (!e)
		return NULL;
	enum job_class class = e->flow->class;
	for (int c = 0; c < JOB_CLASSES; c++) {
		if (c < (int)class && q->class[c].waiting > 0)
			e->lifted = true;
		if (c > (int)class && q->class[c].waiting > 0)
			q->class[c].passed_over++;
	}
	q->class[class].passed_over = 0;
	stop_waiting(q, e);
	e->flow->running++;
	q->class[class].running++;
	if (e->start > q->class[class].now) /* less: it was put back */
		q->class[class].now = e->start;
	forget_paid(q, class);
	return e;
}

/* The jobs behind one that will not run move up, but not before the present. */
static void refund(const struct queue *q, struct queue_entry *e)
{
	struct queue_flow *f = e->flow;
	uint64_t at = e->start > q->class[f->class].now ? e->start : q->class[f->class].now;
	for (struct queue_entry *b = TAILQ_NEXT(e, in_flow); b; b = TAILQ_NEXT(b, in_flow)) {
		b->start = at;
		at += b->cost;
	}
	f->finish = at;
}

void queue_leave(struct queue *q, struct queue_entry *e)
{
	struct queue_flow *f = e->flow;
	if (!f)
		return;
	if (e->waiting) {
		refund(q, e);
		stop_waiting(q, e);
	} else {
		f->running--;
		q->class[f->class].running--;
	}
	e->flow = NULL;
	if (is_debtor(f))
		add_debtor(q, f);
	else
		forget_paid(q, f->class);
}

/* --- counts --- */

unsigned queue_waiting(const struct queue *q)
{
	unsigned n = 0;
	for (int c = 0; c < JOB_CLASSES; c++)
		n += q->class[c].waiting;
	return n;
}

static const struct queue_flow *waiting_flow(const struct queue *q, int class, uint64_t client)
{
	const struct queue_flow *f;
	LIST_FOREACH(f, &q->class[class].flows, link)
		if (f->client == client && f->waiting > 0)
			return f;
	return NULL;
}

unsigned queue_client_waiting(const struct queue *q, uint64_t client)
{
	unsigned n = 0;
	for (int c = 0; c < JOB_CLASSES; c++) {
		const struct queue_flow *f = c == CLASS_MAP ? NULL : waiting_flow(q, c, client);
		n += f ? f->waiting : 0;
	}
	return n;
}

unsigned queue_clients(const struct queue *q)
{
	unsigned n = 0;
	for (int c = 0; c < JOB_CLASSES; c++) {
		const struct queue_flow *f;
		LIST_FOREACH(f, &q->class[c].flows, link) {
			bool seen = f->waiting == 0;
			for (int before = 0; before < c && !seen; before++)
				seen = waiting_flow(q, before, f->client) != NULL;
			n += !seen;
		}
	}
	return n;
}
