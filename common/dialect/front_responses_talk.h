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
	struct buf tools;	   /* elements of a list: what stands in the input */
	struct buf scratch;
	bool keeping;			  /* what a person says is wanted by itself, too: */
	struct buf kept;		  /* ... contents, as elements of a list */
	bool triggered;			  /* the item that asks for a compaction has come */
	struct json_value effort, format; /* of updates; NONE: those of the request */
	size_t item;			  /* for words about it */
	struct dialect_error *e;
};

#define TALK_BUFS(w)                                                                               \
	{                                                                                          \
		&(w)->system, &(w)->thinking, &(w)->text, &(w)->calls, &(w)->pictures,             \
			&(w)->tools, &(w)->scratch, &(w)->kept                                     \
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
/* The result of a call: what scratch has. */
void talk_put_result(struct talk *w, struct json_value call_id);

/* An agent_message, as a user's. 0 or -EINVAL. */
int talk_take_agent(struct talk *w, struct json_value item);

/* --- front_responses_catalog.c: items (0, or -EINVAL), and the body's members --- */

int talk_take_tools(struct talk *w, struct json_value item);
int talk_take_found(struct talk *w, struct json_value item);
int talk_take_update(struct talk *w, struct json_value item);

/* Appends the request's members but those taken (NULL at the end, with room for TALK_MEMBERS more), as the items have
 * changed them. 0, -EINVAL with *e filled, or -ENOMEM. */
#define TALK_MEMBERS 3
int talk_put_members(struct talk *w, struct json_value root, const char **taken);

#endif
