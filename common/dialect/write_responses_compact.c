/* The answer of /v1/responses/compact: what a person said, and the item that stands for the conversation. */
#include "common/dialect/front_responses.h"
#include "common/dialect/write_responses.h"

#include <inttypes.h>

static int begin(struct answer_writer *w, struct slice model)
{
	(void)model; /* which it does not tell */
	buf_add_str(&w->head, "{\"id\":\"resp_");
	json_put_escaped(&w->head, slice_str(w->id));
	return buf_printf(&w->head,
		"\",\"object\":\"response.compaction\",\"created_at\":%lld,\"output\":[",
		(long long)time(NULL));
}

/* A content that is a string becomes a list: what clients read messages of an answer as. */
static void put_message(struct answer_writer *w, struct json_value content, unsigned number)
{
	buf_add_str(&w->output, "{\"id\":\"msg_");
	json_put_escaped(&w->output, slice_str(w->id));
	buf_printf(&w->output,
		"_%u\",\"type\":\"message\",\"role\":\"user\",\"status\":\"completed\","
		"\"content\":",
		number);
	if (content.type == JSON_STRING)
		buf_add_str(&w->output, "[{\"type\":\"input_text\",\"text\":");
	buf_add_slice(&w->output, content.raw);
	buf_add_str(&w->output, content.type == JSON_STRING ? "}]}," : "},");
}

static int read_request(struct answer_writer *w, const struct chat_request *r)
{
	struct json_iter it = json_iter(json_get(r->root, RESPONSES_KEPT));
	struct json_value content;
	for (unsigned i = 0; json_array_next(&it, &content); i++)
		put_message(w, content, i);
	responses_read_compaction(w, r);
	return buf_error(&w->output) ? buf_error(&w->output) : buf_error(&w->compaction);
}

/* No model writes any of it. */
static bool take_nothing(struct answer_writer *w, const struct answer_event *e)
{
	(void)w;
	(void)e;
	return false;
}

static void flush(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	static const struct answer_usage none = {0};
	(void)end;
	buf_add_slice(out, buf_slice(&w->head));
	buf_add_slice(out, buf_slice(&w->output));
	responses_put_compaction(w, out);
	buf_add_str(out, "],\"usage\":");
	responses_put_usage(w, &none, out);
	buf_add_char(out, '}');
}

const struct writer_ops writer_responses_compact = {
	.begin = begin,
	.read = read_request,
	.tool = take_nothing,
	.flush = flush,
};
