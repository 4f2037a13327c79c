/*
 * The text a model would read, and its size in tokens.
 *
 * A token is --chars-per-token code points (4): the count of a prompt is ceil(characters / 4), of a
 * cached prefix floor(characters / 4). Before each message stands a marker of two bytes, 0xFF and
 * the role's first letter; 0xFF is no UTF-8, so markers separate messages in the KV prefix yet
 * count for nothing. An image is a marker 'i' with its hash in continuation bytes (uncounted too)
 * and IMAGE_TOKENS tokens.
 */
#ifndef FAKE_PROMPT_H
#define FAKE_PROMPT_H

#include "common/base/buf.h"
#include "common/base/json.h"

#define PROMPT_MARK_BYTES 2	    /* of the marker before a message */
#define IMAGE_TOKENS 768	    /* docs/protocols.md#truncation */
#define PROMPT_MAX (512ul << 20)    /* bytes of text */
#define PROMPT_MESSAGES_MAX 1048576 /* messages */

struct prompt_piece {
	size_t start; /* offset in text; it ends where the next one starts */
	bool keep;    /* survives truncation: system messages, tools */
};

struct prompt {
	struct buf text;
	struct prompt_piece *pieces;
	size_t count, cap;
};

void prompt_init(struct prompt *p);
void prompt_fini(struct prompt *p);

/* Starts a message. */
void prompt_message(struct prompt *p, char role, bool keep);

/* Adds to the message begun: the decoded string v, v's own bytes, or an image. */
void prompt_string(struct prompt *p, struct json_value v);
void prompt_raw(struct prompt *p, struct slice s);
void prompt_image(struct prompt *p, struct slice base64);

/* -ENOMEM or -E2BIG when something did not fit. */
int prompt_error(const struct prompt *p);

/* Tokens of a whole text. */
size_t prompt_tokens(struct slice text, double chars_per_token);

/* Tokens of the prefix that text shares with kv. */
size_t prompt_shared(struct slice text, struct slice kv, double chars_per_token);

/* The first bytes of text that hold at most that many tokens. */
size_t prompt_prefix(struct slice text, size_t tokens, double chars_per_token);

/* Drops the oldest message that may go; false when only the last one and kept ones remain. */
bool prompt_drop_oldest(struct prompt *p);

/* Keeps the first `front` and the last `tail` tokens. */
void prompt_cut(struct prompt *p, size_t front, size_t tail, double chars_per_token);

#endif
