/*
 * libFuzzer target for OpenAI's responses: any body. What is accepted has become a chat, makes a call
 * for each backend that is JSON or a refusal with words, and can be edited and read again; a stream
 * that answers it is whole events of JSON whose numbers grow. Its messages, and its bytes, make the text of a
 * compaction item, which stands for messages again.
 */
#include "tests/fuzz/checks.h"

#include "common/dialect/answer.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every other message is left out or gets another text. */
static void check_edits(const struct chat_request *r)
{
	struct chat_edit *edits = calloc(r->count, sizeof(*edits));
	struct chat_request now;
	struct dialect_error error = {0};
	struct buf out;
	buf_init(&out, 0);
	REQUIRE(edits);
	for (size_t i = 1; i < r->count; i += 2)
		edits[i] = (struct chat_edit){.kind = i & 2 ? CHAT_DROP : CHAT_REPLACE_TEXT,
			.text = SLICE("kept\n\"x\"")};
	REQUIRE(chat_request_rewrite(r, edits, 0, &out) == 0);
	REQUIRE(chat_request_parse(r->dialect, buf_slice(&out), &now, &error) == 0);
	REQUIRE(now.max_output == r->max_output && now.stream == r->stream);
	chat_request_fini(&now);
	buf_free(&out);
	free(edits);
}

/* Each event is two lines, the second of them JSON with the next number. */
static void check_events(struct slice out)
{
	struct json_value root;
	int64_t number = -1, last = -1;
	for (const char *end; out.n;
		out = (struct slice){end + 2, out.n - (size_t)(end + 2 - out.p)}) {
		end = memmem(out.p, out.n, "\n\n", 2);
		const char *line = memchr(out.p, '\n', out.n);
		REQUIRE(end && line && line < end && memcmp(line, "\ndata: ", 7) == 0);
		struct slice data = {line + 7, (size_t)(end - line) - 7};
		REQUIRE(json_parse(data, DEEPEST, &root, NULL) == 0);
		REQUIRE(json_to_int(json_get(root, "sequence_number"), &number));
		REQUIRE(number == last + 1);
		last = number;
	}
}

/* An answer of each kind of thing, whose call has the name of one of the request's tools. */
static void check_answer(const struct chat_request *r)
{
	struct answer_writer *w =
		answer_writer_create(DIALECT_RESPONSES, true, SLICE("m"), "i", false, 1u << 22);
	struct json_value tool, name = {.type = JSON_NONE};
	struct json_iter it = json_iter(r->tools);
	struct buf out, called;
	buf_init(&out, 0);
	buf_init(&called, 0);
	while (json_array_next(&it, &tool))
		name = json_get(tool, "name");
	json_string_decode(name, &called);
	const struct answer_event events[] = {
		{.kind = ANSWER_THINKING, .text = SLICE("hm")},
		{.kind = ANSWER_TEXT, .text = SLICE("a\n\xe2\x80\xa8")},
		{.kind = ANSWER_TOOL_BEGIN, .name = buf_slice(&called)},
		{.kind = ANSWER_TOOL_ARGS, .text = SLICE("{\"input\":\"a\\n\"}")},
		{.kind = ANSWER_TOOL_END},
		{.kind = r->body.n & 1 ? ANSWER_END : ANSWER_ERROR, .status = 500},
	};
	REQUIRE(w);
	int rc = answer_writer_read(w, r);
	for (size_t i = 0; rc == 0 && i < sizeof(events) / sizeof(*events); i++)
		rc = answer_writer_put(w, &events[i], &out);
	REQUIRE(rc == 0 || rc == -E2BIG);
	check_events(buf_slice(&out));
	answer_writer_destroy(w);
	buf_free(&called);
	buf_free(&out);
}

/* The path that compacts alone takes what the other one takes, and answers with an object. */
static void check_compact(const uint8_t *data, size_t size)
{
	static const struct answer_event end = {.kind = ANSWER_END, .finish = FINISH_COMPACTION};
	struct answer_writer *w =
		answer_writer_create(DIALECT_RESPONSES_COMPACT, false, SLICE("m"), "i", false, 0);
	struct chat_request r, now;
	struct dialect_error error = {0};
	struct json_value root;
	struct buf body, put, out;
	buf_init(&body, 0);
	buf_init(&put, 0);
	buf_init(&out, 0);
	buf_add(&body, data, size);
	REQUIRE(w);
	REQUIRE(chat_request_take(DIALECT_RESPONSES_COMPACT, &body, &r, &error) == 0);
	REQUIRE(!r.stream && compaction_put(&r, r.body, SLICE("s"), &put) == 0);
	if (chat_request_parse(DIALECT_RESPONSES_COMPACT, buf_slice(&put), &now, &error) == 0) {
		REQUIRE(answer_writer_read(w, &now) == 0);
		REQUIRE(answer_writer_put(w, &end, &out) == 0);
		REQUIRE(json_parse(buf_slice(&out), DEEPEST, &root, NULL) == 0);
		chat_request_fini(&now);
	}
	chat_request_fini(&r);
	answer_writer_destroy(w);
	buf_free(&body);
	buf_free(&put);
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct chat_request r;
	struct dialect_error error = {0};
	struct buf body, text;
	buf_init(&body, 0);
	buf_init(&text, 0);
	buf_add(&body, data, size);
	if (chat_request_take(DIALECT_RESPONSES, &body, &r, &error)) {
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
	check_block(&r, "input: no item of it is for the model");
	check_answer(&r);
	check_compact(data, size);
	chat_request_fini(&r);
	buf_free(&text);
	buf_free(&body);
	return 0;
}
