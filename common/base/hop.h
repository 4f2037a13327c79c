/*
 * Which headers of HTTP end at a gateway, in both directions (docs/protocols.md#what-is-not-handed-on).
 *
 * Beside these, a Connection header names others of its message: slice_lists(). Pure.
 */
#ifndef TANDEM_HOP_H
#define TANDEM_HOP_H

#include "common/base/buf.h"

/* Belongs to one connection or to the framing of its messages (RFC 9110 7.6.1, RFC 9112). */
bool hop_header(struct slice name);

/* Names the client's side of the connection, or steers it: nothing for a backend. */
bool hop_client_side(struct slice name);

#endif
