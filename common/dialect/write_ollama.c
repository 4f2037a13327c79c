/* The NDJSON lines, or the one object, of /api/chat and /api/generate. */
#include "common/dialect/writer.h"

#include <inttypes.h>
#include <stdio.h>

#define NS_PER_S 1000000000LL
#define NS_PER_MS 1e6
#define MAX_MS 9e12 /* keeps a backend's nonsense within int64_t nanoseconds */

static int begin(struct answer_writer *w, struct slice model)
{
	buf_add_str(&w->head, "{\"model\":");
	json_put_string(&w->head, model);
	return buf_add_str(&w->head, ",\"created_at\":\"");
}

/* RFC 3339 with nanoseconds, UTC. */
static void put_now(struct answer_writer *w, struct buf *out)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != w->second) {
		struct tm utc = {0};
		gmtime_r(&now.tv_sec, &utc);
		strftime(w->second_text, sizeof(w->second_text), "%Y-%m-%dT%H:%M:%S", &utc);
		w->second = now.tv_sec;
	}
	char fraction[16];
	int n = snprintf(fraction, sizeof(fraction), ".%09ldZ", now.tv_nsec);
	buf_add_str(out, w->second_text);
	buf_add(out, fraction, (size_t)n);
}

/* Arguments are an object here, so a call is collected until it is whole. */
static bool collect_tool(struct answer_writer *w, const struct answer_event *event)
{
	switch (event->kind) {
	case ANSWER_TOOL_BEGIN:
		buf_clear(&w->call_id);
		buf_clear(&w->call_name);
		buf_clear(&w->arguments);
		buf_add_slice(&w->call_id, event->id);
		buf_add_slice(&w->call_name, event->name);
		return false;
	case ANSWER_TOOL_ARGS:
		buf_add_slice(&w->arguments, event->text);
		return false;
	default:
		break;
	}
	struct buf *out = &w->calls;
	if (out->n)
		buf_add_char(out, ',');
	buf_add_str(out, "{\"id\":");
	call_id_put(out, buf_slice(&w->call_id), w->id, event->index);
	buf_printf(out, ",\"function\":{\"index\":%u,\"name\":", event->index);
	json_put_string(out, buf_slice(&w->call_name));
	buf_add_str(out, ",\"arguments\":");
	arguments_put_object(out, buf_slice(&w->arguments), &w->scratch);
	buf_add_str(out, "}}");
	return true;
}

static void put_quoted(struct buf *out, const char *opening, const struct buf *escaped)
{
	buf_add_str(out, opening);
	buf_add_slice(out, buf_slice(escaped));
	buf_add_char(out, '"');
}

/* Zero and unknown are left out, as Ollama does. */
static void put_number(struct buf *out, const char *name, int64_t n)
{
	if (n > 0)
		buf_printf(out, ",\"%s\":%" PRId64, name, n);
}

static int64_t ns_of(double ms)
{
	return ms > 0 ? (int64_t)((ms < MAX_MS ? ms : MAX_MS) * NS_PER_MS) : 0;
}

static int64_t ns_since(const struct timespec *start)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * NS_PER_S + (now.tv_nsec - start->tv_nsec);
}

static void put_end(const struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	static const char *const reasons[] = {
		[FINISH_NONE] = "stop",
		[FINISH_STOP] = "stop",
		[FINISH_LENGTH] = "length",
		[FINISH_TOOL_CALLS] = "stop",
		[FINISH_LOAD] = "load",
		[FINISH_UNLOAD] = "unload",
	};
	buf_printf(out, ",\"done\":true,\"done_reason\":\"%s\"", reasons[end->finish]);
	if (end->finish == FINISH_LOAD || end->finish == FINISH_UNLOAD)
		return;
	put_number(out, "total_duration", ns_since(&w->started));
	put_number(out, "load_duration", ns_of(end->usage.load_ms));
	put_number(out, "prompt_eval_count", end->usage.prompt_tokens);
	put_number(out, "prompt_eval_duration", ns_of(end->usage.prompt_ms));
	put_number(out, "eval_count", end->usage.output_tokens);
	put_number(out, "eval_duration", ns_of(end->usage.output_ms));
}

/* opening and closing: what the text, the thinking and the calls stand in. */
static void put_chunk(struct answer_writer *w, const struct answer_event *end, const char *opening,
	const char *closing, struct buf *out)
{
	buf_add_slice(out, buf_slice(&w->head));
	put_now(w, out);
	put_quoted(out, opening, &w->content);
	if (w->thinking.n)
		put_quoted(out, ",\"thinking\":\"", &w->thinking);
	if (w->calls.n) {
		buf_add_str(out, ",\"tool_calls\":[");
		buf_add_slice(out, buf_slice(&w->calls));
		buf_add_char(out, ']');
	}
	buf_add_str(out, closing);
	if (w->logprobs.n) {
		buf_add_str(out, ",\"logprobs\":[");
		buf_add_slice(out, buf_slice(&w->logprobs));
		buf_add_char(out, ']');
	}
	if (end)
		put_end(w, end, out);
	else
		buf_add_str(out, ",\"done\":false");
	buf_add_str(out, w->stream ? "}\n" : "}");
}

static void flush_chat(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	put_chunk(w, end, "\",\"message\":{\"role\":\"assistant\",\"content\":\"", "}", out);
}

static void flush_generate(struct answer_writer *w, const struct answer_event *end, struct buf *out)
{
	put_chunk(w, end, "\",\"response\":\"", "", out);
}

const struct writer_ops writer_ollama_chat = {
	.begin = begin, .tool = collect_tool, .flush = flush_chat};
const struct writer_ops writer_ollama_generate = {
	.begin = begin, .tool = collect_tool, .flush = flush_generate};
