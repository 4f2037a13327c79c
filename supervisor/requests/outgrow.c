#include "supervisor/requests/outgrow.h"

#include <math.h>
#include <stdlib.h>

#define TURNS 20
#define QUANTILE 0.8
#define SPARE 0.15 /* of the room: so much of it is given up for a turn as large as any lately */

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* The sizes of the newest turns, without the answers that they begin with where those are no matter,
 * the least first. Returns how many. */
static size_t newest_turns(const struct layout *l, bool answers, double turns[TURNS])
{
	size_t n = 0, i = l->count;
	while (i > 0 && n < TURNS && l->messages[i - 1].group > 0) {
		uint32_t group = l->messages[i - 1].group;
		turns[n] = 0;
		for (; i > 0 && l->messages[i - 1].group == group; i--)
			turns[n] += l->messages[i - 1].tokens_in;
		if (!answers) /* a group's first message */
			turns[n] -= l->messages[i].tokens_in;
		n++;
	}
	qsort(turns, n, sizeof(turns[0]), by_size);
	return n;
}

double outgrow_growth(const struct layout *l, double spare, double answer)
{
	double turns[TURNS];
	size_t n = newest_turns(l, answer <= 0, turns);
	if (n == 0)
		return answer;
	double most = turns[n - 1], likely = turns[(size_t)((double)n * QUANTILE)];
	return answer + fmin(most, fmax(likely, spare));
}

double outgrow_usual(const struct layout *l, double answer)
{
	double turns[TURNS];
	size_t n = newest_turns(l, answer <= 0, turns);
	return answer + (n ? turns[n / 2] : 0);
}

bool outgrow_is_near(const struct outgrow_facts *f)
{
	const struct layout *l = f->layout;
	if (l->groups < 2 || l->soft <= 0 ||
		(l->result != LAYOUT_AS_SENT && l->result != LAYOUT_RAISED))
		return false;
	double growth =
		outgrow_growth(l, SPARE * l->soft, f->answer) + f->turns * outgrow_usual(l, 0);
	if (f->original && f->room > 0 && f->scale > 0)
		return f->tokens + growth / f->scale > f->room;
	return l->size + growth > l->options.high * l->soft;
}
