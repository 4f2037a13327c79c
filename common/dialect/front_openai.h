/*
 * What the rows of OpenAI's APIs share.
 *
 * Private to common/dialect/.
 */
#ifndef TANDEM_DIALECT_FRONT_OPENAI_H
#define TANDEM_DIALECT_FRONT_OPENAI_H

#include "common/dialect/front.h"

/* max_completion_tokens, else the older max_tokens; -1: none. */
int64_t openai_max_output(struct json_value root);

/* Sampling, stop, response_format, n: all that chats and bare prompts have alike. NULL, or static
 * words for what is none of it. */
const char *openai_order_common(struct chat_order *o);

/* A message of a chat. 0 or -ENOMEM. */
int openai_order_message(struct chat_order *o, const struct chat_message *view);

/* front_resume.refused of both. */
const char *openai_resume_refused(const struct chat_request *r);

/* Errors of the shape {"error": {message, type, param, code}}; param is the member that is too
 * long. */
void openai_error(int status, struct slice message, struct buf *out);
void openai_overflow(
	const char *param, struct slice message, uint64_t prompt, uint64_t window, struct buf *out);

#endif
