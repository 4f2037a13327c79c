/*
 * Notes of the small devices, for one conversation: which there are when its layout is made, what
 * was decided with it, and which groups are to be written about after an answer (idle_notes.h).
 */
#include "supervisor/requests/chat.h"
#include "supervisor/requests/idle_notes.h"

#include "common/base/log.h"

#include <stdlib.h>

/* --- the use of what is there --- */

static struct notes_models models_of(const struct devices *s)
{
	struct notes_models m = {.count = 0};
	for (size_t i = 0; i < s->count && m.count < NOTES_MODELS_MAX; i++) {
		const struct device *d = s->of[i];
		struct slice name = slice_str(device_model(d));
		if (notes_are_written_by(d->conf->roles) && name.n)
			m.name[m.count++] = name;
	}
	return m;
}

/* What a digest was made with stays on the disk as long as somebody goes on with it. */
static void touch(struct idle_notes *n, const struct notes_offer *o)
{
	struct keep *k = n->all->devices->keep;
	for (size_t i = 0; i < o->noted_count && k; i++) {
		uint64_t key = notes_digest_key(o->noted[i].chain);
		if (memo_is_first_look(n->table.digests, key))
			keep_note(k, STORE_DIGEST, key, o->noted[i].notes);
	}
}

void chat_notes_offer(struct chat *c)
{
	const struct config *conf = c->base.all->config;
	struct idle_notes *n = c->base.all->notes;
	size_t unit_bytes = conf->condense.idle_notes ? notes_unit_bytes(conf) : 0;
	struct notes_models models = models_of(c->base.all->devices);
	if (!c->adaptive)
		return;
	if (notes_offer_make(&c->offer, &n->table, &c->view, c->condense.chains, c->condense.groups,
		    &models, unit_bytes))
		log_line(LOG_ERROR, "out_of_memory", LOG_STR("req", c->base.id),
			LOG_STR("lost", "notes of the digest"), LOG_END);
	notes_offer_tell(&c->offer, &c->condense.options);
	touch(n, &c->offer);
}

bool chat_notes_decide(struct chat *c)
{
	struct idle_notes *n = c->base.all->notes;
	const struct layout *l = &c->condense.layout;
	if (!c->adaptive)
		return true;
	size_t now =
		notes_decisions(&n->table, c->condense.chains, c->condense.groups, c->view.count);
	if (now != c->offer.noted_count)
		return false;
	if (l->took_offered)
		idle_notes_decided(n, c->condense.chains[c->view.count - 1],
			buf_slice(&c->offer.offered), l->noted_bytes);
	return true;
}

/* --- groups to write about --- */

struct reading {
	uv_work_t work;
	struct chat *chat; /* held */
	unsigned device;   /* its number: it may be gone by then */
	size_t piece_bytes;
	struct layout_unit wanted[IDLE_UNITS_MAX];
	struct idle_unit unit[IDLE_UNITS_MAX];
	size_t count;
};

static void read_work(uv_work_t *work)
{
	struct reading *r = work->data;
	for (size_t i = 0; i < r->count; i++) {
		struct idle_unit *u = &r->unit[i];
		u->key = r->wanted[i].key;
		if (layout_unit_read(
			    &r->chat->view, &r->wanted[i], r->piece_bytes, u->text, &u->count))
			u->count = 0;
	}
}

static void reading_free(struct reading *r)
{
	struct chat *c = r->chat;
	for (size_t i = 0; i < r->count; i++)
		for (size_t k = 0; k < LAYOUT_UNIT_CHUNKS; k++)
			buf_free(&r->unit[i].text[k]);
	c->base.all->notes->reading = false;
	free(r);
	request_release(&c->base);
}

static void read_done(uv_work_t *work, int status)
{
	struct reading *r = work->data;
	struct chat *c = r->chat;
	struct device *d = idle_notes_device(c->base.all->notes);
	(void)status;
	if (d && d->number == r->device) {
		idle_notes_start(c->base.all->notes, d, r->unit, r->count, slice_str(c->base.id),
			c->base.client);
		r->count = 0;
	}
	reading_free(r);
}

/* Those without notes: of the groups that come into the digest next, then of those in it. */
static size_t without_notes(const struct chat *c, struct slice model, const struct layout_unit *u,
	size_t n, struct layout_unit out[IDLE_UNITS_MAX])
{
	uint32_t merged = c->condense.layout.merged_to;
	struct memo *notes = c->base.all->notes->table.notes;
	size_t count = 0;
	struct slice text;
	for (unsigned in_digest = 0; in_digest < 2; in_digest++)
		for (size_t i = 0; i < n && count < IDLE_UNITS_MAX; i++)
			if ((u[i].to <= merged) == in_digest &&
				!memo_get(notes, notes_key(u[i].key, model), &text))
				out[count++] = u[i];
	return count;
}

static void read_units(struct chat *c, const struct device *d, uint32_t end)
{
	const struct config *conf = c->base.all->config;
	struct layout_unit *units = NULL;
	struct reading *r = calloc(1, sizeof(*r));
	size_t n = 0;
	if (r && layout_units(&c->view, end, notes_unit_bytes(conf), &units, &n) == 0)
		r->count = without_notes(c, slice_str(device_model(d)), units, n, r->wanted);
	free(units);
	if (!r || r->count == 0) {
		free(r);
		return;
	}
	r->chat = c;
	r->device = d->number;
	r->piece_bytes = idle_notes_piece_bytes(conf, d);
	r->work.data = r;
	request_hold(&c->base);
	c->base.all->notes->reading = true;
	if (uv_queue_work(c->base.all->loop, &r->work, read_work, read_done))
		reading_free(r);
}

void chat_notes_write(struct chat *c)
{
	struct idle_notes *n = c->base.all->notes;
	uint32_t end = c->adaptive && c->has_condense && !c->weighed.one_shot
			       ? layout_digest_is_near(&c->condense.layout)
			       : 0;
	if (end < 2 || n->reading || c->view.messages_array.raw.n > NOTES_BODY_MAX)
		return;
	const struct device *d = idle_notes_device(n);
	if (d)
		read_units(c, d, end);
}
