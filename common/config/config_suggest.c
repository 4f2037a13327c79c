#include "common/config/config_suggest.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

static size_t min2(size_t a, size_t b)
{
	return a < b ? a : b;
}

static int lower(char c)
{
	return tolower((unsigned char)c);
}

size_t suggest_distance(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);
	/* Rows i-2, i-1 and i of the edit matrix. */
	size_t rows[3][SUGGEST_WORD_BYTES + 1];
	size_t *before = rows[0], *above = rows[1], *row = rows[2];

	if (na > SUGGEST_WORD_BYTES || nb > SUGGEST_WORD_BYTES)
		return SIZE_MAX;
	for (size_t j = 0; j <= nb; j++)
		above[j] = j;
	for (size_t i = 1; i <= na; i++) {
		row[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t differs = lower(a[i - 1]) != lower(b[j - 1]);
			row[j] = min2(min2(above[j], row[j - 1]) + 1, above[j - 1] + differs);
			if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
				lower(a[i - 2]) == lower(b[j - 1]))
				row[j] = min2(row[j], before[j - 2] + 1);
		}
		size_t *oldest = before;
		before = above;
		above = row;
		row = oldest;
	}
	return above[nb];
}

void suggest_init(struct suggest *s, const char *word)
{
	*s = (struct suggest){.word = word, .distance = SIZE_MAX};
}

void suggest_offer(struct suggest *s, const char *name)
{
	size_t d = suggest_distance(s->word, name);
	size_t near = strlen(name) / 3;
	if (d < s->distance && d <= (near ? near : 1)) {
		s->best = name;
		s->distance = d;
	}
}
