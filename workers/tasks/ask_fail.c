/* What is said of a call that the backend refuses, or answers with something that is no answer. */
#include "workers/tasks/ask_private.h"

#include <errno.h>

/* Nothing that a client's library would ask for again by itself. */
#define NO_CALL_STATUS 422
#define NO_CALL                                                                                    \
	"the model called no tool although tool_choice wants it to; this backend has no way to "   \
	"make it"

bool ask_is_error(struct ask *a, const struct answer_event *e)
{
	a->called = a->called || e->kind == ANSWER_TOOL_BEGIN;
	/* An answer that the limit has cut off may have become a call. */
	bool lacks = a->call.must_call && !a->called && e->kind == ANSWER_END &&
		     e->finish != FINISH_LENGTH;
	if (e->kind != ANSWER_ERROR && !lacks)
		return false;
	refusal_read_text(lacks ? SLICE(NO_CALL) : e->text, &a->told);
	a->error_status = lacks ? NO_CALL_STATUS : e->status ? e->status : 500;
	return true;
}

/* In the words that agents know. Where the backend gave no counts, the supervisor has estimates. */
static void name_overflow(
	struct ask *a, const struct refusal *r, struct task_failure *f, struct buf *body)
{
	f->cause = FAIL_OVERFLOW;
	f->status = 400;
	f->prompt_tokens = r->prompt_tokens;
	f->window_tokens = r->window_tokens;
	if (r->prompt_tokens > 0 && r->window_tokens > 0)
		dialect_overflow_body(
			a->dialect, (uint64_t)r->prompt_tokens, (uint64_t)r->window_tokens, body);
}

/*
 * Refused with a status before the first byte: the client gets that status, in its own dialect
 * (docs/protocols.md#overflow).
 */
void ask_fail_refused(struct ask *a)
{
	struct task *t = &a->task;
	struct slice theirs =
		buf_error(&a->refusal) || a->encoded ? (struct slice){0} : buf_slice(&a->refusal);
	struct refusal r;
	struct buf body;
	buf_init(&body, 0);
	if (a->status < 400) {
		task_fail_text(
			t, FAIL_GARBAGE, "the backend answered with a status that says nothing");
		return;
	}
	if (task_key_refused(t, a->status)) {
		buf_free(&body);
		return;
	}
	refusal_read(a->status, theirs, &r);
	struct task_failure f = {
		.cause = FAIL_STATUS,
		.status = a->status,
		.message = slice_str(r.text),
		.content_type = slice_str(dialect_content_type(a->dialect, false)),
		.retry_after_s = http_retry_after_s(t->transfer),
	};
	if (r.overflow) {
		name_overflow(a, &r, &f, &body);
	} else if (a->call.raw && theirs.n) {
		struct slice type = http_header(t->transfer, "content-type");
		if (type.n <= ASK_TYPE_BYTES)
			f.content_type = type;
		buf_add_slice(&body, theirs);
	} else {
		dialect_error_body(a->dialect, a->status, f.message, &body);
	}
	f.body = buf_slice(&body);
	task_fail(t, &f);
	buf_free(&body);
}

/*
 * An error in the middle of a 200: words for the client when it reads our translation, already
 * there when it reads raw bytes.
 */
void ask_fail_in_band(struct ask *a)
{
	struct task *t = &a->task;
	struct buf body;
	buf_init(&body, 0);
	struct task_failure f = {.cause = FAIL_STATUS,
		.status = a->error_status,
		.message = slice_str(a->told.text)};
	if (!t->started && a->told.overflow) {
		name_overflow(a, &a->told, &f, &body);
	} else if (!t->started) {
		dialect_error_body(a->dialect, a->error_status, f.message, &body);
	}
	if (body.n) {
		f.body = buf_slice(&body);
		f.content_type = slice_str(dialect_content_type(a->dialect, false));
	}
	task_fail(t, &f);
	buf_free(&body);
}

void ask_fail_parse(struct ask *a, int rc)
{
	if (rc == -EPROTO)
		task_fail_text(&a->task, FAIL_GARBAGE, answer_parser_problem(a->parser));
	else if (rc == -E2BIG)
		task_fail(&a->task, &(struct task_failure){.cause = FAIL_TOO_LARGE,
					    .status = 502, /* not the client's fault */
					    .message = SLICE("a line of the backend's answer is "
							     "over limits.line_bytes")});
	else
		task_fail_text(&a->task, FAIL_INTERNAL, "out of memory");
}
