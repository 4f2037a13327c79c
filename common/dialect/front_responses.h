/*
 * What the files of OpenAI's /v1/responses share.
 *
 * Private to common/dialect/. There a conversation is a list of items: a turn of the model may be
 * several of them (reasoning, a message, calls), and each result is one. Before a body is read they
 * become the messages that a chat has (responses_mend()), so that a call stands in the message that
 * it belongs to for the layout, too; all other members stay the client's own. Everything borrows the
 * body; pure.
 */
#ifndef TANDEM_DIALECT_FRONT_RESPONSES_H
#define TANDEM_DIALECT_FRONT_RESPONSES_H

#include "common/dialect/front.h"

/* What the mended body says beside its messages, for compaction (compaction_responses.h): how many bytes of the
 * system's message the instructions are; that the last item asks for a compaction; what a person said, as the
 * contents of those items (only where they are to be given back); what a compaction item stands for. A client's own
 * members of these names are left out. */
#define RESPONSES_INSTRUCTIONS "tandem_instructions"
#define RESPONSES_TRIGGER "tandem_trigger"
#define RESPONSES_KEPT "tandem_kept"
#define RESPONSES_STOOD "tandem_stood"

/* The row's members (front.h). */
int responses_mend(struct buf *body, struct json_value root, struct dialect_error *e);
int responses_mend_keeping(struct buf *body, struct json_value root, struct dialect_error *e);
void responses_fail(const struct dialect_stream *at, struct slice error, struct buf *out);
extern const struct writer_ops writer_responses, writer_responses_compact;

/* --- tools --- */

enum responses_tool {
	TOOL_FUNCTION,
	TOOL_CUSTOM,	/* its input is text and no object */
	TOOL_NAMESPACE, /* a name before those of the tools in it */
	TOOL_SPARE, /* what the server itself would run, offered by clients that go on without */
	TOOL_OTHER,
};

enum responses_tool responses_tool_of(struct json_value tool);

/* Over all functions and custom tools, those of namespaces in their place. */
struct responses_tools {
	struct json_iter tools, inner;
	struct json_value space; /* the name of the namespace that *tool is in; NONE: none */
};
void responses_tools_begin(struct responses_tools *t, struct json_value tools);
bool responses_tools_next(struct responses_tools *t, struct json_value *tool);

/* Fills the error (400) for tools that are none, or none of a kind that there is here. */
int responses_tools_check(struct json_value tools, struct dialect_error *e);

/* Appends the name that the model knows a tool by, as a JSON string. */
void responses_put_name(struct buf *out, struct json_value space, struct json_value name);

/* The member of a function's arguments that a custom tool's input is. */
#define RESPONSES_INPUT "input"

/* o->tools, choice, parallel. 0, -EINVAL with *e filled, -ENOMEM. */
int responses_order_tools(struct chat_order *o, struct dialect_error *e);

#endif
