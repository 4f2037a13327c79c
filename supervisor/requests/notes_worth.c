#include "supervisor/requests/notes_worth.h"

#include <stddef.h>

static const struct notes_writer *find(const struct notes_worth *w, uint64_t model)
{
	for (unsigned i = 0; i < NOTES_WORTH_MODELS; i++)
		if (w->of[i].answers && w->of[i].model == model)
			return &w->of[i];
	return NULL;
}

static struct notes_writer *get(struct notes_worth *w, uint64_t model)
{
	struct notes_writer *oldest = &w->of[0];
	for (unsigned i = 0; i < NOTES_WORTH_MODELS; i++) {
		struct notes_writer *n = &w->of[i];
		if (n->answers && n->model == model)
			return n;
		if (n->order < oldest->order)
			oldest = n;
	}
	*oldest = (struct notes_writer){.model = model};
	return oldest;
}

static bool is_vain(const struct notes_writer *n)
{
	double kept = 0, all = 0;
	if (n->answers < NOTES_WORTH_ANSWERS)
		return false;
	for (unsigned i = 0; i < NOTES_WORTH_ANSWERS; i++) {
		kept += n->kept[i];
		all += n->kept[i] + n->refused[i];
	}
	return kept < NOTES_WORTH_LEAST * all;
}

bool notes_worth_add(struct notes_worth *w, uint64_t model, unsigned kept, unsigned refused)
{
	struct notes_writer *n = get(w, model);
	unsigned at = n->answers % NOTES_WORTH_ANSWERS;
	bool before = n->off;
	n->kept[at] = kept;
	n->refused[at] = kept + refused ? refused : 1;
	n->answers++;
	n->order = ++w->order;
	n->off = n->off || is_vain(n);
	return n->off && !before;
}

bool notes_worth_is_off(const struct notes_worth *w, uint64_t model)
{
	const struct notes_writer *n = find(w, model);
	return n && n->off;
}

unsigned notes_worth_off(const struct notes_worth *w)
{
	unsigned off = 0;
	for (unsigned i = 0; i < NOTES_WORTH_MODELS; i++)
		off += w->of[i].off;
	return off;
}

void notes_worth_forget(struct notes_worth *w)
{
	*w = (struct notes_worth){0};
}
