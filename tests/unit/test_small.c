/* What is small: which rule a request finds, and what a web interface asks for beside a conversation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/config/small.h"
#include "supervisor/requests/client.h"

#include <stdio.h>

#define TEXT(literal) ((char[]){literal}) /* of the block */

static void each_kind_has_a_rule(void **state)
{
	(void)state;
	struct config c = {0};
	small_defaults(&c);
	for (unsigned kind = 0; kind < SMALL_KINDS; kind++) {
		struct small_facts f = {.kind = (enum small_kind)kind,
			.text = SLICE("t"),
			.model = SLICE("m"),
			.path = SLICE("/api/chat")};
		const struct config_small_rule *r = small_rule(&c, &f);
		assert_int_equal(r != NULL, kind != SMALL_ANY);
		assert_true(!r || r->kind == f.kind);
		assert_true(small_kind_name(f.kind)[0]);
	}
}

static void a_rule_holds_where_all_of_it_does(void **state)
{
	(void)state;
	struct config c = {.small = {.rule_count = 1}};
	struct config_small_rule *r = &c.small.rules[0];
	static const struct {
		const char *text, *model, *path;
		enum small_kind kind;
		bool found;
	} cases[] = {
		{"Generate a title", NULL, NULL, SMALL_ANY, true},
		{"generate A *title", NULL, NULL, SMALL_ANY, true},
		{"Generate a title for this chat: hello", NULL, NULL, SMALL_ANY, true},
		{"Generate a title for this chat: hello, all of it", NULL, NULL, SMALL_ANY, false},
		{"a title", NULL, NULL, SMALL_ANY, false},
		{"*a title", NULL, NULL, SMALL_ANY, true},
		{NULL, "*-fast", NULL, SMALL_ANY, true},
		{NULL, "*-slow", NULL, SMALL_ANY, false},
		{NULL, "M-FAST:latest", NULL, SMALL_ANY, false},
		{NULL, NULL, "/v1/*", SMALL_ANY, true},
		{NULL, NULL, "/v1", SMALL_ANY, false},
		{NULL, NULL, NULL, SMALL_TAGS, true},
		{NULL, NULL, NULL, SMALL_TITLE, false},
		{"Generate", "*-fast", "/v1/*", SMALL_TAGS, true},
		{"Generate", "*-fast", "/api/*", SMALL_TAGS, false},
	};
	struct small_facts f = {.kind = SMALL_TAGS,
		.text = SLICE("Generate a title for this chat: hello"),
		.model = SLICE("m-fast"),
		.path = SLICE("/v1/chat/completions")};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		*r = (struct config_small_rule){.kind = cases[i].kind,
			.text = (char *)(uintptr_t)cases[i].text,
			.model = (char *)(uintptr_t)cases[i].model,
			.path = (char *)(uintptr_t)cases[i].path};
		if ((small_rule(&c, &f) != NULL) != cases[i].found)
			fail_msg("case %zu", i);
	}
	*r = (struct config_small_rule){.text = TEXT("*")};
	f.text = (struct slice){0};
	assert_null(small_rule(&c, &f)); /* of a text that is not known nothing holds */
}

static void the_first_one_decides(void **state)
{
	(void)state;
	struct config c = {.small = {.rule_count = 2,
				   .rules = {{.text = TEXT("Generate")}, {.kind = SMALL_TAGS}}}};
	struct small_facts f = {.kind = SMALL_TAGS, .text = SLICE("Generate tags")};
	assert_ptr_equal(small_rule(&c, &f), &c.small.rules[0]);
	f.text = SLICE("Tags");
	assert_ptr_equal(small_rule(&c, &f), &c.small.rules[1]);
}

/* Patterns are the operator's, texts are anybody's: the worst of them is soon done. */
static void a_hostile_text_is_soon_done(void **state)
{
	(void)state;
	static char text[1024], pattern[CONFIG_SMALL_TEXT_BYTES + 1];
	struct config c = {.small = {.rule_count = 1, .rules = {{.text = pattern}}}};
	memset(text, 'a', sizeof(text));
	for (size_t i = 0; i + 2 < sizeof(pattern); i += 2)
		memcpy(pattern + i, "*a", 2);
	pattern[sizeof(pattern) - 2] = 'b';
	struct small_facts f = {.text = {text, sizeof(text)}};
	for (int i = 0; i < 100; i++)
		assert_null(small_rule(&c, &f));
}

static void side_tasks_are_known_by_their_second_line(void **state)
{
	(void)state;
	static const struct {
		struct slice text;
		enum small_kind kind;
	} cases[] = {
		{SLICE("\"### Task:\\nGenerate a concise, 3-5 word title with an emoji "
		       "summarizing\""),
			SMALL_TITLE},
		{SLICE("\"### Task:\\n\\nCreate a concise, 3-5 word phrase as a title\""),
			SMALL_TITLE},
		{SLICE("\"### Task:\\nGenerate 1-3 broad tags categorizing the main themes\""),
			SMALL_TAGS},
		{SLICE("\"### Task:\\nSuggest 3-5 relevant follow-up questions or prompts\""),
			SMALL_FOLLOW_UPS},
		{SLICE("\"### Task:\\nYou are an autocompletion system. Continue the text\""),
			SMALL_AUTOCOMPLETE},
		{SLICE("\"### Task:\\nRespond to the user query using the provided context, "
		       "incorporating inline citations\\n<context>title, tags</context>\""),
			SMALL_ANY},
		{SLICE("\"### Task:\\nAnalyze the chat history to determine the necessity of "
		       "generating search queries\""),
			SMALL_ANY},
		{SLICE("\"### Task:\\nGenerate a detailed prompt for an image\""), SMALL_ANY},
		{SLICE("\"You are an autocompletion system.\""), SMALL_ANY},
		{SLICE("\"Generate a title\""), SMALL_ANY},
		{SLICE("\"### Task:\""), SMALL_ANY},
		{SLICE(""), SMALL_ANY},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (client_side_task(cases[i].text) != cases[i].kind)
			fail_msg("case %zu: %s", i,
				small_kind_name(client_side_task(cases[i].text)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_has_a_rule),
		cmocka_unit_test(a_rule_holds_where_all_of_it_does),
		cmocka_unit_test(the_first_one_decides),
		cmocka_unit_test(a_hostile_text_is_soon_done),
		cmocka_unit_test(side_tasks_are_known_by_their_second_line),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
