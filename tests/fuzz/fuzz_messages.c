/*
 * libFuzzer target for Anthropic's requests: any body. What is accepted has no marks for a cache where
 * they were found, makes a call for each backend that is JSON or a refusal with words, and can be
 * edited in any way that the body's own bytes ask for and still be read. Its messages, and its bytes,
 * make the content of a compaction block, which stands for messages again.
 */
#include "tests/fuzz/checks.h"

#define EMPTY "messages: at least one message is required"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct chat_edit *draw(const struct chat_request *r)
{
	uint64_t state = r->body.n * UINT64_C(0x100000001b3);
	struct chat_edit *edits = calloc(r->count, sizeof(*edits));
	REQUIRE(edits);
	for (size_t i = 0; i < r->body.n; i++)
		state = (state ^ (unsigned char)r->body.p[i]) * UINT64_C(0x100000001b3);
	for (size_t i = 0; i < r->count; i++) {
		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		edits[i].kind =
			(enum chat_edit_kind)((state >> 48) % (CHAT_INSERT_BEFORE_DROP + 1));
		edits[i].text = SLICE("kept\n\"x\"");
		edits[i].drop_pictures = state >> 40 & 1;
	}
	return edits;
}

static void check_edits(const struct chat_request *r)
{
	struct chat_edit *edits = draw(r);
	struct chat_request now;
	struct dialect_error error = {0};
	struct buf out;
	buf_init(&out, 0);
	REQUIRE(chat_request_rewrite(r, NULL, 0, &out) == 0);
	REQUIRE(slice_eq(buf_slice(&out), r->body));
	buf_clear(&out);
	REQUIRE(chat_request_rewrite(r, edits, 0, &out) == 0);
	if (chat_request_parse(r->dialect, buf_slice(&out), &now, &error) == 0) {
		REQUIRE(now.max_output == r->max_output && now.stream == r->stream);
		chat_request_fini(&now);
	} else { /* no message is left */
		REQUIRE(strcmp(error.text, EMPTY) == 0);
	}
	buf_free(&out);
	free(edits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct chat_request r;
	struct dialect_error error = {0};
	struct buf body, text;
	buf_init(&body, 0);
	buf_init(&text, 0);
	buf_add(&body, data, size);
	if (chat_request_take(DIALECT_ANTHROPIC, &body, &r, &error)) {
		REQUIRE(error.status == 400 && error.text[0]);
		buf_free(&body);
		return 0;
	}
	REQUIRE(slice_eq(r.body, buf_slice(&body)));
	for (size_t i = 0; i < r.count; i++)
		REQUIRE(chat_message_text(&r, i, &text) == 0);
	for (int api = 0; api < BACKEND_APIS; api++)
		check_call((enum backend_api)api, &r);
	check_edits(&r);
	check_block(&r, EMPTY);
	chat_request_fini(&r);
	buf_free(&text);
	buf_free(&body);
	return 0;
}
