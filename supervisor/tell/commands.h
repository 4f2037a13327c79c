/*
 * What can be asked of the stats socket: one table of commands, each a few words of plain text,
 * each answered with one JSON object, so that `nngcat --req --data WORDS` works as well as
 * tandemctl. What cannot be done is answered with {"error":"why"}.
 */
#ifndef TANDEM_COMMANDS_H
#define TANDEM_COMMANDS_H

#include "supervisor/tell/rep.h"
#include "supervisor/tell/tell.h"

#define COMMAND_WORDS_MAX 4
#define COMMAND_WORD_BYTES 64 /* NUL included */

struct command_words {
	char word[COMMAND_WORDS_MAX][COMMAND_WORD_BYTES];
	size_t count;
};

/*
 * Splits a request at spaces; line ends and NULs at its end do not count. False when there is no
 * word, a word or their number is too large, or there is anything but printable ASCII.
 */
bool command_split(struct slice request, struct command_words *out);

/*
 * The same for who may only look, and gets an answer at once: no orders, and nothing that waits (devices, flush). False:
 * there is no such request. What it cannot do is answered with {"error":"why"}, too.
 */
bool commands_look(struct tell *t, struct slice request, struct buf *out);

/* For rep_start(): ctx is a struct tell. */
enum rep_when commands_answer(
	void *ctx, struct rep_question *q, struct slice request, struct buf *out);

#endif
