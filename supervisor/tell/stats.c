#include "supervisor/tell/stats.h"

#include "supervisor/devices/job.h"
#include "supervisor/tell/stats_put.h"

#include <unistd.h>

/* --- status --- */

static void put_device(struct buf *b, const struct device *d)
{
	put_element(b);
	put_string(b, "name", d->conf->name);
	put_open(b, "roles", '[');
	if (d->conf->roles & ROLE_MAIN)
		buf_add_str(b, "\"main\"");
	if (d->conf->roles & ROLE_CONDENSE)
		buf_add_str(b, d->conf->roles & ROLE_MAIN ? ",\"condense\"" : "\"condense\"");
	buf_add_char(b, ']');
	stats_put_worker(b, d->current);
	put_open(b, "backend", '{');
	stats_put_backend(b, d);
	buf_add_char(b, '}');
	put_int(b, "slots", device_slots(d));
	put_int(b, "inflight", d->inflight);
	put_int(b, "waiting", jobs_waiting(d));
	stats_put_classes(b, d);
	put_open(b, "jobs", '{');
	put_int(b, "done", (int64_t)d->jobs_done);
	put_int(b, "failed", (int64_t)d->jobs_failed);
	put_int(b, "preempted", (int64_t)d->jobs_preempted);
	buf_add_char(b, '}');
	put_open(b, "warming", '{');
	put_int(b, "running", d->warming != NULL);
	put_int(b, "done", (int64_t)d->warmed);
	put_int(b, "cancelled", (int64_t)d->warmings_cancelled);
	buf_add_char(b, '}');
	put_open(b, "notes", '{');
	put_int(b, "running", d->noting != NULL);
	put_int(b, "done", (int64_t)d->noted);
	put_int(b, "cancelled", (int64_t)d->notings_cancelled);
	buf_add_char(b, '}');
	put_real(b, "prefill_tok_s", d->prefill_tok_s);
	put_real(b, "decode_tok_s", d->decode_tok_s);
	buf_add_char(b, '}');
}

static void put_requests(struct buf *b, const struct tell *t)
{
	const struct counters *c = &t->requests->count;
	put_open(b, "requests", '{');
	put_int(b, "active", t->requests->active);
	put_int(b, "total", (int64_t)c->requests);
	put_int(b, "failed", (int64_t)c->failed);
	put_int(b, "refused", (int64_t)c->refused);
	put_int(b, "cancelled", (int64_t)c->cancelled);
	put_int(b, "fallbacks", (int64_t)c->fallbacks);
	put_int(b, "passed", (int64_t)c->passed);
	put_int(b, "coalesced", (int64_t)c->coalesced);
	put_int(b, "resumed", (int64_t)c->resumed);
	put_open(b, "by_strategy", '{');
	put_int(b, "A", (int64_t)c->by_strategy[0]);
	put_int(b, "B", (int64_t)c->by_strategy[1]);
	put_int(b, "C", (int64_t)c->by_strategy[2]);
	buf_add_str(b, "}}");
}

void stats_status(const struct tell *t, struct buf *b)
{
	unsigned connections = 0, exchanges = 0;
	doors_counts(t->life, &connections, &exchanges);
	put_string(b, "version", TANDEM_VERSION);
	put_int(b, "pid", getpid());
	put_real(b, "uptime_s", (double)(now_ms() - t->requests->started_ms) / 1000.0);
	put_string(b, "listen", t->life->front ? front_address(t->life->front) : NULL);
	put_open(b, "old_pids", '[');
	const struct elder *e;
	TAILQ_FOREACH(e, &t->life->elders.list, link)
		buf_printf(
			b, "%s%d", e == TAILQ_FIRST(&t->life->elders.list) ? "" : ",", (int)e->pid);
	buf_add_char(b, ']');
	put_open(b, "devices", '[');
	for (size_t i = 0; i < t->devices->count; i++)
		put_device(b, t->devices->of[i]);
	buf_add_char(b, ']');
	put_requests(b, t);
	put_open(b, "queue", '{');
	stats_put_queue(b, t);
	buf_add_char(b, '}');
	put_int(b, "connections", connections);
	put_int(b, "held_bytes", (int64_t)t->requests->held_bytes);
	put_int(b, "layout_bytes", (int64_t)layout_cache_bytes(t->requests->layouts));
	stats_put_notes(b, t->requests);
}

void stats_operation(const struct operation *op, struct buf *b)
{
	uint64_t end = op->ended_ms ? op->ended_ms : now_ms();
	put_int(b, "operation", (int64_t)op->id);
	put_string(b, "kind", op->kind);
	put_string(b, "target", op->target);
	/* A part may have failed while others are under way: the whole is not decided yet. */
	put_string(b, "state", operation_state_name(op->ended_ms ? op->state : OPERATION_RUNNING));
	put_string(b, "why", op->why);
	put_int(b, "ms", (int64_t)(end - op->begun_ms));
}
