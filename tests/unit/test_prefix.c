/* What is known of a backend's prefix caches: chains, ages, what the backend's counts teach. */
#include "supervisor/devices/prefix.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* A chain of the words of text, 100 tokens each. */
static struct prefix_chain chain(const char *text)
{
	struct prefix_chain c = {0};
	while (*text) {
		size_t n = strcspn(text, " ");
		assert_int_equal(prefix_add(&c, (struct slice){text, n}, 100), 0);
		text += n + (text[n] == ' ');
	}
	return c;
}

static struct prefix_match find(struct prefix_map *m, const char *text)
{
	struct prefix_chain c = chain(text);
	struct prefix_match match = prefix_find(m, &c);
	prefix_chain_fini(&c);
	return match;
}

/* A request from beginning to end; the backend has `cached` (< 0: unknown) of it cached. */
static void ask(struct prefix_map *m, const char *text, double cached, double output)
{
	struct prefix_chain c = chain(text);
	struct prefix_match match = prefix_find(m, &c);
	double tokens = prefix_tokens(&c);
	uint64_t id = prefix_sent(m, &c);
	assert_true(id != 0 && c.links == NULL);
	prefix_counted(m, id, &match, tokens, cached, output);
}

static void test_chains(void **state)
{
	(void)state;
	struct prefix_chain a = chain("sys one two"), b = chain("sys one three two"),
			    c = chain("sysone two");
	assert_true(a.links[1].hash == b.links[1].hash);
	assert_true(a.links[2].hash != b.links[2].hash);
	assert_true(a.links[2].hash != b.links[3].hash); /* of all before it, too */
	assert_true(a.links[0].hash != c.links[0].hash);
	assert_true(prefix_tokens(&b) == 400);
	prefix_chain_fini(&a);
	prefix_chain_fini(&b);
	prefix_chain_fini(&c);
	struct prefix_chain empty = {0};
	assert_true(prefix_tokens(&empty) == 0);
}

static void test_what_is_left_of_one(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(2);
	struct prefix_chain c = chain("sys one two");
	struct prefix_match match = prefix_find(m, &c);
	enum prefix_age age = PREFIX_AGES;
	uint64_t id = prefix_sent(m, &c);
	assert_true(prefix_held(m, id, &age) == 300 && age == PREFIX_LAST);
	prefix_counted(m, id, &match, 330, 0, 20);
	assert_true(fabs(prefix_held(m, id, &age) - 350) < .001);
	ask(m, "other a b", 0, 0);
	assert_true(fabs(prefix_held(m, id, &age) - 350) < .001 && age == PREFIX_SLOTS);
	ask(m, "more a b", 0, 0);
	assert_true(prefix_held(m, id, &age) == 0 && age == PREFIX_EVICTED); /* not trusted yet */
	ask(m, "sys one two three", 0, 0); /* goes on in that one */
	assert_true(prefix_held(m, id, &age) == 0 && prefix_held(m, 99, &age) == 0);
	prefix_map_destroy(m);
}

static void test_scaled_to_tokens(void **state)
{
	(void)state;
	struct prefix_chain a = chain("a b c d"), empty = {0};
	prefix_scale(&a, 1000);
	assert_true(prefix_tokens(&a) == 1000 && a.links[1].tokens == 500);
	prefix_scale(&empty, 1000);
	assert_true(prefix_tokens(&empty) == 0);
	prefix_chain_fini(&a);
}

static void test_a_session(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(1);
	struct prefix_match x = find(m, "a b c");
	assert_true(x.cached == 0 && x.fresh == 300);
	ask(m, "a b c", -1, 0);
	x = find(m, "a b c d e");
	assert_true(x.cached == 300 && x.fresh == 200);
	x = find(m, "a b x y z"); /* an edited middle */
	assert_true(x.cached == 200 && x.fresh == 300);
	x = find(m, "a b c"); /* the same again: one token is always new */
	assert_true(x.cached == 299 && x.fresh == 1);
	x = find(m, "b c");
	assert_true(x.cached == 0 && x.fresh == 200);
	prefix_map_destroy(m);
}

/* What was written is behind the prompt, and comes back in the next message. */
static void test_the_answer_is_cached_too(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(1);
	ask(m, "a b c", 0, 60);
	struct prefix_match x = find(m, "a b c answer result");
	assert_true(x.cached == 360 && x.fresh == 140);
	x = find(m, "a b x");
	assert_true(x.cached == 200);
	ask(m, "a b c", 300, 5000); /* never more than the message has */
	x = find(m, "a b c answer result");
	assert_true(x.cached == 400);
	prefix_map_destroy(m);
}

/* Our estimate was off: the chain is scaled by what the backend counted, and what follows too. */
static void test_scaled_by_counts(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(1);
	struct prefix_chain c = chain("a b c d");
	struct prefix_match match = prefix_find(m, &c);
	uint64_t id = prefix_sent(m, &c);
	prefix_counted(m, id, &match, 600, 0, 0);
	struct prefix_match x = find(m, "a b c d e");
	assert_true(fabs(x.cached - 600) < 1e-9 && fabs(x.fresh - 150) < 1e-9);
	/* a count about something else is none */
	c = chain("a b c d e");
	match = prefix_find(m, &c);
	id = prefix_sent(m, &c);
	prefix_counted(m, id, &match, 3, 0, 0);
	x = find(m, "a b c d e");
	assert_true(fabs(x.cached + x.fresh - 750) < 1e-9);
	prefix_map_destroy(m);
}

/* Two conversations that take turns on one slot: none finds its prefix, unless the backend keeps
 * evicted ones, which its counts tell. */
/* The backend's own count of the last prompt, and an estimate of what is new only. */
/* A greeting of some words counts twice what they are: that is the template's, and no lesson. */
static void test_a_short_prompt_teaches_nothing(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(1);
	struct prefix_chain shorter = {0}, longer = {0};
	assert_int_equal(prefix_add(&shorter, SLICE("model"), 7), 0);
	assert_int_equal(prefix_add(&shorter, SLICE("hi"), 7), 0);
	assert_int_equal(prefix_add(&longer, SLICE("model"), 7), 0);
	assert_int_equal(prefix_add(&longer, SLICE("a long text"), 5000), 0);
	struct prefix_match match = prefix_find(m, &shorter);
	prefix_counted(m, prefix_sent(m, &shorter), &match, 37, 0, 4);
	match = prefix_find(m, &longer);
	assert_true(match.cached + match.fresh <= 5007 + 37);
	prefix_chain_fini(&shorter);
	prefix_chain_fini(&longer);
	prefix_map_destroy(m);
}

static void test_counted(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(1);
	struct prefix_chain c = chain("sys one");
	struct prefix_match match = prefix_find(m, &c);
	assert_true(match.counted == 0);
	uint64_t id = prefix_sent(m, &c);
	assert_true(find(m, "sys one answer two").counted == 0); /* it has not ended */
	prefix_counted(m, id, &match, 260, 0, 30);		 /* we thought 200 */
	match = find(m, "sys one answer two");
	assert_true(match.counted == 290);
	/* the answer and 100 more, 1.3 times as many: 260 + 2 * 130, of which 30 are known */
	assert_true(fabs(match.cached + match.fresh - 520) < 1);
	match = find(m, "sys one");
	assert_true(match.counted == 260 && fabs(match.cached + match.fresh - 260) < 1);
	/* a part of it was not counted by itself */
	match = find(m, "sys other");
	assert_true(match.counted == 0 && fabs(match.cached + match.fresh - 260) < 1);
	/* nor is the rest of one that was cut */
	c = chain("sys one answer two");
	match = prefix_find(m, &c);
	id = prefix_sent(m, &c);
	prefix_counted(m, id, &match, 500, 290, 0);
	prefix_cut(m, id, 300);
	assert_true(find(m, "sys one answer two").counted == 0);
	prefix_map_destroy(m);
}

static void test_evicted(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(1);
	ask(m, "sys a1 a2 a3 a4", 0, 0);
	ask(m, "sys b1 b2 b3 b4", 100, 0);
	struct prefix_match x = find(m, "sys a1 a2 a3 a4 a5");
	assert_true(x.cached == 100 && x.fresh == 500);
	/* it did have it */
	ask(m, "sys a1 a2 a3 a4 a5", 500, 0);
	ask(m, "sys b1 b2 b3 b4 b5", 500, 0);
	ask(m, "sys a1 a2 a3 a4 a5 a6", 600, 0);
	ask(m, "sys b1 b2 b3 b4 b5 b6", 600, 0);
	x = find(m, "sys a1 a2 a3 a4 a5 a6 a7");
	assert_true(x.cached > 500 && x.cached <= 700);
	/* and then no more */
	for (int i = 0; i < 4; i++) {
		ask(m, i % 2 ? "sys b1 b2 b3 b4 b5 b6" : "sys a1 a2 a3 a4 a5 a6", 100, 0);
		unsigned lessons;
		assert_true(prefix_trust(m, PREFIX_LAST, &lessons) > 0.99);
	}
	x = find(m, "sys a1 a2 a3 a4 a5 a6 a7");
	assert_true(x.cached < 700);
	prefix_map_destroy(m);
}

static void test_slots(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(2);
	ask(m, "sys a1 a2 a3 a4", 0, 0);
	ask(m, "sys b1 b2 b3 b4", 100, 0);
	struct prefix_match x = find(m, "sys a1 a2 a3 a4 a5");
	assert_true(x.cached == 500 && x.fresh == 100);
	ask(m, "sys c1 c2 c3 c4", 100, 0);
	x = find(m, "sys a1 a2 a3 a4 a5"); /* three for two slots */
	assert_true(x.cached == 100);
	prefix_map_destroy(m);
}

/* A model whose caches can't be used again (hybrid, sliding window): after a few requests nothing
 * is expected of them. */
static void test_no_reuse(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(1);
	unsigned lessons;
	ask(m, "a b c d", 0, 0);
	ask(m, "a b c d e", 0, 0);
	ask(m, "a b c d e f", 0, 0);
	ask(m, "a b c d e f g", 0, 0);
	struct prefix_match x = find(m, "a b c d e f g h");
	assert_true(x.cached < 0.3 * 700);
	assert_true(prefix_trust(m, PREFIX_LAST, &lessons) < 0.3 && lessons == 3);
	ask(m, "a b c d e f g h", 700, 0);
	ask(m, "a b c d e f g h i", 800, 0);
	ask(m, "a b c d e f g h i j", 900, 0);
	assert_true(prefix_trust(m, PREFIX_LAST, &lessons) > 0.7);
	/* what shares little teaches nothing */
	unsigned before = lessons;
	ask(m, "a b x", 0, 0);
	prefix_trust(m, PREFIX_LAST, &lessons);
	assert_int_equal(lessons, before);
	prefix_map_destroy(m);
}

static void test_cut_and_forgotten(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(1);
	struct prefix_chain c = chain("a b c d e");
	uint64_t id = prefix_sent(m, &c);
	prefix_cut(m, id, 250);
	struct prefix_match x = find(m, "a b c d e f");
	assert_true(x.cached == 200 && x.fresh == 400);
	prefix_cut(m, id, 10);
	assert_true(find(m, "a b c d e f").cached == 0);
	prefix_cut(m, id, 10); /* gone */
	prefix_counted(m, id, &x, 100, 0, 0);
	ask(m, "a b c", 0, 0);
	prefix_forget(m);
	assert_true(find(m, "a b c").cached == 0);
	assert_true(prefix_sent(m, &(struct prefix_chain){0}) == 0);
	prefix_map_destroy(m);
	prefix_map_destroy(NULL);
}

/* One slot, whose prompt is put aside for one that is less alike than .5. */
static void test_put_aside(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(1);
	ask(m, "a b c d e f g h", 0, 10);
	ask(m, "a b x y z", 200, 0);
	assert_true(
		find(m, "a b c d e f g h i").cached == 200); /* nobody knows that it comes back */
	prefix_puts_aside(m, .5);
	struct prefix_match back = find(m, "a b c d e f g h i");
	assert_true(back.cached == 810 && back.moved == 810 + 500);
	assert_true(find(m, "a b c").cached == 200); /* so alike that it stays where it is */
	assert_true(find(m, "a b c").moved == 0);
	assert_true(prefix_leaves(m, 200, 400) && !prefix_leaves(m, 201, 400));
	ask(m, "a b c d e f g h i", 200, 0); /* it does not come back, as it turns out */
	ask(m, "a b x y z 1", 200, 0);
	ask(m, "a b c d e f g h i j", 200, 0);
	assert_true(find(m, "a b x y z 1 2 3").cached < 350);
	prefix_map_destroy(m);
}

/* However many conversations, however long: bounded, and the newest is there. */
/* A reload has given it another number: what was an older prompt is in a slot, and the other way round. */
static void test_other_slots(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(1);
	for (int i = 0; i < PREFIX_EXTRA_CHAINS + 1; i++) {
		char text[32];
		snprintf(text, sizeof(text), "talk%d one two three", i);
		ask(m, text, 0, 0);
	}
	struct prefix_match match = find(m, "talk7 one two three four");
	assert_true(match.shared[PREFIX_EVICTED] == 400 && match.cached == 0);
	m = prefix_map_resize(m, 2);
	match = find(m, "talk7 one two three four");
	assert_true(match.shared[PREFIX_SLOTS] == 400 && match.cached == 400);
	ask(m, "talk9 one two three", 0, 0);
	assert_true(find(m, "talk0 one two three four").shared[PREFIX_EVICTED] ==
		    400); /* there is room for one more */
	m = prefix_map_resize(m, 1);
	assert_true(find(m, "talk0 one two three four").shared[PREFIX_EVICTED] == 0);
	assert_true(find(m, "talk9 one two three four").cached == 400);
	prefix_map_destroy(m);
}

static void test_caps(void **state)
{
	(void)state;
	struct prefix_map *m = prefix_map_create(4);
	char word[32];
	for (int i = 0; i < 1000; i++) {
		struct prefix_chain c = {0};
		snprintf(word, sizeof(word), "talk %d", i);
		for (int k = 0; k < (i % 100 == 99 ? 65537 : 3); k++)
			assert_int_equal(prefix_add(&c, slice_str(word), 10), 0);
		struct prefix_match before = prefix_find(m, &c);
		assert_true(before.cached == 0);
		uint64_t id = prefix_sent(m, &c);
		assert_true(id > 0);
		struct prefix_chain again = {0};
		for (int k = 0; k < 3; k++)
			prefix_add(&again, slice_str(word), 10);
		assert_true(prefix_find(m, &again).cached == 29);
		prefix_chain_fini(&again);
	}
	struct prefix_chain huge = {0};
	for (int k = 0; k <= PREFIX_LINKS_MAX; k++)
		prefix_add(&huge, SLICE("x"), 1);
	assert_true(prefix_sent(m, &huge) == 0 && huge.links == NULL);
	prefix_map_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_what_is_left_of_one),
		cmocka_unit_test(test_scaled_to_tokens),
		cmocka_unit_test(test_a_session),
		cmocka_unit_test(test_the_answer_is_cached_too),
		cmocka_unit_test(test_scaled_by_counts),
		cmocka_unit_test(test_a_short_prompt_teaches_nothing),
		cmocka_unit_test(test_counted),
		cmocka_unit_test(test_evicted),
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_no_reuse),
		cmocka_unit_test(test_cut_and_forgotten),
		cmocka_unit_test(test_put_aside),
		cmocka_unit_test(test_other_slots),
		cmocka_unit_test(test_caps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
