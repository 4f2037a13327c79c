/*
 * Routing by predicted time (routing.mode = "adaptive") as pure functions of facts: which forms of
 * a request are weighed, and which one goes. The server (chat_adaptive.c) and `tandemctl explain`
 * call the same functions, so what is explained is what is done; who knows nothing of caches passes
 * a foresight without a map.
 *
 * The original is weighed against at most one other form: a session's layout, or the cut of a
 * one-shot prompt. That form is only made where it may matter: the prompt does not fit, or it comes
 * near the size at which a conversation freezes, or it is a one-shot prompt above a_max_tokens.
 *
 * Tokens are estimates for the model, times ms. Nothing blocks; weigh_chain() is safe on any
 * thread.
 */
#ifndef TANDEM_WEIGH_H
#define TANDEM_WEIGH_H

#include "common/config/config.h"
#include "common/dialect/request.h"
#include "supervisor/devices/foresight.h"
#include "supervisor/requests/choose.h"

struct weigh_facts {
	const struct chat_request *request;
	const struct config *conf; /* routing's gains */
	struct plan_facts *plan;   /* its tokens are corrected by what the backend has counted */
	const struct foresight *foresight; /* of the main device */
	double queue_ms;
	bool overflowed; /* the backend found the original too long */
};

struct weighed {
	bool one_shot; /* no conversation, no tools: the other form is a cut, not a layout */
	struct choose_facts ways;
	enum choose_form form;
};

/* The other form, made for the plan's room. */
struct weigh_other {
	struct prefix_chain *chain; /* of what would be sent */
	uint64_t tokens;
	const uint64_t *chains; /* of each message as the client sent it (layout.h) */
	const uint64_t *forced; /* early freezes that were decided, sorted */
	size_t forced_count;
};

/* The hashes of what this request begins with, weighed by characters. 0 or -ENOMEM (then it is
 * empty). */
int weigh_chain(const struct chat_request *r, struct slice model, struct prefix_chain *c);

/* What is expected of a prompt of so many tokens; an empty chain: all of it is new. */
struct forecast weigh_forecast(
	const struct foresight *f, struct prefix_chain *chain, uint64_t tokens);

/* Fills plan and *w with the original alone; plan->condense: another form is to be made. */
void weigh_original(const struct weigh_facts *f, struct prefix_chain *chain, struct weighed *w,
	struct plan *plan);

/* The other form could not be made: says so, where that was still open. */
void weigh_alone(struct weighed *w, struct plan *plan);

/* It is made: decides again, between the two. */
void weigh_against(const struct weigh_facts *f, struct prefix_chain *chain,
	const struct weigh_other *other, struct weighed *w, struct plan *plan);

#endif
