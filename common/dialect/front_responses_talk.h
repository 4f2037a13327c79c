/*
 * Putting the messages of a chat together of /v1/responses' items (front_responses.h).
 *
 * Private to front_responses_*.c. What is not written yet is held as the insides of JSON strings,
 * escapes as the client sent them. The owner of the struct inits and frees its bufs; an error stays
 * in the buf that it came from.
 */
#ifndef TANDEM_DIALECT_FRONT_RESPONSES_TALK_H
#define TANDEM_DIALECT_FRONT_RESPONSES_TALK_H

#include "common/dialect/dialect.h"

#include "common/base/json.h"

struct talk {
	struct buf out;		   /* the body that is made */
	bool any;		   /* a message is in it */
	bool begun;		   /* ... or comes: the system's words are no beginning any more */
	struct buf system;	   /* its words before all others */
	struct buf thinking, text; /* a turn of the model */
	struct buf calls;	   /* ... elements of tool_calls */
	struct buf pictures;	   /* parts, of results */
	struct buf scratch;
	bool keeping;	 /* what a person says is wanted by itself, too: */
	struct buf kept; /* ... contents, as elements of a list */
	bool triggered;	 /* the item that asks for a compaction has come */
	size_t item;	 /* for words about it */
	struct dialect_error *e;
};

#define TALK_BUFS(w)                                                                               \
	{                                                                                          \
		&(w)->system, &(w)->thinking, &(w)->text, &(w)->calls, &(w)->pictures,             \
			&(w)->scratch, &(w)->kept                                                  \
	}

/* Both fill *e with status 400 and words about the item, and return -EINVAL. */
int talk_refuse(struct talk *w, const char *text);
int talk_refuse_type(struct talk *w, const char *what, struct json_value type);

/* Behind what is there, on a line of its own. */
void talk_add_line(struct buf *to, struct slice inner);

/* The text of a part; false: it is none. */
bool talk_text_of(struct json_value part, struct json_value *text);
/* Behind `to` the texts of a content; false: it has something else, and `to` some of them. */
bool talk_add_texts(struct buf *to, struct json_value content);
/* A part in the form of a chat; -EINVAL where it has none. */
int talk_put_part(struct talk *w, struct json_value part, struct buf *out);

/* Up to its content, which is the caller's, as is the brace at its end. Returns &w->out. */
struct buf *talk_begin_message(struct talk *w, const char *role);
void talk_put_quoted(struct buf *out, const struct buf *inner);

/* The model's turn, which whatever is no item of it ends. Thinking alone says nothing. */
void talk_end_turn(struct talk *w);
/* Templates have no place for a picture in a result: it is shown behind the results. */
void talk_show_pictures(struct talk *w);

#endif
