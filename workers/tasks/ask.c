/* A call's life, but for its answer. */
#include "workers/tasks/ask_private.h"

#include "workers/backend/backend.h"

/* Its conversation is in a slot again; or that failed: then all of its prompt is read, and the answer
 * proves nothing. */
static void on_restored(void *ctx)
{
	struct ask *a = ctx;
	if (!a->task.restoring.restored)
		a->task.spec.kept_tokens = 0;
	ask_send(a);
}

void ask_restored(struct ask *a)
{
	struct task *t = &a->task;
	t->restoring.fn = on_restored;
	t->restoring.ctx = a;
	if (t->spec.restore && backend_restore(t->worker->backend, t->spec.kept, &t->restoring))
		return;
	if (t->spec.restore)
		t->spec.kept_tokens = 0;
	ask_send(a);
}

/* --- life --- */

void ask_init(struct ask *a, const struct ask_ops *ops, enum dialect d)
{
	a->ops = ops;
	a->dialect = d;
	a->usage = (struct answer_usage){-1, -1, -1, -1, -1, -1};
	buf_init(&a->request,
		a->task.worker->settings.body_bytes * 2); /* escaping may double text */
	buf_init(&a->refusal, ASK_REFUSAL_BYTES);
	buf_init(&a->type, 0);
	buf_init(&a->piece, 0); /* one of curl's */
	buf_init(&a->partial,
		0); /* take_whole() holds it at limits.line_bytes and a piece of curl's */
}

void ask_fini(struct ask *a)
{
	http_cancel(a->load);
	answer_parser_destroy(a->parser);
	buf_free(&a->type);
	buf_free(&a->piece);
	buf_free(&a->request);
	buf_free(&a->refusal);
	buf_free(&a->partial);
}

struct proto_usage ask_usage(const struct ask *a)
{
	return (struct proto_usage){
		.prompt_tokens = a->usage.prompt_tokens,
		.cached_tokens = a->usage.cached_tokens,
		.output_tokens = a->usage.output_tokens,
		.prompt_ms = a->usage.prompt_ms,
		.output_ms = a->usage.output_ms,
		.load_ms = a->usage.load_ms,
	};
}

const char *ask_finish_name(enum answer_finish f)
{
	switch (f) {
	case FINISH_STOP:
		return "stop";
	case FINISH_LENGTH:
		return "length";
	case FINISH_TOOL_CALLS:
		return "tool_calls";
	case FINISH_LOAD:
		return "load";
	case FINISH_UNLOAD:
		return "unload";
	case FINISH_NONE:
	case FINISH_COMPACTION:
		break;
	}
	return "";
}
