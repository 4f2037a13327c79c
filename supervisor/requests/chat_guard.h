/*
 * Of which conversation a request is, and what of its beginning is another now (guardian.h, common/guard/guard.h;
 * docs/guardian.md).
 *
 * The request owns the state. chat_guard_read() runs on the thread pool, the others on the loop thread; nothing blocks.
 */
#ifndef TANDEM_CHAT_GUARD_H
#define TANDEM_CHAT_GUARD_H

#include "common/guard/guard.h"
#include "supervisor/devices/device.h"

struct chat;

#define CHAT_GUARD_TEXT_BYTES 512

/* What the guardian of the prefix is at with this request. */
struct chat_guard {
	enum prefix_repair repair;	  /* as it was set when the request was read */
	bool watched;			  /* prompt is there */
	bool mended;			  /* the body is another one than came */
	struct guard_prompt prompt;	  /* of the body, until the conversation takes it over */
	uint64_t attribution;		  /* of the body that came */
	uint64_t conversation;		  /* 0: none */
	struct guard_verdict found, left; /* in the body that came, in what is sent */
	char text[CHAT_GUARD_TEXT_BYTES]; /* X-Tandem-Prefix */
};

/* The body is all there, and will be read; it is being read (on the pool), the view being there. */
void chat_guard_begin(struct chat *c);
void chat_guard_read(struct chat *c);
/* It is read. True: the body is mended, and must be read again. */
bool chat_guard_mend(struct chat *c);
/* Names what has changed, once the request's facts are there, and remembers what is sent. */
void chat_guard_name(struct chat *c);
/* The answer has ended: what was sent is in this device's cache. cached: < 0: unknown. */
void chat_guard_ended(
	struct chat *c, const struct device *d, const struct proto_usage *u, double cached);
void chat_guard_fini(struct chat *c);

#endif
