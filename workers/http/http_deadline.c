/*
 * Deadlines of transfers. They are coarse: one look at all of them a sweep, not one timer each.
 */
#include "workers/http/http_internal.h"

#define SWEEP_MIN_MS 10

static void on_sweep(uv_timer_t *timer);

/* Its answer has. */
static bool has_begun(const struct http_transfer *t)
{
	return t->head_done && !t->early_head;
}

static uint64_t transfer_deadline(const struct http_transfer *t)
{
	uint64_t at = UINT64_MAX;
	if (t->total_ms > 0)
		at = t->started_ms + (uint64_t)t->total_ms;
	if (t->first_ms > 0 && !has_begun(t) && t->started_ms + (uint64_t)t->first_ms < at)
		at = t->started_ms + (uint64_t)t->first_ms;
	if (t->idle_ms > 0) {
		/*
		 * before the first byte and while paused the clock stands still: look again later
		 */
		uint64_t from = has_begun(t) && !(t->held & HOLD_RECEIVER) ? t->last_ms
									   : uv_now(t->http->loop);
		if (from + (uint64_t)t->idle_ms < at)
			at = from + (uint64_t)t->idle_ms;
	}
	return at;
}

static void sweep_arm(struct http *h, uint64_t at)
{
	if (at == UINT64_MAX || (h->sweep_at && h->sweep_at <= at))
		return;
	uint64_t now = uv_now(h->loop);
	uint64_t wait = at > now ? at - now : 0;
	h->sweep_at = at;
	uv_timer_start(&h->sweep, on_sweep, wait < SWEEP_MIN_MS ? SWEEP_MIN_MS : wait, 0);
}

static void on_sweep(uv_timer_t *timer)
{
	struct http *h = timer->data;
	uint64_t now = uv_now(h->loop), earliest = UINT64_MAX;
	h->sweep_at = 0;
	struct http_transfer *t = h->active;
	while (t) {
		uint64_t at = transfer_deadline(t);
		if (at <= now) {
			bool total =
				t->total_ms > 0 && t->started_ms + (uint64_t)t->total_ms <= now;
			http_transfer_finish(t, total ? HTTP_TOTAL : HTTP_IDLE);
			/* done() may have started or cancelled others */
			t = h->active;
			earliest = UINT64_MAX;
			continue;
		}
		h->waits += !has_begun(t) || t->held & HOLD_RECEIVER;
		if (at < earliest)
			earliest = at;
		t = t->next;
	}
	sweep_arm(h, earliest);
}

void http_watch_deadlines(struct http_transfer *t)
{
	sweep_arm(t->http, transfer_deadline(t));
}

void http_hurry(struct http_transfer *t, int64_t ms)
{
	int64_t total = (int64_t)(uv_now(t->http->loop) - t->started_ms) + ms;
	if (t->total_ms == 0 || total < t->total_ms)
		t->total_ms = total;
	http_watch_deadlines(t);
}

uint64_t http_last_byte_ms(const struct http *h)
{
	return h->last_byte_ms;
}

uint64_t http_waits(const struct http *h)
{
	return h ? h->waits : 0;
}
