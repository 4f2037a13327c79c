/*
 * common/tokens: the census, estimates before and after learning against real vocabularies
 * (tests/tokens/counts.tsv), absurd reports, and what the table forgets.
 */
#include "common/tokens.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MODEL SLICE("qwen2.5:7b")
#define FOLDER "tests/tokens/"
#define SAMPLES_MAX 64
#define VOCABULARIES_MAX 16
#define SMALL_VOCABULARIES 2 /* the last ones of the table: before 2024, 32K to 49K entries */

static int setup(void **state)
{
	*state = tokens_create();
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	tokens_destroy(*state);
	return 0;
}

static struct token_census census_of(struct slice text)
{
	struct token_census c = {0};
	token_census_add(&c, text);
	return c;
}

#define CENSUS(text) census_of(SLICE(text))

/* --- the census --- */

static void counts_units_by_class(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum token_class class;
		uint64_t units;
	} cases[] = {
		{"two words", TOKEN_WORD, 2},
		{"two words", TOKEN_LETTER, 8},
		{"two words", TOKEN_BREAK, 0},
		{"getElementById", TOKEN_WORD, 4},
		{"getElementById", TOKEN_LETTER, 14},
		{"snake_case_name", TOKEN_WORD, 3},
		{"snake_case_name", TOKEN_PUNCT, 2},
		{"utf8", TOKEN_NOISE, 4},
		{"number12345", TOKEN_DIGIT, 5},
		{"1234 5678", TOKEN_DIGIT, 8},
		{"9f86d081884c7d65", TOKEN_NOISE, 16},
		{"aGVsbG8gd29ybGQ", TOKEN_NOISE, 15},
		{"a;b", TOKEN_PUNCT, 1},
		{"--------------------------------", TOKEN_PUNCT, 4},
		{"line\n\tline\n", TOKEN_BREAK, 2},
		{"line\n\t\t\tline", TOKEN_BREAK, 2},
		{"größe", TOKEN_WORD, 1},
		{"größe", TOKEN_ACCENT, 2},
		{"größe", TOKEN_LETTER, 5},
		{"Привет", TOKEN_CYRILLIC, 6},
		{"καλημέρα", TOKEN_GREEK, 8},
		{"שלום مرحبا", TOKEN_SEMITIC, 9},
		{"नमस्ते", TOKEN_INDIC, 6},
		{"สวัสดี", TOKEN_INDIC, 6},
		{"你好，世界。", TOKEN_HAN, 6},
		{"ひらがなカタカナ", TOKEN_KANA, 8},
		{"안녕하세요", TOKEN_HANGUL, 5},
		{"→ “x”", TOKEN_SIGN, 3},
		{"────────────────", TOKEN_SIGN, 2},
		{"🚀✅", TOKEN_EMOJI, 2},
		{"\xff\xfe", TOKEN_OTHER, 2},
		{"\xe4\xbd", TOKEN_OTHER, 2},
		{"ሰላም", TOKEN_OTHER, 3},
		{"", TOKEN_WORD, 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct token_census c = census_of(slice_str(cases[i].text));
		if (c.chars[cases[i].class] != cases[i].units)
			fail_msg("%s: class %d has %llu units, not %llu", cases[i].text,
				cases[i].class, (unsigned long long)c.chars[cases[i].class],
				(unsigned long long)cases[i].units);
	}
}

static void is_additive(void **state)
{
	(void)state;
	struct token_census a = CENSUS("int main(void)\n{\n\treturn 0;\n}\n"),
			    both = CENSUS("int main(void)\n{\n\treturn 0;\n}\n你好");
	token_census_add(&a, SLICE("你好"));
	assert_memory_equal(&a, &both, sizeof(a));
	token_census_messages(&a, 3);
	a.images = 2;
	assert_float_equal(token_census_start(&a) - token_census_start(&both),
		2.0 * TOKENS_PER_IMAGE + 3 * 5.0, 1e-9);
}

/* Text that is made to be slow or to overflow: linear, and no estimate below a token per
 * 512 bytes. */
static void hostile_text_is_counted(void **state)
{
	(void)state;
	static const char *const units[] = {" ", "\n", "a", "A", "7", "-", "\xff", "\xe2\x94\x80",
		"aA", "a1", "\xf0\x9f\x9a\x80", "\xcc\x81"};
	enum { SIZE = 1 << 20 };
	char *text = malloc(SIZE);
	assert_non_null(text);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i]);
		for (size_t at = 0; at + n <= SIZE; at += n)
			memcpy(text + at, units[i], n);
		struct token_census c = census_of((struct slice){text, SIZE / n * n});
		assert_true(token_census_start(&c) > SIZE / 512.0);
		assert_true(token_census_start(&c) < SIZE * 2.0);
	}
	free(text);
}

/* --- against real vocabularies --- */

struct samples {
	size_t count, vocabularies;
	char name[SAMPLES_MAX][32];
	char vocabulary[VOCABULARIES_MAX][32];
	uint64_t tokens[SAMPLES_MAX][VOCABULARIES_MAX];
	struct token_census census[SAMPLES_MAX];
};

static char *read_file(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	if (!f)
		fail_msg("%s is missing: run from the root of the tree", path);
	char *text = malloc(1 << 20);
	assert_non_null(text);
	*n = fread(text, 1, (1 << 20) - 1, f);
	text[*n] = '\0';
	fclose(f);
	return text;
}

static void read_samples(struct samples *s)
{
	memset(s, 0, sizeof(*s));
	size_t n;
	char *table = read_file(FOLDER "counts.tsv", &n), *lines = NULL, *fields = NULL;
	char *line = strtok_r(table, "\n", &lines);
	strtok_r(line, "\t", &fields);
	for (char *f; (f = strtok_r(NULL, "\t", &fields)) && s->vocabularies < VOCABULARIES_MAX;)
		snprintf(s->vocabulary[s->vocabularies++], sizeof(s->vocabulary[0]), "%s", f);
	while ((line = strtok_r(NULL, "\n", &lines)) && s->count < SAMPLES_MAX) {
		char path[128];
		char *name = strtok_r(line, "\t", &fields);
		snprintf(s->name[s->count], sizeof(s->name[0]), "%s", name);
		for (size_t v = 0; v < s->vocabularies; v++)
			s->tokens[s->count][v] = strtoull(strtok_r(NULL, "\t", &fields), NULL, 10);
		snprintf(path, sizeof(path), FOLDER "%s.txt", name);
		char *text = read_file(path, &n);
		s->census[s->count++] = census_of((struct slice){text, n});
		free(text);
	}
	free(table);
	assert_true(s->count >= 17 && s->vocabularies == 9);
}

/* Samples whose names differ in their last digit are of one kind. */
static bool same_kind(const char *a, const char *b)
{
	size_t n = strlen(a);
	return n == strlen(b) && strncmp(a, b, n - 1) == 0;
}

static double off(double estimate, uint64_t tokens)
{
	return fabs(estimate / (double)tokens - 1);
}

static void is_within_a_factor_before_the_first_lesson(void **state)
{
	static struct samples s;
	read_samples(&s);
	for (size_t i = 0; i < s.count; i++) {
		for (size_t v = 0; v < s.vocabularies - SMALL_VOCABULARIES; v++) {
			double factor =
				tokens_of(*state, MODEL, &s.census[i]) / (double)s.tokens[i][v];
			if (factor > 1.6 || factor < 1 / 1.6)
				fail_msg("%s with %s: off by a factor of %.2f", s.name[i],
					s.vocabulary[v], factor);
		}
	}
}

/* The old vocabularies of 32K to 49K entries, when their size is known. */
static void a_small_vocabulary_begins_with_its_own_factors(void **state)
{
	static struct samples s;
	read_samples(&s);
	tokens_vocabulary(*state, MODEL, 49152);
	for (size_t i = 0; i < s.count; i++) {
		for (size_t v = s.vocabularies - SMALL_VOCABULARIES; v < s.vocabularies; v++) {
			double factor =
				tokens_of(*state, MODEL, &s.census[i]) / (double)s.tokens[i][v];
			if (factor > 1.6 || factor < 1 / 1.6)
				fail_msg("%s with %s: off by a factor of %.2f", s.name[i],
					s.vocabulary[v], factor);
		}
	}
	double before = tokens_of(*state, MODEL, &s.census[0]);
	tokens_vocabulary(*state, SLICE("large"), 151936);
	tokens_vocabulary(*state, SLICE("unknown"), 0);
	assert_float_equal(tokens_of(*state, SLICE("large"), &s.census[0]),
		token_census_start(&s.census[0]), 0);
	assert_float_equal(tokens_of(*state, SLICE("unknown"), &s.census[0]),
		token_census_start(&s.census[0]), 0);
	/* What was taught stays. */
	tokens_learn(*state, MODEL, &s.census[0], (uint64_t)(before / 2));
	double taught = tokens_of(*state, MODEL, &s.census[0]);
	tokens_vocabulary(*state, MODEL, 32000);
	assert_float_equal(tokens_of(*state, MODEL, &s.census[0]), taught, 0);
}

static void is_close_after_one_lesson_of_the_kind(void **state)
{
	(void)state;
	static struct samples s;
	read_samples(&s);
	for (size_t v = 0; v < s.vocabularies; v++) {
		for (size_t i = 0; i < s.count; i++) {
			struct tokens *t = tokens_create();
			tokens_learn(t, MODEL, &s.census[i], s.tokens[i][v]);
			for (size_t k = 0; k < s.count; k++) {
				double estimate = tokens_of(t, MODEL, &s.census[k]);
				if (same_kind(s.name[i], s.name[k]) &&
					off(estimate, s.tokens[k][v]) > 0.15)
					fail_msg("%s after %s with %s: %.0f for %llu", s.name[k],
						s.name[i], s.vocabulary[v], estimate,
						(unsigned long long)s.tokens[k][v]);
			}
			tokens_destroy(t);
		}
	}
}

static size_t find(const struct samples *s, const char *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (strcmp(s->name[i], name) == 0)
			return i;
	fail_msg("no sample %s", name);
	return 0;
}

/* What one script teaches leaves the others where they were. */
static void a_script_does_not_spoil_another(void **state)
{
	(void)state;
	static struct samples s;
	read_samples(&s);
	static const char *const foreign[] = {"chinese1", "japanese1", "russian1", "base641"};
	static const char *const own[] = {"prose1", "code1", "minified1"};
	for (size_t v = 0; v < s.vocabularies; v++) {
		for (size_t f = 0; f < 4; f++) {
			for (size_t o = 0; o < 3; o++) {
				size_t a = find(&s, own[o]), b = find(&s, foreign[f]);
				struct tokens *t = tokens_create();
				tokens_learn(t, MODEL, &s.census[a], s.tokens[a][v]);
				double before =
					off(tokens_of(t, MODEL, &s.census[a]), s.tokens[a][v]);
				for (int i = 0; i < 20; i++)
					tokens_learn(t, MODEL, &s.census[b], s.tokens[b][v]);
				double after =
					off(tokens_of(t, MODEL, &s.census[a]), s.tokens[a][v]);
				if (after > before + 0.02)
					fail_msg("%s after 20 x %s with %s: %.3f, was %.3f", own[o],
						foreign[f], s.vocabulary[v], after, before);
				tokens_destroy(t);
			}
		}
	}
}

/* --- lessons --- */

static struct token_census words(uint64_t n)
{
	return (struct token_census){.chars = {[TOKEN_WORD] = n, [TOKEN_LETTER] = 5 * n}};
}

static double factor(const struct tokens *t, struct slice model)
{
	struct token_census c = words(1000);
	return tokens_of(t, model, &c) / token_census_start(&c);
}

static void teach(struct tokens *t, struct slice model, double share)
{
	struct token_census c = words(1000);
	tokens_learn(t, model, &c, (uint64_t)(token_census_start(&c) * share));
}

static void an_empty_prompt_is_one_token(void **state)
{
	struct token_census c = {0};
	assert_int_equal(tokens_estimate(*state, MODEL, &c), 1);
	c = CENSUS("a");
	assert_int_equal(tokens_estimate(*state, MODEL, &c), 1);
	c.images = 1;
	assert_int_equal(tokens_estimate(*state, MODEL, &c), TOKENS_PER_IMAGE + 1);
	c.chars[TOKEN_HAN] = UINT64_MAX;
	assert_int_equal(tokens_estimate(*state, MODEL, &c), UINT64_C(1) << 62);
}

static void knows_models_apart_without_case(void **state)
{
	teach(*state, SLICE("Qwen2.5:7B"), 1.3);
	assert_float_equal(factor(*state, SLICE("qwen2.5:7b")), 1.3, 0.05);
	assert_float_equal(factor(*state, SLICE("qwen2.5:7")), 1.0, 0);
	assert_float_equal(factor(*state, SLICE("qwen2.5:7bb")), 1.0, 0);
}

static void ignores_what_teaches_nothing(void **state)
{
	struct token_census c = words(1000), none = {0}, picture = words(1000);
	picture.images = 1;
	tokens_learn(*state, MODEL, &c, TOKENS_LEARN_MIN - 1);
	tokens_learn(*state, MODEL, &c, 0);
	tokens_learn(*state, MODEL, &none, 1000);
	tokens_learn(*state, MODEL, &picture, 9000);
	tokens_learn(*state, (struct slice){0}, &c, 3000);
	static char longest[4096];
	memset(longest, 'm', sizeof(longest));
	tokens_learn(*state, (struct slice){longest, sizeof(longest)}, &c, 3000);
	assert_float_equal(factor(*state, MODEL), 1.0, 0);
	assert_float_equal(factor(*state, (struct slice){0}), 1.0, 0);
	assert_float_equal(factor(*state, (struct slice){longest, sizeof(longest)}), 1.0, 0);
}

static void an_absurd_report_moves_it_by_a_step(void **state)
{
	static const double absurd[] = {0.2, 30};
	for (size_t i = 0; i < 2; i++) {
		for (int k = 0; k < 10; k++)
			teach(*state, MODEL, 1.2);
		assert_float_equal(factor(*state, MODEL), 1.2, 0.02);
		teach(*state, MODEL, absurd[i]);
		assert_float_equal(factor(*state, MODEL), 1.2, 0.2);
		teach(*state, MODEL, 1.2);
		teach(*state, MODEL, 1.2);
		assert_float_equal(factor(*state, MODEL), 1.2, 0.05);
	}
}

static void a_real_change_is_followed(void **state)
{
	for (int k = 0; k < 30; k++)
		teach(*state, MODEL, 0.9);
	for (int k = 0; k < 4; k++)
		teach(*state, MODEL, 1.8);
	assert_float_equal(factor(*state, MODEL), 1.8, 0.18);
}

static void an_absurd_beginning_is_mended(void **state)
{
	teach(*state, MODEL, 0.3);
	for (int k = 0; k < 4; k++)
		teach(*state, MODEL, 1.1);
	assert_float_equal(factor(*state, MODEL), 1.1, 0.11);
}

static void stays_within_bounds(void **state)
{
	struct token_census c = words(1000);
	for (int i = 0; i < 300; i++)
		tokens_learn(*state, MODEL, &c, UINT64_MAX);
	assert_true(factor(*state, MODEL) <= TOKENS_FACTOR_MAX);
	assert_true(factor(*state, MODEL) >= TOKENS_FACTOR_MAX * 0.9);
	c = words(UINT64_C(1) << 50);
	for (int i = 0; i < 300; i++)
		tokens_learn(*state, MODEL, &c, TOKENS_LEARN_MIN);
	assert_true(factor(*state, MODEL) >= TOKENS_FACTOR_MIN);
	assert_true(factor(*state, MODEL) <= TOKENS_FACTOR_MIN * 1.1);
}

static struct slice numbered(char *text, size_t size, int i)
{
	int n = snprintf(text, size, "model-%d", i);
	return (struct slice){text, (size_t)n};
}

static void forgets_the_one_unused_longest(void **state)
{
	char name[32];
	for (int i = 0; i < TOKENS_MODELS_MAX; i++)
		teach(*state, numbered(name, sizeof(name), i), 1.3);
	teach(*state, SLICE("model-0"), 1.3); /* model-1 is the oldest now */
	teach(*state, SLICE("one too many"), 1.3);
	assert_float_equal(factor(*state, SLICE("one too many")), 1.3, 0.05);
	assert_float_equal(factor(*state, SLICE("model-1")), 1.0, 0);
	for (int i = 0; i < TOKENS_MODELS_MAX; i += i ? 1 : 2)
		assert_float_equal(factor(*state, numbered(name, sizeof(name), i)), 1.3, 0.05);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(counts_units_by_class),
		TEST(is_additive),
		TEST(hostile_text_is_counted),
		TEST(is_within_a_factor_before_the_first_lesson),
		TEST(a_small_vocabulary_begins_with_its_own_factors),
		TEST(is_close_after_one_lesson_of_the_kind),
		TEST(a_script_does_not_spoil_another),
		TEST(an_empty_prompt_is_one_token),
		TEST(knows_models_apart_without_case),
		TEST(ignores_what_teaches_nothing),
		TEST(an_absurd_report_moves_it_by_a_step),
		TEST(a_real_change_is_followed),
		TEST(an_absurd_beginning_is_mended),
		TEST(stays_within_bounds),
		TEST(forgets_the_one_unused_longest),
	};
	return cmocka_run_group_tests_name("tokens", tests, NULL, NULL);
}
