/*
 * JOB_NOTES: the body is a chunk's text; the answer is what of the model's notes stands up against
 * it (common/text/notes.h).
 */
#include "common/text/notes.h"

#include "workers/backend/backend.h"
#include "workers/tasks/ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define NOTES_KEY_TRIES 3 /* a key that stands in the chunk is drawn again */

struct notes_task {
	struct ask ask;
	struct buf text; /* the model's answer */
};

static int draw_prompt(struct slice chunk, struct buf *instruction, struct buf *data)
{
	int rc = -EINVAL;
	for (int i = 0; i < NOTES_KEY_TRIES && rc == -EINVAL; i++) {
		unsigned char random[8];
		char key[2 * sizeof(random) + 1];
		if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
			return -EIO;
		for (size_t k = 0; k < sizeof(random); k++)
			snprintf(key + 2 * k, 3, "%02x", random[k]);
		buf_clear(instruction);
		buf_clear(data);
		rc = notes_prompt(chunk, key, instruction, data);
	}
	return rc;
}

static void notes_ask(struct notes_task *n)
{
	struct ask *a = &n->ask;
	struct task *t = &a->task;
	struct worker_self *w = t->worker;
	const struct backend_view *view = backend_view(w->backend);
	struct slice model = t->spec.model;
	if (model.n == 0)
		model = slice_str(w->settings.model ? w->settings.model : view->model);
	struct buf instruction, data;
	buf_init(&instruction, w->settings.body_bytes);
	buf_init(&data, w->settings.body_bytes * 2);
	int rc = draw_prompt(buf_slice(&t->body), &instruction, &data);
	if (rc == 0)
		rc = backend_notes_build(backend_profile(w->settings.type)->api, model,
			buf_slice(&instruction), buf_slice(&data), t->spec.max_tokens,
			t->spec.num_ctx, &a->call, &a->request);
	buf_free(&instruction);
	buf_free(&data);
	if (rc) {
		task_fail_text(t, rc == -E2BIG ? FAIL_TOO_LARGE : FAIL_INTERNAL,
			"cannot build the notes request");
		return;
	}
	ask_prepare(a);
	ask_send(a);
}

static void notes_body(struct task *t, struct slice bytes, bool last)
{
	if (task_hold(t, bytes) && last)
		notes_ask((struct notes_task *)t);
}

static void notes_event(struct ask *a, const struct answer_event *e)
{
	struct notes_task *n = (struct notes_task *)a;
	if (e->kind == ANSWER_TEXT)
		buf_add_slice(&n->text, e->text); /* over its cap the answer is useless */
}

static void notes_bytes(struct ask *a, struct slice bytes)
{
	(void)a, (void)bytes;
}

/* An answer without one note line is a poor answer (its verdict says so); an answer without a word
 * is a failure. */
static bool is_blank(struct slice s)
{
	while (s.n && strchr(" \t\r\n", s.p[s.n - 1]))
		s.n--;
	return s.n == 0;
}

static void notes_complete(struct ask *a)
{
	struct notes_task *n = (struct notes_task *)a;
	struct task *t = &a->task;
	size_t max = t->worker->settings.result_bytes;
	if (buf_error(&n->text)) {
		task_fail_text(t, FAIL_TOO_LARGE, "the notes are over condense.result_bytes");
		return;
	}
	struct buf good;
	buf_init(&good, max);
	struct notes_tally tally;
	const struct notes_rule rule = {.finished_by_length = a->finish == FINISH_LENGTH,
		.strict = t->spec.strict,
		.max_bytes = max};
	enum notes_verdict verdict =
		notes_verify(buf_slice(&t->body), buf_slice(&n->text), &rule, &tally, &good);
	if (is_blank(buf_slice(&n->text))) {
		task_fail_text(t, FAIL_EMPTY, "the model answered with nothing");
	} else if (buf_error(&good)) {
		task_fail_text(t, FAIL_INTERNAL, "out of memory");
	} else {
		struct task_end end = {
			.usage = ask_usage(a),
			.finish = ask_finish_name(a->finish),
			.verdict = notes_verdict_name(verdict),
			.notes_kept = tally.kept,
			.notes_refused = tally.refused,
		};
		if (good.n == 0 || task_emit(t, buf_slice(&good)))
			task_end(t, &end);
	}
	buf_free(&good);
}

static const struct ask_ops notes_ask_ops = {
	.event = notes_event, .bytes = notes_bytes, .complete = notes_complete};

static void notes_begin(struct task *t)
{
	struct notes_task *n = (struct notes_task *)t;
	ask_init(&n->ask, &notes_ask_ops, DIALECT_OLLAMA_CHAT);
	buf_init(&n->text, t->worker->settings.result_bytes);
}

static void notes_fini(struct task *t)
{
	struct notes_task *n = (struct notes_task *)t;
	ask_fini(&n->ask);
	buf_free(&n->text);
}

const struct task_ops task_notes_ops = {
	.size = sizeof(struct notes_task),
	.begin = notes_begin,
	.body = notes_body,
	.linger = ask_linger,
	.fini = notes_fini,
};
