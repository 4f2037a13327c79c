/*
 * What a line is, told from its words: a constraint of the user, an error, a line with a commit
 * hash or a measured number, a definition. English and Portuguese.
 */
#ifndef TANDEM_TEXT_PINS_H
#define TANDEM_TEXT_PINS_H

#include "common/text/lexicon.h"
#include "common/text/token.h"

enum {
	PIN_CONSTRAINT = 1 << 0,
	PIN_ERROR = 1 << 1,	 /* an error message */
	PIN_FAILURE = 1 << 2,	 /* mentions a failure */
	PIN_SHA = 1 << 3,	 /* a commit hash, digest or UUID */
	PIN_MEASURE = 1 << 4,	 /* a number with its unit */
	PIN_DEFINITION = 1 << 5, /* a definition, class or heading */
	PIN_PROSE = 1 << 6,	 /* a person's sentence, in whatever language */
};

/* The pins that token t of line gives. */
unsigned pin_of_token(const struct lexicon *x, struct slice line, const struct token *t);

/* PIN_DEFINITION if the line (its number aside) begins a definition or is a heading. */
unsigned pin_definition(const struct lexicon *x, struct slice line);

/* The line with runs of digits masked: two lines that differ in numbers only are equal. */
uint64_t pin_shape(struct slice line);

/*
 * Does a sentence of the line bind what comes later? *key tells what it is about, whatever the
 * order, the case, the binding words and the numbers: the newest line of a key replaces the older.
 * *open: the binding sentence does not end in this line.
 */
bool pin_constraint(const struct lexicon *x, struct slice line, uint64_t *key, bool *open);

/*
 * Is the line a sentence rather than a log line, code or a table? By its signs alone, so in any
 * language: nearly all letters, some words (or letters of a script without spaces), and the end of
 * a sentence.
 */
bool pin_prose(struct slice line);

/* Does the line go on with a sentence of the line before it? */
bool pin_goes_on(struct slice line);

#endif
