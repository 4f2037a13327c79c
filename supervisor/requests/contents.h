/*
 * What the messages of requests were before any was shortened (chat_content.c), and what was sent in their place: of those that
 * were, while log.content was on, for whoever looks at the page at /ui/ with the key that the request was made with (docs/ui.md).
 *
 * It lives in memory alone, in limits.content_bytes; the oldest go first. One that is larger than all of that is not kept,
 * and is known for it. A restart or an upgrade begins with none. What is in it: content_text.h. Pure but for memory, no loop, no
 * log; looking one up is linear.
 */
#ifndef TANDEM_CONTENTS_H
#define TANDEM_CONTENTS_H

#include "common/config/keys.h"
#include "supervisor/requests/content_text.h"
#include "supervisor/requests/history.h"

/* Who a request is of: the key that it came with, known by its hash, so that a name that is given anew is another one. */
struct content_owner {
	bool keyed; /* false: it came without a key of ours */
	unsigned char hash[KEY_HASH_BYTES];
};

/* key: NULL: none. */
struct content_owner content_owner(const struct key *key);
bool content_same_owner(const struct content_owner *a, const struct content_owner *b);

enum content_state {
	CONTENT_COMING, /* it is being made */
	CONTENT_KEPT,
	CONTENT_TOO_LARGE, /* larger than all the room */
	CONTENT_NO_MEMORY,
};

struct content {
	TAILQ_ENTRY(content) link; /* newest first */
	char id[RECORD_ID_BYTES];
	struct content_owner owner;
	enum content_state state;
	struct content_text text; /* of one that is kept */
};

TAILQ_HEAD(content_list, content);

struct contents {
	struct content_list list;
	size_t count, bytes; /* of all */
	size_t most;	     /* bytes; 0: none is kept */
};

void contents_init(struct contents *c);
void contents_fini(struct contents *c);
/* Another bound; what is above goes at once. */
void contents_limit(struct contents *c, size_t most);

/* That of the request with this id is about to come. False: it will not be kept. */
bool contents_expect(struct contents *c, const char *id, const struct content_owner *owner);
/* Here it is: t is taken over, or freed where it is not wanted any more. */
void contents_put(struct contents *c, const char *id, struct content_text *t);
/* It does not come: CONTENT_TOO_LARGE or CONTENT_NO_MEMORY. */
void contents_refuse(struct contents *c, const char *id, enum content_state why);

/* NULL: nothing is known of it. Borrowed until the next call. */
const struct content *contents_find(const struct contents *c, const char *id);

#endif
