/* Early freezes that are not read yet: which one a conversation has, and when it is put off. */
#include "supervisor/requests/unread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_remembered(void **state)
{
	(void)state;
	struct unread u = {0};
	uint64_t of_one[] = {11, 12, 13, 14}, of_another[] = {21, 22};
	assert_null(unread_find(&u, of_one, 4));
	unread_put(&u, &(struct unread_freeze){.chain = 12, .tokens = 1});
	unread_put(&u, &(struct unread_freeze){.chain = 22, .tokens = 2});
	unread_put(&u, &(struct unread_freeze){.chain = 14, .tokens = 3});
	assert_true(unread_find(&u, of_one, 4)->tokens == 3); /* the newest */
	assert_true(unread_find(&u, of_one, 3)->tokens == 1);
	assert_null(unread_find(&u, of_one, 1));
	assert_true(unread_find(&u, of_another, 2)->tokens == 2);
	unread_put(&u, &(struct unread_freeze){.chain = 12, .tokens = 4}); /* in its place */
	assert_true(unread_find(&u, of_one, 3)->tokens == 4);
	unread_done(&u, 14);
	unread_done(&u, 99);
	assert_true(unread_find(&u, of_one, 4)->tokens == 4);
	uint64_t none[] = {0};
	assert_null(unread_find(&u, none, 1));
	for (uint64_t i = 0; i < UNREAD_MAX; i++)
		unread_put(&u, &(struct unread_freeze){.chain = 1000 + i});
	assert_null(unread_find(&u, of_one, 4));
}

/* A card that reads 1,000 tokens a second, asked for a prompt of 20,000 and then for a frozen one of 10,000, of which it
 * has 4,000. */
struct fixture {
	struct foresight f;
	struct unread_freeze freeze;
	struct plan_facts plan;
	struct unread_facts now;
};

static uint64_t sent(struct foresight *f, const char *name, double tokens)
{
	struct prefix_chain c = {0};
	assert_int_equal(prefix_add(&c, slice_str("system"), 4000), 0);
	assert_int_equal(prefix_add(&c, slice_str(name), tokens - 4000), 0);
	struct forecast fc = foresee(f, &c);
	foresight_sent(f, &fc, &c);
	foresight_ended(f, &fc,
		&(struct outcome){tokens, fc.match.cached, 0, tokens - fc.match.cached, -1, 0});
	return fc.id;
}

static void make(struct fixture *x, double similarity)
{
	*x = (struct fixture){
		.plan = {.tokens = 41000, .main = {.window = 32768}, .max_output = 1000}};
	foresight_init(&x->f, 1);
	foresight_puts_aside(&x->f, similarity);
	x->freeze = (struct unread_freeze){.chain = 1,
		.tokens = 10000,
		.cached = 4000,
		.alike = 4000,
		.before = sent(&x->f, "before", 20000),
		.counted = 20000,
		.original = 40000};
	sent(&x->f, "frozen", 10000);
	x->now = (struct unread_facts){.foresight = &x->f, .plan = &x->plan, .gain_ms = 2000};
}

static void test_put_off(void **state)
{
	(void)state;
	struct fixture x;
	make(&x, .8);
	assert_true(unread_is_later(&x.freeze, &x.now));
	x.now.gain_ms = 60000; /* it does not save a minute */
	assert_false(unread_is_later(&x.freeze, &x.now));
	x.now.gain_ms = 2000;
	x.freeze.cached = 9500; /* nearly all is read */
	assert_false(unread_is_later(&x.freeze, &x.now));
	x.freeze.cached = 4000;
	x.plan.tokens = 40000 + 12000; /* with what is new it does not fit */
	assert_false(unread_is_later(&x.freeze, &x.now));
	x.plan.tokens = 41000;
	x.freeze.alike = 9000; /* the frozen one took its place, and did not have it put aside */
	assert_false(unread_is_later(&x.freeze, &x.now));
	x.freeze.alike = 4000;
	x.freeze.before = 777; /* long gone */
	assert_false(unread_is_later(&x.freeze, &x.now));
	foresight_fini(&x.f);
}

static void test_nobody_puts_aside(void **state)
{
	(void)state;
	struct fixture x;
	make(&x, 0);
	assert_false(unread_is_later(&x.freeze, &x.now));
	foresight_fini(&x.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_remembered),
		cmocka_unit_test(test_put_off),
		cmocka_unit_test(test_nobody_puts_aside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
