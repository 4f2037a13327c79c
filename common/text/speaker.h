/*
 * Who wrote a line: a person, or a program that speaks in the same role.
 *
 * Agents' clients put a person's words inside tool results (Cline and Roo: <feedback>, <answer>,
 * <user_message>) and their own notes into the user's messages (<system-reminder>,
 * <environment_details>, carriers of a picture that a tool made). What a person wrote is never
 * condensed while it is short.
 */
#ifndef TANDEM_TEXT_SPEAKER_H
#define TANDEM_TEXT_SPEAKER_H

#include "common/text/text.h"

struct speaker {
	bool human;	    /* the message is a person's where nothing says otherwise */
	const char *inside; /* the tag whose end is awaited, or NULL */
	bool inside_human;
};

/* Before the first line of a message. */
void speaker_begin(struct speaker *s, const struct text_message *m);

/* The next line: true when a person wrote it. *machine: a client's own note in the user's role. */
bool speaker_line(struct speaker *s, struct slice line, bool *machine);

/* Bytes of a message that a person wrote. Linear. */
size_t speaker_human_bytes(const struct text_message *m);

/* Does the text only carry a picture that a tool made? */
bool speaker_is_carrier(struct slice text);

#endif
