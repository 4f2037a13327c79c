/*
 * What of a chat request says that it is small (small.h of the configuration): pure, the same for the server and for
 * `tandemctl explain`.
 */
#ifndef TANDEM_SMALL_ASK_H
#define TANDEM_SMALL_ASK_H

#include "common/config/small.h"
#include "common/dialect/request.h"
#include "supervisor/requests/plan.h"

#define SMALL_ASK_TEXT_BYTES 1024 /* of a message's text, that rules are held against */

/* Borrows the request, and what it is told. */
struct small_ask {
	struct small_facts facts;
	struct buf text;
	bool demanding; /* it has tools or images, which not every model can do */
};

void small_ask_init(
	struct small_ask *a, const struct chat_request *r, struct slice model, struct slice path);
void small_ask_fini(struct small_ask *a);

/* Raw JSON of the text of a person's newest message, or of its first text; empty: there is none. */
struct slice small_ask_last_text(const struct chat_request *r);

/* The rule that holds, unless the request demands too much for it; NULL: none. Of a rule by model its author knows what
 * is asked for under that name. */
const struct config_small_rule *small_ask_rule(const struct config *c, const struct small_ask *a);

/* In a word: "title", "by rule". */
const char *small_ask_what(const struct config_small_rule *rule);

/* Does so much fit that window (0: unknown), with an answer of so much (-1: unknown)? */
bool small_ask_fits(uint64_t tokens, int64_t max_output, int64_t window);

#endif
