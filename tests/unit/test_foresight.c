/* Predictions of a device that is asked and taught: llama-server's counts, Ollama's times. */
#include "supervisor/devices/foresight.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define RATE 1000.0 /* the device's tokens a second, at any depth */
#define OVERHEAD 50.0

/* The device as it is: one slot, which holds the last prompt. */
struct device {
	struct foresight f;
	struct prefix_map *truth;
	bool tells, reuses;
	double speed;
};

static void init(struct device *d, bool tells)
{
	foresight_init(&d->f, 1);
	d->truth = prefix_map_create(1);
	d->tells = tells;
	d->reuses = true;
	d->speed = 1;
}

static void fini(struct device *d)
{
	foresight_fini(&d->f);
	prefix_map_destroy(d->truth);
}

/* A system prompt of 4000 tokens, then messages first..last of a conversation, 300 each. */
static struct prefix_chain prompt(const char *talk, int last)
{
	struct prefix_chain c = {0};
	char text[32];
	prefix_add(&c, SLICE("system"), 4000);
	for (int i = 1; i <= last; i++) {
		snprintf(text, sizeof(text), "%s %d", talk, i);
		prefix_add(&c, slice_str(text), 300);
	}
	return c;
}

/* Asks; returns how far the prediction was off, as a share. */
static double ask(struct device *d, const char *talk, int last)
{
	struct prefix_chain c = prompt(talk, last), truth = prompt(talk, last);
	struct prefix_match really = prefix_find(d->truth, &truth);
	double total = prefix_tokens(&c), cached = d->reuses ? really.cached : 0;
	struct forecast fc = foresee(&d->f, &c);
	foresight_sent(&d->f, &fc, &c);
	prefix_sent(d->truth, &truth);
	double ms = (total - cached) / RATE * 1000 / d->speed;
	struct outcome o = {.prompt = total,
		.cached = d->tells ? cached : -1,
		.output = 0,
		.prompt_ms = ms,
		.first_ms = ms + OVERHEAD};
	foresight_ended(&d->f, &fc, &o);
	return fabs(fc.ms / (ms + OVERHEAD) - 1);
}

static void session(struct device *d, const char *talk, int from, int to, double within)
{
	for (int i = from; i <= to; i++) {
		double off = ask(d, talk, i);
		if (off > within)
			fail_msg("%s %d: off by %.2f (tells %d)", talk, i, off, d->tells);
	}
}

static void test_a_session(void **state)
{
	(void)state;
	for (int tells = 0; tells < 2; tells++) {
		struct device d;
		init(&d, tells);
		session(&d, "a", 1, 12, 10);
		session(&d, "a", 13, 40, 0.1);
		session(&d, "b", 1, 1, 0.1); /* shares the system prompt */
		session(&d, "b", 2, 20, 0.1);
		fini(&d);
	}
}

/* The other conversation took the slot without our knowing (another client of the same backend). */
static void test_a_cache_that_was_lost(void **state)
{
	(void)state;
	for (int tells = 0; tells < 2; tells++) {
		struct device d;
		init(&d, tells);
		session(&d, "a", 1, 20, 10);
		prefix_forget(d.truth);
		assert_true(ask(&d, "a", 21) > 0.5); /* nobody could know */
		session(&d, "a", 22, 26, 0.5);	     /* the rates were not spoiled */
		session(&d, "a", 27, 30, 0.15);
		fini(&d);
	}
}

/* We have been restarted, with the rates of before; the backend has its caches. */
static void test_a_cache_of_before(void **state)
{
	(void)state;
	for (int tells = 0; tells < 2; tells++) {
		struct device d;
		init(&d, tells);
		session(&d, "a", 1, 20, 10);
		struct predict_rates rates = d.f.rates;
		foresight_fini(&d.f);
		foresight_init(&d.f, 1);
		d.f.rates = rates;
		assert_true(ask(&d, "a", 21) > 0.5);
		session(&d, "a", 22, 30, 0.15);
		fini(&d);
	}
}

static void test_forget(void **state)
{
	(void)state;
	struct device d;
	init(&d, true);
	session(&d, "a", 1, 20, 10);
	prefix_forget(d.truth); /* the backend was restarted, and we were told */
	foresight_forget(&d.f);
	session(&d, "a", 21, 25, 0.1);
	fini(&d);
}

/* Rates that are wrong by a factor of three, up or down, with and without counts. */
static void test_wrong_rates(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct device d;
		init(&d, i & 1);
		session(&d, "a", 1, 30, 10);
		d.speed = i & 2 ? 3 : 1 / 3.0; /* the card is another one now */
		session(&d, "a", 31, 40, 10);
		session(&d, "a", 41, 46, 0.1);
		session(&d, "b", 1, 1, 0.2);
		session(&d, "b", 2, 10, 0.1);
		fini(&d);
	}
}

static void test_no_reuse(void **state)
{
	(void)state;
	for (int tells = 0; tells < 2; tells++) {
		struct device d;
		init(&d, tells);
		d.reuses = false;
		assert_true(foresight_reuses(&d.f));
		session(&d, "a", 1, 15, 20);
		assert_false(foresight_reuses(&d.f));
		session(&d, "a", 16, 20, 0.15);
		d.reuses = true;
		session(&d, "a", 21, 35, 100);
		assert_true(foresight_reuses(&d.f));
		fini(&d);
	}
}

/* Nobody says how far a cancelled prefill came: what was there before counts, nothing more. */
static void test_cancelled(void **state)
{
	(void)state;
	struct device d;
	init(&d, true);
	session(&d, "a", 1, 20, 10);
	struct prefix_chain c = prompt("new", 20);
	struct forecast fc = foresee(&d.f, &c);
	assert_true(fc.match.cached == 4000); /* the system prompt */
	foresight_sent(&d.f, &fc, &c);
	foresight_cancelled(&d.f, &fc, false);
	c = prompt("new", 20);
	struct forecast again = foresee(&d.f, &c);
	assert_true(again.match.cached == 4000 && again.match.fresh == 6000);
	foresight_sent(&d.f, &again, &c);
	foresight_cancelled(&d.f, &again, true); /* it was writing already */
	c = prompt("new", 20);
	assert_true(foresee(&d.f, &c).match.fresh < 301);
	prefix_chain_fini(&c);
	fini(&d);
}

/* A warming that goes on with one that was ended has what that one had, until it is done. */
static void test_cancelled_twice(void **state)
{
	(void)state;
	struct device d;
	init(&d, true);
	session(&d, "a", 1, 20, 10);
	for (int i = 0; i < 3; i++) {
		struct prefix_chain c = prompt("new", 20 + i);
		struct forecast fc = foresee(&d.f, &c);
		assert_true(fc.match.cached == 4000);
		foresight_sent(&d.f, &fc, &c);
		foresight_cancelled(&d.f, &fc, false);
	}
	struct prefix_chain c = prompt("new", 22);
	struct forecast fc = foresee(&d.f, &c);
	foresight_sent(&d.f, &fc, &c);
	foresight_ended(&d.f, &fc, &(struct outcome){10600, 9000, 0, 1600, -1, 0});
	c = prompt("new", 23);
	assert_true(foresee(&d.f, &c).match.fresh < 301);
	prefix_chain_fini(&c);
	fini(&d);
}

/* A prompt that was read early ends with the answer, which stands in no link of its chain: the next one
 * has both in the cache, and costs its own new text. */
static void test_read_early(void **state)
{
	(void)state;
	struct device d;
	init(&d, true);
	session(&d, "a", 1, 20, 10);
	struct prefix_chain c = prompt("a", 20);
	struct forecast fc = foresee(&d.f, &c);
	foresight_sent(&d.f, &fc, &c);
	foresight_ended(&d.f, &fc, &(struct outcome){10250, 10000, 0, 250, -1, 250});
	c = prompt("a", 22);
	struct prefix_match next = foresee(&d.f, &c).match;
	assert_true(next.counted == 10250);
	assert_true(next.cached == 10250 && next.fresh > 349 && next.fresh < 351);
	prefix_chain_fini(&c);
	fini(&d);
}

/* A backend that reports no times: the first token tells. */
static void test_no_timings(void **state)
{
	(void)state;
	struct foresight f;
	foresight_init(&f, 1);
	for (int i = 1; i < 20; i++) {
		struct prefix_chain c = prompt("a", i);
		struct forecast fc = foresee(&f, &c);
		double total = prefix_tokens(&c), fresh = i == 1 ? total : 300;
		foresight_sent(&f, &fc, &c);
		struct outcome o = {total, total - fresh, 10, -1, fresh / RATE * 1000, 0};
		if (i > 10)
			assert_true(fabs(fc.ms / o.first_ms - 1) < 0.1);
		foresight_ended(&f, &fc, &o);
	}
	/* and one that reports nothing at all teaches nothing */
	struct predict_rates before = f.rates;
	struct prefix_chain c = prompt("a", 20);
	struct forecast fc = foresee(&f, &c);
	foresight_sent(&f, &fc, &c);
	assert_true(foresight_ended(&f, &fc, &(struct outcome){-1, -1, -1, -1, -1, 0}) < 0);
	assert_memory_equal(&f.rates, &before, sizeof(before));
	foresight_fini(&f);
}

/* One that does not tell what was cached, asked for short turns of long conversations, whose few new
 * tokens are estimated at three times what they are. */
static void test_short_turns(void **state)
{
	(void)state;
	struct foresight f;
	unsigned lessons;
	char text[32];
	foresight_init(&f, 1);
	for (int i = 0; i < 8; i++) {
		double size = 1000 << (i % 4), turn = 20;
		for (int warm = 0; warm < 2; warm++) {
			struct prefix_chain c = {0};
			snprintf(text, sizeof(text), "talk %d", i);
			prefix_add(&c, slice_str(text), size);
			if (warm)
				prefix_add(&c, SLICE("next"), 3 * turn);
			struct forecast fc = foresee(&f, &c);
			foresight_sent(&f, &fc, &c);
			double fresh = warm ? turn : size;
			struct outcome o = {.prompt = warm ? size + turn : size,
				.cached = -1,
				.prompt_ms = fresh / RATE * 1000,
				.first_ms = fresh / RATE * 1000 + OVERHEAD};
			foresight_ended(&f, &fc, &o);
		}
	}
	for (double size = 1000; size <= 8000; size *= 2)
		assert_true(fabs(predict_prefill_ms(&f.rates, 0, size) / size - 1) < 0.15);
	assert_true(prefix_trust(f.map, PREFIX_LAST, &lessons) > 0.995);
	foresight_fini(&f);
}

static void test_without_memory(void **state)
{
	(void)state;
	struct foresight f;
	foresight_init(&f, 1);
	prefix_map_destroy(f.map);
	f.map = NULL;
	struct prefix_chain c = prompt("a", 3);
	struct forecast fc = foresee(&f, &c);
	assert_true(fc.match.cached == 0 && fc.match.fresh == 4900);
	foresight_sent(&f, &fc, &c);
	foresight_ended(&f, &fc, &(struct outcome){4900, 0, 5, 4900, 5000, 0});
	foresight_cancelled(&f, &fc, false);
	foresight_forget(&f);
	assert_false(foresight_reuses(&f));
	prefix_chain_fini(&c);
	foresight_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_session),
		cmocka_unit_test(test_a_cache_that_was_lost),
		cmocka_unit_test(test_a_cache_of_before),
		cmocka_unit_test(test_forget),
		cmocka_unit_test(test_wrong_rates),
		cmocka_unit_test(test_no_reuse),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_cancelled_twice),
		cmocka_unit_test(test_read_early),
		cmocka_unit_test(test_no_timings),
		cmocka_unit_test(test_short_turns),
		cmocka_unit_test(test_without_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
