/* Answers of /api/chat and /api/generate: a chunk of the stream and the whole object have one
 * shape. */
#include "common/dialect/parser.h"

#define NS_IN_MS 1e-6

static enum answer_finish finish_of(struct json_value reason)
{
	if (json_string_is(reason, "length"))
		return FINISH_LENGTH;
	if (json_string_is(reason, "load"))
		return FINISH_LOAD;
	if (json_string_is(reason, "unload"))
		return FINISH_UNLOAD;
	return FINISH_STOP;
}

static void read_usage(struct answer_parser *p, struct json_value root)
{
	struct json_value prompt, prompt_ns, output, output_ns, load_ns;
	FIELDS_GET(root, {"prompt_eval_count", &prompt}, {"prompt_eval_duration", &prompt_ns},
		{"eval_count", &output}, {"eval_duration", &output_ns},
		{"load_duration", &load_ns});
	p->usage = (struct answer_usage){
		.prompt_tokens = parser_count(prompt),
		.cached_tokens = -1,
		.output_tokens = parser_count(output),
		.prompt_ms = parser_ms(prompt_ns, NS_IN_MS),
		.output_ms = parser_ms(output_ns, NS_IN_MS),
		.load_ms = parser_ms(load_ns, NS_IN_MS),
	};
}

/* Calls arrive whole. */
static int read_calls(struct answer_parser *p, struct json_value calls)
{
	struct json_iter it = json_iter(calls);
	struct json_value element;
	while (json_array_next(&it, &element)) {
		struct tool_call call = tool_call_read(element);
		if (call.name.type != JSON_STRING)
			continue;
		int rc = parser_tool_begin(p, &call);
		if (rc == 0)
			rc = parser_tool_arguments(p, call.arguments);
		if (rc)
			return rc;
		parser_tool_end(p);
	}
	return 0;
}

/* What both kinds of answers say. */
struct chunk {
	struct json_value text, thinking, calls, logprobs, done, reason, error;
};

static int read_chunk(struct answer_parser *p, struct json_value root, const struct chunk *c)
{
	int rc = parser_emit_text(
		p, ANSWER_THINKING, c->thinking, (struct json_value){.type = JSON_NONE});
	if (rc == 0)
		rc = parser_emit_text(p, ANSWER_TEXT, c->text, c->logprobs);
	if (rc == 0)
		rc = read_calls(p, c->calls);
	if (rc || c->done.type != JSON_TRUE)
		return rc;
	read_usage(p, root);
	p->finish = finish_of(c->reason);
	parser_end(p);
	return 0;
}

int parser_ollama_chat(struct answer_parser *p, struct json_value root)
{
	struct json_value message;
	struct chunk c;
	FIELDS_GET(root, {"message", &message}, {"logprobs", &c.logprobs}, {"done", &c.done},
		{"done_reason", &c.reason}, {"error", &c.error});
	if (!is_absent(c.error))
		return parser_emit_error(p, c.error);
	FIELDS_GET(
		message, {"content", &c.text}, {"thinking", &c.thinking}, {"tool_calls", &c.calls});
	return read_chunk(p, root, &c);
}

int parser_ollama_generate(struct answer_parser *p, struct json_value root)
{
	struct chunk c;
	FIELDS_GET(root, {"response", &c.text}, {"thinking", &c.thinking}, {"tool_calls", &c.calls},
		{"logprobs", &c.logprobs}, {"done", &c.done}, {"done_reason", &c.reason},
		{"error", &c.error});
	return is_absent(c.error) ? read_chunk(p, root, &c) : parser_emit_error(p, c.error);
}
