/* Routing by predicted time: which forms of a request are made and weighed. */
#include "supervisor/requests/weigh.h"

#include "common/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MODEL SLICE("m:1b")

static struct {
	struct config conf;
	struct foresight foresight;
	struct plan_facts plan_facts;
	struct buf body;
	struct chat_request request;
	struct prefix_chain chain;
	struct weigh_facts facts;
	struct weighed weighed;
	struct plan plan;
} s;

static int begin(void **state)
{
	(void)state;
	memset(&s, 0, sizeof(s));
	if (config_defaults(&s.conf))
		return -1;
	foresight_init(&s.foresight, 1);
	buf_init(&s.body, 0);
	return 0;
}

static int end(void **state)
{
	(void)state;
	prefix_chain_fini(&s.chain);
	chat_request_fini(&s.request);
	foresight_fini(&s.foresight);
	config_free(&s.conf);
	buf_free(&s.body);
	return 0;
}

/* Of so many tokens, in a window of 16,384. */
static void weigh_it(const char *messages, uint64_t tokens)
{
	struct dialect_error error;
	buf_clear(&s.body);
	buf_printf(&s.body, "{\"model\":\"m:1b\",\"messages\":[%s]}", messages);
	chat_request_fini(&s.request);
	assert_int_equal(
		chat_request_parse(DIALECT_OPENAI_CHAT, buf_slice(&s.body), &s.request, &error), 0);
	assert_int_equal(weigh_chain(&s.request, MODEL, &s.chain), 0);
	s.plan_facts = (struct plan_facts){.tokens = tokens,
		.max_output = -1,
		.condensable = true,
		.to_main = true,
		.main = {.present = true, .ready = true, .window = 16384, .slots = 1},
		.a_max_tokens = 2000,
		.b_max_tokens = 6000,
		.keep_ratio_b = .35,
		.keep_ratio_c = .25};
	s.facts = (struct weigh_facts){.request = &s.request,
		.conf = &s.conf,
		.plan = &s.plan_facts,
		.foresight = &s.foresight,
		.queue_ms = 70};
	weigh_original(&s.facts, &s.chain, &s.weighed, &s.plan);
	/* What does not fit is being made shorter: its head may go out before that is done. */
	assert_int_equal(s.weighed.form, s.plan.must_shrink ? FORM_LAYOUT : FORM_ORIGINAL);
	assert_int_equal(s.plan.strategy == STRATEGY_A, !s.plan.must_shrink);
	assert_true(s.weighed.ways.form[FORM_ORIGINAL].tokens == (double)tokens);
	assert_true(s.weighed.ways.queue_ms == 70);
}

#define HUMAN "{\"role\":\"user\",\"content\":\"Find the bug.\"}"
#define MODELS "{\"role\":\"assistant\",\"content\":\"I look.\"}"

static void test_what_is_made(void **state)
{
	(void)state;
	static const struct {
		const char *messages;
		uint64_t tokens;
		bool one_shot, made, must_shrink;
	} cases[] = {
		{HUMAN, 1999, true, false, false},
		{HUMAN, 2000, true, true, false},
		{HUMAN, 16000, true, true, true},
		{HUMAN "," MODELS "," HUMAN, 3000, false, false, false}, /* far from a freeze */
		{HUMAN "," MODELS "," HUMAN, 9000, false, true, false},
		{HUMAN "," MODELS "," HUMAN, 16000, false, true, true},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		weigh_it(cases[i].messages, cases[i].tokens);
		assert_int_equal(s.weighed.one_shot, cases[i].one_shot);
		assert_int_equal(s.plan.condense, cases[i].made);
		assert_int_equal(s.plan.must_shrink, cases[i].must_shrink);
		assert_int_equal(s.plan.keep_ratio > 0, cases[i].one_shot);
	}
}

/* Another form of so many tokens, nothing of it in the cache. */
static void against(uint64_t tokens, const uint64_t *forced, size_t forced_count)
{
	static const uint64_t chains[] = {11, 12, 13};
	struct prefix_chain chain = {0};
	struct weigh_other other = {.chain = &chain,
		.tokens = tokens,
		.chains = chains,
		.forced = forced,
		.forced_count = forced_count};
	assert_int_equal(prefix_add(&chain, SLICE("other"), 10), 0);
	weigh_against(&s.facts, &s.chain, &other, &s.weighed, &s.plan);
	prefix_chain_fini(&chain);
}

static void test_what_goes(void **state)
{
	(void)state;
	const uint64_t elsewhere[] = {5, 9}, here[] = {5, 12};
	weigh_it(HUMAN "," MODELS "," HUMAN, 12000); /* 15 s at the rates of the start, and more */
	against(3000, NULL, 0);
	assert_true(s.weighed.form == FORM_LAYOUT && s.plan.strategy == STRATEGY_C);
	assert_false(s.weighed.ways.form[FORM_CUT].there);
	against(11900, elsewhere, 2); /* saves nothing */
	assert_true(s.plan.must_shrink ||
		    (s.weighed.form == FORM_ORIGINAL && s.plan.strategy == STRATEGY_A));
	against(11900, here, 2); /* frozen early: it stays there */
	assert_true(s.weighed.form == FORM_LAYOUT && s.weighed.ways.on_layout);
	/* What the device has of the original makes it the sooner one. */
	struct prefix_chain sent = {0};
	struct forecast fc = weigh_forecast(&s.foresight, &s.chain, 12000);
	assert_int_equal(weigh_chain(&s.request, MODEL, &sent), 0);
	prefix_scale(&sent, 12000);
	foresight_sent(&s.foresight, &fc, &sent);
	prefix_chain_fini(&sent);
	foresight_ended(&s.foresight, &fc,
		&(struct outcome){.prompt = 12000, .prompt_ms = 15000, .first_ms = -1});
	weigh_it(HUMAN "," MODELS "," HUMAN, 12000);
	against(3000, NULL, 0);
	assert_true(s.weighed.form == FORM_ORIGINAL);
	weigh_it(HUMAN, 16000);
	against(5000, NULL, 0);
	assert_true(s.weighed.form == FORM_CUT && s.plan.must_shrink);
}

/* The form that against() weighs was sent before, as so many tokens by our estimate; the backend counted it. */
static void other_was_counted(uint64_t tokens, double counted)
{
	struct prefix_chain chain = {0};
	assert_int_equal(prefix_add(&chain, SLICE("other"), 10), 0);
	struct forecast fc = weigh_forecast(&s.foresight, &chain, tokens);
	foresight_sent(&s.foresight, &fc, &chain);
	prefix_chain_fini(&chain);
	foresight_ended(&s.foresight, &fc,
		&(struct outcome){.prompt = counted, .prompt_ms = 15000, .first_ms = -1});
}

/* An estimate of it is no reason to leave a layout that the backend has counted. */
static void test_a_count_says_whether_it_fits(void **state)
{
	(void)state;
	const uint64_t here[] = {5, 12};
	weigh_it(HUMAN "," MODELS "," HUMAN, 12000);
	uint64_t above = (uint64_t)s.plan.room_tokens + 100;
	against(above, here, 2);
	assert_true(s.weighed.form == FORM_ORIGINAL); /* nobody has counted: it may not fit */
	other_was_counted(above, 11000);
	against(above, here, 2);
	assert_true(s.weighed.form == FORM_LAYOUT && s.weighed.ways.on_layout);
	other_was_counted(above, 16200); /* the window, all but no answer */
	against(above, here, 2);
	assert_true(s.weighed.form == FORM_ORIGINAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_made, begin, end),
		cmocka_unit_test_setup_teardown(test_what_goes, begin, end),
		cmocka_unit_test_setup_teardown(test_a_count_says_whether_it_fits, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
