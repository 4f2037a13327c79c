/*
 * A client's chat request as a view over its own bytes: the neutral form that routing and
 * condensing share. Every front dialect (front.h) makes this view; what a backend is to be asked is
 * read from it as an order (order.h).
 *
 * The view borrows the body: it is valid while the body's bytes stay where they are. Nothing is
 * decoded until asked for; an untouched message is always forwarded as its raw slice.
 * Pure functions; safe on any thread.
 */
#ifndef TANDEM_DIALECT_REQUEST_H
#define TANDEM_DIALECT_REQUEST_H

#include "common/base/json.h"
#include "common/dialect/dialect.h"
#include "common/tokens.h"

/* Messages of one request: each costs about 100 bytes here, while "{}," costs a client three. */
#define CHAT_MAX_MESSAGES 65536

/* In front of a body that was mended: a hash of the line with the client's build that stood before its system
 * prompt and was left out; for who tells of it (common/guard/). */
#define CHAT_ATTRIBUTION "tandem_attribution"

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_TOOL };

/* "system", "user", "assistant", "tool"; static. */
const char *chat_role_name(enum chat_role role);

struct chat_message {
	enum chat_role role; /* "developer" counts as system; unknown roles count as user */
	struct json_value
		raw; /* the whole message object; where there are none, the prompt string */
	struct json_value content;    /* string, array of parts, null or absent */
	struct json_value tool_calls; /* an array with at least one call in it */
	struct json_value call_id;    /* of a tool's result: the call it answers */
	unsigned images;	      /* images carried by this message */
	unsigned others; /* content parts that are neither text nor image: audio, files, ... */
	size_t thinking; /* code points of its thinking, which its text does not have */
	size_t chars;	 /* code points of text: content, thinking, tool-call names and arguments */
};

struct chat_request {
	enum dialect dialect;
	struct slice body;	 /* the bytes given, white space around the root included */
	struct json_value root;	 /* the one value of the body */
	struct json_value model; /* string or absent */
	bool stream;		 /* with the dialect's own default applied */
	struct json_value messages_array; /* absent where messages are strings of the body */
	struct chat_message *messages;	  /* owned; /api/generate: [system?], prompt;
					     /v1/completions: each prompt */
	size_t count;
	struct json_value tools;
	struct token_census census;	   /* of all that the model will read */
	struct token_census system_census; /* of these, the system messages */
	struct token_census tools_census;  /* and tools, as they are written */
	size_t text_bytes;		   /* of the same, decoded */
	size_t tools_bytes; /* raw size of tools, formats and the like that cost prompt tokens */
	int64_t num_ctx;    /* options.num_ctx of an Ollama dialect, 0 when not given */
	int64_t max_output; /* num_predict / max_tokens / max_completion_tokens, -1 when
			   not given */
	bool condensable;   /* false: raw prompts, FIM suffixes, load/unload requests, prefill-style
			       endings, n>1 */
	bool bare; /* a prompt for no chat template: condensable only where it does not fit, as one
		      text that is cut */
	bool infills;	 /* it asks for what stands between a prompt and a suffix */
	bool is_load;	 /* an Ollama load/unload request (empty messages or prompt) */
	bool is_unload;	 /* of these: keep_alive is zero */
	bool other_case; /* some member has the key of a known one in another case, and was
			   not read */
};

/*
 * Parses a body. 0; -EINVAL with *error filled with the status (400, or 404 for what names no
 * model) and the words that the dialect's own backend would use; -ENOMEM. On success
 * chat_request_fini() later; on failure nothing is owned.
 */
int chat_request_parse(enum dialect dialect, struct slice body, struct chat_request *out,
	struct dialect_error *error);
/* The same for who only translates: nothing is counted (the censuses, text_bytes, and the messages'
 * chars and thinking are 0), which of a long prompt takes most of the time. */
int chat_request_scan(enum dialect dialect, struct slice body, struct chat_request *out,
	struct dialect_error *error);
void chat_request_fini(struct chat_request *r);

/*
 * The same of all that Ollama takes, mended in body: broken UTF-8 (json_mend_body), bytes after the
 * object, keys in another case ({"Model": ...}, as .NET writes them; of two that differ in case
 * alone the last one counts). What was strict JSON with the usual keys stays as it is.
 */
int chat_request_take(enum dialect dialect, struct buf *body, struct chat_request *out,
	struct dialect_error *error);

/* Makes the keys of a request's known levels lower case, in place; root is body's, and valid. */
void chat_body_lower_keys(struct buf *body, struct json_value root);

/* A call of an assistant message; each member may be absent. */
struct chat_call {
	struct json_value id, name, arguments; /* OpenAI: a string of JSON; others: an object */
};

/* Over json_iter(message.tool_calls), past elements that are no calls. False at the end. */
bool chat_call_next(struct json_iter *it, struct chat_call *call);

/*
 * Appends the message's text as condensing sees it: decoded content (text parts joined by newlines;
 * images leave no text), then for an assistant each tool call as one line `name({"arg": ...})` with
 * the arguments' JSON text (string values of the arguments decoded so that code in them has real
 * lines). 0 or the buf's error.
 */
int chat_message_text(const struct chat_request *r, size_t message, struct buf *out);

/* The same of its content alone. */
void chat_content_text(struct json_value content, struct buf *out);

/* The strings that a content's text stands in: itself, or those of its text parts. */
struct chat_texts {
	struct json_value whole;
	struct json_iter parts;
};
struct chat_texts chat_texts(struct json_value content);
/* part: the element of a list that has the string; NONE: it is the content. False at the end. */
bool chat_texts_next(struct chat_texts *t, struct json_value *string, struct json_value *part);

/* --- rewriting: everything not named stays the client's own bytes --- */

enum chat_edit_kind {
	CHAT_KEEP,	    /* the raw slice */
	CHAT_DROP,	    /* the message is left out */
	CHAT_REPLACE_TEXT,  /* only the content's text is replaced by `text`; images and other
			       members stay raw */
	CHAT_INSERT_BEFORE, /* a new user message with `text` is put before this message, which is
			       kept; where messages are strings: `text` and an empty line in front
			       of the string */
	CHAT_INSERT_BEFORE_DROP, /* the same, and this message is left out */
};

struct chat_edit {
	enum chat_edit_kind kind;
	struct slice text;  /* plain text, escaped by the writer */
	bool drop_pictures; /* CHAT_REPLACE_TEXT: images go, other parts stay */
};

/*
 * Writes the body with edits[i] applied to messages[i] (edits may be NULL: keep all) and, where
 * set_num_ctx > 0 and the dialect is an Ollama one, options.num_ctx set to it (replacing or adding
 * only that member). With no edits and set_num_ctx == 0 the output equals the input byte for byte.
 * 0, -ENOMEM, -E2BIG.
 */
int chat_request_rewrite(const struct chat_request *r, const struct chat_edit *edits,
	int64_t set_num_ctx, struct buf *out);

/* The same with the array `tools` (empty: the client's own) in the place of the request's. */
int chat_request_rewrite_tools(const struct chat_request *r, const struct chat_edit *edits,
	struct slice tools, int64_t set_num_ctx, struct buf *out);

#endif
