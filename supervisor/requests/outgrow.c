#include "supervisor/requests/outgrow.h"

#include <stdlib.h>

#define TURNS 10
#define QUANTILE 0.7

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double outgrow_growth(const struct layout *l)
{
	double turns[TURNS] = {0};
	size_t n = 0, i = l->count;
	while (i > 0 && n < TURNS && l->messages[i - 1].group > 0) {
		uint32_t group = l->messages[i - 1].group;
		for (; i > 0 && l->messages[i - 1].group == group; i--)
			turns[n] += l->messages[i - 1].tokens_in;
		n++;
	}
	qsort(turns, n, sizeof(turns[0]), by_size);
	return n ? turns[(size_t)((double)n * QUANTILE)] : 0;
}

bool outgrow_is_near(const struct outgrow_facts *f)
{
	const struct layout *l = f->layout;
	if (l->groups < 2 || l->soft <= 0 ||
		(l->result != LAYOUT_AS_SENT && l->result != LAYOUT_RAISED))
		return false;
	if (f->original && f->room > 0 && f->scale > 0)
		return f->tokens + outgrow_growth(l) / f->scale > f->room;
	return l->size + outgrow_growth(l) > l->options.high * l->soft;
}
