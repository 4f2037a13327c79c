/* When a conversation is taken to outgrow its form with the next turn. */
#include "supervisor/requests/outgrow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define TURNS 25

/* A layout of the task and then turns of a call and a result; turn i has grown[i] tokens. */
struct fixture {
	struct layout_message messages[1 + 2 * TURNS];
	struct layout l;
	struct outgrow_facts f;
};

static void make(struct fixture *x, const double *grown, size_t turns)
{
	*x = (struct fixture){.messages[0] = {.tokens_in = 900}};
	x->l = (struct layout){.options = layout_defaults(),
		.result = LAYOUT_AS_SENT,
		.messages = x->messages,
		.count = 1 + 2 * turns,
		.groups = (uint32_t)turns + 1,
		.soft = 10000};
	for (size_t i = 0; i < turns; i++)
		for (size_t k = 0; k < 2; k++)
			x->messages[1 + 2 * i + k] = (struct layout_message){
				.group = (uint32_t)i + 1, .tokens_in = grown[i] * (k ? .75 : .25)};
	x->f = (struct outgrow_facts){.layout = &x->l, .scale = 1};
}

static void test_growth(void **state)
{
	(void)state;
	struct fixture x;
	double turns[TURNS] = {9000, 9000, 9000, 9000, 9000}; /* before the last twenty */
	for (size_t i = 5; i < TURNS; i++)
		turns[i] = 100.0 * (double)(i % 20); /* of the last twenty: 0 to 1900 */
	make(&x, turns, TURNS);
	assert_true(outgrow_growth(&x.l, 0, 0) == 1600);
	assert_true(outgrow_growth(&x.l, 1700, 0) == 1700);
	assert_true(outgrow_growth(&x.l, 9000, 0) == 1900); /* no more than the largest */
	make(&x, turns, 3);
	assert_true(outgrow_growth(&x.l, 0, 0) == 9000);
	make(&x, turns, 0); /* the task alone */
	assert_true(outgrow_growth(&x.l, 100, 0) == 0);
}

/* Where the reading may take some turns more, it begins as much earlier. */
static void test_turns_to_read(void **state)
{
	(void)state;
	struct fixture x;
	double turns[5] = {400, 400, 400, 400, 400};
	make(&x, turns, 5);
	x.l.size = 9000;
	assert_false(outgrow_is_near(&x.f));
	x.f.turns = 2;
	assert_true(outgrow_is_near(&x.f));
	x.l.size = 8700;
	assert_false(outgrow_is_near(&x.f));
}

/* What is known of the next turn is taken as it is; what follows is three quarters of a turn here. */
static void test_a_known_answer(void **state)
{
	(void)state;
	struct fixture x;
	double turns[5] = {400, 400, 400, 400, 2000};
	make(&x, turns, 5);
	assert_true(outgrow_growth(&x.l, 0, 70) == 70 + 1500);
	make(&x, turns, 4);
	assert_true(outgrow_growth(&x.l, 0, 70) == 70 + 300);
	assert_true(outgrow_growth(&x.l, 9000, 70) == 70 + 300);
	make(&x, turns, 0);
	assert_true(outgrow_growth(&x.l, 100, 70) == 70);
	make(&x, turns, 4);
	x.l.size = 9500;
	x.f.answer = 200;
	assert_false(outgrow_is_near(&x.f)); /* 10000 still fits */
	x.f.answer = 201;
	assert_true(outgrow_is_near(&x.f));
}

static void test_on_the_layout(void **state)
{
	(void)state;
	struct fixture x;
	double turns[4] = {500, 500, 500, 500};
	make(&x, turns, 4);
	x.l.size = 9500;
	assert_false(outgrow_is_near(&x.f)); /* 10000 still fits */
	x.l.size = 9501;
	assert_true(outgrow_is_near(&x.f));
	x.l.result = LAYOUT_RAISED;
	assert_true(outgrow_is_near(&x.f));
	x.l.result = LAYOUT_NO_ROOM;
	assert_false(outgrow_is_near(&x.f));
	x.l.result = LAYOUT_RAISED;
	x.l.groups = 1;
	assert_false(outgrow_is_near(&x.f)); /* nothing is old */
}

/* As long as the original fits nothing is frozen, whatever the layout would do. */
static void test_original(void **state)
{
	(void)state;
	struct fixture x;
	double turns[4] = {500, 500, 500, 500};
	make(&x, turns, 4);
	x.l.size = 9999;
	x.f.original = true;
	x.f.tokens = 11000;
	x.f.room = 11600;
	assert_false(outgrow_is_near(&x.f));
	x.f.scale = .8; /* 500 by the table are 625 of the model's */
	assert_true(outgrow_is_near(&x.f));
	x.f.scale = 1;
	x.f.tokens = 11101;
	assert_true(outgrow_is_near(&x.f));
	x.f.room = 0; /* no window is known: the layout decides */
	assert_true(outgrow_is_near(&x.f));
	x.l.size = 9000;
	assert_false(outgrow_is_near(&x.f));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_turns_to_read),
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_a_known_answer),
		cmocka_unit_test(test_on_the_layout),
		cmocka_unit_test(test_original),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
