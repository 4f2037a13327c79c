/*
 * What the rows of Ollama's API share.
 *
 * Private to common/dialect/.
 */
#ifndef TANDEM_DIALECT_FRONT_OLLAMA_H
#define TANDEM_DIALECT_FRONT_OLLAMA_H

#include "common/dialect/front.h"
#include "common/dialect/reader.h"

/* What stands beside the messages of a body. */
struct ollama_body {
	struct json_value tools, format, options, keep_alive;
};

/* Refuses a body without a model, in Ollama's own words. */
int ollama_need_model(struct request_reader *in, int status, const char *words);
/* Counts and limits of the view; is_load: no answer is asked for. */
void ollama_read_rest(struct request_reader *in, const struct ollama_body *b, bool is_load);

/* Fills the error (400) and returns -EINVAL. */
int ollama_refuse(struct dialect_error *error, const char *text);
/* All of the order but its messages. 0, -EINVAL. */
int ollama_order_rest(struct chat_order *o, struct dialect_error *e);
/* Images (bare data) and a text, as parts of the last message. 0, -ENOMEM. */
int ollama_order_content(struct chat_order *o, struct json_value content, struct json_value images);

/* front_resume.refused of both. */
const char *ollama_resume_refused(const struct chat_request *r);

void front_ollama_error(int status, struct slice message, struct buf *out);

#endif
