/*
 * What was decided: the texts that stand by then, and edits over the client's own bytes.
 */
#include "common/layout/parts.h"

#include <errno.h>
#include <stdlib.h>

int layout_edit(struct layout *l)
{
	for (size_t i = 0; i < l->count; i++) {
		const struct layout_message *m = &l->messages[i];
		struct chat_edit *e = &l->edits[i];
		*e = (struct chat_edit){.kind = CHAT_KEEP};
		if (m->flags & PART_DROPPED) {
			e->kind = CHAT_DROP;
		} else if (m->flags & PART_ORPHAN) {
			int rc = layout_need_texts(l);
			if (rc)
				return rc;
			e->kind = CHAT_INSERT_BEFORE_DROP;
			e->text = m->flags & PART_OUT ? buf_slice(&l->out[i]) : l->text[i].text;
		} else if (m->flags & PART_OUT) {
			e->kind = CHAT_REPLACE_TEXT;
			e->text = buf_slice(&l->out[i]);
			e->drop_pictures = m->flags & PART_BARE;
		}
	}
	return 0;
}

struct slice *layout_standing(const struct layout *l, size_t *count)
{
	size_t end = l->corpus.n, n = 0;
	struct slice *texts = calloc(end + 1, sizeof(*texts));
	for (size_t i = 0; texts && i < end; i++) {
		const struct layout_message *m = &l->messages[i];
		bool agent = l->request->messages[i].role == CHAT_ASSISTANT;
		if (m->flags & PART_OUT)
			texts[n++] = buf_slice(&l->out[i]);
		else if (!(m->flags & PART_DROPPED) && (agent || (m->flags & PART_UNTOUCHED)))
			texts[n++] = l->text[i].text;
	}
	*count = n;
	return texts;
}
