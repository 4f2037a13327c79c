/*
 * What the client is told of a chat, and those that joined it (audience.h): heads, bytes, errors, answers of our own.
 *
 * What ends the request says so; c->state is CHAT_OVER then. Bodies and messages are copied. Loop thread only; nothing
 * blocks.
 */
#ifndef TANDEM_CHAT_REPLY_H
#define TANDEM_CHAT_REPLY_H

#include "common/base/buf.h"

#include <stdint.h>

struct chat;

#define CHAT_RETRY_AFTER_S 5

/* Sends bytes of the answer. False: the client cannot take them, and the request is over. */
bool chat_answer_write(struct chat *c, struct slice bytes);
/* The same alone, as exchange_write() for c: a joined one that cannot take them gets a broken stream. */
int chat_answer_pieces(struct chat *c, struct slice bytes);
/* The answer is complete for those that joined c. */
void chat_end_joined(struct chat *c);
/* c's client has left. True: another one's exchange has taken its place and c goes on. */
bool chat_hand_over(struct chat *c);
/* The head of the START that came last, to all who get this answer. */
void chat_answer_kept_head(struct chat *c);
/* The client has half of a line or event. */
bool chat_line_is_open(const struct chat *c);
/* Refuses a request that workers die of. */
void chat_answer_poison(struct chat *c);
/* Sends status and headers of a good answer. */
void chat_answer_head(struct chat *c, int status, const char *content_type, int64_t body_bytes);
/* Ends the request with an error in whatever form is still possible. body empty: the dialect's own.
 */
void chat_answer_error(struct chat *c, int status, struct slice message, struct slice body,
	struct slice content_type, int retry_after_s);
/* Answers with what would be done; the layout has been made if the plan wants one. */
void chat_explain(struct chat *c);
/* Answers with the number of its tokens, as learned. */
void chat_answer_count(struct chat *c);
/* Answers with the compaction block alone. */
void chat_answer_compaction(struct chat *c);
/* The prompt cannot fit the window. */
void chat_answer_overflow(struct chat *c);
/* Stops timers and jobs; the state is OVER afterwards. */
void chat_finish(struct chat *c);

#endif
