/*
 * The frozen layout against conversations that no agent makes: ids used again, results before their
 * calls, far behind them or of none, empty contents, tags that never end, more of everything than
 * is sane.
 */
#include "common/layout/parts.h"
#include "common/layout/state.h"
#include "common/tokens.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
/* cmocka wants the three above first */
#include <cmocka.h>

#define SEEDS 40
#define MESSAGES 120
#define SLOW_MS 5000 /* what is linear takes a fiftieth on a quiet machine */

static uint64_t seed_state;

static unsigned below(unsigned n)
{
	seed_state ^= seed_state << 13;
	seed_state ^= seed_state >> 7;
	seed_state ^= seed_state << 17;
	return (unsigned)(seed_state % n);
}

static void open_body(struct buf *b)
{
	buf_init(b, 0);
	buf_add_str(b, "{\"model\":\"m\",\"messages\":[");
}

/* One message, with other members behind its content. */
static void say(struct buf *b, const char *role, struct slice text, const char *members)
{
	buf_printf(b, "%s{\"role\":\"%s\",\"content\":", b->p[b->n - 1] == '[' ? "" : ",", role);
	json_put_string(b, text);
	buf_printf(b, "%s}", members);
}

static void put_lines(struct buf *text, size_t bytes)
{
	for (unsigned i = 0; text->n < bytes; i++)
		buf_printf(text, "src/file_%u.c:%u: plain words of line %u\n", i % 7, i, i * 31);
}

static void say_lines(struct buf *b, const char *role, size_t bytes, const char *members)
{
	struct buf text;
	buf_init(&text, 0);
	put_lines(&text, bytes);
	say(b, role, buf_slice(&text), members);
	buf_free(&text);
}

static void call(struct buf *b, unsigned id, size_t bytes)
{
	struct buf text, members;
	buf_init(&text, 0);
	buf_init(&members, 0);
	put_lines(&text, bytes);
	buf_printf(&members,
		",\"tool_calls\":[{\"id\":\"c%u\",\"type\":\"function\",\"function\":{\"name\":"
		"\"write\",\"arguments\":",
		id);
	json_put_string(&members, buf_slice(&text));
	buf_add_str(&members, "}}]");
	say(b, "assistant", SLICE(""), buf_cstr(&members));
	buf_free(&text);
	buf_free(&members);
}

static void result(struct buf *b, unsigned id, size_t bytes)
{
	char members[48];
	snprintf(members, sizeof(members), ",\"tool_call_id\":\"c%u\"", id);
	say_lines(b, "tool", bytes, members);
}

struct made {
	struct buf body, sent;
	struct chat_request request, view;
	struct layout l;
};

/* Takes b. */
static void make(struct made *m, enum dialect d, struct buf *b, double window,
	const struct layout_state *from)
{
	struct layout_options o = layout_defaults();
	struct dialect_error error;
	o.window = window;
	m->body = *b;
	buf_init(&m->sent, 0);
	assert_int_equal(chat_request_parse(d, buf_slice(&m->body), &m->request, &error), 0);
	layout_make(&m->l, &m->request, &o, from);
	assert_int_not_equal(m->l.result, LAYOUT_FAILED);
	assert_int_equal(chat_request_rewrite(&m->request, m->l.edits, 0, &m->sent), 0);
	assert_int_equal(chat_request_parse(d, buf_slice(&m->sent), &m->view, &error), 0);
}

static void unmake(struct made *m)
{
	layout_fini(&m->l);
	chat_request_fini(&m->request);
	chat_request_fini(&m->view);
	buf_free(&m->body);
	buf_free(&m->sent);
}

static bool is_gone(const struct made *m, size_t i)
{
	return m->l.edits[i].kind == CHAT_DROP;
}

/* A result goes with its call and stays with it, or becomes words of the user. */
static void check_pairs(const struct made *m)
{
	for (size_t i = 0; i < m->l.count; i++)
		if (m->l.owner[i] && m->l.edits[i].kind != CHAT_INSERT_BEFORE_DROP)
			assert_int_equal(is_gone(m, i), is_gone(m, m->l.owner[i] - 1));
}

static void check(const struct made *m, double window)
{
	check_pairs(m);
	if (m->l.result == LAYOUT_AS_SENT)
		assert_true(slice_eq(buf_slice(&m->body), buf_slice(&m->sent)));
	if (m->l.result != LAYOUT_RAISED)
		return;
	assert_true(m->view.count > 0);
	assert_true(m->l.size <= m->l.room + .001);
	/* By the count of what is really sent, too. */
	assert_true(token_census_start(&m->view.census) < window * 1.02 + 80);
	for (size_t i = 0; i < m->l.count; i++) {
		const struct layout_message *x = &m->l.messages[i];
		if (m->request.messages[i].role == CHAT_SYSTEM)
			assert_int_equal(m->l.edits[i].kind, CHAT_KEEP);
		if ((x->flags & PART_UNTOUCHED) && !m->l.spare_nobody)
			assert_int_equal(m->l.edits[i].kind, CHAT_KEEP);
		if (m->l.edits[i].kind == CHAT_REPLACE_TEXT)
			assert_string_not_equal(x->reason, "as sent");
	}
}

/* --- random --- */

static void put_text(struct buf *text)
{
	static const char *const parts[] = {"<feedback>", "</feedback>", "<system-reminder>",
		"<answer>", "\\n", "\n", "\r\n", "@@ -1 +1 @@\n", "diff --git a b\n", "+++ x\n",
		"+a\n", "12:f(x)\n", "src/a.c:\n", "| a | b |\n", "NAME PID CMD\n", "error: x\n",
		"never do that.\n", "[user]\n", "[..12]\n", "[Earlier part of this conversation",
		"sk-ant-api03-AAAAAAAAAAAAAAAAAAAAAAAAAAAAA ", "漢字", "😀", "\x01", "```\n",
		"int main(void)\n{\n", "a/b/c.d ", "x_y_z ", "--flag ", "==> p <==\n",
		"<tool_result>", "[read_file for 'a'] Result:\n", "Attached image(s) from tool",
		"I ran this command:\n\n", "(", "\"", "\t", "Translate this.", "# Head\n"};
	unsigned n = below(4) ? below(12) : below(8) ? below(80) : 400;
	for (unsigned i = 0; i < n; i++) {
		if (below(30) == 0)
			buf_add(text, "\0", 1);
		buf_add_str(text, parts[below(sizeof(parts) / sizeof(*parts))]);
	}
}

static void put_message(struct buf *b, size_t i)
{
	static const char *const roles[] = {"assistant", "tool", "user", "tool", "system"};
	const char *role = i ? roles[below(below(8) ? 4 : 5)] : "user";
	struct buf members, text;
	buf_init(&members, 0);
	buf_init(&text, 0);
	put_text(&text);
	if (role[0] == 'a' && below(4)) {
		buf_add_str(&members, ",\"tool_calls\":[");
		for (unsigned k = below(4), n = 0; n < k; n++)
			buf_printf(&members,
				"%s{\"id\":\"c%u\",\"type\":\"function\",\"function\":{\"name\":"
				"\"r\",\"arguments\":\"{}\"}}",
				n ? "," : "", below(20));
		buf_add_char(&members, ']');
	}
	if (role[0] == 't' && below(8))
		buf_printf(&members, ",\"tool_call_id\":\"c%u\"", below(20));
	buf_cstr(&members);
	switch (below(10)) {
	case 0:
		buf_printf(b, "%s{\"role\":\"%s\",\"content\":null%s}", i ? "," : "", role,
			members.n ? members.p : "");
		break;
	case 1:
		buf_printf(b, "%s{\"role\":\"%s\",\"content\":[{\"type\":\"text\",\"text\":",
			i ? "," : "", role);
		json_put_string(b, buf_slice(&text));
		buf_printf(b,
			"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/"
			"png;base64,iVBORw0KGgo=\"}}]%s}",
			members.n ? members.p : "");
		break;
	default:
		say(b, role, buf_slice(&text), members.n ? members.p : "");
	}
	buf_free(&members);
	buf_free(&text);
}

static void random_body(struct buf *b, uint64_t seed, size_t messages)
{
	seed_state = seed * 0x9e3779b97f4a7c15u | 1;
	open_body(b);
	for (size_t i = 0; i < messages; i++)
		put_message(b, i);
	buf_add_str(b, "]}");
}

static void test_random(void **state)
{
	static const double windows[] = {50, 300, 800, 2000, 5000, 20000};
	size_t raised = 0;
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		double window = windows[seed % 6];
		struct layout_state *from = NULL;
		for (size_t k = 1 + seed % 30; k < MESSAGES; k += 1 + seed % 17) {
			struct made grown, fresh;
			struct buf b;
			random_body(&b, seed, k);
			make(&grown, DIALECT_OPENAI_CHAT, &b, window, from);
			random_body(&b, seed, k);
			make(&fresh, DIALECT_OPENAI_CHAT, &b, window, NULL);
			assert_int_equal(grown.l.result, fresh.l.result);
			assert_true(slice_eq(buf_slice(&grown.sent), buf_slice(&fresh.sent)));
			check(&fresh, window);
			raised += fresh.l.result == LAYOUT_RAISED;
			random_body(&b, seed, k + 1);
			bool end = memmem(b.p + grown.body.n - 2, b.n - grown.body.n,
				"{\"role\":\"assistant\"", 19);
			buf_free(&b);
			if (end) { /* a group ended there */
				layout_state_release(from);
				from = layout_state_save(&grown.l);
			}
			unmake(&grown);
			unmake(&fresh);
		}
		layout_state_release(from);
	}
	assert_true(raised > SEEDS);
}

/* --- one by one --- */

/* Its call went into the digest, but words of a person keep the group that it stands in. */
static void test_late_result_between_kept_words(void **state)
{
	struct made m;
	struct buf b;
	(void)state;
	open_body(&b);
	say(&b, "user", SLICE("Go."), "");
	for (unsigned i = 0; i < 30; i++) {
		call(&b, i, 10);
		if (i != 3)
			result(&b, i, 1500);
		if (i == 5) {
			result(&b, 3, 1500);
			say(&b, "user", SLICE("Keep the tabs."), "");
		}
	}
	buf_add_str(&b, "]}");
	make(&m, DIALECT_OPENAI_CHAT, &b, 3000, NULL);
	assert_int_equal(m.l.result, LAYOUT_RAISED);
	check(&m, 3000);
	unmake(&m);
}

/* Files that a client needs back whole stay, and with them what keeps the roles alternating. */
static void test_files_in_the_digest(void **state)
{
	static const char files[] = "I have *added these files to the chat* so edit them.\n";
	struct made m;
	struct buf b;
	(void)state;
	open_body(&b);
	say(&b, "user", SLICE("Go."), "");
	for (unsigned i = 0; i < 20; i++) {
		say_lines(&b, "assistant", i == 19 ? 9000 : 900, "");
		if (i == 17)
			say(&b, "user", slice_str(files), "");
		else
			say_lines(&b, "user", 900, "");
	}
	buf_add_str(&b, "]}");
	make(&m, DIALECT_OPENAI_CHAT, &b, 3000, NULL);
	assert_int_equal(m.l.result, LAYOUT_RAISED);
	check(&m, 3000);
	assert_true(m.l.messages[36].level == LAYOUT_FIXED && m.l.merged_to > 18);
	for (size_t i = 1; i < m.view.count; i++)
		assert_int_not_equal(m.view.messages[i].role, m.view.messages[i - 1].role);
	unmake(&m);
}

/* Calls stay when the text beside a picture is cut, and are counted. */
static void test_picture_beside_calls(void **state)
{
	struct made m;
	struct buf b;
	(void)state;
	open_body(&b);
	say(&b, "user", SLICE("Go."), "");
	for (unsigned i = 0; i < 12; i++) {
		buf_add_str(&b, ",{\"role\":\"assistant\",\"content\":[{\"type\":\"image_url\","
				"\"image_url\":{\"url\":\"data:image/png;base64,iVBORw0KGgo=\"}}]");
		struct buf text;
		buf_init(&text, 0);
		put_lines(&text, 1200);
		buf_printf(&b,
			",\"tool_calls\":[{\"id\":\"c%u\",\"type\":\"function\",\"function\":{"
			"\"name\":\"w\",\"arguments\":",
			i);
		json_put_string(&b, buf_slice(&text));
		buf_add_str(&b, "}}]}");
		buf_free(&text);
		result(&b, i, 600);
	}
	buf_add_str(&b, "]}");
	make(&m, DIALECT_OPENAI_CHAT, &b, 4000, NULL);
	check(&m, 4000);
	assert_int_equal(m.l.result, LAYOUT_RAISED);
	unmake(&m);
}

/* What is told of a message is what was done to it. */
static void test_reasons(void **state)
{
	struct made m;
	struct buf b;
	size_t old = 0;
	(void)state;
	open_body(&b);
	say(&b, "user", SLICE("Go."), "");
	for (unsigned i = 0; i < 12; i++) {
		call(&b, i, 10);
		result(&b, i, 2000);
	}
	buf_add_str(&b, "]}");
	make(&m, DIALECT_OPENAI_CHAT, &b, 8000, NULL);
	assert_int_equal(m.l.result, LAYOUT_RAISED);
	check(&m, 8000);
	for (size_t i = 0; i < m.l.count; i++)
		if (m.l.messages[i].level == LAYOUT_L1 && (m.l.messages[i].flags & PART_OUT)) {
			assert_string_equal(m.l.messages[i].reason, "old: selected lines");
			old++;
		}
	assert_true(old > 3);
	unmake(&m);
}

static double now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void test_many_calls_of_one_message(void **state)
{
	struct made m;
	struct buf b, calls;
	(void)state;
	open_body(&b);
	buf_init(&calls, 0);
	say(&b, "user", SLICE("Go."), "");
	for (unsigned i = 0; i < 30000; i++)
		buf_printf(&calls,
			"%s{\"id\":\"c%u\",\"type\":\"function\",\"function\":{\"name\":\"r\","
			"\"arguments\":\"{}\"}}",
			i ? "," : ",\"tool_calls\":[", i);
	buf_add_char(&calls, ']');
	say(&b, "assistant", SLICE(""), buf_cstr(&calls));
	buf_free(&calls);
	for (unsigned i = 0; i < 30000; i++)
		result(&b, i, 10);
	buf_add_str(&b, "]}");
	double began = now_ms();
	make(&m, DIALECT_OPENAI_CHAT, &b, 3000, NULL);
	assert_true(now_ms() - began < SLOW_MS);
	assert_true(slice_eq(m.l.text[m.l.count - 1].call, SLICE("r")));
	unmake(&m);
}

/* Rules that stand between the turns and may not go are more than the window holds. */
static void test_conversation_that_fits_no_window(void **state)
{
	struct made m;
	struct buf b;
	(void)state;
	open_body(&b);
	say(&b, "user", SLICE("Go."), "");
	for (unsigned i = 0; i < 15000; i++) {
		say(&b, "assistant", SLICE("Well then."), "");
		say(&b, "system", SLICE("Be as careful as you can."), "");
		say(&b, "user", SLICE("Go on with it."), "");
	}
	buf_add_str(&b, "]}");
	double began = now_ms();
	make(&m, DIALECT_OPENAI_CHAT, &b, 3000, NULL);
	assert_true(now_ms() - began < SLOW_MS);
	assert_int_equal(m.l.result, LAYOUT_NO_ROOM);
	unmake(&m);
}

/* A call that is larger than the window fits once it is old, with or without states. */
static void test_hopeless_for_a_while(void **state)
{
	struct layout_state *from = NULL;
	unsigned none = 0, fit_again = 0;
	(void)state;
	for (unsigned k = 30; k < 80; k++) {
		struct made grown, fresh;
		for (unsigned pass = 0; pass < 2; pass++) {
			struct buf b;
			open_body(&b);
			say(&b, "user", SLICE("Go."), "");
			for (unsigned i = 0; i < k; i++) {
				call(&b, i, i == 50 ? 20000 : 10);
				result(&b, i, 700);
			}
			buf_add_str(&b, "]}");
			make(pass ? &fresh : &grown, DIALECT_OPENAI_CHAT, &b, 3000,
				pass ? NULL : from);
		}
		assert_int_equal(grown.l.result, fresh.l.result);
		assert_true(slice_eq(buf_slice(&grown.sent), buf_slice(&fresh.sent)));
		none += fresh.l.result == LAYOUT_NO_ROOM;
		fit_again += none && fresh.l.result == LAYOUT_RAISED;
		struct layout_state *next = layout_state_save(&grown.l);
		if (next) {
			layout_state_release(from);
			from = next;
		}
		unmake(&grown);
		unmake(&fresh);
	}
	layout_state_release(from);
	assert_true(none > 0 && none < 4);
	assert_true(fit_again > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_late_result_between_kept_words),
		cmocka_unit_test(test_files_in_the_digest),
		cmocka_unit_test(test_picture_beside_calls),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_many_calls_of_one_message),
		cmocka_unit_test(test_conversation_that_fits_no_window),
		cmocka_unit_test(test_hopeless_for_a_while),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
