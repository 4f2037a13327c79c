/*
 * The words selection knows: stop words of code, English and Portuguese, and words that tell what
 * a line is. Words are compared folded: lower case, accents of Latin letters removed.
 */
#ifndef TANDEM_TEXT_LEXICON_H
#define TANDEM_TEXT_LEXICON_H

#include "common/base/buf.h"

#include <stdint.h>

enum {
	WORD_STOP = 1,
	WORD_BINDS = 2,	     /* makes its sentence a constraint: never, sempre */
	WORD_FAILS = 4,	     /* says that something went wrong */
	WORD_FAILS_HARD = 8, /* does so on its own, without a colon after it */
	WORD_DEFINES = 16,   /* begins a definition */
	WORD_UNIT = 32,	     /* of measure */
};

#define LEXICON_SLOTS 1024
#define LEXICON_LONGEST 24 /* bytes of the longest word worth folding */

/* An index over the constant word list; cheap enough to build for each call. */
struct lexicon {
	struct lexicon_slot {
		uint8_t list, n; /* n: bytes of the word; 0: free */
		uint16_t at;	 /* in its list */
	} slot[LEXICON_SLOTS];
};

void lexicon_init(struct lexicon *x);

/* The WORD_ bits of a word as it stands in the text; 0 when unknown. */
unsigned lexicon_look(const struct lexicon *x, const char *p, size_t n);

/* The same for a word that text_fold() made. */
unsigned lexicon_look_folded(const struct lexicon *x, const char *p, size_t n);

/* Writes at most cap bytes of s, folded; returns how many. */
size_t text_fold(struct slice s, char *out, size_t cap);

#endif
