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

void ctl_duration(double s, char *out, size_t size)
{
	long all = s > 0 && s < 1e12 ? (long)s : 0;
	long days = all / 86400, hours = all / 3600 % 24, minutes = all / 60 % 60;
	if (days)
		snprintf(out, size, "%ldd%02ldh", days, hours);
	else if (hours)
		snprintf(out, size, "%ldh%02ldm", hours, minutes);
	else if (minutes)
		snprintf(out, size, "%ldm%02lds", minutes, all % 60);
	else
		snprintf(out, size, "%lds", all);
}

void ctl_bytes(double bytes, char *out, size_t size)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t unit = 0;
	for (; bytes >= 1024 && unit + 1 < sizeof(units) / sizeof(*units); unit++)
		bytes /= 1024;
	snprintf(out, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}
