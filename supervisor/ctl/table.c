#include "supervisor/ctl/ctl.h"

#include <stdlib.h>

void ctl_table_init(struct ctl_table *t, size_t columns, const char *const *titles)
{
	*t = (struct ctl_table){.columns = columns};
	char(*row)[CTL_CELL_BYTES] = ctl_table_row(t);
	for (size_t c = 0; row && c < columns; c++)
		snprintf(row[c], CTL_CELL_BYTES, "%s", titles[c]);
}

char (*ctl_table_row(struct ctl_table *t))[CTL_CELL_BYTES]
{
	if (t->rows == t->room) {
		size_t room = t->room ? t->room * 2 : 16;
		void *grown = realloc(t->cell, room * t->columns * sizeof(*t->cell));
		if (!grown)
			return NULL;
		t->cell = grown;
		t->room = room;
	}
	char(*row)[CTL_CELL_BYTES] = t->cell + t->rows++ * t->columns;
	memset(row, 0, t->columns * sizeof(*row));
	return row;
}

/* Columns on a terminal: what a name holds beside ASCII has fewer of them than bytes. */
static size_t width_of(const char *text)
{
	return utf8_chars(slice_str(text));
}

void ctl_table_print(struct ctl_table *t, FILE *to)
{
	size_t widest[CTL_COLUMNS_MAX] = {0}, last = t->columns - 1;
	for (size_t i = 0; i < t->rows * t->columns; i++) {
		size_t w = width_of(t->cell[i]), *most = &widest[i % t->columns];
		*most = w > *most ? w : *most;
	}
	widest[last] = 0; /* nothing to align behind it */
	for (size_t i = 0; i < t->rows * t->columns; i++) {
		size_t c = i % t->columns, w = width_of(t->cell[i]);
		int pad = w < widest[c] ? (int)(widest[c] - w) : 0;
		fprintf(to, "%s%*s%s", t->cell[i], pad, "", c < last ? "  " : "\n");
	}
	free(t->cell);
	*t = (struct ctl_table){0};
}
