#include "supervisor/requests/requests.h"

#include "supervisor/front/origin.h"
#include "supervisor/requests/access.h"
#include "supervisor/requests/guardian.h"
#include "supervisor/requests/idle_notes.h"
#include "supervisor/requests/page.h"
#include "supervisor/requests/request.h"
#include "supervisor/requests/scrape.h"

#include <errno.h>

/* --- the front door's events --- */

/* Exactly, and without a slot, where all devices can; else an estimate answers. */
static bool counted_behind(const struct requests *s, enum dialect d)
{
	bool exact = dialect_counts_behind(d) && s->devices->count > 0;
	for (size_t i = 0; i < s->devices->count; i++)
		exact = exact && device_has(s->devices->of[i], TRAIT_COUNTS);
	return exact;
}

static void on_head(void *ctx, struct exchange *x)
{
	struct requests *s = ctx;
	if (origin_gate(x, s->loopback, s->config->origins))
		return;
	struct route route;
	route_find(exchange_method(x), exchange_path(x), &route);
	if (route.kind == ROUTE_METRICS && s->config->metrics.address)
		route.kind = ROUTE_PASS; /* the backend's own */
	if (route.kind == ROUTE_PAGE && !s->config->ui)
		route.kind = ROUTE_PASS; /* the backend's own */
	if (route.kind == ROUTE_PAGE) {
		page_begin(s, x, &route);
		return;
	}
	if (access_gate(s, x, &route))
		return;
	if (route.kind == ROUTE_CHAT && !counted_behind(s, route.dialect))
		chat_begin(s, x, route.dialect);
	else if (route.kind == ROUTE_METRICS)
		scrape_begin(s, x);
	else if (route.kind == ROUTE_PS)
		loaded_begin(s, x);
	else if (!probe_answer(s, x, &route))
		pass_begin(s, x, &route);
}

static void on_metrics_head(void *ctx, struct exchange *x)
{
	struct requests *s = ctx;
	if (origin_gate(x, s->metrics_loopback, s->config->origins))
		return;
	struct route route;
	route_find(exchange_method(x), exchange_path(x), &route);
	if (access_gate(s, x, &route))
		return;
	if (route.kind == ROUTE_METRICS)
		scrape_begin(s, x);
	else
		exchange_reply(x, 404, "text/plain; charset=utf-8",
			SLICE("/metrics is all there is here\n"));
}

static size_t on_body(void *ctx, struct exchange *x, const char *p, size_t n)
{
	(void)ctx;
	struct request *r = exchange_context(x);
	return r ? r->ops->body(r, p, n) : n;
}

static void on_body_end(void *ctx, struct exchange *x)
{
	(void)ctx;
	struct request *r = exchange_context(x);
	if (r)
		r->ops->body_end(r);
}

static void on_sent(void *ctx, struct exchange *x, size_t n)
{
	(void)ctx;
	struct request *r = exchange_context(x);
	if (r)
		r->ops->sent(r, n);
}

static void on_gone(void *ctx, struct exchange *x)
{
	(void)ctx;
	struct request *r = exchange_context(x);
	if (r)
		r->ops->gone(r);
}

static void on_done(void *ctx, struct exchange *x)
{
	(void)ctx;
	struct request *r = exchange_context(x);
	if (!r)
		return;
	r->ops->gone(r); /* the front door's own end tells of no other; one that is over ignores it
			  */
	r = exchange_context(x); /* another one where that handed its exchange over (audience.h) */
	exchange_set_context(x, NULL);
	r->exchange = NULL;
	if (r->caller)
		callers_answered(r->caller);
	request_release(r);
}

const struct front_events requests_front_events = {.head = on_head,
	.body = on_body,
	.body_end = on_body_end,
	.sent = on_sent,
	.gone = on_gone,
	.done = on_done};

const struct front_events requests_metrics_events = {.head = on_metrics_head,
	.body = on_body,
	.body_end = on_body_end,
	.sent = on_sent,
	.gone = on_gone,
	.done = on_done};

/* --- all of them --- */

static void on_recorded(void *ctx, const struct record *r)
{
	struct requests *s = ctx;
	if (s->events->recorded)
		s->events->recorded(s->ctx, r);
}

static void on_recorded_late(void *ctx, const struct record *r, const struct step *it)
{
	struct requests *s = ctx;
	if (s->events->recorded_late)
		s->events->recorded_late(s->ctx, r, it);
}

void requests_init(
	struct requests *s, uv_loop_t *loop, const struct requests_events *events, void *ctx)
{
	s->loop = loop;
	s->events = events;
	s->ctx = ctx;
	TAILQ_INIT(&s->list);
	TAILQ_INIT(&s->chats);
	callers_init(&s->callers);
	history_init(&s->history);
	contents_init(&s->contents);
	s->history.ended = on_recorded;
	s->history.late = on_recorded_late;
	s->history.ctx = s;
	uv_random(NULL, NULL, s->client_secret, sizeof(s->client_secret), 0, NULL);
	s->started_ms = now_ms();
}

static void limit_history(struct requests *s)
{
	bool content = s->config->log.content;
	contents_limit(&s->contents, content ? (size_t)s->config->limits.content_bytes : 0);
	history_limit(&s->history, (size_t)s->config->limits.history,
		(size_t)s->config->limits.history_bytes, (size_t)s->config->limits.request_steps);
	history_limit_messages(&s->history, (size_t)s->config->limits.request_messages);
}

static void remember_window(void *ctx, uint64_t beginning, double window)
{
	layout_cache_set_window(ctx, beginning, window);
}

int requests_open(struct requests *s, const char *state_dir, size_t layout_bytes)
{
	limit_history(s);
	compact_key_open(&s->compact_key, state_dir);
	s->layouts = layout_cache_create(layout_bytes);
	if (!s->layouts || measures_init(&s->measures, (size_t)s->config->metrics.series))
		return -ENOMEM;
	if (s->devices->keep)
		keep_windows(s->devices->keep, remember_window, s->layouts);
	s->guardian = guardian_create((size_t)s->config->limits.conversations,
		(size_t)s->config->limits.conversation_bytes);
	s->notes = idle_notes_create(s);
	return s->guardian && s->notes ? 0 : -ENOMEM;
}

void requests_free(struct requests *s)
{
	idle_notes_destroy(s->notes);
	guardian_destroy(s->guardian);
	layout_cache_destroy(s->layouts);
	callers_fini(&s->callers);
	measures_fini(&s->measures);
	history_fini(&s->history);
	contents_fini(&s->contents);
}

void requests_reloaded(struct requests *s)
{
	layout_cache_limit(s->layouts, (size_t)s->config->limits.layout_bytes);
	guardian_limit(s->guardian, (size_t)s->config->limits.conversations,
		(size_t)s->config->limits.conversation_bytes);
	idle_notes_reloaded(s->notes);
	limit_history(s);
	callers_reloaded(&s->callers, &s->config->access.keys);
}

uint64_t requests_oldest_ms(const struct requests *s)
{
	const struct request *oldest = TAILQ_FIRST(&s->list);
	return oldest ? oldest->begun_ms : UINT64_MAX;
}

bool requests_cancel(struct requests *s, const char *id)
{
	struct request *r;
	TAILQ_FOREACH(r, &s->list, link)
		if (strcmp(r->id, id) == 0) {
			r->ops->cancel(r);
			return true;
		}
	return false;
}
