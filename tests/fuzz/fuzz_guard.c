/*
 * libFuzzer target for the guardian of the prefix: a letter for the dialect, then two bodies with a
 * newline between. Whatever a client sends after whatever was sent, the verdict is about what is
 * there, and what is made of a request is one with as many messages.
 */
#include "common/guard/guard.h"

#include <stdint.h>
#include <stdlib.h>

#define REQUIRE(c)                                                                                 \
	do {                                                                                       \
		if (!(c))                                                                          \
			abort();                                                                   \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct asked {
	struct buf body;
	struct chat_request request;
	struct guard_prompt prompt;
	bool parsed, watched;
};

static void ask(struct asked *a, enum dialect d, struct slice body)
{
	static const uint64_t key[2] = {1, 2};
	struct dialect_error error = {0};
	*a = (struct asked){.watched = false};
	buf_init(&a->body, 0);
	buf_add_slice(&a->body, body);
	a->parsed = chat_request_take(d, &a->body, &a->request, &error) == 0;
	a->watched = a->parsed && guard_can(&a->request);
	if (a->watched)
		REQUIRE(guard_read(&a->request, GUARD_KEEP, key, &a->prompt) == 0);
}

static void unask(struct asked *a)
{
	guard_prompt_fini(&a->prompt);
	if (a->parsed)
		chat_request_fini(&a->request);
	buf_free(&a->body);
}

static void check_verdict(const struct asked *a, const struct asked *b)
{
	struct guard_verdict v;
	REQUIRE(guard_compare(&a->prompt, &b->prompt, &v) == 0);
	REQUIRE(v.kind != GUARD_NEW && v.count <= GUARD_CHANGES);
	for (size_t i = 0; i < v.count; i++) {
		const struct guard_change *c = &v.change[i];
		REQUIRE(c->kind >= GUARD_FIRST_BREAK && c->message < b->prompt.count);
		REQUIRE(c->lost >= 0 && c->lost <= guard_weight(&b->prompt) * 1.000001);
		REQUIRE(c->byte <= b->body.n);
	}
	REQUIRE(guard_likeness(&a->prompt, &b->prompt) >= 0);
}

/* The tools of the one before may be anybody's: they are JSON. */
static void check_repair(const struct asked *a, const struct asked *b, enum dialect d)
{
	const struct guard_wish wish = {.before = &a->prompt,
		.tools = a->request.tools.raw,
		.attribution = true,
		.hold = true};
	struct buf out;
	struct asked now;
	buf_init(&out, 0);
	if (guard_repair(&b->request, &b->prompt, &wish, &out)) {
		ask(&now, d, buf_slice(&out));
		REQUIRE(now.watched && now.prompt.count == b->prompt.count);
		REQUIRE(now.prompt.attribution == 0 || now.prompt.left_out);
		unask(&now);
	}
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum dialect dialects[] = {
		DIALECT_OPENAI_CHAT, DIALECT_OLLAMA_CHAT, DIALECT_ANTHROPIC};
	const char *p = (const char *)data, *end = p + size;
	const char *cut = size ? memchr(p, '\n', size) : NULL;
	struct asked a, b;
	if (!cut)
		return 0;
	enum dialect d = dialects[data[0] % 3];
	ask(&a, d, (struct slice){p + 1, cut > p ? (size_t)(cut - p - 1) : 0});
	ask(&b, d, (struct slice){cut + 1, (size_t)(end - cut - 1)});
	if (a.watched && b.watched) {
		check_verdict(&a, &b);
		check_verdict(&b, &a);
		check_repair(&a, &b, d);
	}
	unask(&a);
	unask(&b);
	return 0;
}
