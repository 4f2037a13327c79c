#include "supervisor/ctl/grid.h"

#include "supervisor/ctl/ctl.h"

#include <stdlib.h>

#define WIDE_FROM 0x1100 /* below it no character takes two columns */
#define TEXT_BYTES 1024	 /* of one grid_put() */

/* --- characters --- */

struct range {
	unsigned from, to;
};

/* Marks that have no width of their own, and what is two columns wide in most terminals (East Asian
 * width W and F of Unicode's EastAsianWidth.txt, in blocks). */
static const struct range without_width[] = {{0x300, 0x36f}, {0x483, 0x489}, {0x591, 0x5bd},
	{0x610, 0x61a}, {0x64b, 0x65f}, {0x200b, 0x200f}, {0x202a, 0x202e}, {0x2060, 0x2069},
	{0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}, {0xfeff, 0xfeff}, {0xe0000, 0xe0fff}};
static const struct range wide[] = {{0x1100, 0x115f}, {0x231a, 0x231b}, {0x2329, 0x232a},
	{0x23e9, 0x23ec}, {0x2e80, 0x303e}, {0x3041, 0xa4cf}, {0xa960, 0xa97f}, {0xac00, 0xd7a3},
	{0xf900, 0xfaff}, {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1f64f},
	{0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd}};

#define IN(ranges, code) in_ranges(ranges, sizeof(ranges) / sizeof(*(ranges)), code)

static bool in_ranges(const struct range *r, size_t n, unsigned code)
{
	for (size_t i = 0; i < n; i++)
		if (code >= r[i].from && code <= r[i].to)
			return true;
	return false;
}

/* Bytes of the character, and its columns; the text is valid UTF-8. */
static size_t character(struct slice s, size_t *columns)
{
	unsigned char c = (unsigned char)s.p[0];
	size_t n = c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
	unsigned code = n == 1 ? c : c & (0x7Fu >> n);
	if (n > s.n)
		n = s.n;
	for (size_t i = 1; i < n; i++)
		code = code << 6 | ((unsigned char)s.p[i] & 0x3F);
	*columns = IN(without_width, code) ? 0 : code >= WIDE_FROM && IN(wide, code) ? 2 : 1;
	return n;
}

size_t grid_width(const char *text)
{
	size_t n = strlen(text), width = 0, columns;
	for (size_t at = 0; at < n; width += columns)
		at += character((struct slice){text + at, n - at}, &columns);
	return width;
}

/* --- cells --- */

static struct grid_cell *cell(const struct grid *g, size_t row, size_t column)
{
	return &g->now[row * g->columns + column];
}

void grid_free(struct grid *g)
{
	free(g->now);
	free(g->shown);
	*g = (struct grid){0};
}

void grid_forget(struct grid *g)
{
	free(g->shown);
	g->shown = NULL;
}

void grid_begin(struct grid *g, size_t rows, size_t columns)
{
	rows = rows < GRID_ROWS_MOST ? rows : GRID_ROWS_MOST;
	columns = columns < GRID_COLUMNS_MOST ? columns : GRID_COLUMNS_MOST;
	if (rows != g->rows || columns != g->columns || !g->now) {
		grid_free(g);
		g->now = calloc(rows * columns + 1, sizeof(*g->now));
		if (!g->now)
			return;
		g->rows = rows;
		g->columns = columns;
	}
	for (size_t i = 0; i < g->rows * g->columns; i++)
		g->now[i] = (struct grid_cell){.text = " ", .n = 1, .width = 1};
}

static void set(
	struct grid *g, size_t row, size_t column, struct slice c, size_t columns, unsigned look)
{
	struct grid_cell *to = cell(g, row, column);
	*to = (struct grid_cell){
		.n = (uint8_t)c.n, .width = (uint8_t)columns, .look = (uint8_t)look};
	memcpy(to->text, c.p, c.n);
	if (columns == 2)
		to[1] = (struct grid_cell){.look = (uint8_t)look};
}

size_t grid_put(
	struct grid *g, size_t row, size_t column, size_t width, unsigned look, const char *text)
{
	char safe[TEXT_BYTES];
	size_t used = 0, columns;
	if (row >= g->rows || column >= g->columns)
		return 0;
	if (width > g->columns - column)
		width = g->columns - column;
	size_t n = (size_t)snprintf(safe, sizeof(safe), "%s", text);
	n = n < sizeof(safe) ? n : sizeof(safe) - 1;
	n = utf8_valid_prefix((struct slice){safe, n});
	n = ctl_safe(safe, n);
	for (size_t at = 0, bytes; at < n; at += bytes) {
		struct slice rest = {safe + at, n - at};
		bytes = character(rest, &columns);
		if (used + columns > width)
			break;
		if (columns) /* marks go with what they mark: nowhere */
			set(g, row, column + used, (struct slice){rest.p, bytes}, columns, look);
		used += columns;
	}
	size_t of_text = used;
	for (; used < width; used++)
		set(g, row, column + used, SLICE(" "), 1, look);
	return of_text;
}

void grid_look(struct grid *g, size_t row, size_t column, size_t width, unsigned look)
{
	for (size_t c = column; row < g->rows && c < g->columns && c < column + width; c++)
		cell(g, row, c)->look = (uint8_t)look;
}

/* --- drawing --- */

static void put_look(unsigned look, bool colour, FILE *to)
{
	fputs("\033[0", to);
	if (look & GRID_BOLD)
		fputs(";1", to);
	if (look & GRID_DIM)
		fputs(";2", to);
	if (look & GRID_REVERSE)
		fputs(";7", to);
	if (colour && look & GRID_COLOURS)
		fputs(look & GRID_RED ? ";31" : look & GRID_GREEN ? ";32" : ";33", to);
	fputc('m', to);
}

static bool same(const struct grid_cell *a, const struct grid_cell *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* The columns from..to of a row. Behind what is not ASCII the place is said again: a terminal may
 * think otherwise of its width. */
static void draw_span(
	const struct grid *g, size_t row, size_t from, size_t to, bool colour, FILE *out)
{
	unsigned look = 0xFFFF;
	bool placed = false;
	for (size_t c = from; c < to; c++) {
		const struct grid_cell *x = cell(g, row, c);
		if (x->n == 0)
			continue;
		if (!placed)
			fprintf(out, "\033[%zu;%zuH", row + 1, c + 1);
		if (x->look != look)
			put_look(look = x->look, colour, out);
		fwrite(x->text, 1, x->n, out);
		placed = x->n == 1;
	}
}

static void draw_row(struct grid *g, size_t row, bool colour, FILE *out)
{
	const struct grid_cell *now = cell(g, row, 0);
	size_t from = 0, to = g->columns;
	if (g->shown) {
		const struct grid_cell *shown = g->shown + row * g->columns;
		while (from < to && same(&now[from], &shown[from]))
			from++;
		while (to > from && same(&now[to - 1], &shown[to - 1]))
			to--;
	}
	while (from > 0 && from < to && now[from].n == 0)
		from--; /* not in the middle of one */
	draw_span(g, row, from, to, colour, out);
}

void grid_draw(struct grid *g, bool colour, FILE *to)
{
	size_t bytes = g->rows * g->columns * sizeof(*g->now);
	if (!g->now || !bytes)
		return;
	if (!g->shown)
		fputs("\033[0m\033[2J", to);
	for (size_t row = 0; row < g->rows; row++)
		draw_row(g, row, colour, to);
	fputs("\033[0m", to);
	if (!g->shown)
		g->shown = malloc(bytes);
	if (g->shown)
		memcpy(g->shown, g->now, bytes);
	fflush(to);
}

void grid_print(const struct grid *g, FILE *to)
{
	for (size_t row = 0; row < g->rows; row++) {
		size_t end = g->columns;
		while (end && cell(g, row, end - 1)->n == 1 &&
			cell(g, row, end - 1)->text[0] == ' ')
			end--;
		for (size_t c = 0; c < end; c++)
			fwrite(cell(g, row, c)->text, 1, cell(g, row, c)->n, to);
		fputc('\n', to);
	}
}
