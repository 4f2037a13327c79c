/*
 * What a conversation's next request begins with: the request that was answered, and the answer as
 * its client will send it back. So the prompt can be read before it is asked for.
 *
 * A guess: clients send back what they were told in the form of a whole answer's message, some
 * without its thinking. Where one does otherwise, the prompt differs from there on. Pure; any
 * thread; borrows what it is given.
 */
#ifndef TANDEM_DIALECT_FOLLOW_H
#define TANDEM_DIALECT_FOLLOW_H

#include "common/dialect/request.h"

/*
 * Appends the message that a whole answer holds (what answer_writer_put() makes without a stream):
 * an Ollama chat's `message`, the first of OpenAI's `choices`, role and content of Anthropic's, the turn that
 * the items of a response are.
 * Nothing where it holds none. 0 or the buf's error.
 */
int follow_message(struct slice answer, struct buf *out);

/*
 * Appends r with that message behind its own, and behind it the beginning of what its client will
 * say next: an empty result of the first call, or empty words of the user's. A chat template closes
 * the answer's turn then; it would leave open one that is the last, for a model to go on with it
 * (docs/protocols.md#continuing-an-answer). 0; -EINVAL: r has no list of messages, or that is no
 * message; -ENOMEM; -E2BIG.
 */
int follow_request(const struct chat_request *r, struct slice message, struct buf *out);

#endif
