/* Aliases of models: which entry a name finds, and who answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/config/models.h"
#include "supervisor/requests/aliases.h"

#include <stdio.h>

#define TEXT(literal) ((char[]){literal}) /* of the block */

static const char *used(const struct config *c, const char *name)
{
	const struct config_alias *a = models_alias(c, slice_str(name));
	return a ? a->use : "";
}

static void names_find_their_entry(void **state)
{
	static const struct {
		const char *match, *name;
		bool found;
	} cases[] = {
		{"a", "a", true},
		{"a", "A", true},
		{"a", "ab", false},
		{"ab", "a", false},
		{"a", "", false},
		{"*", "", false},
		{"*", "x", true},
		{"claude-*", "claude-", true},
		{"claude-*", "Claude-Opus-4-1", true},
		{"claude-*", "claude", false},
		{"claude-*haiku*", "claude-haiku-4-5-20251001", true},
		{"claude-*haiku*", "claude-3-5-haiku-20241022", true},
		{"claude-*haiku*", "claude-sonnet-4-5", false},
		{"*-mini", "gpt-5-mini-mini", true},
		{"*a*b*c", "xaxbxxbc", true},
		{"*a*b*c", "xaxcxxcb", false},
		{"gpt-?", "gpt-5", true},
		{"gpt-?", "gpt-", false},
		{"gpt-?", "gpt-51", false},
		{"**", "x", true},
		{"org/*", "org/a/b", true},
		{"a", "a:latest", true},
		{"a:latest", "a:latest", true},
		{"a:latest", "a", false},
		{"*x", "ax:LATEST", true},
		{"a", ":latest", false},
		{"a.b", "axb", false},
		{"[a]", "a", false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct config c = {.alias_count = 1};
		c.aliases[0] = (struct config_alias){(char *)(uintptr_t)cases[i].match, TEXT("u")};
		if ((*used(&c, cases[i].name) != '\0') != cases[i].found)
			fail_msg("\"%s\" and \"%s\"", cases[i].match, cases[i].name);
	}
}

static void the_first_counts(void **state)
{
	struct config c = {.alias_count = 3,
		.aliases = {{TEXT("claude-*haiku*"), TEXT("one")}, {TEXT("claude-*"), TEXT("two")},
			{TEXT("*"), TEXT("three")}}};
	(void)state;
	assert_string_equal(used(&c, "claude-haiku"), "one");
	assert_string_equal(used(&c, "claude-opus"), "two");
	assert_string_equal(used(&c, "gpt"), "three");
	assert_true(models_is_name(&(struct config_alias){TEXT("a-b:c.d"), NULL}));
	assert_false(models_is_name(&c.aliases[1]));
	assert_false(models_is_name(&(struct config_alias){TEXT("a?"), NULL}));
}

/* Every entry against a name made to be looked at for long: some ms; with each "*" taken back it would
 * be years. */
static void long_names_cost_little(void **state)
{
	static char pattern[CONFIG_ALIAS_BYTES + 1], name[5001];
	struct config c = {.alias_count = CONFIG_ALIASES_MAX};
	(void)state;
	memset(name, 'a', sizeof(name) - 1);
	for (size_t i = 0; i + 1 < sizeof(pattern); i++)
		pattern[i] = i % 2 ? 'a' : '*';
	pattern[sizeof(pattern) - 2] = 'b';
	for (size_t i = 0; i < CONFIG_ALIASES_MAX; i++)
		c.aliases[i] = (struct config_alias){pattern, NULL};
	assert_null(models_alias(&c, (struct slice){name, CONFIG_ALIAS_BYTES}));
	c.aliases[0].match = TEXT("*");
	assert_non_null(models_alias(&c, (struct slice){name, CONFIG_ALIAS_BYTES}));
	assert_null(models_alias(&c, (struct slice){name, CONFIG_ALIAS_BYTES + 1}));
}

/* --- among devices --- */

struct place {
	struct config config;
	struct devices devices;
	struct config_device conf[2];
	struct device_model models[2];
	char names[2][16];
	struct worker worker[2];
	struct device device[2];
	struct requests requests;
};

static void place_make(struct place *p)
{
	*p = (struct place){.requests = {.config = &p->config, .devices = &p->devices}};
	p->models[0] = (struct device_model){.name = p->names[0]};
	p->models[1] = (struct device_model){.name = p->names[1]};
	snprintf(p->names[0], sizeof(p->names[0]), "big:7b");
	snprintf(p->names[1], sizeof(p->names[1]), "small:1b");
	for (int i = 0; i < 2; i++) {
		p->conf[i] =
			(struct config_device){.roles = i ? ROLE_CONDENSE : ROLE_MAIN, .slots = 1};
		snprintf(p->conf[i].name, sizeof(p->conf[i].name), "gpu%d", i);
		p->device[i] = (struct device){.conf = &p->conf[i],
			.current = &p->worker[i],
			.models = &p->models[i],
			.model_count = 1};
		p->devices.of[p->devices.count++] = &p->device[i];
	}
}

static void add(struct place *p, const char *match, const char *use)
{
	p->config.aliases[p->config.alias_count++] =
		(struct config_alias){(char *)(uintptr_t)match, (char *)(uintptr_t)use};
}

static void a_model_comes_first_then_devices_then_names(void **state)
{
	struct place p;
	struct alias a;
	(void)state;
	place_make(&p);
	add(&p, "tiny", "gpu1");
	add(&p, "small*", "big:7b");
	add(&p, "ghost", "nobody:1b");
	add(&p, "*", "gpu0");
	assert_false(alias_find(&p.requests, SLICE("Small:1B"), &a));
	assert_true(alias_find(&p.requests, SLICE("tiny"), &a));
	assert_ptr_equal(a.device, &p.device[1]);
	assert_string_equal(a.model, "small:1b");
	assert_true(alias_find(&p.requests, SLICE("small-2"), &a));
	assert_null(a.device);
	assert_string_equal(a.model, "big:7b");
	assert_ptr_equal(alias_serves(&p.requests, &a), &p.device[0]);
	assert_true(alias_find(&p.requests, SLICE("ghost"), &a));
	assert_string_equal(a.model, "nobody:1b");
	assert_null(alias_serves(&p.requests, &a));
	assert_true(alias_find(&p.requests, SLICE("whatever"), &a));
	assert_ptr_equal(a.device, &p.device[0]);
	assert_false(alias_find(&p.requests, SLICE(""), &a));
	assert_true(alias_listed(&p.requests, 0));
	assert_false(alias_listed(&p.requests, 1));
	p.models[0].name = TEXT("tiny");
	assert_false(alias_listed(&p.requests, 0));
	assert_false(alias_find(&p.requests, SLICE("tiny:latest"), &a));
}

static void a_device_may_have_told_nothing(void **state)
{
	struct place p;
	struct alias a;
	char text[ALIAS_TEXT_BYTES];
	(void)state;
	place_make(&p);
	add(&p, "*", "gpu1");
	p.device[1].model_count = 0;
	assert_true(alias_find(&p.requests, SLICE("x"), &a));
	assert_string_equal(a.model, "");
	alias_unknown(&a, text);
	assert_non_null(strstr(text, "device gpu1"));
	snprintf(p.worker[1].backend.model, sizeof(p.worker[1].backend.model), "told:1b");
	assert_true(alias_find(&p.requests, SLICE("x"), &a));
	assert_string_equal(a.model, "told:1b");
	p.conf[1].model = TEXT("set:1b");
	assert_true(alias_find(&p.requests, SLICE("x"), &a));
	assert_string_equal(a.model, "set:1b");
}

static void a_body_gets_the_real_name(void **state)
{
	static const char *const names[] = {"m", "claude", "a much longer name \"with\" more"};
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct buf body, want;
		buf_init(&body, 27); /* its cap: the longest name takes it past that */
		buf_init(&want, 0);
		buf_add_str(&body, "{\"model\":\"claude\",\"n\":1} ");
		assert_int_equal(json_replace_string(
					 &body, (struct slice){body.p + 9, 8}, slice_str(names[i])),
			0);
		buf_add_str(&want, "{\"model\":");
		json_put_string(&want, slice_str(names[i]));
		buf_add_str(&want, ",\"n\":1} ");
		assert_string_equal(buf_cstr(&body), buf_cstr(&want));
		assert_int_equal(buf_error(&body), 0);
		buf_free(&body);
		buf_free(&want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_find_their_entry),
		cmocka_unit_test(the_first_counts),
		cmocka_unit_test(long_names_cost_little),
		cmocka_unit_test(a_model_comes_first_then_devices_then_names),
		cmocka_unit_test(a_device_may_have_told_nothing),
		cmocka_unit_test(a_body_gets_the_real_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
