/*
 * Those who have a key (common/config/keys.h): what they have under way and what became of it, by the
 * key's name. A reload may replace the keys; who has requests under way, or is still in the file, is
 * remembered. Pure: no loop, no log. At most KEYS_MAX and what is under way.
 */
#ifndef TANDEM_CALLERS_H
#define TANDEM_CALLERS_H

#include "common/config/keys.h"

#include <stdint.h>
#include <sys/queue.h>

struct caller {
	LIST_ENTRY(caller) link;
	char name[KEY_NAME_BYTES];
	char class[KEY_CLASS_BYTES]; /* the key's, when its newest request came; may be empty */
	unsigned holds;		     /* requests that still refer to it */
	unsigned active;	     /* ... and are not answered yet */
	uint64_t requests, refused;  /* begun; turned away for want of room */
};

LIST_HEAD(caller_list, caller);

struct callers {
	struct caller_list list;
	uint64_t unauthorized; /* requests without a key, or with one that nobody has */
};

void callers_init(struct callers *c);
void callers_fini(struct callers *c);

/* The one with that key; NULL: it has not asked for anything yet. */
struct caller *callers_find(const struct callers *c, const struct key *key);
/* The same, made where there is none. NULL: memory is out. */
struct caller *callers_get(struct callers *c, const struct key *key);
/* One more request, held until callers_release(); answered once callers_answered() was called. */
void callers_begin(struct caller *who, const struct key *key);
void callers_answered(struct caller *who);
void callers_release(struct caller *who, const struct keys *known);
/* May it begin one more? */
bool callers_room(const struct caller *who, const struct key *key);
/* Other keys are known now: forgets who has none any more. */
void callers_reloaded(struct callers *c, const struct keys *known);

#endif
