/*
 * What a shortened request's messages were, and what was sent in their place, for the page at /ui/ (contents.h): made when the
 * request is over, by a thread, from its body, which stays until then, and the edits, of which the texts are copied: the layout
 * may be made anew meanwhile (chat_early.c), and what was sent fits a window. The body is the client's own bytes, but where a
 * compaction block, a repair or an alias had it made anew (chat_compact.h, chat_guard.c, chat_alias.c).
 */
#include "supervisor/requests/access.h"
#include "supervisor/requests/chat.h"

#include <errno.h>
#include <stdlib.h>

struct keeping {
	uv_work_t work;
	struct chat *chat; /* held */
	char id[REQUEST_ID_BYTES];
	struct chat_edit *edits; /* owned, as are their texts: */
	struct buf texts;
	size_t most;
	struct content_text made;
	int rc;
};

static size_t room(const struct chat *c)
{
	return c->base.all->contents.most;
}

void chat_content_begin(struct chat *c)
{
	const struct requests *s = c->base.all;
	c->content.wanted = room(c) > 0;
	if (c->content.wanted)
		c->content.owner =
			content_owner(access_of(c->base.exchange, &s->config->access.keys).key);
}

/* --- what the thread gets --- */

static void keeping_free(struct keeping *k)
{
	buf_free(&k->texts);
	free(k->edits);
	free(k);
}

static size_t edited_bytes(const struct layout *l)
{
	size_t n = 0;
	for (size_t i = 0; i < l->count; i++)
		n += l->edits[i].text.n;
	return n;
}

static int copy_edits(struct keeping *k, const struct layout *l, size_t bytes)
{
	k->edits = calloc(l->count, sizeof(*k->edits));
	if (!k->edits || buf_reserve(&k->texts, bytes))
		return -ENOMEM;
	for (size_t i = 0; i < l->count; i++) {
		struct chat_edit *e = &k->edits[i];
		*e = l->edits[i];
		if (e->text.n == 0)
			continue;
		e->text.p = k->texts.p + k->texts.n; /* it does not move: there is room for all */
		buf_add_slice(&k->texts, l->edits[i].text);
	}
	return 0;
}

/* --- on the thread --- */

static void keep_work(uv_work_t *work)
{
	struct keeping *k = work->data;
	k->rc = content_text_make(&k->chat->view, k->edits, k->most, &k->made);
}

static void refuse(struct contents *all, const char *id, int rc)
{
	contents_refuse(all, id, rc == -E2BIG ? CONTENT_TOO_LARGE : CONTENT_NO_MEMORY);
}

static void keep_done(uv_work_t *work, int status)
{
	struct keeping *k = work->data;
	struct chat *c = k->chat;
	struct contents *all = &c->base.all->contents;
	(void)status;
	if (k->rc)
		refuse(all, k->id, k->rc);
	else
		contents_put(all, k->id, &k->made);
	keeping_free(k);
	request_release(&c->base);
}

static int begin(struct chat *c)
{
	const struct layout *l = &c->condense.layout;
	size_t edited = edited_bytes(l);
	if (l->bytes_in > room(c) || edited > room(c))
		return -E2BIG;
	struct keeping *k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->chat = c;
	k->most = room(c);
	k->work.data = k;
	memcpy(k->id, c->base.id, sizeof(k->id));
	int rc = copy_edits(k, l, edited);
	if (rc == 0)
		rc = uv_queue_work(c->base.all->loop, &k->work, keep_work, keep_done);
	if (rc) {
		keeping_free(k);
		return -ENOMEM;
	}
	request_hold(&c->base);
	return 0;
}

void chat_content_keep(struct chat *c)
{
	struct contents *all = &c->base.all->contents;
	if (c->base.all->ending)
		return; /* nobody will look: no thread is kept busy for it */
	if (!c->content.wanted || !chat_went_shorter(c) || !c->condense.layout.edits ||
		!contents_expect(all, c->base.id, &c->content.owner))
		return;
	int rc = begin(c);
	if (rc)
		refuse(all, c->base.id, rc);
}
