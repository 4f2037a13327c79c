/*
 * What the fuzz targets of APIs of clients share: an accepted request makes a call for each backend that is JSON or a
 * refusal with words; its messages, and its bytes, make the content of a compaction block, which stands for messages
 * again. Each aborts at what is not so.
 */
#ifndef TANDEM_FUZZ_CHECKS_H
#define TANDEM_FUZZ_CHECKS_H

#include "common/dialect/backend.h"
#include "common/dialect/compaction.h"

#include <stdint.h>
#include <stdlib.h>

#define REQUIRE(c)                                                                                 \
	do {                                                                                       \
		if (!(c))                                                                          \
			abort();                                                                   \
	} while (0)

#define DEEPEST (JSON_MAX_DEPTH + 8) /* what is put around the client's own */

static inline void check_call(enum backend_api api, const struct chat_request *r)
{
	struct backend_call call;
	struct dialect_error error = {0};
	struct json_value root;
	struct buf body;
	buf_init(&body, 0);
	int rc = backend_call_build(api, r, 4096, &call, &body, &error);
	REQUIRE(rc == 0 || (error.status == 400 && error.text[0]));
	if (rc == 0)
		REQUIRE(json_parse(buf_slice(&body), DEEPEST, &root, NULL) == 0 &&
			root.type == JSON_OBJECT && !call.raw);
	buf_free(&body);
}

/* A text stands for messages that are a body's; those of a conversation have its text again. empty: the words for a
 * body without any. */
static inline void check_compaction(
	const struct chat_request *r, struct slice text, bool same, const char *empty)
{
	struct chat_request now;
	struct dialect_error error = {0};
	struct buf out, again;
	buf_init(&out, 0);
	buf_init(&again, 0);
	REQUIRE(compaction_put(r, text, SLICE("s"), &out) == 0);
	if (chat_request_parse(r->dialect, buf_slice(&out), &now, &error) == 0) {
		REQUIRE(compaction_text(&now, NULL, &again) == 0);
		REQUIRE(!same || slice_eq(buf_slice(&again), text));
		chat_request_fini(&now);
	} else { /* it stands for none */
		REQUIRE(strcmp(error.text, empty) == 0);
	}
	buf_free(&out);
	buf_free(&again);
}

static inline void check_block(const struct chat_request *r, const char *empty)
{
	struct compaction_found found;
	struct dialect_error error = {0};
	struct json_value root;
	struct buf text;
	const char *code;
	int rc;
	buf_init(&text, 0);
	REQUIRE(compaction_text(r, NULL, &text) == 0);
	check_compaction(r, buf_slice(&text), true, empty);
	check_compaction(r, r->body, false, empty);
	if (compaction_find(r, &found, &rc, &error, &code) && rc == 0) {
		buf_clear(&text);
		REQUIRE(compaction_apply(r, &found, r->body, &text) == 0);
		REQUIRE(json_parse(buf_slice(&text), DEEPEST, &root, NULL) == 0);
	}
	buf_free(&text);
}

#endif
