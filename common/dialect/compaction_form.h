/*
 * What of compaction (compaction.h) is one dialect's: a row for each, and the text that they share.
 *
 * Private to common/dialect/. A text is a row of sections, each of which begins with a line of its own:
 *
 *   ## user | ## assistant | ## system
 *   ## call "ID" "NAME"                 its arguments as JSON
 *   ## result "ID" | ## failed "ID"     of the call
 *   ## stands for                       hashes of messages that need not be sent again (OpenAI)
 *
 * A line of a text that looks like one has a backslash in front, one more than it had. Everything borrows; pure.
 */
#ifndef TANDEM_DIALECT_COMPACTION_FORM_H
#define TANDEM_DIALECT_COMPACTION_FORM_H

#include "common/dialect/compaction.h"

/* Messages that are being written: what comes next goes into the one that is open while it can. */
struct compaction_messages {
	const struct compaction_form *form;
	struct buf *out;
	char role[12]; /* of the one that is open; "": none */
	bool some;     /* one has been written */
	bool blocks;   /* ... in the one that is open: blocks, or calls */
	bool begun;    /* a section that is not the system's has come */
};

struct compaction_form {
	/* As compaction_wished(), compaction_find(), compaction_open(), compaction_apply(). out->alone is set
	 * where the path itself says so. */
	int (*wished)(const struct chat_request *r, struct compaction_wish *out,
		struct dialect_error *error, const char **code);
	bool (*find)(const struct chat_request *r, struct compaction_found *out, int *rc,
		struct dialect_error *error, const char **code);
	int (*open)(const struct compaction_found *f, struct buf *content, struct slice *text,
		struct buf *signature);
	int (*disown)(bool altered, struct dialect_error *error, const char **code);
	int (*apply)(const struct chat_request *r, const struct compaction_found *f,
		struct slice text, struct buf *out);
	/* Puts its code into an error's body, which ends out. */
	int (*name_error)(const char *code, struct buf *out);

	/* Appends a message of the view as sections; what the text stands for (NULL: nothing is sent again). */
	void (*put_message)(
		const struct chat_request *r, size_t i, struct buf *out, struct buf *scratch);
	void (*put_stood)(const struct chat_request *whole, struct buf *out, struct buf *scratch);
	/* Appends the members of the block that the answer's writer gets. */
	void (*put_block)(struct slice text, struct slice signature, struct buf *out);

	/* Sections as messages. body: plain text; id, name: JSON strings. */
	void (*put_head)(const struct chat_request *r, struct compaction_messages *m);
	void (*words)(struct compaction_messages *m, const char *role, struct slice body);
	void (*call)(struct compaction_messages *m, struct slice id, struct slice name,
		struct slice body);
	void (*result)(
		struct compaction_messages *m, struct slice id, struct slice body, bool failed);
	void (*close)(struct compaction_messages *m);
};

extern const struct compaction_form compaction_anthropic, compaction_responses;

/* --- compaction_text.c --- */

/* A section of these words; its head is plain. */
void compaction_put_section(struct buf *out, const char *head, struct slice text);
void compaction_put_call(
	struct buf *out, struct json_value id, struct json_value name, struct slice arguments);
/* A result has one text, whatever it is made of. */
void compaction_put_result(struct buf *out, const struct chat_message *m, struct buf *scratch);
/* Behind a text: what of a message is none. */
void compaction_put_pictures(struct buf *text, unsigned n);

/* The messages of a text; the last one stays open. */
void compaction_expand(struct compaction_messages *m, struct slice text);
/* Appends what the sections of this kind hold, the first ones alone or all. */
void compaction_take(struct slice text, const char *kind, bool first, struct buf *out);
/* JSON of this type, or what stands for it: what is copied as JSON is JSON, whoever signed it. */
void compaction_put_json(
	struct buf *out, struct slice text, enum json_type type, const char *otherwise);

/* Fills *error with status 400 and *code. Returns -EINVAL. */
int compaction_refuse(
	struct dialect_error *error, const char **code, const char *why, const char *text);
/* There is something that was said; the last turn has a call without its result. */
bool compaction_has_words(const struct chat_request *r);
bool compaction_is_incomplete(const struct chat_request *r);

#endif
