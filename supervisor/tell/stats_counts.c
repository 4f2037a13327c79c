/* The sums: counters, histograms, and what nng counts for itself. */
#include "common/base/log_out.h"
#include "supervisor/requests/idle_notes.h"
#include "supervisor/tell/events.h"
#include "supervisor/tell/stats.h"
#include "supervisor/tell/stats_put.h"

#include <nng/nng.h>

/* --- counters: monotonic since tandemd's start, over every incarnation of a worker --- */

static void put_device_counters(struct buf *b, const struct device_totals *d)
{
	put_element(b);
	put_string(b, "device", d->device);
	put_int(b, "jobs_done", (int64_t)d->jobs_done);
	put_int(b, "jobs_failed", (int64_t)d->jobs_failed);
	put_int(b, "starts", (int64_t)d->starts);
	put_int(b, "restarts", (int64_t)d->restarts);
	put_int(b, "heartbeats", (int64_t)d->heartbeats);
	put_int(b, "bytes_in", (int64_t)d->bytes_in);
	put_int(b, "bytes_out", (int64_t)d->bytes_out);
	buf_add_char(b, '}');
}

static void add_devices(struct totals *t, struct device *const *devices, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct device_totals d = device_totals(devices[i]);
		totals_add(t, &d);
	}
}

/* By name, with what a reload has removed: no sum ever falls. */
static void put_devices_counters(struct buf *b, const struct devices *s)
{
	struct totals sums = {.count = 0};
	add_devices(&sums, s->of, s->count);
	add_devices(&sums, s->removed, s->removed_count);
	for (size_t i = 0; i < s->past.count; i++)
		totals_add(&sums, &s->past.of[i]);
	put_open(b, "devices", '[');
	for (size_t i = 0; i < sums.count; i++)
		put_device_counters(b, &sums.of[i]);
	buf_add_char(b, ']');
}

static void put_notes_counters(struct buf *b, const struct requests *s)
{
	static const struct idle_notes_counts none;
	const struct idle_notes_counts *n = s->notes ? &s->notes->count : &none;
	put_int(b, "notes_written", (int64_t)n->written);
	put_int(b, "notes_kept", (int64_t)n->kept);
	put_int(b, "notes_dropped", (int64_t)n->dropped);
	put_int(b, "notes_used", (int64_t)n->used);
	put_int(b, "notes_preempted", (int64_t)n->preempted);
	put_int(b, "notes_failed", (int64_t)n->failed);
	put_int(b, "notes_bytes", (int64_t)n->bytes);
}

void stats_put_notes(struct buf *b, const struct requests *s)
{
	static const struct idle_notes none;
	const struct idle_notes *n = s->notes ? s->notes : &none;
	put_open(b, "notes", '{');
	put_int(b, "units", (int64_t)memo_count(n->table.notes));
	put_int(b, "digests", (int64_t)memo_count(n->table.digests));
	put_int(b, "held_bytes",
		(int64_t)(memo_bytes(n->table.notes) + memo_bytes(n->table.digests)));
	put_int(b, "models_off", notes_worth_off(&n->worth));
	buf_add_char(b, '}');
}

void stats_counters(const struct tell *t, struct buf *b)
{
	const struct counters *c = &t->requests->count;
	put_int(b, "requests", (int64_t)c->requests);
	put_int(b, "passed", (int64_t)c->passed);
	put_int(b, "failed", (int64_t)c->failed);
	put_int(b, "refused", (int64_t)c->refused);
	put_int(b, "cancelled", (int64_t)c->cancelled);
	put_int(b, "fallbacks", (int64_t)c->fallbacks);
	put_int(b, "strategy_a", (int64_t)c->by_strategy[0]);
	put_int(b, "strategy_b", (int64_t)c->by_strategy[1]);
	put_int(b, "strategy_c", (int64_t)c->by_strategy[2]);
	put_int(b, "early_freezes", (int64_t)c->early_freezes);
	put_notes_counters(b, t->requests);
	put_int(b, "jobs", (int64_t)t->devices->next_job);
	put_int(b, "operations", (int64_t)t->life->operations.last_id);
	if (t->events) {
		struct events_counts e = events_counts(t->events);
		put_int(b, "events", (int64_t)e.events);
		put_int(b, "events_lost", (int64_t)e.lost);
	}
	put_int(b, "log_lines_lost", (int64_t)log_out_lost_ever().lines);
	put_devices_counters(b, t->devices);
}

/* --- histograms --- */

static void put_histograms(struct buf *b, const char *key, const struct histogram *h,
	const char *const *names, size_t n)
{
	put_open(b, key, '{');
	for (size_t i = 0; i < n; i++) {
		json_put_key(b, names[i]);
		histogram_json(&h[i], b);
	}
	buf_add_char(b, '}');
}

void stats_histograms(const struct tell *t, struct buf *b)
{
	static const char *const strategies[TIMED_STRATEGIES] = {"A", "B", "C", "pass"};
	static const char *const kinds[TIMED_KINDS] = {"chat", "notes", "pass", "warm"};
	put_histograms(
		b, "first_byte", t->requests->times.first_byte, strategies, TIMED_STRATEGIES);
	put_histograms(b, "total", t->requests->times.total, strategies, TIMED_STRATEGIES);
	put_histograms(b, "queue_wait", t->devices->times.queue_wait, kinds, TIMED_KINDS);
	put_histograms(b, "backend", t->devices->times.backend, kinds, TIMED_KINDS);
	put_histograms(
		b, "prediction_error", t->requests->predictions.error, strategies, STRATEGIES);
	put_open(b, "prediction_percent", '{');
	for (size_t i = 0; i < STRATEGIES; i++) {
		json_put_key(b, strategies[i]);
		histogram_json_of(&t->requests->predictions.percent[i], "percent", b);
	}
	buf_add_char(b, '}');
}

/* --- nng --- */

/* The device whose link an nng socket of that id is, or NULL. */
static const char *device_of_socket(const struct tell *t, uint64_t id)
{
	const struct worker *w;
	for (size_t i = 0; i < t->devices->count; i++)
		TAILQ_FOREACH(w, &t->devices->of[i]->workers, link)
			if (w->channel && channel_has_socket(w->channel, id))
				return t->devices->of[i]->conf->name;
	return NULL;
}

static void put_value(struct buf *b, nng_stat *stat)
{
	static const char *const units[] = {NULL, "bytes", "messages", "ms", "events"};
	int unit = nng_stat_unit(stat);
	switch (nng_stat_type(stat)) {
	case NNG_STAT_LEVEL:
	case NNG_STAT_COUNTER:
	case NNG_STAT_ID:
		put_int(b, "value", (int64_t)nng_stat_value(stat));
		break;
	case NNG_STAT_STRING:
		put_string(b, "value", nng_stat_string(stat));
		break;
	case NNG_STAT_BOOLEAN:
		json_put_key(b, "value");
		buf_add_str(b, nng_stat_bool(stat) ? "true" : "false");
		break;
	default:
		return;
	}
	if (unit > 0 && unit < (int)(sizeof(units) / sizeof(*units)))
		put_string(b, "unit", units[unit]);
}

static void put_stat(struct buf *b, const struct tell *t, nng_stat *stat)
{
	nng_stat *child;
	put_element(b);
	put_string(b, "name", nng_stat_name(stat));
	put_value(b, stat);
	if (nng_stat_child(stat)) {
		for (child = nng_stat_child(stat); child; child = nng_stat_next(child))
			if (nng_stat_type(child) == NNG_STAT_ID &&
				strcmp(nng_stat_name(child), "id") == 0 &&
				strcmp(nng_stat_name(stat), "socket") == 0)
				put_string(b, "device", device_of_socket(t, nng_stat_value(child)));
		put_open(b, "children", '[');
		for (child = nng_stat_child(stat); child; child = nng_stat_next(child))
			put_stat(b, t, child);
		buf_add_char(b, ']');
	}
	buf_add_char(b, '}');
}

void stats_nng(const struct tell *t, struct buf *b)
{
	nng_stat *root = NULL;
	int rc = nng_stats_get(&root);
	put_string(b, "version", nng_version());
	put_string(b, "reason", rc ? nng_strerror(rc) : NULL);
	put_open(b, "stats", '[');
	for (nng_stat *top = rc ? NULL : nng_stat_child(root); top; top = nng_stat_next(top))
		put_stat(b, t, top);
	buf_add_char(b, ']');
	if (rc == 0)
		nng_stats_free(root);
}
