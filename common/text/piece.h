/*
 * Cuts text into pieces: lines, and parts of lines longer than TEXT_PIECE bytes.
 *
 * A cut falls after a sentence where it can, else after white space, else between identifiers,
 * and inside an identifier only if that one is longer than a piece; never inside a character.
 * Line ends are \n, \r\n and a bare \r (progress bars), and in a line longer than a piece the two
 * characters "\n" of a JSON string that somebody pasted or a client sends as a tool result.
 * Linear, with no memory of its own.
 */
#ifndef TANDEM_TEXT_PIECE_H
#define TANDEM_TEXT_PIECE_H

#include "common/text/text.h"

#include <stdint.h>

struct piece {
	size_t begin, end; /* without the line end; an escaped one is part of the piece */
	uint32_t rows;	   /* source lines it begins: 1, more when packed, 0 when continued */
	bool continued;	   /* goes on a line that the piece before began */
};

/*
 * The piece at *at, which moves past it and its line end. False at the end of the text.
 * packed: as many whole lines as fit one piece, for texts with millions of tiny lines.
 */
bool piece_next(struct slice text, size_t *at, bool packed, struct piece *p);

/* Where to cut text[begin..limit), limit < text.n: an offset in (begin, limit]. */
size_t piece_cut(struct slice text, size_t begin, size_t limit);

/* Without white space at either end. */
struct slice slice_trim(struct slice s);

/* Without the line number that tools print before a line ("  12\t", "12: ", "12 | "). */
struct slice piece_body(struct slice line);

#endif
