/*
 * Inside of request.c: what the front dialects share when they read a body into a view.
 *
 * Private to common/dialect/.
 */
#ifndef TANDEM_DIALECT_READER_H
#define TANDEM_DIALECT_READER_H

#include "common/dialect/pieces.h"
#include "common/dialect/request.h"

struct request_reader {
	struct chat_request *r;
	struct dialect_error *error;
	struct buf scratch; /* a decoded string */
	size_t room;	    /* messages that r->messages has place for */
	bool counts;	    /* else all counts are 0 */
	bool system;	    /* what is counted belongs to a system message */
};

/* Fills the error and returns -EINVAL. */
int reader_refuse(struct request_reader *in, int status, const char *text);

/* Counts what the model will read of a value: a string's text, anything else as it is written; of
 * the second only a string's. Their code points. */
size_t reader_count(struct request_reader *in, struct json_value v);
size_t reader_count_string(struct request_reader *in, struct json_value v);

/* The tools, as they are written. */
void reader_count_tools(struct request_reader *in, struct json_value tools);

/* One more message, not filled in. NULL: -ENOMEM, or CHAT_MAX_MESSAGES are there (the error says so
 * then). */
struct chat_message *reader_add(struct request_reader *in);
/* One more that is a string and nothing else. -ENOMEM, -EINVAL. */
int reader_add_string(struct request_reader *in, enum chat_role role, struct json_value string);

/* What a dialect says of messages that are no list, of elements that are no objects. */
struct reader_words {
	const char *no_array, *no_object;
};

/* The messages of a chat in Ollama's and OpenAI's form. */
int reader_add_messages(
	struct request_reader *in, struct json_value array, const struct reader_words *words);

enum chat_role reader_role(struct json_value role);

/* A count that is not negative; else -1. */
int64_t reader_limit(struct json_value v);

/* The last word on r->condensable: nothing is asked for, or the answer has begun. */
bool reader_is_open(const struct chat_request *r);

#endif
