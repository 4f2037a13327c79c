/*
 * What a terminal shows, as cells: text is put anywhere, and only what has changed since the last
 * time is written, so nothing flickers. Characters that are two columns wide take two cells, those
 * without a width none; what a terminal might obey never comes in (ctl_safe()).
 *
 * Memory that is out leaves an empty grid: nothing is drawn. Not thread-safe; grid_draw() blocks as
 * its stream does.
 */
#ifndef TANDEM_CTL_GRID_H
#define TANDEM_CTL_GRID_H

#include "common/base/buf.h"

#include <stdint.h>
#include <stdio.h>

enum grid_look {
	GRID_PLAIN = 0,
	GRID_BOLD = 1,
	GRID_DIM = 2,
	GRID_REVERSE = 4,
	GRID_RED = 8,
	GRID_GREEN = 16,
	GRID_YELLOW = 32,
	GRID_COLOURS = GRID_RED | GRID_GREEN | GRID_YELLOW,
};

#define GRID_CHARACTER_BYTES 4
#define GRID_ROWS_MOST 4096
#define GRID_COLUMNS_MOST 1000

struct grid_cell {
	char text[GRID_CHARACTER_BYTES];
	uint8_t n;     /* bytes; 0: the second half of a wide character */
	uint8_t width; /* columns */
	uint8_t look;  /* enum grid_look bits */
};

struct grid {
	size_t rows, columns;
	struct grid_cell *now, *shown; /* shown: NULL: nothing of it is */
};

/* All zero is a grid of no size. Empty afterwards; another size is drawn as a whole. */
void grid_begin(struct grid *g, size_t rows, size_t columns);
void grid_free(struct grid *g);
/* The next grid_draw() draws all. */
void grid_forget(struct grid *g);

/* Puts text into `width` columns from there, the rest of them filled with spaces; what has no room
 * is left out. Returns the columns of the text. */
size_t grid_put(
	struct grid *g, size_t row, size_t column, size_t width, unsigned look, const char *text);
/* Another look for what stands there. */
void grid_look(struct grid *g, size_t row, size_t column, size_t width, unsigned look);

/* Columns of a text. Pure. */
size_t grid_width(const char *text);

/* To a terminal; colour: it may have some. */
void grid_draw(struct grid *g, bool colour, FILE *to);
/* As plain lines, without the spaces at their ends. */
void grid_print(const struct grid *g, FILE *to);

#endif
