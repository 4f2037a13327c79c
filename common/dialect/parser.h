/*
 * Inside of the answer parsers: framing (parser.c) hands one JSON object at a time to the reader of
 * its format.
 *
 * Private to common/dialect/. No allocation per chunk: text without escapes is passed as the line's
 * own bytes, other text is decoded into a buffer that stays.
 */
#ifndef TANDEM_DIALECT_PARSER_H
#define TANDEM_DIALECT_PARSER_H

#include "common/dialect/answer.h"
#include "common/dialect/pieces.h"

struct answer_parser {
	enum answer_format format;
	bool stream;
	answer_event_fn *on_event;
	void *ctx;
	size_t max_line_bytes;

	struct buf line;     /* a line, or the object, that has not ended yet */
	struct buf text;     /* a decoded string */
	struct buf name;     /* a tool call's decoded id and name */
	const char *problem; /* static words */
	int error;	     /* sticky */
	bool ended;	     /* ANSWER_END or ANSWER_ERROR is out */

	enum answer_finish finish; /* once the backend has said it */
	struct answer_usage usage;
	unsigned tools;	    /* calls begun */
	bool tool_open;	    /* the last one begun may get more fragments */
	int64_t tool_index; /* its index in the backend's own counting */
};

/* The readers: one whole JSON object, an answer's or an error's. 0 or a negative errno. */
int parser_ollama_chat(struct answer_parser *p, struct json_value root);
int parser_ollama_generate(struct answer_parser *p, struct json_value root);
int parser_openai_chat(struct answer_parser *p, struct json_value root);
int parser_openai_text(struct answer_parser *p, struct json_value root);
int parser_infill(struct answer_parser *p, struct json_value root);

/* --- parser_events.c --- */

/* Sets the words and returns -EPROTO. */
int parser_fail(struct answer_parser *p, const char *problem);

/* Emits text or thinking; nothing for what is no string, or empty and without logprobs. */
int parser_emit_text(struct answer_parser *p, enum answer_event_kind kind, struct json_value string,
	struct json_value logprobs);

int parser_tool_begin(struct answer_parser *p, const struct tool_call *call);
int parser_tool_arguments(struct answer_parser *p, struct json_value arguments);
void parser_tool_end(struct answer_parser *p);

/* Ends the answer: closes a tool call that is open, then ANSWER_END. */
void parser_end(struct answer_parser *p);

/* Emits ANSWER_ERROR from {"error": ...}'s value: a string, or an object with message and code. */
int parser_emit_error(struct answer_parser *p, struct json_value error);

/* A count of tokens, -1 when v is none; a time in ms, -1 when v is none. */
int64_t parser_count(struct json_value v);
double parser_ms(struct json_value v, double unit_in_ms);

#endif
