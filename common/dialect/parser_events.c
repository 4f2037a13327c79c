/* The events that every format of answers shares. */
#include "common/dialect/parser.h"

#include <errno.h>

int parser_fail(struct answer_parser *p, const char *problem)
{
	p->problem = problem;
	return -EPROTO;
}

/* --- events --- */

/* The decoded string: its own bytes where nothing is escaped, else in the buffer. */
static int decode(struct json_value string, struct buf *into, struct slice *out)
{
	*out = string_inner(string);
	if (out->n == 0 || !memchr(out->p, '\\', out->n))
		return 0;
	size_t start = into->n;
	int rc = json_string_decode(string, into);
	*out = (struct slice){into->p + start, into->n - start};
	return rc;
}

int parser_emit_text(struct answer_parser *p, enum answer_event_kind kind, struct json_value string,
	struct json_value logprobs)
{
	struct answer_event event = {.kind = kind};
	buf_clear(&p->text);
	int rc = decode(string, &p->text, &event.text);
	if (rc)
		return rc;
	if (logprobs.type == JSON_ARRAY && value_filled(logprobs))
		event.logprobs = (struct slice){logprobs.raw.p + 1, logprobs.raw.n - 2};
	if (event.text.n || event.logprobs.n)
		p->on_event(p->ctx, &event);
	return 0;
}

int parser_tool_begin(struct answer_parser *p, const struct tool_call *call)
{
	struct answer_event event = {.kind = ANSWER_TOOL_BEGIN};
	parser_tool_end(p);
	buf_clear(&p->text);
	buf_clear(&p->name);
	int rc = decode(call->id, &p->text, &event.id);
	if (rc == 0)
		rc = decode(call->name, &p->name, &event.name);
	if (rc)
		return rc;
	event.index = p->tools++;
	p->tool_open = true;
	p->on_event(p->ctx, &event);
	return 0;
}

int parser_tool_arguments(struct answer_parser *p, struct json_value arguments)
{
	struct answer_event event = {.kind = ANSWER_TOOL_ARGS, .index = p->tools - 1};
	buf_clear(&p->text);
	int rc = 0;
	if (arguments.type == JSON_STRING)
		rc = decode(arguments, &p->text, &event.text);
	else if (!is_absent(arguments))
		event.text = arguments.raw;
	if (rc == 0 && event.text.n)
		p->on_event(p->ctx, &event);
	return rc;
}

void parser_tool_end(struct answer_parser *p)
{
	if (!p->tool_open)
		return;
	struct answer_event event = {.kind = ANSWER_TOOL_END, .index = p->tools - 1};
	p->tool_open = false;
	p->on_event(p->ctx, &event);
}

void parser_end(struct answer_parser *p)
{
	struct answer_event event = {.kind = ANSWER_END, .finish = p->finish, .usage = p->usage};
	parser_tool_end(p);
	/* Ollama says "stop" after tool calls as well. */
	if (p->tools && (p->finish == FINISH_STOP || p->finish == FINISH_NONE))
		event.finish = FINISH_TOOL_CALLS;
	else if (p->finish == FINISH_NONE)
		event.finish = FINISH_STOP;
	p->ended = true;
	p->on_event(p->ctx, &event);
}

int parser_emit_error(struct answer_parser *p, struct json_value error)
{
	struct answer_event event = {.kind = ANSWER_ERROR, .status = 500};
	struct json_value message = error, code = {.type = JSON_NONE};
	int64_t status;
	if (error.type == JSON_OBJECT)
		FIELDS_GET(error, {"message", &message}, {"code", &code});
	buf_clear(&p->text);
	int rc = decode(message, &p->text, &event.text);
	if (rc)
		return rc;
	if (message.type != JSON_STRING)
		event.text = error.raw;
	if (json_to_int(code, &status) && status >= 400 && status < 600)
		event.status = (int)status;
	p->ended = true;
	p->on_event(p->ctx, &event);
	return 0;
}

#define COUNT_MAX (INT64_C(1) << 40) /* more tokens no prompt has: sums of counts stay sums */

int64_t parser_count(struct json_value v)
{
	int64_t n;
	return json_to_int(v, &n) && n >= 0 && n <= COUNT_MAX ? n : -1;
}

double parser_ms(struct json_value v, double unit_in_ms)
{
	double t;
	return json_to_double(v, &t) && t >= 0 ? t * unit_in_ms : -1;
}
