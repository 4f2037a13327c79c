/*
 * Values shaped like credentials: keys with a vendor's prefix, JSON web tokens, passwords in URLs,
 * bearer tokens, and what is assigned to a name such as DB_PASSWORD.
 */
#ifndef TANDEM_TEXT_SECRET_H
#define TANDEM_TEXT_SECRET_H

#include "common/text/token.h"

/*
 * Does a credential begin at token t of line? If so *value is the secret part.
 * Looks at t and at what follows it, so a caller asks for every token of the line.
 */
bool secret_at(struct slice line, const struct token *t, struct slice *value);

/* Does the line hold any credential? */
bool secret_in(struct slice line);

/* "-----BEGIN ... PRIVATE KEY-----" and its end. */
bool secret_block_begins(struct slice line);
bool secret_block_ends(struct slice line);

#endif
