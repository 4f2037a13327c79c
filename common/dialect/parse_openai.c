/* Answers of llama-server: chunks and objects of /v1/chat/completions, /v1/completions
 * and /infill. */
#include "common/dialect/parser.h"

static const struct json_value none = {.type = JSON_NONE};

static void keep_count(int64_t *into, int64_t n)
{
	if (n >= 0)
		*into = n;
}

/* Counts may come in several chunks: usage in one, timings in the last before [DONE]. */
static void read_usage(struct answer_parser *p, struct json_value usage)
{
	struct json_value prompt, output, details;
	FIELDS_GET(usage, {"prompt_tokens", &prompt}, {"completion_tokens", &output},
		{"prompt_tokens_details", &details});
	keep_count(&p->usage.prompt_tokens, parser_count(prompt));
	keep_count(&p->usage.output_tokens, parser_count(output));
	if (details.type == JSON_OBJECT)
		keep_count(
			&p->usage.cached_tokens, parser_count(json_get(details, "cached_tokens")));
}

static void read_timings(struct answer_parser *p, struct json_value timings)
{
	struct json_value cache_n, prompt_n, prompt_ms, output_n, output_ms;
	FIELDS_GET(timings, {"cache_n", &cache_n}, {"prompt_n", &prompt_n},
		{"prompt_ms", &prompt_ms}, {"predicted_n", &output_n},
		{"predicted_ms", &output_ms});
	if (timings.type != JSON_OBJECT)
		return;
	int64_t cached = parser_count(cache_n), fresh = parser_count(prompt_n);
	/* Without cache_n (older servers) prompt_n alone says nothing of the prompt's size. */
	if (cached >= 0 && fresh >= 0 && cached <= INT64_MAX - fresh) {
		p->usage.prompt_tokens = cached + fresh;
		p->usage.cached_tokens = cached;
	}
	keep_count(&p->usage.output_tokens, parser_count(output_n));
	p->usage.prompt_ms = parser_ms(prompt_ms, 1);
	p->usage.output_ms = parser_ms(output_ms, 1);
}

static enum answer_finish finish_of(struct json_value reason)
{
	if (json_string_is(reason, "length"))
		return FINISH_LENGTH;
	if (json_string_is(reason, "tool_calls") || json_string_is(reason, "function_call"))
		return FINISH_TOOL_CALLS;
	return FINISH_STOP;
}

/* A call's id and name come once, its arguments in fragments; some servers repeat id and name each
 * time. */
static int read_call(struct answer_parser *p, struct json_value element)
{
	struct tool_call call = tool_call_read(element);
	int64_t index = parser_count(json_get(element, "index"));
	bool named = value_filled(call.name) || value_filled(call.id);
	bool same = p->tool_open && (index < 0 ? !named : index == p->tool_index);
	if (!same) {
		if (!value_filled(call.name))
			return p->tool_open
				       ? parser_fail(p, "fragments of tool calls are interleaved")
				       : parser_fail(p, "a tool call has no name");
		int rc = parser_tool_begin(p, &call);
		if (rc)
			return rc;
		p->tool_index = index;
	}
	return parser_tool_arguments(p, call.arguments);
}

static int read_calls(struct answer_parser *p, struct json_value calls)
{
	struct json_iter it = json_iter(calls);
	struct json_value element;
	int rc = 0;
	while (rc == 0 && json_array_next(&it, &element)) {
		if (element.type == JSON_OBJECT)
			rc = read_call(p, element);
	}
	return rc;
}

/* delta of a stream, or message of an object. */
static int read_message(
	struct answer_parser *p, struct json_value message, struct json_value logprobs)
{
	struct json_value text, reasoning_content, reasoning, calls;
	FIELDS_GET(message, {"content", &text}, {"reasoning_content", &reasoning_content},
		{"reasoning", &reasoning}, {"tool_calls", &calls});
	int rc =
		parser_emit_text(p, ANSWER_THINKING, string_or(reasoning_content, reasoning), none);
	if (rc == 0)
		rc = parser_emit_text(p, ANSWER_TEXT, text, logprobs);
	return rc ? rc : read_calls(p, calls);
}

typedef int choice_fn(
	struct answer_parser *p, struct json_value choice, struct json_value logprobs);

static int read_chat_choice(
	struct answer_parser *p, struct json_value choice, struct json_value logprobs)
{
	struct json_value delta, message;
	FIELDS_GET(choice, {"delta", &delta}, {"message", &message});
	return read_message(p, delta.type == JSON_OBJECT ? delta : message, logprobs);
}

static int read_text_choice(
	struct answer_parser *p, struct json_value choice, struct json_value logprobs)
{
	return parser_emit_text(p, ANSWER_TEXT, json_get(choice, "text"), logprobs);
}

static int read_choice(struct answer_parser *p, struct json_value choice, choice_fn *read)
{
	struct json_value index, logprobs, reason;
	FIELDS_GET(choice, {"index", &index}, {"logprobs", &logprobs}, {"finish_reason", &reason});
	if (parser_count(index) > 0)
		return 0; /* of several choices only the first is followed */
	logprobs = logprobs.type == JSON_OBJECT ? json_get(logprobs, "content") : none;
	int rc = read(p, choice, logprobs);
	if (rc == 0 && reason.type == JSON_STRING)
		p->finish = finish_of(reason);
	return rc;
}

static int read_object(struct answer_parser *p, struct json_value root, choice_fn *read)
{
	struct json_value choices, usage, timings, error, choice;
	FIELDS_GET(root, {"choices", &choices}, {"usage", &usage}, {"timings", &timings},
		{"error", &error});
	if (!is_absent(error))
		return parser_emit_error(p, error);
	read_usage(p, usage);
	read_timings(p, timings);
	struct json_iter it = json_iter(choices);
	int rc = 0;
	while (rc == 0 && json_array_next(&it, &choice))
		rc = read_choice(p, choice, read);
	return rc;
}

int parser_openai_chat(struct answer_parser *p, struct json_value root)
{
	return read_object(p, root, read_chat_choice);
}

int parser_openai_text(struct answer_parser *p, struct json_value root)
{
	return read_object(p, root, read_text_choice);
}

int parser_infill(struct answer_parser *p, struct json_value root)
{
	struct json_value text, stop, type, limit, timings, evaluated, predicted, error;
	FIELDS_GET(root, {"content", &text}, {"stop", &stop}, {"stop_type", &type},
		{"stopped_limit", &limit}, {"timings", &timings}, {"tokens_evaluated", &evaluated},
		{"tokens_predicted", &predicted}, {"error", &error});
	if (!is_absent(error))
		return parser_emit_error(p, error);
	int rc = parser_emit_text(p, ANSWER_TEXT, text, none);
	if (rc || stop.type != JSON_TRUE)
		return rc;
	keep_count(&p->usage.prompt_tokens, parser_count(evaluated));
	keep_count(&p->usage.output_tokens, parser_count(predicted));
	read_timings(p, timings);
	p->finish = json_string_is(type, "limit") || limit.type == JSON_TRUE ? FINISH_LENGTH
									     : FINISH_STOP;
	parser_end(p);
	return 0;
}
