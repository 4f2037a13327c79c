/*
 * What the files of compaction in OpenAI's /v1/responses share.
 *
 * Private to common/dialect/. Everything borrows; pure; errors stay in the bufs.
 */
#ifndef TANDEM_DIALECT_COMPACTION_RESPONSES_H
#define TANDEM_DIALECT_COMPACTION_RESPONSES_H

#include "common/dialect/compaction_form.h"

/* The content of a message that is a compaction item; else NONE. */
struct json_value responses_item_of(const struct chat_message *m);

/* --- compaction_responses_talk.c: the row's members, and a message up to its content --- */

void responses_put_message(
	const struct chat_request *r, size_t i, struct buf *out, struct buf *scratch);
void responses_put_words(struct compaction_messages *m, const char *role, struct slice body);
void responses_put_call(
	struct compaction_messages *m, struct slice id, struct slice name, struct slice body);
void responses_put_result(
	struct compaction_messages *m, struct slice id, struct slice body, bool failed);
void responses_begin_message(struct compaction_messages *m, const char *role);
void responses_close_message(struct compaction_messages *m);

/* --- compaction_responses_stood.c --- */

/* The row's member. */
void responses_put_stood(const struct chat_request *whole, struct buf *out, struct buf *scratch);

/* What of the messages before the item the text stands for, appended as lines in a JSON string; kept: indexes of
 * the others (size_t). 0 or a buf's error. */
int responses_stand_for(const struct chat_request *r, const struct compaction_found *f,
	struct slice text, struct buf *kept, struct buf *out);

#endif
