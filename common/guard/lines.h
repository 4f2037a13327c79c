/*
 * Lines of a message as they stand in the client's JSON. Private to common/guard/.
 */
#ifndef TANDEM_GUARD_LINES_H
#define TANDEM_GUARD_LINES_H

#include "common/guard/guard.h"

#define GUARD_ATTRIBUTION_LINE "x-anthropic-billing-header:"

/* Walks the lines of all texts of a content. */
struct guard_walk {
	struct chat_texts texts;
	const char *p, *end; /* what is left of the string; p NULL: take the next */
	struct json_value string, part;
	struct slice line; /* the one found, without its line end */
	bool first;	   /* of its string */
};

struct guard_walk guard_walk(const struct chat_message *m);
bool guard_walk_next(struct guard_walk *w);

/* Fills shape and kind of a line, whose hash is there. */
void guard_line_look(struct slice text, struct guard_line *out);

/* Has it words of a summary? */
bool guard_summarises(struct slice text);

/* The attribution line at the head of a system prompt, with its line end; empty: there is none.
 * *alone: it is all that its part of the content has, and more parts follow. */
struct slice guard_attribution(const struct chat_message *m, bool *alone);

/* --- the difference of two messages --- */

enum guard_step { GUARD_SAME, GUARD_OTHER, GUARD_PUT_IN, GUARD_LEFT_OUT, GUARD_END, GUARD_WORDS };

/* Two messages, line by line; where they differ in more than clocks and counters the walk ends
 * with GUARD_WORDS. */
struct guard_diff {
	const struct guard_line *a, *b;
	size_t an, bn, i, j; /* the step is about a[i - 1], b[j - 1] */
};

struct guard_diff guard_diff(const struct guard_prompt *pa, const struct guard_message *a,
	const struct guard_prompt *pb, const struct guard_message *b);
enum guard_step guard_diff_next(struct guard_diff *d);

#endif
