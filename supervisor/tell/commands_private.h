/* Between commands.c (the table, and what only tells) and orders.c (what changes something). Nobody else includes this. */
#ifndef TANDEM_COMMANDS_PRIVATE_H
#define TANDEM_COMMANDS_PRIVATE_H

#include "common/base/json.h"
#include "supervisor/tell/commands.h"

struct asking {
	struct tell *t;
	struct rep_question *q;
	const struct command_words *w; /* the command's name first */
	struct buf *out;
};

typedef enum rep_when command_fn(struct asking *a);

/* Answers {"error":why}. */
static inline enum rep_when command_say_error(struct asking *a, const char *why)
{
	json_put_key(a->out, "error");
	json_put_string(a->out, slice_str(why));
	return REP_NOW;
}

/* The word behind the command's name, from 1 on; NULL: there is none. */
static inline const char *command_argument(const struct asking *a, size_t i)
{
	return i < a->w->count ? a->w->word[i] : NULL;
}

/* orders.c */
command_fn order_restart, order_drain, order_reset, order_reload, order_upgrade, order_cancel,
	order_bench;

#endif
