/*
 * The frozen layout: its properties over thousands of random conversations in both dialects, and
 * the faults that it ends, one test each.
 */
#include "common/layout/parts.h"
#include "common/layout/state.h"
#include "tests/unit/conversation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
/* cmocka wants the three above first */
#include <cmocka.h>

#define CONVERSATIONS 2000

/* A request, its layout and the body that came of it. */
struct made {
	struct buf body, sent;
	struct chat_request request, view;
	struct layout l;
};

static void made_body(struct made *m, enum dialect d, const struct layout_options *o,
	const struct layout_state *from)
{
	struct dialect_error error;
	assert_int_equal(chat_request_parse(d, buf_slice(&m->body), &m->request, &error), 0);
	layout_make(&m->l, &m->request, o, from);
	assert_int_not_equal(m->l.result, LAYOUT_FAILED);
	buf_init(&m->sent, 0);
	assert_int_equal(chat_request_rewrite(&m->request, m->l.edits, 0, &m->sent), 0);
	assert_int_equal(chat_request_parse(d, buf_slice(&m->sent), &m->view, &error), 0);
}

static void make(struct made *m, const struct conversation *c, size_t k,
	const struct layout_options *o, const struct layout_state *from)
{
	buf_init(&m->body, 0);
	conversation_body(c, k, &m->body);
	made_body(m, c->dialect, o, from);
}

static void make_text(struct made *m, enum dialect d, const char *body, double window)
{
	struct layout_options o = layout_defaults();
	o.window = window;
	buf_init(&m->body, 0);
	buf_add_str(&m->body, body);
	made_body(m, d, &o, NULL);
}

static void unmake(struct made *m)
{
	layout_fini(&m->l);
	chat_request_fini(&m->request);
	chat_request_fini(&m->view);
	buf_free(&m->body);
	buf_free(&m->sent);
}

static bool holds(struct slice s, const char *part)
{
	return s.n && memmem(s.p, s.n, part, strlen(part)) != NULL;
}

static struct slice messages_of(const struct made *m)
{
	return m->view.messages_array.raw;
}

/* The bytes of the two requests' messages that are the same from the beginning on. */
static size_t common_prefix(struct slice a, struct slice b)
{
	size_t n = a.n < b.n ? a.n : b.n, i = 0;
	while (i < n && a.p[i] == b.p[i])
		i++;
	return i;
}

/* --- what must hold of any layout --- */

static void check_budget(const struct made *m)
{
	if (m->l.result == LAYOUT_NO_ROOM || m->l.options.window <= 0)
		return;
	assert_true(m->l.size <= m->l.room + .001);
	if (m->l.result == LAYOUT_AS_SENT)
		assert_true(slice_eq(buf_slice(&m->body), buf_slice(&m->sent)));
}

/* Each result has its call before it, each call that had a result has it still. */
static void check_pairs(const struct made *m)
{
	const struct chat_request *v = &m->view;
	for (size_t i = 0; i < v->count; i++) {
		const struct chat_message *t = &v->messages[i];
		if (t->role != CHAT_TOOL || !json_is(t->call_id, JSON_STRING))
			continue;
		bool found = false;
		for (size_t k = 0; k < i && !found; k++) {
			struct json_iter it = json_iter(v->messages[k].tool_calls);
			struct chat_call call;
			while (!found && chat_call_next(&it, &call))
				found = slice_eq(call.id.raw, t->call_id.raw);
		}
		assert_true(found);
	}
	const struct chat_request *r = &m->request;
	for (size_t i = 0; i < r->count; i++) {
		if (m->l.edits[i].kind != CHAT_DROP || !m->l.owner[i])
			continue;
		assert_int_equal(m->l.edits[m->l.owner[i] - 1].kind, CHAT_DROP);
	}
}

/* Every line that stands instead of a text is one of the source, or a marker of ours. */
static void check_lines(struct made *m)
{
	assert_int_equal(layout_need_texts(&m->l), 0);
	for (size_t i = 0; i < m->l.count; i++) {
		if (m->l.edits[i].kind != CHAT_REPLACE_TEXT)
			continue;
		struct slice text = m->l.edits[i].text;
		while (text.n) {
			const char *nl = memchr(text.p, '\n', text.n);
			struct slice line = {text.p, nl ? (size_t)(nl - text.p) : text.n};
			bool found = line.n == 0 || (line.p[0] == '[' && line.p[line.n - 1] == ']');
			for (size_t k = 0; k < m->l.count && !found; k++)
				found = m->l.text[k].text.n &&
					memmem(m->l.text[k].text.p, m->l.text[k].text.n, line.p,
						line.n);
			if (!found)
				print_error("invented: %.*s\n", (int)line.n, line.p);
			assert_true(found);
			text.n -= line.n + (nl != NULL);
			text.p += line.n + (nl != NULL);
		}
	}
}

/* Users and assistants without calls alternate, as strict templates ask for. */
static bool alternates(const struct chat_request *r)
{
	int last = -1;
	for (size_t i = 0; i < r->count; i++) {
		const struct chat_message *m = &r->messages[i];
		if (m->role == CHAT_SYSTEM || m->role == CHAT_TOOL ||
			(m->role == CHAT_ASSISTANT && json_is(m->tool_calls, JSON_ARRAY)))
			continue;
		if ((int)m->role == last)
			return false;
		last = (int)m->role;
	}
	return true;
}

static void check(struct made *m)
{
	check_budget(m);
	check_pairs(m);
	check_lines(m);
	if (!alternates(&m->request))
		return;
	for (size_t i = 0; i < m->l.count; i++)
		if (m->l.edits[i].kind == CHAT_INSERT_BEFORE_DROP)
			return; /* a result that came long after its call was given up */
	if (!alternates(&m->view))
		for (size_t i = 0; i < m->l.count; i++)
			print_error("%u %d%s level %d edit %d, %s\n", m->l.messages[i].group,
				(int)m->request.messages[i].role,
				json_is(m->request.messages[i].tool_calls, JSON_ARRAY) ? "c" : "",
				(int)m->l.messages[i].level, (int)m->l.edits[i].kind,
				m->l.messages[i].reason);
	assert_true(alternates(&m->view));
}

static double window_of(struct conversation *c)
{
	static const double windows[] = {600, 1500, 3000, 6000, 12000};
	return windows[conversation_below(c, 5)];
}

/*
 * A conversation that grows: each request is laid out with the state of the one before (or, now and
 * then, of an older one, or none) and gives the bytes that no state gives; its messages begin with
 * those of the request before unless something was frozen at its end.
 */
static void test_properties(void **state)
{
	size_t freezes = 0, turns = 0, raised = 0;
	(void)state;
	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		struct conversation c;
		struct layout_options o = layout_defaults();
		struct layout_state *from = NULL;
		struct buf before;
		buf_init(&before, 0);
		conversation_begin(&c, seed);
		o.window = window_of(&c);
		unsigned length = 4 + conversation_below(&c, seed % 20 ? 14 : 60);
		for (unsigned i = 0; i < length; i++)
			conversation_turn(&c);
		for (size_t k = 0; k < conversation_groups(&c); k++) {
			struct made fresh, grown;
			make(&grown, &c, k, &o, from);
			check(&grown);
			bool whole =
				k + 1 == conversation_groups(&c) || conversation_chance(&c, 30);
			if (whole) {
				make(&fresh, &c, k, &o, NULL);
				assert_true(
					slice_eq(buf_slice(&fresh.sent), buf_slice(&grown.sent)));
				assert_int_equal(fresh.l.freezes, grown.l.freezes);
				unmake(&fresh);
			}
			struct slice sent = messages_of(&grown);
			bool froze = grown.l.frozen_at == grown.l.groups;
			if (!froze && before.n)
				assert_true(
					common_prefix(buf_slice(&before), sent) >= before.n - 1);
			buf_clear(&before);
			buf_add_slice(&before, sent);
			freezes += froze;
			turns++;
			raised += grown.l.result == LAYOUT_RAISED;
			if (!conversation_chance(&c, 20)) {
				layout_state_release(from);
				from = layout_state_save(&grown.l);
			}
			unmake(&grown);
		}
		layout_state_release(from);
		buf_free(&before);
		conversation_fini(&c);
	}
	printf("%zu turns, %zu of them raised, %zu freezes\n", turns, raised, freezes);
	assert_true(raised > turns / 10 && freezes > CONVERSATIONS / 4);
}

static double now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* A conversation of about so many bytes of text. */
static void long_conversation(struct conversation *c, size_t bytes)
{
	conversation_begin(c, 7);
	c->style = STYLE_TOOLS;
	c->dialect = DIALECT_OPENAI_CHAT;
	while (c->messages.n < bytes)
		conversation_turn(c);
}

/* Bounds ten times what a quiet machine takes: it may be busy and the build instrumented. */
static void test_speed(void **state)
{
	struct conversation c;
	struct made m;
	struct layout_options o = layout_defaults();
	(void)state;
	o.window = 30000;
	long_conversation(&c, 4200000);
	buf_init(&m.body, 0);
	conversation_body(&c, conversation_groups(&c) - 1, &m.body);
	struct dialect_error error;
	assert_int_equal(chat_request_parse(c.dialect, buf_slice(&m.body), &m.request, &error), 0);
	double began = now_ms();
	layout_make(&m.l, &m.request, &o, NULL);
	double first = now_ms() - began;
	printf("%.0f tokens, %u groups, %u freezes: first layout %.1f ms\n", m.l.tokens_in,
		m.l.groups, m.l.freezes, first);
	assert_true(first < 5000);
	layout_fini(&m.l);
	chat_request_fini(&m.request);
	buf_free(&m.body);
	conversation_fini(&c);

	long_conversation(&c, 400000);
	struct layout_state *from = NULL;
	double turns[64], sum = 0;
	size_t groups = conversation_groups(&c), n = 0;
	o.window = 32000;
	for (size_t k = groups - 50; k < groups; k++) {
		struct made g;
		struct dialect_error bad;
		buf_init(&g.body, 0);
		conversation_body(&c, k, &g.body);
		chat_request_parse(c.dialect, buf_slice(&g.body), &g.request, &bad);
		double at = now_ms();
		layout_make(&g.l, &g.request, &o, from);
		turns[n] = now_ms() - at;
		if (from) {
			sum += turns[n++];
			printf("%.2f%s ", turns[n - 1], g.l.frozen_at == g.l.groups ? "*" : "");
		}
		layout_state_release(from);
		from = layout_state_save(&g.l);
		layout_fini(&g.l);
		chat_request_fini(&g.request);
		buf_free(&g.body);
	}
	layout_state_release(from);
	printf("a turn of a conversation of %zu bytes: mean %.2f ms\n", c.messages.n,
		sum / (double)n);
	assert_true(sum / (double)n < 50);
	conversation_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_properties),
		cmocka_unit_test(test_speed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
