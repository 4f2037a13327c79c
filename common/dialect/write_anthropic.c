/*
 * The server-sent events, or the one object, of /v1/messages. A stream is a row of blocks, one open
 * at a time: each kind of what the model writes closes the block before it and opens its own.
 */
#include "common/dialect/compaction.h"
#include "common/dialect/front_anthropic.h"
#include "common/dialect/writer.h"

#include <inttypes.h>

enum { BLOCK_NONE, BLOCK_OF_TEXT, BLOCK_OF_THINKING, BLOCK_OF_CALL };

#define ID_BEGIN "{\"id\":\"msg_"

static int begin(struct answer_writer *w, struct slice model)
{
	buf_add_str(&w->head, ID_BEGIN);
	json_put_escaped(&w->head, slice_str(w->id));
	buf_add_str(&w->head, "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
	return json_put_string(&w->head, model);
}

static int read_request(struct answer_writer *w, const struct chat_request *r)
{
	struct json_value choice = json_get(r->root, "tool_choice");
	w->one_call = json_get(choice, "disable_parallel_tool_use").type == JSON_TRUE;
	w->prompt_tokens = (int64_t)token_census_start(&r->census);
	struct json_value block = json_get(r->root, COMPACTION_MEMBER), content, signature;
	FIELDS_GET(block, {"content", &content}, {"signature", &signature});
	if (content.type != JSON_STRING || signature.type != JSON_STRING)
		return 0;
	buf_add_slice(&w->compaction, content.raw);
	w->signature_at = w->compaction.n;
	return buf_add_slice(&w->compaction, signature.raw);
}

/* --- events --- */

static void event(struct buf *out, const char *type)
{
	buf_printf(out, "event: %s\ndata: {\"type\":\"%s\"", type, type);
}

static void event_end(struct buf *out)
{
	buf_add_str(out, "}\n\n");
}

/* The delta of the block that is open; its text and the rest are for the caller. */
static void delta(struct answer_writer *w, const char *type, const char *member, struct buf *out)
{
	event(out, "content_block_delta");
	buf_printf(
		out, ",\"index\":%u,\"delta\":{\"type\":\"%s\",\"%s\":\"", w->block, type, member);
}

static void delta_end(struct buf *out)
{
	buf_add_str(out, "\"}");
	event_end(out);
}

/* Thinking is signed where it was thought. Nobody here checks it; clients want one to send back. */
static void put_signature(struct answer_writer *w, struct buf *out)
{
	json_put_escaped(out, slice_str(w->id));
}

static void close_block(struct answer_writer *w, struct buf *out)
{
	if (w->open == BLOCK_NONE)
		return;
	if (w->open == BLOCK_OF_THINKING) {
		delta(w, "signature_delta", "signature", out);
		put_signature(w, out);
		delta_end(out);
	}
	event(out, "content_block_stop");
	buf_printf(out, ",\"index\":%u", w->block++);
	event_end(out);
	w->open = BLOCK_NONE;
}

static void begin_block(struct answer_writer *w, int kind, struct buf *out)
{
	close_block(w, out);
	w->open = kind;
	event(out, "content_block_start");
	buf_printf(out, ",\"index\":%u,\"content_block\":", w->block);
}

static void put_text(struct answer_writer *w, struct buf *out)
{
	if (w->content.n == 0)
		return;
	if (w->open != BLOCK_OF_TEXT) {
		begin_block(w, BLOCK_OF_TEXT, out);
		buf_add_str(out, "{\"type\":\"text\",\"text\":\"\"}");
		event_end(out);
	}
	delta(w, "text_delta", "text", out);
	buf_add_slice(out, buf_slice(&w->content));
	delta_end(out);
}

static void put_thinking(struct answer_writer *w, struct buf *out)
{
	if (w->thinking.n == 0)
		return;
	if (w->open != BLOCK_OF_THINKING) {
		begin_block(w, BLOCK_OF_THINKING, out);
		buf_add_str(out, "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
		event_end(out);
	}
	delta(w, "thinking_delta", "thinking", out);
	buf_add_slice(out, buf_slice(&w->thinking));
	delta_end(out);
}

/* --- tool calls --- */

/* id and name; the input follows, or comes in deltas. */
static void put_call(struct answer_writer *w, struct slice id, unsigned index, struct slice name,
	struct buf *out)
{
	buf_add_str(out, "{\"type\":\"tool_use\",\"id\":");
	call_id_put(out, id, w->id, index);
	buf_add_str(out, ",\"name\":");
	json_put_string(out, name);
	buf_add_str(out, ",\"input\":");
}

static void stream_tool(struct answer_writer *w, const struct answer_event *e)
{
	struct buf *out = &w->calls;
	switch (e->kind) {
	case ANSWER_TOOL_BEGIN:
		begin_block(w, BLOCK_OF_CALL, out);
		put_call(w, e->id, e->index, e->name, out);
		buf_add_str(out, "{}}");
		event_end(out);
		break;
	case ANSWER_TOOL_ARGS:
		delta(w, "input_json_delta", "partial_json", out);
		json_put_escaped(out, e->text);
		delta_end(out);
		break;
	default:
		close_block(w, out);
	}
}

static void collect_whole(struct answer_writer *w, const struct answer_event *e)
{
	struct buf *out = &w->calls;
	switch (e->kind) {
	case ANSWER_TOOL_BEGIN:
		buf_clear(&w->arguments);
		buf_add_char(out, ',');
		put_call(w, e->id, e->index, e->name, out);
		break;
	case ANSWER_TOOL_ARGS:
		buf_add_slice(&w->arguments, e->text);
		break;
	default:
		arguments_put_object(out, buf_slice(&w->arguments), &w->scratch);
		buf_clear(&w->arguments);
		buf_add_char(out, '}');
	}
}

static bool collect_tool(struct answer_writer *w, const struct answer_event *e)
{
	if (w->stream)
		stream_tool(w, e);
	else
		collect_whole(w, e);
	return true;
}

/* --- compaction --- */

static struct slice compaction_content(const struct answer_writer *w)
{
	return (struct slice){w->compaction.p, w->signature_at};
}

static struct slice compaction_signature(const struct answer_writer *w)
{
	return (struct slice){w->compaction.p + w->signature_at, w->compaction.n - w->signature_at};
}

/* The packages take the signature from the beginning and the content from its one delta. */
static void stream_compaction(struct answer_writer *w, struct buf *out)
{
	event(out, "content_block_start");
	buf_printf(out,
		",\"index\":%u,\"content_block\":{\"type\":\"compaction\",\"content\":null,"
		"\"signature\":",
		w->block);
	buf_add_slice(out, compaction_signature(w));
	buf_add_char(out, '}');
	event_end(out);
	event(out, "content_block_delta");
	buf_printf(out,
		",\"index\":%u,\"delta\":{\"type\":\"compaction_delta\",\"content\":", w->block);
	buf_add_slice(out, compaction_content(w));
	buf_add_char(out, '}');
	event_end(out);
	event(out, "content_block_stop");
	buf_printf(out, ",\"index\":%u", w->block++);
	event_end(out);
}

static void put_compaction(struct answer_writer *w, struct buf *out)
{
	buf_add_str(out, "{\"type\":\"compaction\",\"content\":");
	buf_add_slice(out, compaction_content(w));
	buf_add_str(out, ",\"signature\":");
	buf_add_slice(out, compaction_signature(w));
	buf_add_char(out, '}');
}

/* --- beginning and end --- */

static void put_usage(
	const struct answer_writer *w, const struct answer_usage *usage, struct buf *out)
{
	int64_t cached = usage && usage->cached_tokens > 0 ? usage->cached_tokens : 0;
	int64_t prompt =
		usage && usage->prompt_tokens >= 0 ? usage->prompt_tokens : w->prompt_tokens;
	int64_t output = usage && usage->output_tokens > 0 ? usage->output_tokens : 0;
	buf_printf(out,
		"\"input_tokens\":%" PRId64 ",\"cache_creation_input_tokens\":0,"
		"\"cache_read_input_tokens\":%" PRId64 ",\"output_tokens\":%" PRId64,
		prompt > cached ? prompt - cached : 0, cached, output);
}

/* Of a whole answer. No model made the block: its iteration took no tokens. */
static void put_usage_whole(
	const struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	static const struct answer_usage nothing = {0};
	buf_add_str(out, "\"usage\":{");
	put_usage(w, &end->usage, out);
	if (w->compaction.n) {
		buf_add_str(out, ",\"iterations\":[{\"type\":\"compaction\",");
		put_usage(w, &nothing, out);
		if (end->finish != FINISH_COMPACTION) {
			buf_add_str(out, "},{\"type\":\"message\",");
			put_usage(w, &end->usage, out);
		}
		buf_add_str(out, "}]");
	}
	buf_add_char(out, '}');
}

static const char *stop_reason(const struct answer_writer *w, const struct answer_event *end)
{
	if (end->finish == FINISH_COMPACTION)
		return "compaction";
	if (end->finish == FINISH_LENGTH)
		return "max_tokens";
	return end->finish == FINISH_TOOL_CALLS || w->had_calls ? "tool_use" : "end_turn";
}

static void put_start(struct answer_writer *w, struct buf *out)
{
	if (w->role_sent)
		return;
	w->role_sent = true;
	event(out, "message_start");
	buf_add_str(out, ",\"message\":");
	buf_add_slice(out, buf_slice(&w->head));
	buf_add_str(out, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,"
			 "\"usage\":{");
	put_usage(w, NULL, out);
	buf_add_str(out, "}}");
	event_end(out);
	if (w->compaction.n)
		stream_compaction(w, out);
}

static void put_end(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	close_block(w, out);
	event(out, "message_delta");
	buf_printf(out, ",\"delta\":{\"stop_reason\":\"%s\",\"stop_sequence\":null},",
		stop_reason(w, end));
	put_usage_whole(w, end, out);
	event_end(out);
	event(out, "message_stop");
	event_end(out);
}

static void next_block(struct buf *out)
{
	if (out->n && out->p[out->n - 1] != '[')
		buf_add_char(out, ',');
}

static void put_whole(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	struct slice calls = buf_slice(&w->calls);
	buf_add_slice(out, buf_slice(&w->head));
	buf_add_str(out, ",\"content\":[");
	if (w->compaction.n)
		put_compaction(w, out);
	if (w->thinking.n) {
		next_block(out);
		buf_add_str(out, "{\"type\":\"thinking\",\"thinking\":\"");
		buf_add_slice(out, buf_slice(&w->thinking));
		buf_add_str(out, "\",\"signature\":\"");
		put_signature(w, out);
		buf_add_str(out, "\"}");
	}
	if (w->content.n) {
		next_block(out);
		buf_add_str(out, "{\"type\":\"text\",\"text\":\"");
		buf_add_slice(out, buf_slice(&w->content));
		buf_add_str(out, "\"}");
	}
	if (calls.n) { /* each has a comma in front */
		next_block(out);
		buf_add(out, calls.p + 1, calls.n - 1);
	}
	buf_printf(out, "],\"stop_reason\":\"%s\",\"stop_sequence\":null,", stop_reason(w, end));
	put_usage_whole(w, end, out);
	buf_add_char(out, '}');
}

static void flush(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	if (!w->stream) {
		put_whole(w, end, out);
		return;
	}
	put_start(w, out);
	put_thinking(w, out);
	put_text(w, out);
	buf_add_slice(out, buf_slice(&w->calls));
	if (end)
		put_end(w, end, out);
}

/* --- going on --- */

/* Its events do not repeat it; that there is one says that the stream has begun. */
static struct slice identity(const struct answer_writer *w)
{
	return (struct slice){w->head.p, strlen(ID_BEGIN) + strlen(w->id)};
}

/* Only text is gone on with: its block is open. */
static int resume(struct answer_writer *w, const struct answer_begun *from)
{
	(void)from;
	w->open = BLOCK_OF_TEXT;
	w->block = w->compaction.n > 0; /* which the client has */
	return 0;
}

const struct writer_ops writer_anthropic = {.begin = begin,
	.read = read_request,
	.tool = collect_tool,
	.flush = flush,
	.identity = identity,
	.resume = resume};
