/*
 * The model's name in an answer that goes back as it came: the name that the client asked for is put
 * in its place, and every other byte stays.
 *
 * The name is the member "model" of an object, or of its member "response" (the events of
 * /v1/responses). A stream has one object on each line, behind "data:" where it is server-sent events
 * (docs/protocols.md#streams). Bytes may come in any pieces and leave at once: nothing is held but the
 * name, nothing is parsed twice, and what is no JSON goes through. Nothing blocks; any thread.
 */
#ifndef TANDEM_DIALECT_NAMING_H
#define TANDEM_DIALECT_NAMING_H

#include "common/base/buf.h"

#define NAMING_KEY_BYTES 12 /* longer than any key that is looked for */

enum naming_state {
	NAMING_BEFORE, /* no object yet, on this line */
	NAMING_INSIDE, /* of an object, between strings */
	NAMING_STRING,
	NAMING_TAKEN, /* in the string that is replaced */
	NAMING_BEHIND /* nothing more to look for, on this line */
};

struct naming {
	struct buf name; /* as JSON, quotes included */
	bool lines;
	enum naming_state state;
	size_t mark;		    /* bytes of "data:" before the object */
	unsigned depth;		    /* of brackets that are open */
	unsigned response;	    /* the depth of the object "response"; 0: not in it */
	bool is_key;		    /* the next string (or this one) is a member's name */
	bool escaped;		    /* the next byte of the string */
	char key[NAMING_KEY_BYTES]; /* the last one, if it is short */
	size_t key_n;
};

/* lines: a stream. 0 or -ENOMEM; fini in either case. */
int naming_init(struct naming *n, struct slice name, bool lines);
void naming_fini(struct naming *n);

/* Appends the next bytes of the answer. 0 or the buf's error. */
int naming_put(struct naming *n, struct slice bytes, struct buf *out);

#endif
