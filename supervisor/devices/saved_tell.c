/* What a worker says of conversations in files, and what of it outlasts this tandemd. */
#include "supervisor/devices/devices.h"
#include "supervisor/devices/warm.h"

#include <stdlib.h>

/* What was last sent of the conversation, in the backend's tokens; kept for the next tandemd, too. */
static struct saved_chat *remember(struct device *d, uint64_t id)
{
	struct foresight *f = &d->foresight;
	struct saved_chat *known = saved_get(&f->saved, id);
	struct prefix_chain chain = {0};
	bool fresh = f->map && prefix_copy(f->map, id, &chain) == 0;
	if (!fresh && known && known->chain.count)
		return known;
	if (!fresh && d->all->keep)
		keep_chain(d->all->keep, id, &chain);
	if (chain.count && d->all->keep)
		keep_save_chain(d->all->keep, id, &chain);
	return saved_put(&f->saved, id, &chain);
}

/* Slots hold them since the start of this worker's backend. They were restored with the one used last first, which
 * leaves its slot last, too. */
static void load_ready(struct foresight *f, uint64_t generation)
{
	struct saved_chat *last;
	do {
		last = NULL;
		for (size_t i = 0; i < f->saved.count; i++) {
			struct saved_chat *e = &f->saved.of[i];
			if (e->ready && e->ready_of == generation &&
				(!last || e->ready > last->ready))
				last = e;
		}
		if (last) {
			last->ready = 0;
			foresight_loaded(f, last);
		}
	} while (last);
}

/* Another process has other caches, or none. One that outlives its worker keeps its own. */
void device_learned(struct worker *w)
{
	struct device *d = w->device;
	warm_learned(w);
	if (w != d->current)
		return;
	if (w->backend.pid != d->caches_pid || w->backend.start != d->caches_start) {
		d->caches_pid = w->backend.pid;
		d->caches_start = w->backend.start;
		foresight_forget(&d->foresight);
	}
	if (w->backend.state == STATE_READY)
		load_ready(&d->foresight, w->generation);
}

void device_kept(struct worker *w, const struct proto_record *r)
{
	struct device *d = w->device;
	struct saved *s = &d->foresight.saved;
	enum proto_kept what = r->u.kept.what;
	uint64_t id = r->u.kept.conversation;
	struct saved_chat *e =
		what == KEPT_THERE || what == KEPT_SAVED ? remember(d, id) : saved_get(s, id);
	if (e && what != KEPT_GONE && what != KEPT_WRONG) {
		e->tokens = (double)r->u.kept.tokens;
		e->bytes = (double)r->u.kept.bytes;
		e->there = true;
	} else if (e) {
		e->there = false;
		e->loaded &= what == KEPT_GONE;
	}
	s->saves += what == KEPT_SAVED;
	s->wrong += what == KEPT_WRONG;
	if (what == KEPT_LIST)
		saved_list(s);
	else if (what == KEPT_OFF)
		s->off = true;
	else if (what == KEPT_RESTORED)
		saved_restored(s, (double)r->u.kept.bytes, r->u.kept.ms);
	/* At a start. What is restored for a request is known from the request. */
	if (e && what == KEPT_RESTORED && w->state == WORKER_LOADING) {
		e->ready = s->restores;
		e->ready_of = w->generation;
	}
}
