/*
 * "Did you mean": the nearest of some offered names to a mistyped word. Optimal string alignment
 * distance (Damerau-Levenshtein: insert, delete, replace, swap neighbours), without case. Nothing
 * is allocated; the names are borrowed. Only a name within a third of its length (at least one
 * edit) counts as near.
 */
#ifndef TANDEM_CONFIG_SUGGEST_H
#define TANDEM_CONFIG_SUGGEST_H

#include <stddef.h>

#define SUGGEST_WORD_BYTES 48 /* longer words are never near anything */

struct suggest {
	const char *word;
	const char *best; /* NULL: nothing near so far */
	size_t distance;
};

void suggest_init(struct suggest *s, const char *word);
void suggest_offer(struct suggest *s, const char *name);

size_t suggest_distance(const char *a, const char *b);

#endif
