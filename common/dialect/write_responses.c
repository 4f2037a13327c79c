/* The server-sent events, or the one object, of /v1/responses: the response around its items. */
#include "common/dialect/write_responses.h"
#include "common/dialect/compaction.h"
#include "common/dialect/front_responses.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* Events before the first piece of a text that nothing stands before: created, in_progress, the item,
 * its part. */
#define EVENTS_OF_BEGINNING 4
#define EVENTS_OF_COMPACTION 2 /* ... and before these */

#define ID_BEGIN "\"id\":\"resp_"

/* --- the request --- */

static int begin(struct answer_writer *w, struct slice model)
{
	buf_add_str(&w->head, ID_BEGIN);
	json_put_escaped(&w->head, slice_str(w->id));
	buf_printf(&w->head,
		"\",\"object\":\"response\",\"created_at\":%lld,\"model\":", (long long)time(NULL));
	return json_put_string(&w->head, model);
}

/* The item that the answer begins with. */
void responses_read_compaction(struct answer_writer *w, const struct chat_request *r)
{
	struct json_value content =
		json_get(json_get(r->root, COMPACTION_MEMBER), "encrypted_content");
	if (content.type != JSON_STRING)
		return;
	buf_add_slice(&w->compaction, content.raw);
	w->block = 1;
}

void responses_put_compaction(const struct answer_writer *w, struct buf *out)
{
	buf_add_str(out, "{\"id\":\"cmp_");
	json_put_escaped(out, slice_str(w->id));
	buf_add_str(out, "\",\"type\":\"compaction\",\"encrypted_content\":");
	buf_add_slice(out, buf_slice(&w->compaction));
	buf_add_char(out, '}');
}

static bool is_plain(struct json_value tools)
{
	struct json_iter it = json_iter(tools);
	struct json_value tool;
	while (json_array_next(&it, &tool))
		if (responses_tool_of(tool) == TOOL_CUSTOM ||
			responses_tool_of(tool) == TOOL_NAMESPACE ||
			responses_tool_of(tool) == TOOL_SEARCH)
			return false;
	return true;
}

/* What a response says of its request, where that does not say it. */
static int read_request(struct answer_writer *w, const struct chat_request *r)
{
	static const struct {
		const char *name, *unsaid;
	} said[] = {{"max_output_tokens", "null"}, {"metadata", "{}"},
		{"parallel_tool_calls", "true"},
		{"reasoning", "{\"effort\":null,\"summary\":null}"}, {"temperature", "null"},
		{"text", "{\"format\":{\"type\":\"text\"}}"}, {"tool_choice", "\"auto\""},
		{"top_p", "null"}, {"truncation", "\"disabled\""}};
	for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
		struct json_value v = json_get(r->root, said[i].name);
		buf_printf(&w->echo, ",\"%s\":", said[i].name);
		compact_put(&w->echo, is_absent(v) ? slice_str(said[i].unsaid) : v.raw,
			&w->scratch); /* a line end would end the event */
	}
	w->one_call = json_get(r->root, "parallel_tool_calls").type == JSON_FALSE;
	if (!is_plain(r->tools))
		buf_add_slice(&w->tools, r->tools.raw);
	responses_read_compaction(w, r);
	return buf_error(&w->echo) ? buf_error(&w->echo) : buf_error(&w->tools);
}

/* --- the response --- */

/* How it stands; members beside what is always the same. */
struct standing {
	const char *status, *reason; /* reason: why it is incomplete; NULL: it is not */
	bool begins;		     /* nothing of it is there yet */
	struct slice error;	     /* an object; empty: none */
	const struct answer_usage *usage;
};

/* The counts; how much of the output was thinking no backend says: by its share of the bytes. */
void responses_put_usage(
	const struct answer_writer *w, const struct answer_usage *usage, struct buf *out)
{
	int64_t prompt = usage->prompt_tokens > 0 ? usage->prompt_tokens : 0;
	int64_t output = usage->output_tokens > 0 ? usage->output_tokens : 0;
	int64_t cached = usage->cached_tokens > 0 ? usage->cached_tokens : 0;
	double all = (double)w->thought + (double)w->said;
	int64_t thought = all > 0 ? (int64_t)((double)output * (double)w->thought / all) : 0;
	buf_printf(out,
		"{\"input_tokens\":%" PRId64 ",\"input_tokens_details\":{\"cached_tokens\":%" PRId64
		"},\"output_tokens\":%" PRId64
		",\"output_tokens_details\":{\"reasoning_tokens\":%" PRId64
		"},\"total_tokens\":%" PRIu64 "}",
		prompt, cached, output, thought, (uint64_t)prompt + (uint64_t)output);
}

/* head, echo, output: members, members that begin with a comma, elements. */
static void put_response(const struct answer_writer *w, struct slice head, struct slice echo,
	struct slice output, const struct standing *s, struct buf *out)
{
	buf_add_char(out, '{');
	buf_add_slice(out, head);
	buf_printf(out, ",\"status\":\"%s\",\"background\":false,\"error\":", s->status);
	buf_add_slice(out, s->error.n ? s->error : SLICE("null"));
	buf_add_str(out, ",\"incomplete_details\":");
	if (s->reason)
		buf_printf(out, "{\"reason\":\"%s\"}", s->reason);
	else
		buf_add_str(out, "null");
	buf_add_str(out, ",\"instructions\":null,\"output\":[");
	if (w->compaction.n && !s->begins)
		responses_put_compaction(w, out);
	if (w->compaction.n && output.n)
		buf_add_char(out, ',');
	buf_add_slice(out, output);
	buf_add_str(out, "],\"previous_response_id\":null,\"store\":false,\"tools\":[]");
	buf_add_slice(out, echo);
	buf_add_str(out, ",\"usage\":");
	if (s->usage)
		responses_put_usage(w, s->usage, out);
	else
		buf_add_str(out, "null");
	buf_add_char(out, '}');
}

static void put_own(struct answer_writer *w, const struct standing *s, struct buf *out)
{
	put_response(w, buf_slice(&w->head), buf_slice(&w->echo), buf_slice(&w->output), s, out);
}

static void response_event(
	struct answer_writer *w, const char *type, const struct standing *s, struct buf *out)
{
	responses_event(w, type, out);
	json_put_key(out, "response");
	put_own(w, s, out);
	responses_event_end(out);
}

/* It has no pieces: its beginning and its end both have it whole. */
static void stream_compaction(struct answer_writer *w, struct buf *out)
{
	static const char *const types[] = {
		"response.output_item.added", "response.output_item.done"};
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		responses_event(w, types[i], out);
		buf_add_str(out, ",\"output_index\":0,\"item\":");
		responses_put_compaction(w, out);
		responses_event_end(out);
	}
}

static void put_start(struct answer_writer *w, struct buf *out)
{
	const struct standing s = {.status = "in_progress", .begins = true};
	if (w->role_sent)
		return;
	w->role_sent = true;
	response_event(w, "response.created", &s, out);
	response_event(w, "response.in_progress", &s, out);
	if (w->compaction.n)
		stream_compaction(w, out);
}

static bool take_tool(struct answer_writer *w, const struct answer_event *e)
{
	struct buf *out = &w->calls;
	if (w->stream)
		put_start(w, out);
	responses_take_thinking(w, out);
	responses_take_text(w, out);
	responses_take_call(w, e, out);
	return true;
}

static void put_end(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	bool cut = end->finish == FINISH_LENGTH;
	const struct standing s = {.status = cut ? "incomplete" : "completed",
		.reason = cut ? "max_output_tokens" : NULL,
		.usage = &end->usage};
	responses_close_item(w, s.status, out);
	if (w->stream)
		response_event(w, cut ? "response.incomplete" : "response.completed", &s, out);
	else
		put_own(w, &s, out);
}

static void flush(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	if (w->stream)
		put_start(w, out);
	buf_add_slice(out, buf_slice(&w->calls)); /* of a stream: nothing else has come with them */
	responses_take_thinking(w, out);
	responses_take_text(w, out);
	if (end)
		put_end(w, end, out);
}

/* --- failures --- */

/* The names that a response's error has. */
static const char *code_of(struct json_value type)
{
	if (json_string_is(type, "rate_limit_error"))
		return "rate_limit_exceeded";
	return json_string_is(type, "invalid_request_error") ||
			       json_string_is(type, "not_found_error")
		       ? "invalid_prompt"
		       : "server_error";
}

/* An error's body as the error of a response. */
static void put_failure(struct slice body, struct buf *out)
{
	struct json_value error, type, code, message;
	error = json_get(json_object_in(body), "error");
	FIELDS_GET(error, {"type", &type}, {"code", &code}, {"message", &message});
	buf_add_str(out, "{\"code\":");
	if (code.type == JSON_STRING)
		buf_add_slice(out, code.raw);
	else
		buf_printf(out, "\"%s\"", code_of(type));
	json_put_key(out, "message");
	buf_add_slice(out, message.type == JSON_STRING ? message.raw : SLICE("\"\""));
	buf_add_char(out, '}');
}

static void fail(struct answer_writer *w, const struct answer_event *e, struct buf *out)
{
	struct buf body, error;
	buf_init(&body, 0);
	buf_init(&error, 0);
	w->front->error(e->status, e->text, &body);
	put_failure(buf_slice(&body), &error);
	put_start(w, out);
	response_event(w, "response.failed",
		&(struct standing){.status = "failed", .error = buf_slice(&error)}, out);
	buf_free(&body);
	buf_free(&error);
}

/* Of a stream that no writer goes on with: what the client has of it is not known, but for its
 * name. Numbers of events only have to grow, and no event is shorter than a byte. */
void responses_fail(const struct dialect_stream *at, struct slice body, struct buf *out)
{
	struct answer_writer w = {.sequence = at->identity.n ? (uint64_t)at->bytes : 0};
	struct buf head, error;
	buf_init(&head, 0);
	buf_init(&error, 0);
	put_failure(body, &error);
	if (at->identity.n)
		buf_add_slice(&head, at->identity);
	else
		buf_printf(&head,
			ID_BEGIN "%s\",\"object\":\"response\",\"created_at\":%lld,\"model\":\"\"",
			at->id ? at->id : "0", (long long)time(NULL));
	w.head = head;
	if (at->identity.n == 0)
		put_start(&w, out);
	response_event(&w, "response.failed",
		&(struct standing){.status = "failed", .error = buf_slice(&error)}, out);
	buf_free(&head);
	buf_free(&error);
}

/* --- going on --- */

static struct slice identity(const struct answer_writer *w)
{
	return buf_slice(&w->head);
}

static int rename_it(struct answer_writer *w, struct slice id)
{
	const char *quote;
	size_t begin = strlen(ID_BEGIN);
	buf_clear(&w->head);
	buf_add_slice(&w->head, id);
	if (id.n > begin && (quote = memchr(id.p + begin, '"', id.n - begin))) {
		free(w->id);
		w->id = slice_dup((struct slice){id.p + begin, (size_t)(quote - id.p) - begin});
	}
	return w->id ? buf_error(&w->head) : -ENOMEM;
}

/* Only text is gone on with: its item is open. */
static int resume(struct answer_writer *w, const struct answer_begun *from)
{
	w->role_sent = from->text.n > 0; /* else its writer died before its first event was out */
	if (w->role_sent) {
		w->sequence = EVENTS_OF_BEGINNING + (uint64_t)from->tokens +
			      (w->compaction.n ? EVENTS_OF_COMPACTION : 0);
		responses_reopen_text(w, from->text);
	}
	return 0;
}

const struct writer_ops writer_responses = {.begin = begin,
	.read = read_request,
	.tool = take_tool,
	.flush = flush,
	.identity = identity,
	.rename = rename_it,
	.resume = resume,
	.fail = fail};
