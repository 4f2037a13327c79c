/* Who is next: classes, fairness by tokens, order within a client, and what is remembered. */
#include "supervisor/devices/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define CLIENTS 5

struct item {
	struct queue_entry e; /* first: an entry is its item */
	uint64_t client, number;
	enum job_class class;
};

static struct item *put(
	struct queue *q, enum job_class class, uint64_t client, uint64_t cost, uint64_t number)
{
	struct item *i = calloc(1, sizeof(*i));
	assert_non_null(i);
	*i = (struct item){.client = client, .number = number, .class = class};
	assert_int_equal(queue_put(q, &i->e, class, client, cost), 0);
	return i;
}

static struct item *take(struct queue *q)
{
	struct queue_entry *peek = queue_next(q), *e = queue_take(q);
	assert_ptr_equal(peek, e);
	return (struct item *)e;
}

static void leave(struct queue *q, struct item *i)
{
	queue_leave(q, &i->e);
	assert_null(i->e.flow);
	free(i);
}

static unsigned remembered(const struct queue *q)
{
	unsigned n = 0;
	const struct queue_flow *f;
	for (int c = 0; c < JOB_CLASSES; c++)
		LIST_FOREACH(f, &q->class[c].flows, link)
			n++;
	return n;
}

static void check_empty(struct queue *q)
{
	assert_null(queue_next(q));
	assert_null(queue_take(q));
	assert_int_equal(queue_waiting(q), 0);
	assert_int_equal(queue_clients(q), 0);
	assert_int_equal(remembered(q), 0);
	assert_true(TAILQ_EMPTY(&q->all));
	queue_fini(q);
}

static uint32_t random_state;

static uint32_t rnd(uint32_t below)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) % below;
}

/* --- one client --- */

static void test_first_in_first_out(void **state)
{
	(void)state;
	struct queue q;
	queue_init(&q);
	for (uint64_t i = 0; i < 100; i++)
		put(&q, CLASS_AGENT, 7, (i * 37) % 50, i);
	assert_int_equal(queue_client_waiting(&q, 7), 100);
	assert_int_equal(queue_client_waiting(&q, 8), 0);
	assert_int_equal(queue_clients(&q), 1);
	for (uint64_t i = 0; i < 100; i++) {
		struct item *got = take(&q);
		assert_int_equal(got->number, i);
		leave(&q, got);
	}
	check_empty(&q);
}

static void test_put_back_keeps_the_place(void **state)
{
	(void)state;
	struct queue q;
	queue_init(&q);
	for (uint64_t i = 0; i < 6; i++)
		put(&q, CLASS_MAP, 1, 10, i);
	struct item *a = take(&q), *b = take(&q), *c = take(&q);
	queue_put_back(&q, &b->e);
	queue_put_back(&q, &c->e);
	queue_put_back(&q, &a->e);
	uint64_t wanted = 0;
	struct queue_entry *e;
	TAILQ_FOREACH(e, &q.all, in_all)
		assert_int_equal(((struct item *)e)->number, wanted++);
	assert_int_equal(wanted, 6);
	for (uint64_t i = 0; i < 6; i++) {
		struct item *got = take(&q);
		assert_int_equal(got->number, i);
		leave(&q, got);
	}
	check_empty(&q);
}

/* --- several clients --- */

/* A client with 50 long jobs delays another one's small one by no more than the job that runs. */
static void test_a_small_job_passes_a_long_row(void **state)
{
	(void)state;
	struct queue q;
	queue_init(&q);
	for (uint64_t i = 0; i < 50; i++)
		put(&q, CLASS_INTERACTIVE, 1, 4000, i);
	struct item *running = take(&q);
	struct item *second = take(&q);
	put(&q, CLASS_INTERACTIVE, 2, 10, 99);
	leave(&q, running);
	struct item *small = take(&q);
	assert_int_equal(small->client, 2);
	leave(&q, small);
	leave(&q, second);
	for (int i = 0; i < 48; i++)
		leave(&q, take(&q));
	check_empty(&q);
}

/* Two clients that always have work, of very different sizes: each gets half of the tokens. The
 * bound of start-time fair queueing: they differ by at most one job of each. */
static void test_greedy_clients_share_tokens(void **state)
{
	(void)state;
	static const uint32_t largest[2] = {8000, 40};
	struct queue q;
	uint64_t served[2] = {0, 0}, number = 0;
	queue_init(&q);
	random_state = 1;
	for (int c = 0; c < 2; c++)
		for (int i = 0; i < 3; i++)
			put(&q, CLASS_AGENT, (uint64_t)c, 1 + rnd(largest[c]), number++);
	for (int i = 0; i < 20000; i++) {
		struct item *got = take(&q);
		uint64_t c = got->client;
		served[c] += got->e.cost;
		leave(&q, got);
		uint64_t apart =
			served[0] > served[1] ? served[0] - served[1] : served[1] - served[0];
		assert_true(apart <= largest[0] + largest[1]);
		put(&q, CLASS_AGENT, c, 1 + rnd(largest[c]), number++);
	}
	assert_true(served[0] > 300000);
	for (int i = 0; i < 6; i++)
		leave(&q, take(&q));
	check_empty(&q);
}

/* One that never has more than one job, and asks again only when it has ended, owes as well. */
static void test_a_client_between_two_jobs_is_not_forgiven(void **state)
{
	(void)state;
	struct queue q;
	uint64_t small = 0;
	queue_init(&q);
	for (int i = 0; i < 1200; i++)
		put(&q, CLASS_AGENT, 2, 10, 0);
	for (int round = 0; round < 10; round++) {
		struct item *large = put(&q, CLASS_AGENT, 1, 1000, 0), *got;
		while ((got = take(&q)) != large) {
			small += got->e.cost;
			leave(&q, got);
		}
		leave(&q, large);
		/* not before the row has had as much */
		got = take(&q);
		small += got->e.cost;
		leave(&q, got);
	}
	assert_in_range(small, 9 * 1000, 10 * 1000 + 100);
	while (queue_waiting(&q) > 0)
		leave(&q, take(&q));
	check_empty(&q);
}

static void test_what_did_not_run_is_not_charged(void **state)
{
	(void)state;
	struct queue q;
	queue_init(&q);
	struct item *held = put(&q, CLASS_AGENT, 9, 1, 0);
	assert_ptr_equal(take(&q), held);
	struct item *gone[20];
	for (int i = 0; i < 20; i++)
		gone[i] = put(&q, CLASS_AGENT, 1, 5000, 0);
	struct item *kept = put(&q, CLASS_AGENT, 1, 10, 1);
	put(&q, CLASS_AGENT, 2, 10, 2);
	put(&q, CLASS_AGENT, 2, 10, 3);
	for (int i = 0; i < 20; i++)
		leave(&q, gone[i]);
	struct item *first = take(&q), *second = take(&q);
	assert_true(first == kept || second == kept);
	leave(&q, first);
	leave(&q, second);
	leave(&q, take(&q));
	leave(&q, held);
	check_empty(&q);
}

/* --- classes --- */

static void test_order_of_classes(void **state)
{
	(void)state;
	struct queue q;
	queue_init(&q);
	for (int c = JOB_CLASSES - 1; c >= 0; c--)
		put(&q, (enum job_class)c, 1, c == CLASS_INTERACTIVE ? 100000 : 1, 0);
	for (int c = 0; c < JOB_CLASSES; c++) {
		struct item *got = take(&q);
		assert_int_equal(got->class, c);
		assert_false(got->e.lifted);
		leave(&q, got);
	}
	check_empty(&q);
}

/* A stream of urgent work that never ends: the others get their turns, each marked as lifted. */
static void test_no_class_starves(void **state)
{
	(void)state;
	struct queue q;
	unsigned turns[JOB_CLASSES] = {0}, since[JOB_CLASSES] = {0};
	queue_init(&q);
	for (int c = 0; c < JOB_CLASSES; c++)
		put(&q, (enum job_class)c, 1, 1000, 0);
	for (int i = 0; i < 5000; i++) {
		struct item *got = take(&q);
		enum job_class class = got->class;
		assert_int_equal(got->e.lifted, class != CLASS_INTERACTIVE);
		turns[class]++;
		for (int c = 0; c < JOB_CLASSES; c++) {
			since[c] = c == (int)class ? 0 : since[c] + 1;
			assert_true(since[c] <= QUEUE_LIFT + JOB_CLASSES);
		}
		leave(&q, got);
		put(&q, class, 1, 1000, 0);
	}
	for (int c = 1; c < JOB_CLASSES; c++)
		assert_true(turns[c] >= 5000 / (QUEUE_LIFT + JOB_CLASSES));
	assert_true(turns[CLASS_INTERACTIVE] > 5000 / 2);
	while (queue_waiting(&q) > 0)
		leave(&q, take(&q));
	check_empty(&q);
}

/* --- memory --- */

static void test_clients_are_forgotten(void **state)
{
	(void)state;
	struct queue q;
	queue_init(&q);
	/* Something always waits, so that the class is never idle. */
	struct item *always = put(&q, CLASS_IDLE, UINT64_MAX, 1u << 30, 0);
	assert_ptr_equal(take(&q), always);
	for (uint64_t client = 0; client < 10000; client++) {
		put(&q, CLASS_IDLE, client, 1 + client % 7, 0);
		leave(&q, take(&q));
		assert_true(remembered(&q) <= QUEUE_DEBTORS_MAX + 2);
	}
	leave(&q, always);
	check_empty(&q);
}

/* Anything in any order: nothing is lost, nothing comes twice, each client's jobs keep their order.
 */
static void test_random_walk(void **state)
{
	(void)state;
	enum { MANY = 64 };
	struct queue q;
	struct item *running[MANY];
	unsigned busy = 0, put_n = 0, left_n = 0;
	uint64_t number = 0;
	queue_init(&q);
	random_state = 42;
	for (int step = 0; step < 200000; step++) {
		unsigned what = rnd(10);
		if (what < 4 && queue_waiting(&q) < MANY) {
			put(&q, (enum job_class)rnd(JOB_CLASSES), rnd(CLIENTS), rnd(500), ++number);
			put_n++;
		} else if (what < 7 && busy < MANY) {
			struct item *i = take(&q);
			if (!i)
				continue;
			struct queue_entry *e;
			TAILQ_FOREACH(e, &q.all, in_all) {
				const struct item *o = (struct item *)e;
				if (o->client == i->client && o->class == i->class)
					assert_true(o->number > i->number);
			}
			running[busy++] = i;
		} else if (what == 7 && busy > 0) {
			unsigned at = rnd(busy);
			queue_put_back(&q, &running[at]->e);
			running[at] = running[--busy];
		} else if (what == 8 && busy > 0) {
			unsigned at = rnd(busy);
			leave(&q, running[at]);
			running[at] = running[--busy];
			left_n++;
		} else if (queue_waiting(&q) > 0) {
			leave(&q, (struct item *)TAILQ_FIRST(&q.all));
			left_n++;
		}
		assert_int_equal(queue_waiting(&q) + busy, put_n - left_n);
		assert_true(queue_clients(&q) <= CLIENTS);
	}
	while (busy > 0)
		leave(&q, running[--busy]);
	while (queue_waiting(&q) > 0)
		leave(&q, take(&q));
	check_empty(&q);
}

static void test_leaving_twice(void **state)
{
	(void)state;
	struct queue q;
	struct queue_entry never = {0};
	queue_init(&q);
	queue_leave(&q, &never);
	struct item *i = put(&q, CLASS_AGENT, 1, 0, 0);
	assert_int_equal(i->e.cost, 1);
	queue_leave(&q, &i->e);
	queue_leave(&q, &i->e);
	free(i);
	check_empty(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_in_first_out),
		cmocka_unit_test(test_put_back_keeps_the_place),
		cmocka_unit_test(test_a_small_job_passes_a_long_row),
		cmocka_unit_test(test_greedy_clients_share_tokens),
		cmocka_unit_test(test_a_client_between_two_jobs_is_not_forgiven),
		cmocka_unit_test(test_what_did_not_run_is_not_charged),
		cmocka_unit_test(test_order_of_classes),
		cmocka_unit_test(test_no_class_starves),
		cmocka_unit_test(test_clients_are_forgotten),
		cmocka_unit_test(test_random_walk),
		cmocka_unit_test(test_leaving_twice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
