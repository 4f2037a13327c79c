/* What the tests of OpenAI's /v1/responses share. */
#ifndef TANDEM_TEST_RESPONSES_H
#define TANDEM_TEST_RESPONSES_H

#include "common/dialect/backend.h"
#include "tests/unit/test_dialect.h"

#define R DIALECT_RESPONSES
#define Q "'input':'q'"

/* The request of a body, which is changed as when it comes in. */
static inline void take(const char *body, struct buf *text, struct chat_request *r)
{
	char *given = json_of(body);
	struct dialect_error error = {0};
	buf_init(text, 0);
	buf_add_str(text, given);
	if (chat_request_take(R, text, r, &error))
		fail_msg("%s: %s", given, error.text);
	assert_ptr_equal(r->body.p, text->p);
	free(given);
}

#endif
