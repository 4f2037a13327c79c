#include "common/text/notes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above first */
#include <cmocka.h>

static const char source_en[] =
	"[user]\nPlease find out why tests/unit/test_link.c fails since yesterday.\n"
	"[assistant]\nrun make check\n"
	"[tool]\ntest_link.c:88: error: link_open() returned -110 after 437 ms\n"
	"supervisor/link.c: LINK_DEADLINE_MS is 400, worker boots in 420 ms\n"
	"commit 9f3c2ab changed it from 2000\n"
	"- keep the public header as it is\n"
	"The build takes about 31 seconds on this machine and most of that is linking the tests, "
	"so a\n"
	"change of one header is felt at once by whoever works on it; see docs/build.md for the "
	"numbers.\n";

static const char source_pt[] =
	"[user]\nO teste tests/unit/test_fila.c falha desde ontem. Nunca mude a API p\xc3\xba"
	"blica.\n"
	"[tool]\nfila_abrir() devolveu -110 depois de 437 ms\n"
	"FILA_PRAZO_MS vale 400, o processo sobe em 420 ms\n"
	"O prazo foi mudado de 2000 para 400 ontem, e isso quebrou a fila em m\xc3\xa1quinas "
	"lentas, "
	"como a do Jo\xc3\xa3o.\n";

struct answer {
	const char *source;
	const char *text;
	bool cut;
	enum notes_verdict verdict;
	const char *kept;
};

static const struct answer answers[] = {
	/* what holds stays */
	{source_en, "- link_open() fails with -110\n", false, NOTES_OK,
		"- link_open() fails with -110\n"},
	{source_en, "* tests/unit/test_link.c breaks", false, NOTES_OK,
		"- tests/unit/test_link.c breaks\n"},
	{source_en, "1. set back to 2000\n", false, NOTES_OK, "- set back to 2000\n"},
	{source_pt, "- `fila_abrir` falha com -110", false, NOTES_OK,
		"- `fila_abrir` falha com -110\n"},
	{source_pt, "- torn\xc3\xa1-lo maior que 420 ms resolve", false, NOTES_OK,
		"- torn\xc3\xa1-lo maior que 420 ms resolve\n"},
	/* preamble and code go */
	{source_en, "Sure, here are the notes:\n- worker boots in 420 ms, too late\n", false,
		NOTES_OK, "- worker boots in 420 ms, too late\n"},
	{source_en, "```\n- int x;\n```\n- boots too late\n", false, NOTES_OK,
		"- boots too late\n"},
	{source_en, "<think>hm\n- guess\n</think>\n- boots too late\n", false, NOTES_OK,
		"- boots too late\n"},
	{source_en, "<think>hm\n- guess\n- more", false, NOTES_EMPTY, ""},
	/* what the source does not say goes */
	{source_en, "- see tests/unit/test_lnk.c\n", false, NOTES_UNVERIFIED, ""},
	{source_en, "- link_close() leaks\n", false, NOTES_UNVERIFIED, ""},
	{source_en, "- took 43 ms\n", false, NOTES_UNVERIFIED, ""},
	{source_en, "- took 4370 ms\n", false, NOTES_UNVERIFIED, ""},
	{source_en, "- look at `boots early`\n", false, NOTES_UNVERIFIED, ""},
	{source_en, "- LINK_DEADLINE is short\n", false, NOTES_UNVERIFIED, ""},
	{source_pt, "- o arquivo src/fila.c est\xc3\xa1 errado\n- o prazo vale 400\n", false,
		NOTES_OK, "- o prazo vale 400\n"},
	{source_en, "- \xe5\xb7\xa5\xe4\xbd\x9c\n", false, NOTES_UNVERIFIED, ""},
	{source_en, "- token: ghp_0123456789abcdefghijABCDEFGHIJ012345\n", false, NOTES_UNVERIFIED,
		""},
	/* copies and echoes add nothing */
	{source_en, "- keep the public header as it is\n", false, NOTES_UNVERIFIED, ""},
	{source_en, "- [tool] run\n- data abcd>>>\n- Copy names exactly\n", false, NOTES_UNVERIFIED,
		""},
	/* none */
	{source_en, "- none\n", false, NOTES_NONE, ""},
	{source_pt, "- nenhum", false, NOTES_NONE, ""},
	{source_en, "", false, NOTES_EMPTY, ""},
	{source_en, "I can't see anything of note.", false, NOTES_EMPTY, ""},
	/* cut off: the last line is not trusted, unless it was ended */
	{source_en, "- boots too late\n- the deadli", true, NOTES_OK, "- boots too late\n"},
	{source_en, "- boots too late\n", true, NOTES_OK, "- boots too late\n"},
	{source_en, "- boots too la", true, NOTES_EMPTY, ""},
	/* loops */
	{source_en, "- too late\n- too late\n- too late\n- too late\n", true, NOTES_LOOP,
		"- too late\n"},
	{source_en, "- the the the the the the the the the the the the the\n", false,
		NOTES_UNVERIFIED, ""},
};

static void test_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
		const struct answer *a = &answers[i];
		const struct notes_rule rule = {.finished_by_length = a->cut, .max_bytes = 1000};
		struct buf out, source;
		buf_init(&out, 0);
		buf_init(&source, 0);
		buf_add_str(&source, a->source);
		while (source.n < 3000) /* notes may have 6 % of it */
			buf_add_str(&source, "and so on\n");
		enum notes_verdict v =
			notes_verify(buf_slice(&source), slice_str(a->text), &rule, NULL, &out);
		if (v != a->verdict || strcmp(buf_cstr(&out), a->kept) != 0)
			fail_msg("\"%s\": %s, kept \"%s\"", a->text, notes_verdict_name(v),
				buf_cstr(&out));
		buf_free(&out);
		buf_free(&source);
	}
}

/* Beside the above: what has no name and no number must be a part of one line. */
static const struct {
	const char *note;
	bool holds;
} strictly[] = {
	{"link_open() fails with -110", true},
	{"tests/unit/test_link.c breaks", true},
	{"change of one header is felt at once", true},
	{"most of that is linking the tests.", true},
	{"the whole team is happy with it", false},
	{"a change of one header is felt", false},   /* over the end of a line */
	{"nge of one header is felt at onc", false}, /* no whole words */
	{"keep the public header as it is", false},  /* a whole line: selection has it */
	{"link_close() leaks", false},
	{"took 43 ms", false},
	{"none", false},
	{"see `the header`", false},
};

static void test_strict(void **state)
{
	const struct notes_rule rule = {.strict = true, .max_bytes = 1000};
	struct buf source, answer, out, line;
	struct notes_tally tally;
	unsigned kept = 0, refused = 0;
	(void)state;
	buf_init(&source, 0);
	buf_init(&answer, 0);
	buf_init(&out, 0);
	buf_add_str(&source, source_en);
	while (source.n < 6000)
		buf_add_str(&source, "and so on\n");
	for (size_t i = 0; i < sizeof(strictly) / sizeof(*strictly); i++) {
		buf_init(&line, 0);
		buf_printf(&line, "- %s", strictly[i].note);
		bool holds = notes_line_holds(buf_slice(&source), buf_slice(&line));
		if (holds != strictly[i].holds)
			fail_msg("\"%s\"", strictly[i].note);
		buf_printf(&answer, "%s\n", buf_cstr(&line));
		kept += holds;
		refused += !holds && strcmp(strictly[i].note, "none") != 0;
		buf_free(&line);
	}
	assert_int_equal(notes_verify(buf_slice(&source), buf_slice(&answer), &rule, &tally, &out),
		NOTES_OK);
	assert_int_equal(tally.kept, kept);
	assert_int_equal(tally.refused, refused);
	/* what it wrote holds, whoever asks later */
	for (struct slice rest = buf_slice(&out); rest.n;) {
		const char *end = memchr(rest.p, '\n', rest.n);
		assert_non_null(end);
		struct slice one = {rest.p, (size_t)(end - rest.p)};
		assert_true(notes_line_holds(buf_slice(&source), one));
		rest.n -= one.n + 1;
		rest.p += one.n + 1;
	}
	assert_false(notes_line_holds(buf_slice(&source), SLICE("link_open() fails with -110")));
	buf_free(&source);
	buf_free(&answer);
	buf_free(&out);
}

static void test_notes_are_bounded(void **state)
{
	struct slice source = slice_str(source_en);
	struct slice answer = SLICE("- boots too late\n- raise the deadline\n- then run it again\n"
				    "- and look at the log of the worker once more\n");
	struct buf out;
	(void)state;
	for (size_t max = 0; max < 80; max++) {
		buf_init(&out, 0);
		notes_verify(source, answer, &(struct notes_rule){.max_bytes = max}, NULL, &out);
		assert_true(out.n <= max);
		assert_true(out.n <= source.n * 6 / 100);
		assert_true(out.n == 0 || out.p[out.n - 1] == '\n');
		buf_free(&out);
	}
}

static void test_prompt(void **state)
{
	struct buf a, b, data;
	(void)state;
	buf_init(&a, 0);
	buf_init(&b, 0);
	buf_init(&data, 0);
	assert_int_equal(notes_prompt(SLICE("one"), "0123456789abcdef", &a, &data), 0);
	assert_string_equal(buf_cstr(&data),
		"<<<data 0123456789abcdef\none\ndata 0123456789abcdef>>>\n\nNotes:\n");
	buf_clear(&data);
	assert_int_equal(notes_prompt(SLICE("two\n"), "fedcba9876543210", &b, &data), 0);
	assert_true(slice_eq(buf_slice(&a), buf_slice(&b)));
	assert_int_equal(notes_prompt(SLICE("x"), "short", &a, &data), -EINVAL);
	assert_int_equal(notes_prompt(SLICE("a 0123456789abcdef b"), "0123456789abcdef", &a, &data),
		-EINVAL);
	buf_free(&a);
	buf_free(&b);
	buf_free(&data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_strict),
		cmocka_unit_test(test_notes_are_bounded),
		cmocka_unit_test(test_prompt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
