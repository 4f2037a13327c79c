/*
 * Edits of one message, for the fronts whose bodies are put together otherwise than by
 * front_rewrite_messages().
 *
 * Private to common/dialect/.
 */
#ifndef TANDEM_DIALECT_REWRITE_H
#define TANDEM_DIALECT_REWRITE_H

#include "common/dialect/request.h"

/* The message with the edit's text in the place of its own (CHAT_REPLACE_TEXT); raw is an object. */
void rewrite_message(const struct chat_message *m, const struct chat_edit *edit, struct buf *out);

/* A user's message of this text. */
void rewrite_user(struct slice text, struct buf *out);

#endif
