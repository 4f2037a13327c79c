#include "supervisor/tell/stats.h"

#include "common/base/log.h"
#include "supervisor/devices/job.h"
#include "supervisor/devices/nvml.h"
#include "supervisor/tell/commands.h"
#include "supervisor/tell/events.h"
#include "supervisor/tell/stats_put.h"

#include <stdio.h>
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
	put_real(b, "prefill_tok_s", d->prefill_tok_s);
	put_real(b, "decode_tok_s", d->decode_tok_s);
	buf_add_char(b, '}');
}

static void put_requests(struct buf *b, const struct supervisor *s)
{
	const struct counters *c = &s->count;
	put_open(b, "requests", '{');
	put_int(b, "active", s->active);
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

void stats_status(const struct supervisor *s, struct buf *b)
{
	unsigned connections = 0, exchanges = 0;
	doors_counts(s, &connections, &exchanges);
	put_string(b, "version", TANDEM_VERSION);
	put_int(b, "pid", getpid());
	put_real(b, "uptime_s", (double)(now_ms() - s->started_ms) / 1000.0);
	put_string(b, "listen", s->front ? front_address(s->front) : NULL);
	put_open(b, "old_pids", '[');
	const struct elder *e;
	TAILQ_FOREACH(e, &s->elders.list, link)
		buf_printf(b, "%s%d", e == TAILQ_FIRST(&s->elders.list) ? "" : ",", (int)e->pid);
	buf_add_char(b, ']');
	put_open(b, "devices", '[');
	for (size_t i = 0; i < s->device_count; i++)
		put_device(b, s->devices[i]);
	buf_add_char(b, ']');
	put_requests(b, s);
	put_open(b, "queue", '{');
	stats_put_queue(b, s);
	buf_add_char(b, '}');
	put_int(b, "connections", connections);
	put_int(b, "held_bytes", (int64_t)s->held_bytes);
	put_int(b, "layout_bytes", (int64_t)layout_cache_bytes(s->layouts));
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

/* --- the sockets --- */

static int open_sockets(struct supervisor *s)
{
	char path[RUNDIR_BYTES];
	rundir_socket(&s->rundir, "stats", path);
	int rc = rep_start(s->loop, path, commands_answer, s, &s->stats);
	if (rc == 0) {
		rundir_socket(&s->rundir, "events", path);
		rc = events_start(s->loop, path, (size_t)s->config.limits.event_bytes, &s->events);
	}
	if (rc)
		log_line(LOG_ERROR, "stats_socket", LOG_STR("run_dir", s->run_dir),
			LOG_STR("error", strerror(-rc)), LOG_END);
	return rc;
}

static void close_sockets(struct supervisor *s)
{
	if (s->stats)
		rep_stop(s->stats);
	if (s->events)
		events_stop(s->events);
	s->stats = NULL;
	s->events = NULL;
}

int stats_start(struct supervisor *s)
{
	int rc = nvml_create(s->loop, &s->nvml);
	return rc ? rc : open_sockets(s);
}

int stats_reopen(struct supervisor *s)
{
	close_sockets(s);
	return open_sockets(s);
}

void stats_stop(struct supervisor *s)
{
	close_sockets(s);
	if (s->nvml)
		nvml_destroy(s->nvml);
	s->nvml = NULL;
}
