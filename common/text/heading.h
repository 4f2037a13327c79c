/*
 * Which line says what another one belongs to: the file name above the matches of a search, the
 * file and the @@ line above a hunk's lines, the head of a table. A kept line brings its heading
 * along, so that no match and no hunk ends up under another file's name.
 */
#ifndef TANDEM_TEXT_HEADING_H
#define TANDEM_TEXT_HEADING_H

#include "common/text/corpus.h"

/* State over the lines of one message; zero but for the first two. */
struct heading {
	struct corpus *corpus;
	uint32_t message;
	uint32_t file; /* 1 + line; 0: none */
	uint32_t hunk, list, table;
	bool any; /* a line that is not blank came before */
};

/* Looks at the newest line of the corpus and sets its head. */
void heading_line(struct heading *h, uint32_t line);

#endif
