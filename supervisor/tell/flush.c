#include "supervisor/tell/flush.h"

#include "common/base/log.h"
#include "supervisor/devices/devices.h"

#include <stdlib.h>

struct waiting {
	TAILQ_ENTRY(waiting) link;
	struct rep_question *q;
	uint64_t due_ms;
};

TAILQ_HEAD(waiting_list, waiting);

struct flush {
	struct devices *devices;
	uv_timer_t timer;
	struct waiting_list waiting; /* the oldest first */
};

typedef bool worker_fn(struct worker *w);

static bool any_worker(struct device *const *devices, size_t n, worker_fn *fn)
{
	bool any = false;
	struct worker *w;
	for (size_t i = 0; i < n; i++)
		TAILQ_FOREACH(w, &devices[i]->workers, link)
			any |= fn(w);
	return any;
}

/* Of all workers, those of removed devices included: fn is true of one. */
static bool any(const struct devices *s, worker_fn *fn)
{
	bool of_present = any_worker(s->of, s->count, fn);
	return any_worker(s->removed, s->removed_count, fn) || of_present;
}

static void answer_first(struct flush *f, bool all)
{
	struct waiting *w = TAILQ_FIRST(&f->waiting);
	bool written = log_flush();
	TAILQ_REMOVE(&f->waiting, w, link);
	rep_reply(w->q, all && written ? SLICE("\"flushed\":true}") : SLICE("\"flushed\":false}"));
	free(w);
}

static void on_timer(uv_timer_t *timer)
{
	struct flush *f = timer->data;
	const struct waiting *first;
	bool all = !any(f->devices, worker_flushing);
	while ((first = TAILQ_FIRST(&f->waiting)) && (all || first->due_ms <= now_ms()))
		answer_first(f, all);
	if (first) {
		uint64_t now = now_ms();
		uv_timer_start(timer, on_timer, first->due_ms > now ? first->due_ms - now : 1, 0);
	}
}

/* In a turn of its own: what comes of a worker's end is logged first. */
void flush_look(struct flush *f)
{
	if (f && !TAILQ_EMPTY(&f->waiting) && !any(f->devices, worker_flushing))
		uv_timer_start(&f->timer, on_timer, 0, 0);
}

enum rep_when flush_ask(struct flush *f, struct rep_question *q, struct buf *out)
{
	if (!any(f->devices, worker_flush)) {
		buf_add_str(out, log_flush() ? "\"flushed\":true" : "\"flushed\":false");
		return REP_NOW;
	}
	struct waiting *w = malloc(sizeof(*w));
	if (!w) {
		buf_add_str(out, "\"error\":\"out of memory\"");
		return REP_NOW;
	}
	*w = (struct waiting){.q = q, .due_ms = now_ms() + FLUSH_MS};
	TAILQ_INSERT_TAIL(&f->waiting, w, link);
	if (!uv_is_active((uv_handle_t *)&f->timer))
		uv_timer_start(&f->timer, on_timer, FLUSH_MS, 0);
	return REP_LATER;
}

/* --- life --- */

struct flush *flush_create(uv_loop_t *loop, struct devices *devices)
{
	struct flush *f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->devices = devices;
	TAILQ_INIT(&f->waiting);
	uv_timer_init(loop, &f->timer);
	f->timer.data = f;
	return f;
}

static void on_closed(uv_handle_t *h)
{
	free(h->data);
}

void flush_destroy(struct flush *f)
{
	if (!f)
		return;
	while (!TAILQ_EMPTY(&f->waiting))
		answer_first(f, false);
	uv_close((uv_handle_t *)&f->timer, on_closed);
}
