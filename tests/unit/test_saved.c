/* Conversations in files, as predictions have them: when one is restored, what its answer teaches. */
#include "supervisor/devices/foresight.h"
#include "supervisor/devices/keep.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define RATE 1.0 /* tokens a ms */

/* A chain of a talk's messages 1..last, 1000 tokens each. */
static struct prefix_chain prompt(const char *talk, int last)
{
	struct prefix_chain c = {0};
	char text[32];
	for (int i = 1; i <= last; i++) {
		snprintf(text, sizeof(text), "%s %d", talk, i);
		assert_int_equal(prefix_add(&c, slice_str(text), 1000), 0);
	}
	return c;
}

static void init(struct foresight *f)
{
	foresight_init(f, 1);
	for (int i = 0; i < 20; i++)
		predict_learn(&f->rates, 0, 1000, 1000 / RATE);
}

/* Its file holds messages 1..last and an answer of 100 tokens. */
static struct saved_chat *keep(
	struct foresight *f, uint64_t id, const char *talk, int last, double bytes)
{
	struct prefix_chain c = prompt(talk, last);
	struct saved_chat *e = saved_put(&f->saved, id, &c);
	assert_non_null(e);
	e->tokens = last * 1000.0 + 100;
	e->bytes = bytes;
	e->there = true;
	return e;
}

static struct forecast ask(const struct foresight *f, const char *talk, int last)
{
	struct prefix_chain c = prompt(talk, last);
	struct forecast fc = foresee(f, &c);
	prefix_chain_fini(&c);
	return fc;
}

/* Asked and answered: `cached` tokens of it were in the backend. */
static struct forecast turn(struct foresight *f, const char *talk, int last, double cached)
{
	struct prefix_chain c = prompt(talk, last);
	struct forecast fc = foresee(f, &c);
	struct outcome o = {.prompt = last * 1000.0,
		.cached = cached,
		.output = 100,
		.prompt_ms = (last * 1000.0 - cached) / RATE,
		.first_ms = -1};
	foresight_sent(f, &fc, &c);
	foresight_ended(f, &fc, &o);
	return fc;
}

static void restored_where_that_is_sooner(void **state)
{
	(void)state;
	struct foresight f;
	init(&f);
	saved_restored(&f.saved, 1000, 1);			  /* 1000 bytes/ms */
	struct saved_chat *e = keep(&f, 5, "a", 4, 1000.0 * 500); /* half a second */
	struct forecast fc = ask(&f, "a", 5);
	assert_true(fc.restore && fc.kept == 5 && fc.conversation == 5);
	assert_true(fc.kept_tokens == 4100 && fc.match.cached == 4100 && fc.match.fresh == 900);
	assert_true(fc.ms > 1200 && fc.ms < 1700);
	e->bytes = 1000.0 * 3800; /* as long as reading it */
	fc = ask(&f, "a", 5);
	assert_true(!fc.restore && fc.kept == 0 && fc.conversation == 5 && fc.match.cached == 0);
	e->bytes = 1000.0 * 500;
	fc = ask(&f, "b", 5);
	assert_true(!fc.restore && fc.conversation != 5 && fc.conversation != 0);
	e->there = false;
	assert_false(ask(&f, "a", 5).restore);
	e->there = true;
	f.saved.off = true;
	assert_false(ask(&f, "a", 5).restore);
	saved_list(&f.saved);
	assert_false(f.saved.off);
	assert_false(ask(&f, "a", 5).restore);
	foresight_fini(&f);
}

static void not_where_a_slot_has_it(void **state)
{
	(void)state;
	struct foresight f;
	init(&f);
	uint64_t id = turn(&f, "a", 4, 0).conversation;
	keep(&f, id, "a", 4, 1000);
	struct forecast fc = ask(&f, "a", 5);
	assert_true(!fc.restore && fc.conversation == id);
	fc = turn(&f, "a", 5, 4100);
	assert_true(fc.conversation == id); /* the same file for a conversation that grows */
	foresight_fini(&f);
}

static void the_host_cache_first_and_by_its_last_answer(void **state)
{
	(void)state;
	struct foresight f;
	init(&f);
	keep(&f, turn(&f, "a", 4, 0).conversation, "a", 4, 1000);
	turn(&f, "b", 4, 0);
	assert_false(ask(&f, "a", 5).restore);
	f.no_host_cache = true;
	assert_true(ask(&f, "a", 5).restore);
	f.no_host_cache = false;
	turn(&f, "a", 5, 4100); /* it was there */
	turn(&f, "b", 5, 4100);
	assert_false(ask(&f, "a", 6).restore);
	keep(&f, ask(&f, "a", 6).conversation, "a", 5, 1000);
	turn(&f, "a", 6, 0); /* not any more */
	turn(&f, "b", 6, 0);
	keep(&f, ask(&f, "a", 7).conversation, "a", 6, 1000);
	struct forecast fc = ask(&f, "a", 7);
	assert_true(fc.restore);
	/* What was restored says nothing of the cache. */
	turn(&f, "a", 7, 6100);
	turn(&f, "b", 7, 0);
	keep(&f, ask(&f, "a", 8).conversation, "a", 7, 1000);
	assert_true(ask(&f, "a", 8).restore);
	foresight_fini(&f);
}

/* A server of one slot is expected to have put it aside; once it had not, the file is believed. */
static void a_cache_that_was_believed_to_hold_it(void **state)
{
	(void)state;
	struct foresight f;
	init(&f);
	foresight_puts_aside(&f, 0.5);
	keep(&f, turn(&f, "a", 4, 0).conversation, "a", 4, 1000);
	keep(&f, turn(&f, "b", 4, 0).conversation, "b", 4, 1000);
	struct forecast fc = ask(&f, "a", 5);
	assert_true(!fc.restore && fc.match.cached > 4000);
	turn(&f, "a", 5, 0);
	fc = ask(&f, "b", 5);
	assert_true(fc.restore && fc.match.cached == 4100 && fc.match.moved == 0);
	assert_true(fc.ms < 1500);
	foresight_fini(&f);
}

static void restoring_is_no_overhead(void **state)
{
	(void)state;
	struct foresight f;
	init(&f);
	keep(&f, 5, "a", 4, 1000);
	struct prefix_chain c = prompt("a", 5);
	struct forecast fc = foresee(&f, &c);
	uint64_t before = f.rates.overheads;
	struct outcome o = {
		.prompt = 5000, .cached = 4100, .output = 10, .prompt_ms = 900, .first_ms = 3900};
	assert_true(fc.restore);
	foresight_sent(&f, &fc, &c);
	foresight_ended(&f, &fc, &o);
	assert_true(f.rates.overheads == before);
	foresight_fini(&f);
}

static void a_part_of_it(void **state)
{
	(void)state;
	struct foresight f;
	init(&f);
	keep(&f, 5, "a", 4, 1000);
	struct prefix_chain c = prompt("a", 3);
	assert_int_equal(prefix_add(&c, SLICE("another way"), 1000), 0);
	struct forecast fc = foresee(&f, &c);
	assert_true(fc.restore && fc.kept == 5 && fc.kept_tokens == 3000);
	assert_true(fc.conversation != 5); /* it goes another way: a file of its own */
	prefix_chain_fini(&c);
	c = prompt("a", 4); /* the same again: the last token is read */
	fc = foresee(&f, &c);
	assert_true(fc.restore && fc.kept_tokens == 3999);
	prefix_chain_fini(&c);
	foresight_fini(&f);
}

static void loaded_until_an_answer_has_told(void **state)
{
	(void)state;
	struct foresight f;
	init(&f);
	foresight_loaded(&f, keep(&f, 5, "a", 4, 1000));
	struct forecast fc = ask(&f, "a", 5);
	assert_true(!fc.restore && fc.kept == 5 && fc.kept_tokens == 4100);
	turn(&f, "a", 5, 4100);
	assert_false(saved_get(&f.saved, 5)->loaded);
	assert_true(ask(&f, "a", 6).kept == 0);
	foresight_loaded(&f, saved_get(&f.saved, 5));
	foresight_forget(&f);
	assert_false(saved_get(&f.saved, 5)->loaded);
	foresight_fini(&f);
}

/* A prompt that merely begins alike may go to another slot, or have this one cleared. */
static void another_conversation_is_no_proof(void **state)
{
	(void)state;
	struct foresight f;
	init(&f);
	foresight_loaded(&f, keep(&f, 5, "a", 4, 1000));
	struct prefix_chain c = prompt("a", 1), more = prompt("b", 9);
	for (size_t i = 0; i < more.count; i++)
		assert_int_equal(prefix_add(&c, SLICE("another"), 1000), 0);
	struct forecast fc = foresee(&f, &c);
	assert_true(!fc.restore && fc.kept == 0);
	prefix_chain_fini(&c);
	prefix_chain_fini(&more);
	c = prompt("a", 4); /* its next turn, far longer than all before */
	assert_int_equal(prefix_add(&c, SLICE("long"), 40000), 0);
	assert_true(foresee(&f, &c).kept == 0);
	prefix_chain_fini(&c);
	assert_true(saved_get(&f.saved, 5)->loaded && ask(&f, "a", 5).kept == 5);
	foresight_fini(&f);
}

/* What has left its slot proves nothing of the server, and comes back from its file, if there is one. */
static void loaded_until_another_takes_its_slot(void **state)
{
	(void)state;
	struct foresight f;
	init(&f);
	f.no_host_cache = true;
	foresight_loaded(&f, keep(&f, 5, "a", 4, 1000));
	turn(&f, "b", 3, 0);
	struct forecast fc = ask(&f, "a", 5);
	assert_true(fc.restore && fc.kept == 5 && fc.kept_tokens == 4100);
	saved_get(&f.saved, 5)->there = false;
	fc = ask(&f, "a", 5);
	assert_true(!fc.restore && fc.kept == 0);
	foresight_fini(&f);
}

static void caps(void **state)
{
	(void)state;
	struct saved s = {0};
	double bytes;
	for (uint64_t i = 1; i <= SAVED_MAX + 10; i++) {
		struct prefix_chain c = prompt("x", 3);
		struct saved_chat *e = saved_put(&s, i, &c);
		e->there = true;
		e->bytes = 2;
	}
	assert_int_equal(s.count, SAVED_MAX);
	assert_true(saved_get(&s, SAVED_MAX + 10) && !saved_get(&s, 10) && saved_get(&s, 11));
	assert_int_equal(saved_there(&s, &bytes), SAVED_MAX);
	assert_true(bytes == 2.0 * SAVED_MAX);
	struct prefix_chain huge = {.links = calloc(PREFIX_LINKS_MAX + 1, sizeof(*huge.links)),
		.count = PREFIX_LINKS_MAX + 1};
	assert_non_null(huge.links);
	assert_null(saved_put(&s, 1, &huge));
	assert_null(huge.links);
	huge = (struct prefix_chain){
		.links = calloc(PREFIX_LINKS_MAX, sizeof(*huge.links)), .count = PREFIX_LINKS_MAX};
	assert_non_null(huge.links);
	assert_non_null(saved_put(&s, 1, &huge));
	assert_int_equal(s.count, 1); /* the others had to go */
	saved_fini(&s);
}

static void what_it_is_about_is_kept(void **state)
{
	(void)state;
	uv_loop_t loop;
	char dir[] = "/tmp/tandem-test-XXXXXX", command[64];
	struct prefix_chain c = prompt("a", 5), again;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(uv_loop_init(&loop), 0);
	struct keep *k = keep_start(&loop, dir, STORE_BYTES_MIN);
	assert_non_null(k);
	keep_chain(k, 7, &again);
	assert_int_equal(again.count, 0);
	keep_save_chain(k, 7, &c);
	keep_stop(k);
	uv_run(&loop, UV_RUN_DEFAULT);
	keep_destroy(k);
	k = keep_start(&loop, dir, STORE_BYTES_MIN);
	keep_chain(k, 7, &again);
	assert_int_equal(again.count, 5);
	assert_int_equal(prefix_common(&c, &again), 5);
	assert_true(fabs(prefix_tokens(&again) - 5000) < 1);
	prefix_chain_fini(&again);
	keep_chain(k, 8, &again);
	assert_int_equal(again.count, 0);
	prefix_chain_fini(&c);
	/* As long as a conversation can be: it is not kept, and that is all. */
	c = (struct prefix_chain){
		.links = calloc(KEEP_LINKS_MAX + 1, sizeof(*c.links)), .count = KEEP_LINKS_MAX + 1};
	assert_non_null(c.links);
	keep_save_chain(k, 9, &c);
	prefix_chain_fini(&c);
	keep_stop(k);
	uv_run(&loop, UV_RUN_DEFAULT);
	keep_destroy(k);
	assert_int_equal(uv_loop_close(&loop), 0);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a folder of this test */
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(restored_where_that_is_sooner),
		cmocka_unit_test(not_where_a_slot_has_it),
		cmocka_unit_test(the_host_cache_first_and_by_its_last_answer),
		cmocka_unit_test(a_cache_that_was_believed_to_hold_it),
		cmocka_unit_test(restoring_is_no_overhead), cmocka_unit_test(a_part_of_it),
		cmocka_unit_test(loaded_until_an_answer_has_told),
		cmocka_unit_test(another_conversation_is_no_proof),
		cmocka_unit_test(loaded_until_another_takes_its_slot), cmocka_unit_test(caps),
		cmocka_unit_test(what_it_is_about_is_kept)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
