/*
 * The schema diet: tools whose descriptions alone fill the window keep what a call needs. Only for
 * prompts that fit in no other way.
 *
 * Descriptions of tools and parameters are cut to their first sentence, titles, examples and
 * comments go; names, types, enums, defaults, required lists and the nesting stay, in their order.
 * A tool that the conversation has called wrongly since (arguments that are no JSON object, an
 * unknown or a missing parameter) has its full text. So what is written is a function of the tools
 * and the messages.
 *
 * Pure; linear in the tools and the calls; nothing blocks.
 */
#ifndef TANDEM_LAYOUT_DIET_H
#define TANDEM_LAYOUT_DIET_H

#include "common/dialect/request.h"

#define DIET_SENTENCE_BYTES 160 /* the most of a description that stays */

/* Appends the request's tools, shortened. *full (may be NULL): how many kept their text. 0, -EINVAL
 * when there are none, -ENOMEM. */
int layout_diet(const struct chat_request *r, struct buf *out, size_t *full);

#endif
