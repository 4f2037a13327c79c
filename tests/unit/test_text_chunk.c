#include "common/text/chunk.h"
#include "common/text/piece.h"
#include "common/text/token.h"
#include "tests/unit/test_text_transcript.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants the two above first */
#include <cmocka.h>

#define CHUNKS_MAX 64

/* The pieces of a text, one a line, each with its row count when packed. */
static void test_pieces(void **state)
{
	static const struct {
		const char *text;
		bool packed;
		const char *pieces; /* joined by | */
	} cases[] = {
		{"", false, ""},
		{"a", false, "a|"},
		{"a\n", false, "a|"},
		{"\n\n", false, "||"},
		{"a\r\nb\rc\n\nd", false, "a|b|c||d|"},
		{"a\nb\r\nc", true, "a\nb|c|"},
		{"a\nb\nc\n", true, "a\nb\nc|"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct slice text = slice_str(cases[i].text);
		struct buf out;
		struct piece p;
		buf_init(&out, 0);
		for (size_t at = 0; piece_next(text, &at, cases[i].packed, &p);) {
			buf_add(&out, text.p + p.begin, p.end - p.begin);
			buf_add_char(&out, '|');
		}
		assert_string_equal(buf_cstr(&out), cases[i].pieces);
		buf_free(&out);
	}
}

/* Long lines: no piece is too long, none splits a character or a name that fits, none is lost. */
static void test_long_lines(void **state)
{
	static const char *const unit[] = {"some words, and more; ", "a_rather_long_identifier_17 ",
		"\xc3\xa7\xc3\xa3o", "\xf0\x9f\x99\x82", "x", "path/to/some.file:12 ",
		"Uma frase. "};
	(void)state;
	for (size_t u = 0; u < sizeof(unit) / sizeof(*unit); u++)
		for (unsigned shift = 0; shift < 7; shift++) {
			struct buf text;
			struct piece p;
			size_t end = 0;
			buf_init(&text, 0);
			buf_add(&text, "zzzzzzz", shift);
			buf_add_char(&text, ' ');
			while (text.n < 3000)
				buf_add_str(&text, unit[u]);
			for (size_t at = 0; piece_next(buf_slice(&text), &at, false, &p);) {
				assert_int_equal(p.begin, end);
				assert_true(p.end > p.begin && p.end - p.begin <= TEXT_PIECE);
				assert_int_equal(p.continued, p.begin > 0);
				end = p.end;
				if (end == text.n)
					break;
				assert_true(((unsigned char)text.p[end] & 0xc0) != 0x80);
				if (strchr(unit[u], ' '))
					assert_false(token_is_word(text.p[end - 1]) &&
						     token_is_word(text.p[end]));
			}
			assert_int_equal(end, text.n);
			buf_free(&text);
		}
}

static void test_tokens(void **state)
{
	static const struct {
		const char *text, *tokens; /* shaped ones with a +, numbers with a # */
	} cases[] = {
		{"Read the file.", "Read the file"},
		{"src/core/link.c:88: error", "+src/core/link.c #88 error"},
		{"./a/b.h ../c.h /etc/x .gitignore a/.github/w",
			"+a/b.h +c.h +/etc/x +.gitignore +a/.github/w"},
		{"--dry-run -x make -j2", "+--dry-run +-x make +-j2"},
		{"see https://a.b/c?d=1&e=2, or", "see +https://a.b/c?d=1&e=2 or"},
		{"getUser HTTP Http MAX_SIZE std::vector",
			"+getUser +HTTP Http +MAX_SIZE std vector"},
		{"0..10 3.14 2026-08-22 v1.2", "#0 #10 #3.14 #2026-08-22 +v1.2"},
		{"n\xc3\xa3o \xe2\x80\x9c"
		 "aspas\xe2\x80\x9d a\xe2\x80\x94"
		 "b \xf0\x9f\x99\x82",
			"n\xc3\xa3o aspas a b"},
		{"wait...then end.", "wait then end"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *at = cases[i].text, *end = at + strlen(at);
		struct token t;
		struct buf out;
		buf_init(&out, 0);
		while (token_next(&at, end, &t)) {
			if (out.n)
				buf_add_char(&out, ' ');
			if (t.shaped)
				buf_add_char(&out, '+');
			if (t.numeric)
				buf_add_char(&out, '#');
			buf_add(&out, t.p, t.n);
		}
		assert_string_equal(buf_cstr(&out), cases[i].tokens);
		buf_free(&out);
	}
}

static void test_text_form_results(void **state)
{
	(void)state;
	assert_true(text_is_tool_result(SLICE("[read_file for 'src/a.c'] Result:\nint x;")));
	assert_true(text_is_tool_result(SLICE("[attempt_completion] Result: ok")));
	assert_true(text_is_tool_result(SLICE("\n<tool_result>\nx")));
	assert_false(text_is_tool_result(SLICE("[note] the\nx] Result:")));
	assert_false(text_is_tool_result(SLICE("please read [it] Result: no")));
	assert_false(text_is_tool_result(SLICE("")));
	assert_false(text_is_tool_result(SLICE("[")));
}

static void check_chunks(const struct text_message *m, size_t n, size_t size, size_t max)
{
	struct text_chunk *chunks;
	size_t count, bytes = 0, parts = 0;
	assert_int_equal(text_chunks(m, n, size, max, &chunks, &count), 0);
	assert_true(count <= max);
	size_t message = 0, end = 0;
	for (size_t i = 0; i < count; i++) {
		assert_true(chunks[i].count > 0 && chunks[i].bytes > 0);
		size_t sum = 0;
		for (size_t k = 0; k < chunks[i].count; k++, parts++) {
			const struct text_span *s = &chunks[i].spans[k];
			assert_false(m[s->message].verbatim);
			assert_true(s->message > message ||
				    (s->message == message && s->begin >= end) || parts == 0);
			/* Only line ends fall between the parts of a message. */
			size_t from = s->message == message && parts ? end : 0;
			for (size_t c = from; c < s->begin; c++)
				assert_non_null(strchr("\r\n", m[s->message].text.p[c]));
			message = s->message;
			end = s->end;
			sum += s->end - s->begin;
		}
		assert_int_equal(sum, chunks[i].bytes);
		if (max == CHUNKS_MAX)
			assert_true(sum <= (size > CHUNK_MIN_BYTES ? size : CHUNK_MIN_BYTES));
		bytes += sum;

		struct buf out;
		buf_init(&out, 0);
		assert_int_equal(text_chunk_render(m, &chunks[i], &out), 0);
		assert_true(out.n > sum && out.p[0] == '[' && out.p[out.n - 1] == '\n');
		buf_free(&out);
	}
	size_t old = text_old_bytes(m, n);
	assert_true(bytes <= old && bytes + count * 2 >= old);
	text_chunks_free(chunks, count);
}

static void test_chunks(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++) {
		struct transcript *t = calloc(1, sizeof(*t));
		assert_non_null(t);
		transcript_make(t, seed * 13, 40000);
		transcript_finish(t, TEXT_KEEP_GROUPS);
		check_chunks(t->m, t->n, 6000, CHUNKS_MAX);
		check_chunks(t->m, t->n, 1500, CHUNKS_MAX);
		check_chunks(t->m, t->n, 1 << 20, CHUNKS_MAX);
		check_chunks(t->m, t->n, 1, 5);
		check_chunks(t->m, t->n, 700, 1);
		transcript_free(t);
		free(t);
	}
}

static void test_one_huge_message_is_cut_evenly(void **state)
{
	struct transcript t = {.seed = 1};
	struct buf text;
	struct text_chunk *chunks;
	size_t count;
	(void)state;
	buf_init(&text, 0);
	transcript_source(&t, 1, 1000, &text);
	struct text_message m = {.role = TEXT_USER, .text = buf_slice(&text)};
	check_chunks(&m, 1, 6000, CHUNKS_MAX);
	assert_int_equal(text_chunks(&m, 1, 6000, CHUNKS_MAX, &chunks, &count), 0);
	assert_in_range(count, text.n / 6000 + 1, text.n / (6000 - TEXT_PIECE - 2) + 1);
	for (size_t i = 0; i < count; i++)
		assert_true(chunks[i].bytes > 2000);
	text_chunks_free(chunks, count);
	buf_free(&text);

	m.verbatim = true;
	assert_int_equal(text_chunks(&m, 1, 6000, CHUNKS_MAX, &chunks, &count), 0);
	assert_int_equal(count, 0);
	assert_null(chunks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_text_form_results),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_one_huge_message_is_cut_evenly),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
