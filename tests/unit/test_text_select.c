#include "common/text/piece.h"
#include "common/text/select.h"
#include "common/text/token.h"
#include "tests/unit/test_text_transcript.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
/* cmocka wants the three above first */
#include <cmocka.h>

static bool contains(struct slice s, const char *part)
{
	return memmem(s.p, s.n, part, strlen(part)) != NULL;
}

static bool is_mark(struct slice line)
{
	static const char *const marks[] = {
		"[user", "[assistant", "[tool", "[..", "[omitted §", "[seen:"};
	for (size_t i = 0; i < sizeof(marks) / sizeof(*marks); i++)
		if (line.n >= strlen(marks[i]) && memcmp(line.p, marks[i], strlen(marks[i])) == 0)
			return true;
	return false;
}

/* Does every forced span stand in assembled, in order, byte for byte? */
static bool forced_stand(
	const struct text_message *m, const struct select_result *r, struct slice assembled)
{
	for (size_t i = 0; i < r->forced_count; i++) {
		const struct text_span *s = &r->forced[i];
		struct slice want = {m[s->message].text.p + s->begin, s->end - s->begin};
		const char *at = want.n <= assembled.n && assembled.n
					 ? memmem(assembled.p, assembled.n, want.p, want.n)
					 : NULL;
		if (!at)
			return false;
		assembled.n -= (size_t)(at + want.n - assembled.p);
		assembled.p = at + want.n;
	}
	return true;
}

/* All that must hold of any selection, whatever its input. Returns the rendered text in out. */
static void check_result(const struct text_message *m, size_t n, const struct select_options *o,
	const struct select_result *r, struct buf *out)
{
	size_t old = text_old_bytes(m, n), budget = o->budget_bytes, rows = 0;
	if (o->keep_ratio > 0 && (size_t)(o->keep_ratio * (double)old) < budget)
		budget = (size_t)(o->keep_ratio * (double)old);

	assert_int_equal(text_render(m, n, r, out), 0);
	assert_int_equal(out->n, r->rendered_bytes);
	assert_true(out->n <= budget);
	assert_int_equal(r->source_bytes, old);

	size_t kept = 0;
	for (size_t i = 0; i < r->count; i++) {
		const struct text_span *s = &r->spans[i];
		assert_true(s->message < n && !m[s->message].verbatim);
		assert_true(s->begin <= s->end && s->end <= m[s->message].text.n);
		if (i && r->spans[i - 1].message == s->message)
			assert_true(r->spans[i - 1].end <= s->begin);
		else if (i)
			assert_true(r->spans[i - 1].message < s->message);
		kept += s->end - s->begin;
	}
	assert_int_equal(kept, r->kept_bytes);

	/* Every forced span lies in a span, and in the text. */
	for (size_t i = 0, k = 0; i < r->forced_count; i++) {
		const struct text_span *f = &r->forced[i];
		while (k < r->count &&
			(r->spans[k].message < f->message ||
				(r->spans[k].message == f->message && r->spans[k].end < f->end)))
			k++;
		assert_true(k < r->count);
		assert_int_equal(r->spans[k].message, f->message);
		assert_true(r->spans[k].begin <= f->begin && f->end <= r->spans[k].end);
	}
	assert_true(forced_stand(m, r, buf_slice(out)));

	/* Lines beside headers and markers stand in the source; the markers account for
	 * the rest. */
	struct slice text = buf_slice(out);
	while (text.n) {
		const char *nl = memchr(text.p, '\n', text.n);
		assert_non_null(nl);
		struct slice line = {text.p, (size_t)(nl - text.p)};
		unsigned lines;
		char *copy = slice_dup(line), close;
		if ((sscanf(copy, "[..%u%c", &lines, &close) == 2 && close == ']') ||
			sscanf(copy, "[omitted §%*8x %u lines]", &lines) == 1)
			rows += lines;
		free(copy);
		bool found = is_mark(line);
		for (size_t i = 0; i < n && !found; i++)
			found = !m[i].verbatim && m[i].text.n &&
				(line.n == 0 ||
					memmem(m[i].text.p, m[i].text.n, line.p, line.n) != NULL);
		assert_true(found);
		text.p = nl + 1;
		text.n -= line.n + 1;
	}
	if (!r->silent)
		assert_int_equal(rows, r->omitted_lines);
}

static void select_and_check(const struct text_message *m, size_t n, const struct select_options *o,
	struct select_result *r, struct buf *out)
{
	buf_init(out, 0);
	assert_int_equal(text_select(m, n, o, r), 0);
	check_result(m, n, o, r, out);
}

static void test_budget_holds_for_any_transcript(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct transcript *t = calloc(1, sizeof(*t));
		assert_non_null(t);
		transcript_make(t, seed, 4000 * seed * seed);
		transcript_finish(t, TEXT_KEEP_GROUPS);
		static const double ratio[] = {0, .05, .1, .14, .2, .25, .35, .6, 1};
		static const size_t budget[] = {0, 1, 30, 100, 1000, 5000, 20000, SIZE_MAX};
		for (size_t i = 0; i < sizeof(ratio) / sizeof(*ratio); i++)
			for (size_t k = 0; k < sizeof(budget) / sizeof(*budget); k++) {
				struct select_options o = select_defaults();
				struct select_result r;
				struct buf out;
				o.keep_ratio = ratio[i];
				o.budget_bytes = budget[k];
				o.frozen = (i + k) % 2;
				select_and_check(t->m, t->n, &o, &r, &out);
				buf_free(&out);
				select_result_free(&r);
			}
		transcript_free(t);
		free(t);
	}
}

/* Any bytes in any order of roles: nonsense must still be accounted for. */
static void test_budget_holds_for_noise(void **state)
{
	static const char *const scraps[] = {"\n", "\r\n", "\r", "```\n", "~~~", " ", "never ",
		"não ", "Error: ", "src/a.c", "\xe2\x80\x94", "\xf0\x9f\x99\x82", "ção", "x",
		"    ", "[..\n", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n", "12:\t", "password=hunter2abc ",
		"0123456789abcdef", "A long enough sentence. ", "-----BEGIN RSA PRIVATE KEY-----\n",
		"{\"a\":1}"};
	struct transcript *t = calloc(1, sizeof(*t));
	(void)state;
	assert_non_null(t);
	t->seed = 7;
	for (unsigned round = 0; round < 300; round++) {
		t->n = 0;
		unsigned messages = transcript_random(t, 12);
		for (unsigned i = 0; i < messages; i++) {
			struct buf *b = transcript_add(t, (enum text_role)transcript_random(t, 4));
			t->m[i].calls_tools = transcript_random(t, 2);
			t->m[i].tool_result |= transcript_random(t, 5) == 0;
			for (unsigned k = transcript_random(t, 80); k > 0; k--)
				buf_add_str(b, scraps[transcript_random(
						       t, sizeof(scraps) / sizeof(*scraps))]);
		}
		transcript_finish(t, transcript_random(t, 3));
		struct select_options o = select_defaults();
		struct select_result r;
		struct buf out;
		o.keep_ratio = transcript_random(t, 101) / 100.0;
		o.budget_bytes = transcript_random(t, 2) ? transcript_random(t, 3000) : SIZE_MAX;
		select_and_check(t->m, t->n, &o, &r, &out);
		buf_free(&out);
		select_result_free(&r);
		transcript_free(t);
	}
	free(t);
}

static void test_bad_options_are_refused(void **state)
{
	struct select_options o = select_defaults();
	struct select_result r;
	(void)state;
	o.keep_ratio = 1.5;
	assert_int_equal(text_select(NULL, 0, &o, &r), -EINVAL);
	o.keep_ratio = 0.0 / 0.0;
	assert_int_equal(text_select(NULL, 0, &o, &r), -EINVAL);
	o = select_defaults();
	assert_int_equal(text_select(NULL, 1, &o, &r), -EINVAL);
	assert_int_equal(text_select(NULL, 0, &o, &r), 0);
	assert_int_equal(r.count, 0);
	select_result_free(&r);
}

static void test_all_is_kept_when_it_fits(void **state)
{
	struct text_message m[] = {
		{.role = TEXT_USER, .text = SLICE("one\n\ntwo\r\nthree"), .group = 0},
		{.role = TEXT_ASSISTANT, .text = SLICE("ok\n"), .group = 1},
	};
	struct select_options o = select_defaults();
	struct select_result r;
	struct buf out;
	(void)state;
	o.keep_ratio = 0;
	o.budget_bytes = 100;
	select_and_check(m, 2, &o, &r, &out);
	assert_string_equal(buf_cstr(&out), "[user]\none\n\ntwo\r\nthree\n[assistant]\nok\n");
	assert_int_equal(r.omitted_lines, 0);
	buf_free(&out);
	select_result_free(&r);
}

/* A needle put into the middle of a session's history survives at 25 %. */
static void test_needles_survive(void **state)
{
	static const struct {
		enum text_role role;
		const char *text, *needle;
	} cases[] = {
		{TEXT_ASSISTANT, "The culprit is in pkg/rare/needle_path.go, I think.\n",
			"pkg/rare/needle_path.go"},
		{TEXT_TOOL, "mod9.c:77:3: error: implicit declaration of function 'zapf'\n",
			"implicit declaration of function 'zapf'"},
		{TEXT_TOOL, "Traceback (most recent call last):\n", "Traceback"},
		{TEXT_TOOL, "KeyError: 'espresso'\n", "KeyError: 'espresso'"},
		{TEXT_TOOL, "HEAD is now at 9f3c2ab1d407 tidy up\n", "9f3c2ab1d407"},
		{TEXT_TOOL, "latency p99 was 437 ms under load\n", "437 ms"},
		{TEXT_USER, "You must never rename the public header.\n",
			"You must never rename the public header."},
		{TEXT_USER, "Please do not touch the vendored code.\n",
			"do not touch the vendored code"},
		{TEXT_USER, "Nunca apague a pasta de dados.\n", "Nunca apague a pasta de dados."},
		{TEXT_USER, "N\xc3\xa3o mude a porta padr\xc3\xa3o.\n",
			"mude a porta padr\xc3\xa3o."},
		{TEXT_USER, "A partir de agora responda em portugu\xc3\xaas.\n",
			"A partir de agora"},
	};
	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++)
		for (uint64_t seed = 1; seed <= 4; seed++) {
			struct transcript *t = calloc(1, sizeof(*t));
			assert_non_null(t);
			transcript_make(t, seed * 31, 40000);
			size_t at = t->n / 2;
			while (cases[c].role == TEXT_TOOL && t->m[at].role != TEXT_TOOL)
				at++;
			if (cases[c].role == TEXT_TOOL) {
				buf_add_str(&t->text[at], cases[c].text);
			} else {
				transcript_add(t, cases[c].role);
				struct text_message last = t->m[t->n - 1];
				struct buf text = t->text[t->n - 1];
				buf_add_str(&text, cases[c].text);
				while (t->m[at].role != TEXT_ASSISTANT)
					at++;
				memmove(&t->m[at + 1], &t->m[at], (t->n - 1 - at) * sizeof(*t->m));
				memmove(&t->text[at + 1], &t->text[at],
					(t->n - 1 - at) * sizeof(*t->text));
				t->m[at] = last;
				t->text[at] = text;
				transcript_say(t, TEXT_USER, "go on\n");
			}
			transcript_finish(t, TEXT_KEEP_GROUPS);
			struct select_options o = select_defaults();
			struct select_result r;
			struct buf out;
			select_and_check(t->m, t->n, &o, &r, &out);
			if (!contains(buf_slice(&out), cases[c].needle))
				fail_msg("lost \"%s\" (seed %d)", cases[c].needle, (int)seed);
			buf_free(&out);
			select_result_free(&r);
			transcript_free(t);
			free(t);
		}
}

static bool was_seen(const struct transcript *t, const struct token *k)
{
	for (size_t i = 0; i < t->n; i++)
		if (!t->m[i].verbatim && memmem(t->m[i].text.p, t->m[i].text.n, k->p, k->n))
			return true;
	return false;
}

/* Of the names that the agent goes on to use and that its history has: the part that text has. */
static double recall(const struct transcript *t, struct slice text)
{
	size_t all = 0, found = 0;
	for (size_t i = 0; i < t->n_uses; i++) {
		struct token k;
		const char *at = t->uses[i].p, *end = at + t->uses[i].n;
		while (token_next(&at, end, &k)) {
			if (!k.shaped || !was_seen(t, &k))
				continue;
			all++;
			found += memmem(text.p, text.n, k.p, k.n) != NULL;
		}
	}
	return all ? (double)found / (double)all : 1;
}

/* The newest bytes of the history, whole messages cut at the front: the usual truncation. */
static void newest_first(const struct transcript *t, size_t budget, struct buf *out)
{
	buf_init(out, 0);
	size_t i = t->n, left = budget;
	while (i > 0 && left > 0) {
		i--;
		if (t->m[i].verbatim)
			continue;
		size_t n = t->m[i].text.n < left ? t->m[i].text.n : left;
		buf_add(out, t->m[i].text.p + t->m[i].text.n - n, n);
		left -= n;
	}
}

static void test_recall_beats_the_newest_bytes(void **state)
{
	double ours = 0, theirs = 0;
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct transcript *t = calloc(1, sizeof(*t));
		assert_non_null(t);
		transcript_make(t, seed * 977, 60000);
		transcript_finish(t, TEXT_KEEP_GROUPS);
		struct select_options o = select_defaults();
		struct select_result r;
		struct buf out, newest;
		o.frozen = true;
		o.index = 0; /* whole original lines only */
		select_and_check(t->m, t->n, &o, &r, &out);
		newest_first(t, out.n, &newest);
		ours += recall(t, buf_slice(&out)) / 20;
		theirs += recall(t, buf_slice(&newest)) / 20;
		buf_free(&out);
		buf_free(&newest);
		select_result_free(&r);
		transcript_free(t);
		free(t);
	}
	printf("recall at 25 %%: coverage %.2f, newest first %.2f\n", ours, theirs);
	assert_true(ours > theirs + .1);
	assert_true(ours > .8);
}

static void test_ledger_keeps_the_newest_of_a_key(void **state)
{
	struct text_message m[] = {
		{.role = TEXT_USER,
			.text = SLICE("The timeout must be 10 seconds.\nAlways use tabs.")},
		{.role = TEXT_ASSISTANT, .text = SLICE("Understood, I will do that.")},
		{.role = TEXT_USER,
			.text = SLICE("Never use tabs.\nThe timeout must be 25 seconds.")},
		{.role = TEXT_ASSISTANT, .text = SLICE("Understood, I will do that as well.")},
		{.role = TEXT_TOOL,
			.text = SLICE("some output that is long enough to be cut away here\n"
				      "and more of it, and more of it, and more of it\n")},
		{.role = TEXT_USER, .text = SLICE("go on")},
	};
	struct select_options o = select_defaults();
	struct select_result r;
	struct buf out;
	(void)state;
	transcript_group(m, 6);
	transcript_mark_verbatim(m, 6, 1);
	o.keep_ratio = 0;
	for (o.budget_bytes = 165; o.budget_bytes < 600; o.budget_bytes += 50) {
		select_and_check(m, 6, &o, &r, &out);
		assert_true(contains(buf_slice(&out), "Never use tabs."));
		assert_true(contains(buf_slice(&out), "must be 25 seconds"));
		assert_int_equal(r.forced_count, 1); /* the two lines are neighbours */
		assert_int_equal(r.forced[0].message, 2);
		buf_free(&out);
		select_result_free(&r);
	}
}

/* Of two lines alike the one that names what the agent wrote is kept; of two copies the newer. */
static void test_what_counts(void **state)
{
	static const struct {
		const char *first, *second, *kept, *lost;
	} cases[] = {
		{"calls parse_frame_77 somewhere\n", "calls parse_queue_12 somewhere\n",
			"parse_queue_12", "parse_frame_77"},
		{"calls parse_queue_12 somewhere\n", "calls parse_frame_77 somewhere\n",
			"parse_queue_12", "parse_frame_77"},
		{"1: the same old_line here\n", "1234: the same old_line here\n", "1234: the",
			"\n1: "},
		{"some plain words of no import\n", "names some_thing_of_import here\n",
			"some_thing_of_import", "plain"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct text_message m[] = {
			/* one line, too long to be chosen itself */
			{.role = TEXT_ASSISTANT,
				.text = SLICE(
					"what I will do next is to have a good look at the "
					"place that parse_queue_12 is called from, all of it")},
			{.role = TEXT_USER, .text = slice_str(cases[i].first)},
			{.role = TEXT_USER, .text = slice_str(cases[i].second)},
		};
		struct select_options o = select_defaults();
		struct select_result r;
		struct buf out;
		transcript_group(m, 3);
		o.keep_ratio = 0;
		o.index = 0;
		o.budget_bytes = 60; /* room for one of them */
		select_and_check(m, 3, &o, &r, &out);
		if (!contains(buf_slice(&out), cases[i].kept) ||
			contains(buf_slice(&out), cases[i].lost))
			fail_msg("case %zu:\n%s", i, buf_cstr(&out));
		buf_free(&out);
		select_result_free(&r);
	}
}

/* The same short output again and again is forced once, at its newest place. */
static void test_repeated_output_is_forced_once(void **state)
{
	struct text_message m[] = {
		{.role = TEXT_TOOL, .text = SLICE("12: nothing to be done\n")},
		{.role = TEXT_TOOL, .text = SLICE("14: nothing to be done\n")},
		{.role = TEXT_TOOL, .text = SLICE("17: nothing to be done\n")},
	};
	struct select_options o = select_defaults();
	struct select_result r;
	struct buf out;
	(void)state;
	transcript_group(m, 3);
	o.keep_ratio = 0;
	o.budget_bytes = 1000;
	select_and_check(m, 3, &o, &r, &out);
	assert_int_equal(r.count, 3);
	assert_int_equal(r.forced_count, 1);
	assert_int_equal(r.forced[0].message, 2);
	buf_free(&out);
	select_result_free(&r);
}

static void test_secrets_stay_out_unless_used(void **state)
{
	static const struct {
		const char *line, *value;
	} cases[] = {
		{"export GH=ghp_0123456789abcdefghijABCDEFGHIJ012345", "ghp_0123"},
		{"DB_PASSWORD=\"hunter2-and-more\"", "hunter2"},
		{"Authorization: Bearer abcdef0123456789abcdef", "abcdef0123456789abcdef"},
		{"postgres://admin:s3cretpw9@db:5432/app", "s3cretpw9"},
		{"senha: correta2bateria", "correta2bateria"},
		{"aws AKIAIOSFODNN7EXAMPL9", "AKIAIOSF"},
	};
	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++)
		for (int used = 0; used < 2; used++) {
			struct buf env, use;
			buf_init(&env, 0);
			buf_init(&use, 0);
			buf_printf(
				&env, "# settings of the service\n%s\nPORT=8080\n", cases[c].line);
			buf_printf(&use, "curl with %s now\n", used ? cases[c].line : "nothing");
			struct text_message m[] = {
				{.role = TEXT_ASSISTANT,
					.text = SLICE("read_file .env"),
					.calls_tools = true},
				{.role = TEXT_TOOL, .text = buf_slice(&env)},
				{.role = TEXT_ASSISTANT,
					.text = buf_slice(&use),
					.calls_tools = true},
				{.role = TEXT_TOOL, .text = SLICE("fine")},
			};
			struct select_options o = select_defaults();
			struct select_result r;
			struct buf out;
			transcript_group(m, 4);
			transcript_mark_verbatim(m, 4, 1);
			o.keep_ratio = 0;
			select_and_check(m, 4, &o, &r, &out);
			assert_true(contains(buf_slice(&out), "PORT=8080"));
			if (contains(buf_slice(&out), cases[c].value) != used)
				fail_msg("%s: used %d\n%s", cases[c].line, used, buf_cstr(&out));
			assert_int_equal(r.omitted_lines, !used);
			buf_free(&out);
			buf_free(&env);
			buf_free(&use);
			select_result_free(&r);
		}
}

static void test_a_shown_call_shows_its_results(void **state)
{
	struct text_message m[] = {
		{.role = TEXT_ASSISTANT,
			.text = SLICE("read_file src/unique_name.c\n"),
			.calls_tools = true},
		{.role = TEXT_TOOL,
			.call = SLICE("read_file src/unique_name.c"),
			.text = SLICE("aaa bbb ccc ddd eee fff ggg hhh iii jjj kkk\n"
				      "lll mmm nnn ooo ppp qqq rrr sss ttt uuu vvv\n"
				      "aaa bbb ccc ddd eee fff ggg hhh iii jjj kkk 1\n"
				      "lll mmm nnn ooo ppp qqq rrr sss ttt uuu vvv 2\n")},
		{.role = TEXT_TOOL, .text = SLICE("")},
	};
	struct select_options o = select_defaults();
	o.tuning.company = o.tuning.hashes = true;
	struct select_result r;
	struct buf out;
	(void)state;
	transcript_group(m, 3);
	o.keep_ratio = 0;
	o.budget_bytes = 100;
	select_and_check(m, 3, &o, &r, &out);
	assert_string_equal(buf_cstr(&out), "[assistant]\nread_file src/unique_name.c\n"
					    "[tool]\n[..4]\n[tool]\n");
	buf_free(&out);
	select_result_free(&r);
}

static void test_one_long_line_is_cut_in_pieces(void **state)
{
	struct buf text, out;
	(void)state;
	buf_init(&text, 0);
	for (unsigned i = 0; i < 4000; i++)
		buf_printf(&text, "function f%u(a){return a*%u+\"ção\"};", i, i * 7);
	struct text_message m = {.role = TEXT_TOOL, .text = buf_slice(&text)};
	struct select_options o = select_defaults();
	struct select_result r;
	select_and_check(&m, 1, &o, &r, &out);
	assert_true(r.count > 0);
	assert_true(r.kept_bytes > text.n / 6);
	assert_true(contains(buf_slice(&out), " bytes]\n"));
	assert_in_range(r.omitted_lines, 0, 1); /* parts of a line are none */
	buf_free(&out);
	buf_free(&text);
	select_result_free(&r);
}

static void test_single_keeps_both_ends(void **state)
{
	struct buf text, out;
	size_t omitted;
	struct transcript t = {.seed = 3};
	(void)state;
	buf_init(&text, 0);
	buf_add_str(&text, "Find the bug in route_chunk_207 below.\n\n");
	transcript_source(&t, 3, 900, &text);
	buf_add_str(&text, "\tint rc = route_chunk_207(NULL, 17);\n");
	transcript_source(&t, 4, 900, &text);
	buf_add_str(&text, "\nAnswer in one paragraph. Thank you.");
	struct select_options o = select_defaults();
	buf_init(&out, 0);
	assert_int_equal(text_select_single(buf_slice(&text), &o, &out, &omitted), 0);
	assert_true(out.n <= text.n / 4);
	assert_true(out.n > text.n / 5);
	assert_true(omitted > 900);
	assert_memory_equal(out.p, "Find the bug in route_chunk_207 below.\n", 39);
	assert_true(contains(buf_slice(&out), "int rc = route_chunk_207(NULL, 17);"));
	assert_true(contains(buf_slice(&out), "\nAnswer in one paragraph. Thank you.\n"));
	assert_true(contains(buf_slice(&out), "[.."));
	buf_free(&out);

	for (size_t budget = 0; budget < 3000; budget += 37) {
		o.budget_bytes = budget;
		buf_init(&out, 0);
		assert_int_equal(text_select_single(buf_slice(&text), &o, &out, NULL), 0);
		assert_true(out.n <= budget);
		buf_free(&out);
	}
	/* What fits is not touched. */
	o = select_defaults();
	o.keep_ratio = 0;
	buf_init(&out, 0);
	assert_int_equal(text_select_single(buf_slice(&text), &o, &out, &omitted), 0);
	assert_true(slice_eq(buf_slice(&out), buf_slice(&text)));
	assert_int_equal(omitted, 0);
	buf_free(&out);
	buf_free(&text);
}

/* What the question names survives whole, in its head, its tail or another message. */
static void test_single_is_made_for_the_question(void **state)
{
	static const struct {
		const char *head, *tail, *question;
	} cases[] = {
		{"Why does route_special() lose the last byte?", "", ""},
		{"", "What is wrong with route_special()?", ""},
		{"", "", "Explain route_special, please."},
	};
	static const char special[] =
		"static int route_special(struct buf *b)\n{\n\tint step_one = 1;\n"
		"\n\tif (step_one)\n\t\treturn b->n - 1;\n\treturn 0;\n}\n";
	static const char section[] =
		"## Route special\n\nOne plain line of text.\nAnother plain line.\n";
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf text, out;
		struct transcript t = {.seed = 5};
		struct select_options o = select_defaults();
		buf_init(&text, 0);
		buf_init(&out, 0);
		buf_printf(&text, "%s\n\n", cases[i].head);
		transcript_source(&t, 3, 500, &text);
		buf_add_str(&text, special);
		transcript_source(&t, 4, 500, &text);
		buf_add_str(&text, section);
		buf_add_str(&text, "## Another section\n\n");
		transcript_source(&t, 4, 200, &text);
		buf_printf(&text, "\n%s", cases[i].tail);
		o.keep_ratio = .2;
		o.question = slice_str(cases[i].question);
		assert_int_equal(text_select_single(buf_slice(&text), &o, &out, NULL), 0);
		if (!contains(buf_slice(&out), special))
			fail_msg("case %zu:\n%s", i, buf_cstr(&out));
		assert_true(out.n <= text.n / 5);
		buf_free(&text);
		buf_free(&out);
	}
	struct buf text, out;
	struct transcript t = {.seed = 6};
	struct select_options o = select_defaults();
	buf_init(&text, 0);
	buf_init(&out, 0);
	buf_add_str(&text, "Is the section \"Route special\" right?\n\n");
	transcript_source(&t, 3, 500, &text);
	buf_add_str(&text, section);
	buf_add_str(&text, "## Another section\n\n");
	transcript_source(&t, 4, 500, &text);
	assert_int_equal(text_select_single(buf_slice(&text), &o, &out, NULL), 0);
	assert_true(contains(buf_slice(&out), section));
	buf_free(&text);
	buf_free(&out);
}

static void test_instructions_about_the_whole(void **state)
{
	static const char *const whole[] = {"Translate this into German:",
		"Please summarise the report.", "Review this file.", "Proofread it",
		"Traduza o texto abaixo.", "Resuma isto em uma frase.", "Revise o texto.",
		("\xc3\x9c"
		 "bersetze das ins Englische."),
		"Traduis ce texte.", "Resume este texto."};
	static const char *const part[] = {"Why does worker_42 fail?", "Find the bug in parse().",
		"What does the function do?", "Onde est\xc3\xa1 o erro?", ""};
	(void)state;
	for (size_t i = 0; i < sizeof(whole) / sizeof(*whole); i++)
		assert_true(text_is_about_whole(slice_str(whole[i])));
	for (size_t i = 0; i < sizeof(part) / sizeof(*part); i++)
		assert_false(text_is_about_whole(slice_str(part[i])));
}

static void test_single_without_line_ends(void **state)
{
	struct buf text, out;
	(void)state;
	buf_init(&text, 0);
	buf_add_str(&text, "Summarise this. ");
	for (unsigned i = 0; i < 900; i++)
		buf_printf(&text, "Item number %u belongs to shelf_%u. ", i, i % 17);
	buf_add_str(&text, "Now do it.");
	struct select_options o = select_defaults();
	buf_init(&out, 0);
	assert_int_equal(text_select_single(buf_slice(&text), &o, &out, NULL), 0);
	assert_true(out.n <= text.n / 4 && out.n > text.n / 6);
	assert_memory_equal(out.p, "Summarise this. Item number 0", 29);
	assert_true(contains(buf_slice(&out), "Now do it.\n"));
	buf_free(&out);
	buf_free(&text);
}

static double now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* Generous bounds: the machine may be busy and the build instrumented. */
static void test_selection_is_fast(void **state)
{
	struct transcript *t = calloc(1, sizeof(*t));
	struct select_options o = select_defaults();
	struct select_result r;
	double best = 1e9;
	(void)state;
	assert_non_null(t);
	transcript_make(t, 5, 40000);
	transcript_finish(t, TEXT_KEEP_GROUPS);
	for (unsigned i = 0; i < 20; i++) {
		double began = now_ms();
		assert_int_equal(text_select(t->m, t->n, &o, &r), 0);
		double took = now_ms() - began;
		best = took < best ? took : best;
		select_result_free(&r);
	}
	printf("%zu bytes: %.2f ms\n", text_old_bytes(t->m, t->n), best);
	assert_true(best < 50);
	transcript_free(t);
	free(t);
}

static void test_twenty_megabytes(void **state)
{
	static const char *const fill[] = {"\n", "a\n", "x", "ab ", "never use src/a.c: error\n",
		"\r", "```\n", "a.b/c-d_", "{\"key_%\":[1,2,3]},"};
	const size_t size = 20u << 20;
	(void)state;
	for (size_t f = 0; f < sizeof(fill) / sizeof(*fill); f++) {
		char *p = malloc(size);
		assert_non_null(p);
		size_t step = strlen(fill[f]);
		for (size_t i = 0; i < size; i++)
			p[i] = fill[f][i % step] == '%' ? (char)('a' + i / step % 26)
							: fill[f][i % step];
		struct text_message m = {.role = f % 2 ? TEXT_TOOL : TEXT_USER, .text = {p, size}};
		struct select_options o = select_defaults();
		struct select_result r;
		double began = now_ms();
		assert_int_equal(text_select(&m, 1, &o, &r), 0);
		struct buf out;
		buf_init(&out, 0);
		assert_int_equal(text_render(&m, 1, &r, &out), 0);
		assert_true(out.n <= size / 4 && out.n == r.rendered_bytes);
		assert_true(forced_stand(&m, &r, buf_slice(&out)));
		double took = now_ms() - began;
		printf("20 MB of \"%.8s\": %.0f ms\n", *fill[f] > ' ' ? fill[f] : "line ends",
			took);
		assert_true(took < 30000);
		buf_free(&out);
		select_result_free(&r);
		free(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_budget_holds_for_any_transcript),
		cmocka_unit_test(test_budget_holds_for_noise),
		cmocka_unit_test(test_bad_options_are_refused),
		cmocka_unit_test(test_all_is_kept_when_it_fits),
		cmocka_unit_test(test_needles_survive),
		cmocka_unit_test(test_recall_beats_the_newest_bytes),
		cmocka_unit_test(test_ledger_keeps_the_newest_of_a_key),
		cmocka_unit_test(test_what_counts),
		cmocka_unit_test(test_repeated_output_is_forced_once),
		cmocka_unit_test(test_secrets_stay_out_unless_used),
		cmocka_unit_test(test_a_shown_call_shows_its_results),
		cmocka_unit_test(test_one_long_line_is_cut_in_pieces),
		cmocka_unit_test(test_single_keeps_both_ends),
		cmocka_unit_test(test_single_is_made_for_the_question),
		cmocka_unit_test(test_instructions_about_the_whole),
		cmocka_unit_test(test_single_without_line_ends),
		cmocka_unit_test(test_selection_is_fast),
		cmocka_unit_test(test_twenty_megabytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
