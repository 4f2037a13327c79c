/*
 * libFuzzer target for what happens to a body before it is read as a request: unpacking, mending,
 * and embeddings in each form for each backend. The first byte chooses.
 */
#include "common/base/json.h"
#include "common/base/unpack.h"
#include "common/dialect/embed.h"
#include "common/dialect/request.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#define CAP_BYTES 100000

#define REQUIRE(c)                                                                                 \
	do {                                                                                       \
		if (!(c))                                                                          \
			abort();                                                                   \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void unpacks_within_its_cap(enum unpack_coding coding, struct slice in)
{
	struct buf out;
	buf_init(&out, CAP_BYTES);
	int rc = unpack(coding, in, &out);
	REQUIRE(rc == 0 || rc == -EINVAL || rc == -E2BIG);
	REQUIRE(out.n <= CAP_BYTES);
	buf_free(&out);
}

/* What is mended is UTF-8; what was JSON stays it, with nothing left to mend. */
static void mends(struct slice in)
{
	struct buf out;
	struct json_value root;
	buf_init(&out, 0);
	REQUIRE(json_mend_utf8(in, &out) == 0);
	REQUIRE(utf8_valid_prefix(buf_slice(&out)) == out.n);
	bool json = json_parse(buf_slice(&out), JSON_MAX_DEPTH, &root, NULL) == 0;
	json_mend_surrogates(out.p, out.n);
	REQUIRE(json_mend_surrogates(out.p, out.n) == 0);
	REQUIRE(!json || json_parse(buf_slice(&out), JSON_MAX_DEPTH, &root, NULL) == 0);
	buf_free(&out);
}

/* What is taken is strict JSON with the usual keys: taken again, it stays as it is. */
static void takes(enum dialect dialect, struct slice in)
{
	struct chat_request r;
	struct dialect_error error = {0};
	struct json_value root;
	struct buf body, before;
	buf_init(&body, 0);
	buf_init(&before, 0);
	buf_add_slice(&body, in);
	int rc = chat_request_take(dialect, &body, &r, &error);
	REQUIRE(rc == 0 || (rc == -EINVAL && error.status >= 400 && error.text[0]));
	if (rc == 0) {
		chat_request_fini(&r);
		REQUIRE(json_parse(buf_slice(&body), JSON_MAX_DEPTH, &root, NULL) == 0);
		buf_add_slice(&before, buf_slice(&body));
		REQUIRE(chat_request_take(dialect, &body, &r, &error) == 0 && !r.other_case);
		REQUIRE(slice_eq(buf_slice(&body), buf_slice(&before)));
		chat_request_fini(&r);
	}
	buf_free(&body);
	buf_free(&before);
}

/* which: a form of requests before an API of backends. */
static void embeds(unsigned which, struct slice in)
{
	struct embed_request r = {.form = (enum embed_form)(which % 3),
		.back = (enum backend_api)(which / 3 % BACKEND_APIS)};
	struct dialect_error error = {0};
	struct json_value root;
	struct buf out, answer;
	buf_init(&out, 0);
	buf_init(&answer, 0);
	int rc = embed_request_read(&r, in, &out, &error);
	REQUIRE(rc == 0 ? true : rc == -EINVAL && error.status == 400 && error.text[0]);
	if (rc == 0 && !r.nothing && !r.raw)
		REQUIRE(json_parse(buf_slice(&out), JSON_MAX_DEPTH, &root, NULL) == 0);
	r.name = SLICE("\"m\"");
	r.texts = 1;
	rc = embed_answer_write(&r, in, 1, &answer);
	REQUIRE(rc == 0 || rc == -EPROTO);
	if (rc == 0)
		REQUIRE(json_parse(buf_slice(&answer), JSON_MAX_DEPTH + 2, &root, NULL) == 0);
	buf_free(&out);
	buf_free(&answer);
	embed_request_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct slice in = {(const char *)data + 1, size - 1};
	switch (data[0] % 8) {
	case 0:
		unpacks_within_its_cap(UNPACK_GZIP, in);
		break;
	case 1:
		unpacks_within_its_cap(UNPACK_ZSTD, in);
		break;
	case 2:
		mends(in);
		break;
	case 5:
		takes(DIALECT_OLLAMA_CHAT, in);
		break;
	case 6:
		takes(DIALECT_OLLAMA_GENERATE, in);
		break;
	case 7:
		takes(DIALECT_OPENAI_CHAT, in);
		break;
	default:
		embeds(data[0] / 8, in);
	}
	return 0;
}
