#include "common/dialect/writer.h"

#include <errno.h>
#include <stdlib.h>

#define WRITER_BUFS(w)                                                                             \
	{                                                                                          \
		&(w)->content, &(w)->thinking, &(w)->calls, &(w)->logprobs, &(w)->call_id,         \
			&(w)->call_name, &(w)->arguments, &(w)->scratch, &(w)->echo, &(w)->item,   \
			&(w)->item_logprobs, &(w)->output, &(w)->tools                             \
	}

struct answer_writer *answer_writer_create(enum dialect d, bool stream, struct slice model,
	const char *id, bool include_usage, size_t max_bytes)
{
	struct answer_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->front = front_of(d);
	w->stream = stream;
	w->include_usage = include_usage;
	w->max_bytes = max_bytes;
	struct buf *bufs[] = WRITER_BUFS(w);
	for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
		buf_init(bufs[i], max_bytes);
	buf_init(&w->head, 0);
	buf_init(&w->compaction, 0); /* what its reader takes of a request */
	clock_gettime(CLOCK_MONOTONIC, &w->started);
	w->id = strdup(id);
	if (!w->id || w->front->writer->begin(w, model))
		goto fail;
	return w;
fail:
	answer_writer_destroy(w);
	return NULL;
}

void answer_writer_destroy(struct answer_writer *w)
{
	if (!w)
		return;
	struct buf *bufs[] = WRITER_BUFS(w);
	for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
		buf_free(bufs[i]);
	buf_free(&w->head);
	buf_free(&w->compaction);
	free(w->id);
	free(w);
}

int answer_writer_read(struct answer_writer *w, const struct chat_request *r)
{
	const struct writer_ops *ops = w->front->writer;
	return ops->read ? ops->read(w, r) : 0;
}

void answer_writer_bare(struct answer_writer *w)
{
	buf_clear(&w->echo);
	buf_clear(&w->compaction);
}

struct slice answer_writer_identity(const struct answer_writer *w)
{
	const struct writer_ops *ops = w->front->writer;
	return ops->identity && w->stream ? ops->identity(w) : (struct slice){0};
}

int answer_writer_rename(struct answer_writer *w, struct slice identity)
{
	const struct writer_ops *ops = w->front->writer;
	return ops->rename && identity.n ? ops->rename(w, identity) : 0;
}

int answer_writer_resume(struct answer_writer *w, const struct answer_begun *from)
{
	const struct writer_ops *ops = w->front->writer;
	if (!ops->identity || from->identity.n == 0)
		return 0;
	w->role_sent = true;
	int rc = answer_writer_rename(w, from->identity);
	return rc == 0 && ops->resume ? ops->resume(w, from) : rc;
}

/* The first error of the collecting buffers, which together hold at most max_bytes. */
static int check(struct answer_writer *w)
{
	struct buf *bufs[] = WRITER_BUFS(w);
	size_t held = 0;
	for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++) {
		int rc = buf_error(bufs[i]);
		if (rc)
			return rc;
		held += bufs[i]->n;
	}
	return w->max_bytes && held > w->max_bytes ? -E2BIG : 0;
}

static void flush(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	w->front->writer->flush(w, end, out);
	buf_clear(&w->content);
	buf_clear(&w->thinking);
	buf_clear(&w->calls);
	buf_clear(&w->logprobs);
}

static void collect_text(struct answer_writer *w, const struct answer_event *event)
{
	json_put_escaped(&w->content, event->text);
	if (event->logprobs.n == 0)
		return;
	if (w->logprobs.n)
		buf_add_char(&w->logprobs, ',');
	buf_add_slice(&w->logprobs, event->logprobs);
}

static void put_error(struct answer_writer *w, const struct answer_event *event, struct buf *out)
{
	const struct writer_ops *ops = w->front->writer;
	const struct dialect_stream at = {0};
	if (ops->fail && w->stream)
		ops->fail(w, event, out);
	else
		dialect_error_inband(
			w->front->number, w->stream, event->status, event->text, &at, out);
}

int answer_writer_put(struct answer_writer *w, const struct answer_event *event, struct buf *out)
{
	bool ready = true;
	switch (event->kind) {
	case ANSWER_TEXT:
		collect_text(w, event);
		break;
	case ANSWER_THINKING:
		json_put_escaped(&w->thinking, event->text);
		break;
	case ANSWER_TOOL_BEGIN:
	case ANSWER_TOOL_ARGS:
	case ANSWER_TOOL_END:
		if (w->one_call && event->index > 0)
			return 0; /* the model will ask again when it has the first one's result */
		w->had_calls = true;
		ready = w->front->writer->tool(w, event);
		break;
	case ANSWER_END:
	case ANSWER_ERROR:
		break;
	}
	int rc = check(w);
	if (rc)
		return rc;
	if (event->kind == ANSWER_ERROR)
		put_error(w, event, out);
	else if (event->kind == ANSWER_END)
		flush(w, event, out);
	else if (w->stream && ready)
		flush(w, NULL, out);
	return buf_error(out);
}
