/*
 * What the gateway must know of a body that passes through: which model, whether it streams, about
 * how much there is to read. Pure; any thread.
 */
#ifndef TANDEM_PASS_PEEK_H
#define TANDEM_PASS_PEEK_H

#include "common/tokens.h"

#include <stdbool.h>
#include <stdint.h>

struct pass_peek {
	struct buf model;	    /* decoded name; empty: none */
	struct slice named;	    /* ... as it stands in the body, quotes included */
	struct token_census census; /* of what a model reads; more, rather than less */
	bool stream, tools;
};

void pass_peek_init(struct pass_peek *p);
void pass_peek_fini(struct pass_peek *p);
/* A body that is no JSON object leaves all as it is: the backend says what it thinks of it. */
void pass_peek(struct pass_peek *p, struct slice body);

/* Appends what a backend's error body says, in any of the forms, else words with the status. */
void pass_peek_error(int status, struct slice body, struct buf *out);

#endif
