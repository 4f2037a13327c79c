/*
 * What a request's messages were and what was sent in their place, for the page at /ui/, while log.content is on (contents.h).
 *
 * The request owns the state. Loop thread only; nothing blocks: a thread writes the messages.
 */
#ifndef TANDEM_CHAT_CONTENT_H
#define TANDEM_CHAT_CONTENT_H

#include "supervisor/requests/contents.h"

#include <stdbool.h>

struct chat;

struct chat_content {
	bool wanted; /* log.content was on when it came */
	struct content_owner owner;
};

/* Its head is there. */
void chat_content_begin(struct chat *c);
/* It is over: where it was shortened, a thread makes what is kept of it. */
void chat_content_keep(struct chat *c);

#endif
