/*
 * What is done to a single message, and what all of them take.
 */
#include "common/layout/parts.h"

#define WORTH .9 /* shortened to more than this is not worth a marker */

bool layout_may_cut(const struct layout *l, size_t i)
{
	const struct layout_message *m = &l->messages[i];
	return (m->flags & PART_CUTTABLE) && m->level != LAYOUT_FIXED &&
	       !(m->flags & (PART_UNTOUCHED | PART_DROPPED)) && i != l->first_human &&
	       i != l->newest_human && i != l->newest_files;
}

void layout_set_level(struct layout *l, uint32_t from, uint32_t to, enum layout_level level)
{
	size_t end = layout_group_begin(l, to);
	for (size_t i = layout_group_begin(l, from); i < end; i++) {
		struct layout_message *m = &l->messages[i];
		bool stays = level == LAYOUT_L1 && m->level == LAYOUT_CUT && !layout_may_cut(l, i);
		if (m->level != LAYOUT_FIXED && !stays)
			m->level = level;
	}
}

/* In the place of pictures: how many, and what they took of the request. */
static void put_pictures(const struct layout *l, size_t i, struct buf *text)
{
	const struct chat_message *sent = &l->request->messages[i];
	size_t bytes = l->messages[i].bytes_in;
	bytes = sent->raw.raw.n > bytes ? sent->raw.raw.n - bytes : 0;
	if (text->n && text->p[text->n - 1] != '\n')
		buf_add_char(text, '\n');
	buf_printf(text, "[%u %s left out, %zu bytes]", sent->images,
		sent->images > 1 ? "pictures" : "picture", bytes);
}

void layout_set_out(struct layout *l, size_t i, struct buf *text, enum layout_level level)
{
	struct layout_message *m = &l->messages[i];
	bool pictures = l->request->messages[i].images > 0;
	if (pictures)
		put_pictures(l, i, text);
	while (text->n && text->p[text->n - 1] == '\n')
		text->n--;
	double tokens = layout_tokens(buf_slice(text), 0);
	double worth = level == LAYOUT_L1 ? WORTH : 1;
	if (buf_error(text) || tokens > m->tokens_in * worth) {
		buf_free(text);
		return;
	}
	buf_free(&l->out[i]);
	l->out[i] = *text;
	*text = (struct buf){0};
	m->flags |= PART_OUT | (pictures ? PART_BARE : 0u);
	m->level = level;
	m->reason = level == LAYOUT_L1 ? "old: selected lines"
				       : "cut as far as the window makes it necessary";
	m->bytes_out = l->out[i].n;
	m->tokens_out = tokens;
}

void layout_as_sent(struct layout *l, size_t i)
{
	struct layout_message *m = &l->messages[i];
	buf_free(&l->out[i]);
	m->flags &= ~(unsigned)(PART_DONE & ~PART_ORPHAN);
	if (!(m->flags & PART_ORPHAN))
		m->reason = "as sent";
	m->bytes_out = m->bytes_in;
	m->tokens_out = m->tokens_in;
}

void layout_put_gap(struct slice text, struct buf *out)
{
	size_t rows = text.n > 0;
	for (size_t i = 0; i + 1 < text.n; i++)
		rows += text.p[i] == '\n';
	buf_printf(out, "[..%zu]", rows);
}

/* A result whose call went into the digest stands alone: as words of the user. */
void layout_look_for_call(struct layout *l, size_t i)
{
	struct layout_message *m = &l->messages[i];
	if (!(m->flags & PART_LATE) || !(l->messages[l->owner[i] - 1].flags & PART_DROPPED))
		return;
	m->flags |= PART_ORPHAN;
	m->reason = "a late result of a call in the digest: as words of the user";
}

bool layout_takes_room(const struct layout_message *m)
{
	return m->level != LAYOUT_FIXED || (m->group > 0 && !(m->flags & PART_FILES));
}

void layout_resize(struct layout *l, size_t end)
{
	l->size = 0;
	for (size_t i = 0; i < end; i++)
		if (layout_takes_room(&l->messages[i]))
			l->size += l->messages[i].tokens_out;
}
