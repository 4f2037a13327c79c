/* Who asks, and how urgent it is. */
#include "supervisor/requests/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <strings.h>

#include <cmocka.h>

struct header {
	const char *name, *value;
};

static const char *look_up(const void *ctx, const char *name)
{
	for (const struct header *h = ctx; h->name; h++)
		if (strcasecmp(h->name, name) == 0)
			return h->value;
	return NULL;
}

static const uint64_t secret[2] = {1, 2};

static void test_host(void **state)
{
	(void)state;
	static const struct {
		const char *peer, *host;
	} cases[] = {{"127.0.0.1:40000", "127.0.0.1"}, {"[::1]:1", "[::1]"}, {"", ""},
		{"nowhere", "nowhere"}, {NULL, ""}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_true(slice_eq(client_host(cases[i].peer), slice_str(cases[i].host)));
}

static void test_key(void **state)
{
	(void)state;
	static const struct header none[] = {{0}};
	static const struct {
		const char *peer;
		struct header headers[4];
		bool same; /* as the first */
	} cases[] = {
		{"127.0.0.1:40000", {{"User-Agent", "curl"}}, true},
		{"127.0.0.1:40001", {{"User-Agent", "curl"}}, true},
		{"127.0.0.1:40000", {{"user-agent", "curl"}, {"X-Stainless-Retry-Count", "1"}},
			true},
		{"127.0.0.2:40000", {{"User-Agent", "curl"}}, false},
		{"[::1]:40000", {{"User-Agent", "curl"}}, false},
		{"127.0.0.1:40000", {{"User-Agent", "curl/2"}}, true},
		{"127.0.0.1:40000", {{0}}, true},
		{"127.0.0.1:40000", {{"User-Agent", "curl"}, {"Authorization", "Bearer a"}}, false},
		{"127.0.0.1:40000", {{"User-Agent", "curl"}, {"X-Api-Key", "a"}}, false},
		{"127.0.0.1:40000", {{"User-Agent", "curl"}, {"Authorization", ""}}, false},
		{"127.0.0.1:40000", {{"User-Agent", "curl"}, {"X-OpenWebUI-User-Id", "u"}}, false},
		{"127.0.0.1:40000", {{"X-Api-Key", "curl"}}, false},
	};
	uint64_t first = client_key(secret, cases[0].peer, look_up, cases[0].headers);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint64_t key = client_key(secret, cases[i].peer, look_up, cases[i].headers);
		assert_int_equal(key == first, cases[i].same);
	}
	static const uint64_t other[2] = {1, 3};
	assert_true(client_key(other, cases[0].peer, look_up, cases[0].headers) != first);
	assert_true(client_key(secret, NULL, look_up, none) != first);
}

static void test_class(void **state)
{
	(void)state;
	static const struct {
		struct client_facts facts;
		enum job_class class;
	} cases[] = {
		{{.tokens = 10}, CLASS_INTERACTIVE},
		{{.tokens = CLIENT_LARGE_TOKENS}, CLASS_INTERACTIVE},
		{{.tokens = CLIENT_LARGE_TOKENS + 1}, CLASS_AGENT},
		{{.tokens = 10, .tools = true}, CLASS_AGENT},
		{{.user_agent = "Cline/3.1 node"}, CLASS_AGENT},
		{{.user_agent = "python aider"}, CLASS_AGENT},
		{{.user_agent = "curl/8"}, CLASS_INTERACTIVE},
		{{.user_agent = ""}, CLASS_INTERACTIVE},
		{{.last = SLICE(
			  "\"### Task:\\nGenerate a concise, 3-5 word title with an emoji\\n\")")},
			CLASS_IDLE},
		{{.last = SLICE("\"### Task:\\r\\n\\r\\nGenerate a title\"")}, CLASS_IDLE},
		{{.last = SLICE("\"### Task:\\nGenerate 1-3 broad tags categorizing\""),
			 .tokens = 90000},
			CLASS_IDLE},
		{{.last = SLICE("\"### Task:\\nSuggest 3-5 relevant follow-up questions\"")},
			CLASS_IDLE},
		/* Somebody waits for these. */
		{{.last = SLICE("\"### Task:\\nRespond to the user query using the provided "
				"context, incorporating inline citations\\n\\n<context>the title, "
				"tags and follow-up</context>\")")},
			CLASS_INTERACTIVE},
		{{.last = SLICE("\"### Task:\\nRespond to the user query using the title\""),
			 .tokens = 90000},
			CLASS_AGENT},
		{{.last = SLICE("\"### Task:\\nAnalyze the chat history to determine the necessity "
				"of generating search queries\"")},
			CLASS_INTERACTIVE},
		{{.last = SLICE("\"### Task:\\nYou are an autocompletion system.\"")},
			CLASS_INTERACTIVE},
		{{.last = SLICE("\"### Task:\\nGenerate a detailed prompt for an image\"")},
			CLASS_INTERACTIVE},
		{{.last = SLICE("\"### Task:\"")}, CLASS_INTERACTIVE},
		{{.last = SLICE("\"### Task:\\n\"")}, CLASS_INTERACTIVE},
		{{.last = SLICE("\"### Tas\"")}, CLASS_INTERACTIVE},
		{{.last = SLICE("\"about ### Task:\"")}, CLASS_INTERACTIVE},
		{{.wish = "agent"}, CLASS_AGENT},
		{{.wish = "Idle", .tools = true}, CLASS_IDLE},
		{{.wish = "interactive", .tools = true}, CLASS_INTERACTIVE},
		{{.wish = "map"}, CLASS_INTERACTIVE}, /* ours alone */
		{{.wish = "map", .tools = true}, CLASS_AGENT},
		{{.wish = "urgent", .tokens = 50000}, CLASS_AGENT},
		{{.wish = ""}, CLASS_INTERACTIVE},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(client_class(&cases[i].facts), cases[i].class);
}

/* Against another implementation of SipHash-2-4, which itself was held to the published vectors. */
static void test_sip(void **state)
{
	(void)state;
	static const struct header none[] = {{0}}, known[] = {{"Authorization", "Bearer k"},
							   {"User-Agent", "curl/8.5"}, {0}};
	static const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
	assert_true(client_key(key, ":1", look_up, none) == 0xd4e7ceee19eb62a4u);
	assert_true(client_key(key, "127.0.0.1:9", look_up, known) == 0xb676190314b4c4e7u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host),
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_class),
		cmocka_unit_test(test_sip),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
