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
	TOOL_SEARCH,	/* looks for tools, which the client itself does */
	TOOL_NAMESPACE, /* a name before those of the tools in it */
	TOOL_SPARE, /* what the server itself would run, offered by clients that go on without */
	TOOL_OTHER,
};

enum responses_tool responses_tool_of(struct json_value tool);
#define RESPONSES_SEARCH "tool_search"
/* Its name, which a search has without saying so; NONE. */
struct json_value responses_tool_name(struct json_value tool);
/* A call of a search, or what it found: by the client, and not by the server that was asked then. */
bool responses_is_clients(struct json_value item);
/* A namespace as calls have it: NONE for the one that is everybody's ("functions"), and for none. */
struct json_value responses_space(struct json_value name);

/* Over all that the model can call, the tools of namespaces in their place. */
struct responses_tools {
	struct json_iter tools, inner;
	bool inside;
	struct json_value
		space; /* the name of the namespace that *tool is in (responses_space()) */
	struct json_value about; /* ... and its description, until a caller takes it */
};
void responses_tools_begin(struct responses_tools *t, struct json_value tools);
bool responses_tools_next(struct responses_tools *t, struct json_value *tool);

/* Fills the error (400) for tools that are none, or none of a kind that there is here. */
int responses_tools_check(struct json_value tools, struct dialect_error *e);

/* Appends the name that the model knows a tool by, as a JSON string; as the insides of one. */
void responses_put_name(struct buf *out, struct json_value space, struct json_value name);
void responses_put_known(struct buf *out, struct json_value space, struct json_value tool);

/* The member of a function's arguments that a custom tool's input is. */
#define RESPONSES_INPUT "input"

/* o->tools, choice, parallel. 0, -EINVAL with *e filled, -ENOMEM. */
int responses_order_tools(struct chat_order *o, struct dialect_error *e);

#endif
