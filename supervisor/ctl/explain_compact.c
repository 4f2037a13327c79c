/* Compaction (common/dialect/compaction.h) as a server would have it: a block that the request brings, a wish for
 * one. The body is another one then, as it is there. */
#include "supervisor/ctl/explaining.h"

#include "common/dialect/compaction.h"
#include "supervisor/requests/compact_signature.h"

#include <errno.h>
#include <stdio.h>

#define NO_SIGNATURE "00000000000000000000000000000000"

/* --- a block that is there --- */

/* Of a server that has made none there is no key: its text is taken as it is. */
static int verify(struct explaining *w, struct slice text, struct slice signature,
	struct dialect_error *error)
{
	struct compact_secret secret;
	char path[COMPACT_PATH_BYTES];
	const char *code;
	const char *dir = explaining_state_dir(w);
	if (dir)
		compact_secret_path(dir, path);
	if (!dir || !compact_secret_read(path, &secret)) {
		fputs("tandemctl: the compaction block is taken as it is: the key that it is "
		      "signed "
		      "with is not known here\n",
			stderr);
		return 0;
	}
	enum compact_verdict verdict = compact_verify(&secret, text, signature);
	return verdict == COMPACT_OURS
		       ? 0
		       : compaction_disown(w->dialect, verdict == COMPACT_ALTERED, error, &code);
}

/* The request is that of the body `next` now. */
static int take_body(struct explaining *w, struct buf *next, struct dialect_error *error)
{
	chat_request_fini(&w->request);
	buf_free(&w->body);
	w->body = *next;
	*next = (struct buf){0};
	return chat_request_parse(w->dialect, buf_slice(&w->body), &w->request, error);
}

int explaining_read_block(struct explaining *w, struct dialect_error *error)
{
	struct compaction_found f;
	struct buf content, signature, next;
	struct slice text;
	const char *code;
	int rc;
	if (!compaction_find(&w->request, &f, &rc, error, &code))
		return rc;
	buf_init(&content, 0);
	buf_init(&signature, 0);
	buf_init(&next, w->body.max);
	if (rc == 0)
		rc = compaction_open(&w->request, &f, &content, &text, &signature);
	if (rc == 0)
		rc = verify(w, text, buf_slice(&signature), error);
	if (rc == 0)
		rc = compaction_apply(&w->request, &f, text, &next);
	if (rc == 0)
		rc = take_body(w, &next, error);
	buf_free(&content);
	buf_free(&signature);
	buf_free(&next);
	return rc;
}

/* --- a wish --- */

static uint64_t tokens_now(const struct explaining *w)
{
	return tokens_estimate(w->tokens, buf_slice(&w->model), &w->request.census);
}

/* The body with the block in the place of the conversation. */
static int make(struct explaining *w, const struct compact_want *want, int *result,
	struct dialect_error *error)
{
	struct buf text, next;
	buf_init(&text, 0);
	buf_init(&next, w->body.max);
	*result = compact_make(want, &text);
	int rc =
		*result ? 0
			: compaction_put(&w->request, buf_slice(&text), SLICE(NO_SIGNATURE), &next);
	if (rc == 0 && *result == 0)
		rc = take_body(w, &next, error);
	buf_free(&text);
	buf_free(&next);
	return rc;
}

int explaining_compact(struct explaining *w, int64_t window, struct dialect_error *error)
{
	struct compact_want want = {.view = &w->request, .window = window};
	const char *code;
	int result = 0;
	int rc = compaction_wished(&w->request, &want.wish, error, &code);
	if (rc || !compact_is_wished(&want.wish))
		return rc;
	want.tokens = tokens_now(w);
	size_t messages = w->request.count;
	bool begun = w->compacts = compact_is_wanted(&want);
	if (begun)
		rc = make(w, &want, &result, error);
	if (rc == 0 && begun && result && want.wish.alone) {
		snprintf(error->text, sizeof(error->text),
			"refused: the conversation cannot be compacted, since what is never "
			"shortened "
			"does not fit");
		return -EINVAL;
	}
	w->compaction = compact_told(&want, begun, result, tokens_now(w));
	w->compaction.messages = messages;
	w->wished = true;
	return rc;
}
