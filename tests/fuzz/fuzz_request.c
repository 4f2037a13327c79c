/*
 * libFuzzer target for chat requests: any body in each dialect. What is accepted is rewritten with
 * edits that follow from the body's own bytes, and the result is read again: edits say what they
 * say, all else is what the client sent.
 */
#include "common/dialect/request.h"

#include <stdint.h>
#include <stdlib.h>

#define NUM_CTX 12345

#define REQUIRE(c)                                                                                 \
	do {                                                                                       \
		if (!(c))                                                                          \
			abort();                                                                   \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
	struct slice put, read;
} texts[] = {
	{{"", 0}, {"", 0}},
	{{"kept: src/a.c\n\t\"x\\y\"", 20}, {"kept: src/a.c\n\t\"x\\y\"", 20}},
	{{"\xc3\xa9 \xf0\x9f\x98\x80 \xe2\x80\xa8", 11},
		{"\xc3\xa9 \xf0\x9f\x98\x80 \xe2\x80\xa8", 11}},
	{{"\xff|\xe2\x82", 4}, {"\xef\xbf\xbd|\xef\xbf\xbd", 7}},
};

struct edits {
	struct chat_edit *edit;
	unsigned *text; /* edit[i] puts texts[text[i]] */
};

static bool starts_with(struct slice s, struct slice prefix)
{
	return s.n >= prefix.n && slice_eq((struct slice){s.p, prefix.n}, prefix);
}

/* Edits drawn from the body; at least one message stays. */
static struct edits draw(const struct chat_request *r)
{
	uint64_t state = UINT64_C(0xcbf29ce484222325);
	for (size_t i = 0; i < r->body.n; i++)
		state = (state ^ (unsigned char)r->body.p[i]) * UINT64_C(0x100000001b3);
	struct edits e = {calloc(r->count, sizeof(*e.edit)), calloc(r->count, sizeof(*e.text))};
	REQUIRE(e.edit && e.text);
	for (size_t i = 0; i < r->count; i++) {
		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		e.text[i] = state >> 40 & 3;
		e.edit[i].kind =
			(enum chat_edit_kind)((state >> 48) % (CHAT_INSERT_BEFORE_DROP + 1));
		e.edit[i].text = texts[e.text[i]].put;
	}
	if (e.edit[r->count - 1].kind == CHAT_DROP)
		e.edit[r->count - 1].kind = CHAT_KEEP;
	return e;
}

static void require_text(const struct chat_request *r, size_t i, struct slice text)
{
	struct buf got;
	buf_init(&got, 0);
	REQUIRE(i < r->count);
	REQUIRE(chat_message_text(r, i, &got) == 0);
	REQUIRE(starts_with(buf_slice(&got), text));
	buf_free(&got);
}

static void check_messages(
	const struct chat_request *was, const struct edits *e, const struct chat_request *now)
{
	size_t at = 0;
	for (size_t i = 0; i < was->count; i++) {
		const struct chat_message *old = &was->messages[i];
		enum chat_edit_kind kind = e->edit[i].kind;
		if (kind == CHAT_INSERT_BEFORE || kind == CHAT_INSERT_BEFORE_DROP) {
			require_text(now, at, texts[e->text[i]].read);
			REQUIRE(now->messages[at++].role == CHAT_USER);
		}
		if (kind == CHAT_DROP || kind == CHAT_INSERT_BEFORE_DROP)
			continue;
		REQUIRE(at < now->count);
		const struct chat_message *new = &now->messages[at];
		if (kind == CHAT_REPLACE_TEXT)
			require_text(now, at, texts[e->text[i]].read);
		else
			REQUIRE(slice_eq(new->raw.raw, old->raw.raw));
		REQUIRE(new->role == old->role &&new->images == old->images);
		at++;
	}
	REQUIRE(at == now->count);
}

/* /api/generate: [system?], prompt, both plain strings of the root. */
static void check_strings(
	const struct chat_request *was, const struct edits *e, const struct chat_request *now)
{
	struct buf want, got;
	buf_init(&want, 0);
	buf_init(&got, 0);
	for (size_t i = 0; i < was->count; i++) {
		const char *name = was->messages[i].role == CHAT_SYSTEM ? "system" : "prompt";
		enum chat_edit_kind kind = e->edit[i].kind;
		buf_clear(&want);
		buf_clear(&got);
		if (kind != CHAT_KEEP && kind != CHAT_DROP)
			buf_add_slice(&want, texts[e->text[i]].read);
		if (kind == CHAT_INSERT_BEFORE)
			buf_add_str(&want, "\n\n");
		if (kind == CHAT_KEEP || kind == CHAT_INSERT_BEFORE)
			json_string_decode(was->messages[i].raw, &want);
		REQUIRE(json_string_decode(json_get(now->root, name), &got) == 0);
		REQUIRE(slice_eq(buf_slice(&got), buf_slice(&want)));
	}
	buf_free(&want);
	buf_free(&got);
}

/* /v1/completions: a prompt is gone on with where it ends, so a line end may go that was not there.
 */
static void check_prompt(
	const struct chat_request *was, const struct edits *e, const struct chat_request *now)
{
	struct buf got;
	struct slice put = texts[e->text[0]].read;
	buf_init(&got, 0);
	REQUIRE(was->count == 1 && now->count == 1);
	REQUIRE(json_string_decode(now->messages[0].raw, &got) == 0);
	while (put.n && put.p[put.n - 1] == '\n')
		put.n--;
	if (e->edit[0].kind == CHAT_KEEP)
		REQUIRE(slice_eq(now->messages[0].raw.raw, was->messages[0].raw.raw));
	else if (e->edit[0].kind != CHAT_DROP)
		REQUIRE(starts_with(buf_slice(&got), put));
	buf_free(&got);
}

static bool is_edited(const struct chat_request *r, struct json_value key)
{
	if (json_string_is(key, "options"))
		return dialect_has_num_ctx(r->dialect);
	if (r->dialect == DIALECT_OLLAMA_GENERATE || r->dialect == DIALECT_OPENAI_TEXT)
		return json_string_is(key, "prompt") || json_string_is(key, "system");
	return json_string_is(key, "messages");
}

/* The root has the same members in the same order, duplicates included, and no byte of the others
 * has changed. */
static void check_members(
	const struct chat_request *was, const struct chat_request *now, bool num_ctx)
{
	struct json_iter old = json_iter(was->root), new = json_iter(now->root);
	struct json_value key, value, new_key, new_value;
	if (num_ctx && json_get(was->root, "options").type == JSON_NONE)
		REQUIRE(json_object_next(&new, &new_key, &new_value) &&
			json_string_is(new_key, "options"));
	while (json_object_next(&old, &key, &value)) {
		REQUIRE(json_object_next(&new, &new_key, &new_value));
		REQUIRE(slice_eq(key.raw, new_key.raw));
		REQUIRE(is_edited(was, key) || slice_eq(value.raw, new_value.raw));
	}
	REQUIRE(!json_object_next(&new, &new_key, &new_value));
}

static void check_rewrite(const struct chat_request *r, const struct edits *e, int64_t num_ctx)
{
	struct buf out;
	struct chat_request now;
	struct dialect_error error = {0};
	buf_init(&out, 0);
	REQUIRE(chat_request_rewrite(r, e ? e->edit : NULL, num_ctx, &out) == 0);
	if (!e && (num_ctx == 0 || !dialect_has_num_ctx(r->dialect)))
		REQUIRE(slice_eq(buf_slice(&out), r->body));
	REQUIRE(chat_request_parse(r->dialect, buf_slice(&out), &now, &error) == 0);
	check_members(r, &now, num_ctx > 0 && dialect_has_num_ctx(r->dialect));
	REQUIRE(now.stream == r->stream && now.max_output == r->max_output);
	if (dialect_has_num_ctx(r->dialect))
		REQUIRE(now.num_ctx == (num_ctx ? num_ctx : r->num_ctx));
	if (e && r->dialect == DIALECT_OLLAMA_GENERATE)
		check_strings(r, e, &now);
	else if (e && r->dialect == DIALECT_OPENAI_TEXT)
		check_prompt(r, e, &now);
	else if (e)
		check_messages(r, e, &now);
	chat_request_fini(&now);
	buf_free(&out);
}

/* A buffer that is too small is an error, not a shorter body. */
static void check_cap(const struct chat_request *r)
{
	struct buf out;
	buf_init(&out, r->body.n - 1);
	REQUIRE(chat_request_rewrite(r, NULL, 0, &out) < 0);
	buf_free(&out);
}

static void check_request(enum dialect dialect, struct slice body)
{
	struct chat_request r;
	struct dialect_error error = {0};
	if (chat_request_parse(dialect, body, &r, &error)) {
		REQUIRE(error.status == 400 || error.status == 404);
		size_t n = strnlen(error.text, sizeof(error.text));
		REQUIRE(n > 0 && n < sizeof(error.text));
		REQUIRE(utf8_valid_prefix((struct slice){error.text, n}) == n);
		return;
	}
	for (size_t i = 0; i < r.count; i++) {
		struct buf text;
		buf_init(&text, 0);
		REQUIRE(chat_message_text(&r, i, &text) == 0);
		REQUIRE(utf8_valid_prefix(buf_slice(&text)) == text.n);
		buf_free(&text);
	}
	check_cap(&r);
	check_rewrite(&r, NULL, 0);
	check_rewrite(&r, NULL, NUM_CTX);
	if (r.count && (dialect != DIALECT_OPENAI_TEXT || r.condensable)) {
		struct edits e = draw(&r);
		check_rewrite(&r, &e, 0);
		check_rewrite(&r, &e, NUM_CTX);
		free(e.edit);
		free(e.text);
	}
	chat_request_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice body = {(const char *)data, size};
	check_request(DIALECT_OLLAMA_CHAT, body);
	check_request(DIALECT_OLLAMA_GENERATE, body);
	check_request(DIALECT_OPENAI_CHAT, body);
	check_request(DIALECT_OPENAI_TEXT, body);
	return 0;
}
