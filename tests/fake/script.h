/*
 * What a request is told to do: the answer it gets and how that answer goes wrong.
 *
 * A directive in the last user message steers that request: [[fake key=value key=value]], values
 * URL-encoded, pairs separated by spaces or '&'; the last directive of the message counts. Rules
 * posted to /fake/control steer the next requests that match. Both set the same keys (README.md
 * lists them).
 */
#ifndef FAKE_SCRIPT_H
#define FAKE_SCRIPT_H

#include "common/base/buf.h"
#include "common/base/json.h"

#include <stdint.h>

#define SCRIPT_TOOLS 8
#define SCRIPT_TEXT_MAX (64u << 20) /* bytes of a scripted text */

enum fault {
	FAULT_NONE,
	FAULT_REFUSE,  /* RST, no byte of reply */
	FAULT_STATUS,  /* an error of that status in the dialect's shape */
	FAULT_HANG,    /* no reply, ever */
	FAULT_GARBAGE, /* 200 and a body that is no JSON */
	FAULT_BADHTTP, /* bytes that are no HTTP */
	FAULT_EMPTY,   /* a good answer without content */
};

/* Tools are called in order. */
struct script_tool {
	struct buf name, args;
};

struct script {
	enum fault fault;
	int status; /* of FAULT_STATUS */
	/* After how many chunks of the stream; -1: never. A reply not streamed breaks in its
	 * middle. */
	int64_t hang_after, cut_after, end_after, error_after, garbage_after;
	unsigned delay_ms;  /* before the first byte */
	unsigned head_ms;   /* between status line and headers */
	unsigned drip_ms;   /* between bytes */
	size_t chunk_bytes; /* pieces of the reply's body */
	size_t hugeline;    /* bytes of the first token */
	bool wrong_ctype, close_after, tools_in_final;
	int64_t tokens, thinking; /* -1: not said */
	int64_t quote;	 /* the answer is lines of the prompt, about that many tokens; 0: no */
	int64_t excerpt; /* the same, each line without its last word */
	bool has_text;
	struct buf text;		 /* the exact answer */
	struct buf error;		 /* message of an error */
	struct buf retry_after;		 /* beside its status; empty: none */
	size_t header_bytes, type_bytes; /* of a header of its own, of the content type */
	struct script_tool tools[SCRIPT_TOOLS];
	size_t tool_count;
};

void script_init(struct script *s);
void script_fini(struct script *s);

/* One key. 0, or -EINVAL for an unknown key or a value that makes no sense. */
int script_set(struct script *s, struct slice key, struct slice value);

/* Applies the last directive in message, if there is one. 0, or -EINVAL. */
int script_directive(struct script *s, struct slice message);

struct rule;

struct rules {
	struct rule *first;
};

/* Adds a rule from the JSON object of /fake/control. 0, or -EINVAL. */
int rules_add(struct rules *rules, struct json_value object);

/* Applies the first matching rule that has runs left. generates: the request asks for an answer. */
void rules_apply(struct rules *rules, struct slice path, struct slice body, bool generates,
	struct script *s);

void rules_clear(struct rules *rules);

/* Rules that have runs left. */
size_t rules_count(const struct rules *rules);

#endif
