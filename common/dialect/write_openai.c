/* The server-sent events, or the one object, of /v1/chat/completions. */
#include "common/dialect/writer.h"

#include <inttypes.h>

#define HEAD_BEGIN "{"
#define HEAD_END ",\"choices\":["

int writer_openai_head(
	struct answer_writer *w, struct slice model, const char *id_begin, const char *object)
{
	struct buf *head = &w->head;
	buf_printf(head, HEAD_BEGIN "\"id\":\"%s-", id_begin);
	json_put_escaped(head, slice_str(w->id));
	buf_printf(head, "\",\"object\":\"%s\",\"created\":%lld,\"model\":", object,
		(long long)time(NULL));
	json_put_string(head, model);
	return buf_add_str(head, ",\"system_fingerprint\":\"fp_tandem\"" HEAD_END);
}

static int begin(struct answer_writer *w, struct slice model)
{
	return writer_openai_head(
		w, model, "chatcmpl", w->stream ? "chat.completion.chunk" : "chat.completion");
}

int writer_openai_read(struct answer_writer *w, const struct chat_request *r)
{
	struct json_value options, parallel;
	FIELDS_GET(r->root, {"stream_options", &options}, {"parallel_tool_calls", &parallel});
	json_to_bool(json_get(options, "include_usage"), &w->include_usage);
	w->one_call = parallel.type == JSON_FALSE;
	return 0;
}

struct slice writer_openai_identity(const struct answer_writer *w)
{
	struct slice head = buf_slice(&w->head);
	return (struct slice){
		head.p + strlen(HEAD_BEGIN), head.n - strlen(HEAD_BEGIN) - strlen(HEAD_END)};
}

int writer_openai_rename(struct answer_writer *w, struct slice identity)
{
	buf_clear(&w->head);
	buf_add_str(&w->head, HEAD_BEGIN);
	buf_add_slice(&w->head, identity);
	return buf_add_str(&w->head, HEAD_END);
}

static void put_begin(struct answer_writer *w, const struct answer_event *event)
{
	struct buf *out = &w->calls;
	if (w->stream)
		buf_printf(out, "{\"index\":%u,\"id\":", event->index);
	else
		buf_add_str(out, out->n ? ",{\"id\":" : "{\"id\":");
	call_id_put(out, event->id, w->id, event->index);
	buf_add_str(out, ",\"type\":\"function\",\"function\":{\"name\":");
	json_put_string(out, event->name);
	buf_add_str(out, ",\"arguments\":\"");
	if (w->stream)
		buf_add_str(out, "\"}}");
}

/* Arguments are a string here, so fragments pass as they come; one object gets a single growing
 * string. */
static bool collect_tool(struct answer_writer *w, const struct answer_event *event)
{
	struct buf *out = &w->calls;
	switch (event->kind) {
	case ANSWER_TOOL_BEGIN:
		put_begin(w, event);
		return true;
	case ANSWER_TOOL_ARGS:
		if (w->stream)
			buf_printf(
				out, "{\"index\":%u,\"function\":{\"arguments\":\"", event->index);
		json_put_escaped(out, event->text);
		if (w->stream)
			buf_add_str(out, "\"}}");
		return true;
	default:
		if (!w->stream)
			buf_add_str(out, "\"}}");
		return false;
	}
}

/* A delta of a stream, or the whole message. */
static void put_message(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	bool first = !w->role_sent;
	w->role_sent = true;
	buf_add_char(out, '{');
	if (first)
		buf_add_str(out, "\"role\":\"assistant\"");
	if (w->content.n || (first && end && !w->had_calls))
		json_put_quoted(out, "content", &w->content);
	else if (!w->stream)
		buf_add_str(out, ",\"content\":null");
	if (w->thinking.n)
		json_put_quoted(out, "reasoning_content", &w->thinking);
	if (w->calls.n) {
		json_put_key(out, "tool_calls");
		buf_add_char(out, '[');
		buf_add_slice(out, buf_slice(&w->calls));
		buf_add_char(out, ']');
	}
	buf_add_char(out, '}');
}

static void put_finish(
	const struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	const char *reason = "\"stop\"";
	if (!end)
		reason = "null";
	else if (end->finish == FINISH_LENGTH)
		reason = "\"length\"";
	else if (end->finish == FINISH_TOOL_CALLS || w->had_calls)
		reason = "\"tool_calls\"";
	buf_add_str(out, ",\"finish_reason\":");
	buf_add_str(out, reason);
}

void writer_openai_usage(const struct answer_usage *usage, struct buf *out)
{
	int64_t prompt = usage->prompt_tokens > 0 ? usage->prompt_tokens : 0;
	int64_t output = usage->output_tokens > 0 ? usage->output_tokens : 0;
	buf_printf(out,
		",\"usage\":{\"prompt_tokens\":%" PRId64 ",\"completion_tokens\":%" PRId64
		",\"total_tokens\":%" PRIu64,
		prompt, output, (uint64_t)prompt + (uint64_t)output);
	if (usage->cached_tokens >= 0)
		buf_printf(out, ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRId64 "}",
			usage->cached_tokens);
	buf_add_char(out, '}');
}

static void put_choice(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	buf_add_str(out, w->stream ? "{\"index\":0,\"delta\":" : "{\"index\":0,\"message\":");
	put_message(w, end, out);
	if (w->logprobs.n) {
		buf_add_str(out, ",\"logprobs\":{\"content\":[");
		buf_add_slice(out, buf_slice(&w->logprobs));
		buf_add_str(out, "]}");
	}
	put_finish(w, end, out);
	buf_add_char(out, '}');
}

void writer_openai_put(struct answer_writer *w, const struct answer_event *end,
	void (*choice)(struct answer_writer *w, const struct answer_event *end, struct buf *out),
	struct buf *out)
{
	if (w->stream)
		buf_add_str(out, "data: ");
	buf_add_slice(out, buf_slice(&w->head));
	choice(w, end, out);
	buf_add_char(out, ']');
	if (!w->stream) {
		writer_openai_usage(&end->usage, out);
		buf_add_char(out, '}');
		return;
	}
	buf_add_str(out, "}\n\n");
	if (!end)
		return;
	if (w->include_usage) {
		buf_add_str(out, "data: ");
		buf_add_slice(out, buf_slice(&w->head));
		buf_add_char(out, ']');
		writer_openai_usage(&end->usage, out);
		buf_add_str(out, "}\n\n");
	}
	buf_add_str(out, "data: [DONE]\n\n");
}

static void flush(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	writer_openai_put(w, end, put_choice, out);
}

const struct writer_ops writer_openai_chat = {.begin = begin,
	.read = writer_openai_read,
	.tool = collect_tool,
	.flush = flush,
	.identity = writer_openai_identity,
	.rename = writer_openai_rename};
