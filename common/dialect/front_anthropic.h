/*
 * What the files of Anthropic's API share: the walk from its messages to those of the view.
 *
 * Private to common/dialect/. There a tool's result is a block of a user's message, one among
 * several; here it is a message of its own. So a message with results in it is split into its
 * blocks, and reading, ordering and rewriting walk the same way. Everything borrows the body; pure.
 */
#ifndef TANDEM_DIALECT_FRONT_ANTHROPIC_H
#define TANDEM_DIALECT_FRONT_ANTHROPIC_H

#include "common/dialect/front.h"

enum anthropic_block {
	BLOCK_TEXT, /* value: a string; a document that is plain text is one, too, and the name of a
			   tool that was found */
	BLOCK_IMAGE,	/* value: base64 data or an address; NONE: neither */
	BLOCK_THINKING, /* value: a string */
	BLOCK_NOTHING,	/* what only the server that wrote it can read, as redacted thinking; a
			   compaction that failed; where another model went on */
	BLOCK_CALL,
	BLOCK_RESULT,
	BLOCK_OTHER,
};

enum anthropic_block anthropic_block_of(struct json_value block, struct json_value *value);

/* One message of the view. */
struct anthropic_piece {
	struct json_value message; /* the client's, that it is or is a part of */
	size_t number;		   /* of that one */
	bool split;		   /* raw is one block of several messages' */
	enum chat_role role;
	struct json_value raw, content, call_id;
};

struct anthropic_walk {
	struct json_iter messages, blocks;
	struct anthropic_piece at;
};

/* Over an array of objects. */
void anthropic_walk_begin(struct anthropic_walk *w, struct json_value messages);
bool anthropic_next(struct anthropic_walk *w, struct anthropic_piece *out);

/* o->tools, choice, parallel; choice: the request's. 0, -EINVAL with *e filled, -ENOMEM. */
int anthropic_order_tools(struct chat_order *o, struct json_value choice, struct dialect_error *e);

/* The rows' members (front.h). */
int anthropic_read(struct request_reader *in);
int anthropic_read_count(struct request_reader *in); /* without max_tokens */
int anthropic_order(const struct chat_request *r, struct chat_order *o, struct dialect_error *e);
int anthropic_rewrite(const struct chat_request *r, const struct chat_edit *edits,
	struct slice tools, int64_t set_num_ctx, struct buf *out);
int anthropic_mend(struct buf *body, struct json_value root, struct dialect_error *e);
extern const struct writer_ops writer_anthropic;

#endif
