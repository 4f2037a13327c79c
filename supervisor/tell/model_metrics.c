/* What is measured, as families of samples (prometheus.h): the whole document, condensing, predictions, tandemd itself. */
#include "common/base/log_out.h"
#include "supervisor/requests/guardian.h"
#include "supervisor/requests/idle_notes.h"
#include "supervisor/requests/plan.h"
#include "supervisor/tell/documents.h"
#include "supervisor/tell/events.h"
#include "supervisor/tell/metrics.h"
#include "supervisor/tell/traces.h"

static const struct requests *requests_of(const void *of)
{
	return ((const struct metrics_view *)of)->tell->requests;
}

/* --- what is counted by one label, or none --- */

struct named {
	const char *label;
	uint64_t count;
	const struct histogram *histogram;
};

static void get_named(const void *of, const struct field *f, struct field_value *out)
{
	const struct named *n = of;
	if (f->type == FIELD_TEXT)
		field_say_text(out, n->label);
	else if (f->type == FIELD_HISTOGRAM)
		out->histogram = n->histogram;
	else
		out->number = (int64_t)n->count;
}

#define NAMED_HISTOGRAM(unit_)                                                                     \
	{                                                                                          \
		.name = "value", .type = FIELD_HISTOGRAM, .kind = FIELD_COUNT, .unit = (unit_),    \
		.get = get_named                                                                   \
	}

static const struct field by_kind[] = {LABEL("kind", get_named, 0), COUNT(get_named)};
static const struct field by_route[] = {LABEL("route", get_named, 0), COUNT(get_named)};
static const struct field ms_by_route[] = {LABEL("route", get_named, 0), NAMED_HISTOGRAM("ms")};
static const struct field percent_by_route[] = {
	LABEL("route", get_named, 0), NAMED_HISTOGRAM("percent")};
static const struct field ms_by_kind[] = {LABEL("kind", get_named, 0), NAMED_HISTOGRAM("ms")};
static const struct fields by_kind_members = FIELDS(by_kind), by_route_members = FIELDS(by_route),
			   ms_by_route_members = FIELDS(ms_by_route),
			   percent_by_route_members = FIELDS(percent_by_route),
			   ms_by_kind_members = FIELDS(ms_by_kind);

static void each_overflow(const void *of, struct field_list *list)
{
	const struct measures *m = &requests_of(of)->measures;
	field_item(list, &(struct named){"condensed", m->overflows_condensed, NULL});
	field_item(list, &(struct named){"refused", m->overflows_refused, NULL});
}

static void each_trace(const void *of, struct field_list *list)
{
	struct traces_counts n = traces_counts(((const struct metrics_view *)of)->tell->traces);
	field_item(list, &(struct named){"sent", n.sent, NULL});
	field_item(list, &(struct named){"rejected", n.rejected, NULL});
	field_item(list, &(struct named){"dropped", n.dropped, NULL});
}

/* Of A: the backend had found the original too long. */
static void each_layout(const void *of, struct field_list *list)
{
	const struct measures *m = &requests_of(of)->measures;
	for (size_t i = 0; i < STRATEGIES; i++)
		field_item(list,
			&(struct named){strategy_name((enum strategy)i), m->layouts[i], NULL});
}

static void each_of_route(const struct histogram of[STRATEGIES], struct field_list *list)
{
	for (size_t i = 0; i < STRATEGIES; i++)
		field_item(list, &(struct named){strategy_name((enum strategy)i), 0, &of[i]});
}

static void each_error(const void *of, struct field_list *list)
{
	each_of_route(requests_of(of)->predictions.error, list);
}

static void each_percent(const void *of, struct field_list *list)
{
	each_of_route(requests_of(of)->predictions.percent, list);
}

static void each_of_kind(const struct histogram of[TIMED_KINDS], struct field_list *list)
{
	for (size_t i = 0; i < TIMED_KINDS; i++)
		field_item(list, &(struct named){proto_kind_name((enum proto_kind)i), 0, &of[i]});
}

static void each_queue_wait(const void *of, struct field_list *list)
{
	each_of_kind(((const struct metrics_view *)of)->tell->devices->times.queue_wait, list);
}

static void each_backend(const void *of, struct field_list *list)
{
	each_of_kind(((const struct metrics_view *)of)->tell->devices->times.backend, list);
}

static const struct idle_notes_counts *notes_of(const struct requests *s)
{
	static const struct idle_notes_counts none;
	return s->notes ? &s->notes->count : &none;
}

static void each_note_line(const void *of, struct field_list *list)
{
	const struct idle_notes_counts *c = notes_of(requests_of(of));
	field_item(list, &(struct named){"kept", c->kept, NULL});
	field_item(list, &(struct named){"dropped", c->dropped, NULL});
}

static const struct guardian_counts *prefixes_of(const struct requests *s)
{
	static const struct guardian_counts none;
	return s->guardian ? &s->guardian->counts : &none;
}

static void each_of_break(const uint64_t of[GUARD_KINDS], struct field_list *list)
{
	for (int k = GUARD_FIRST_BREAK; k < GUARD_KINDS; k++)
		field_item(list, &(struct named){guard_kind_name((enum guard_kind)k), of[k], NULL});
}

static void each_break(const void *of, struct field_list *list)
{
	each_of_break(prefixes_of(requests_of(of))->broken, list);
}

static void each_repair(const void *of, struct field_list *list)
{
	each_of_break(prefixes_of(requests_of(of))->repaired, list);
}

/* --- tandemd --- */

static void get_version(const void *of, const struct field *f, struct field_value *out)
{
	(void)of, (void)f;
	field_say_text(out, TANDEM_VERSION);
}

static void get_one(const void *of, const struct field *f, struct field_value *out)
{
	(void)of, (void)f;
	out->number = 1;
}

static const struct field build[] = {
	LABEL("version", get_version, 0), FIELD_OWN("value", FIELD_INT, get_one)};
static const struct fields build_members = FIELDS(build);

static void each_build(const void *of, struct field_list *list)
{
	field_item(list, of);
}

enum { UPTIME, CONNECTIONS, HELD, LAYOUTS, SERIES, QUEUED };

static void get_state(const void *of, const struct field *f, struct field_value *out)
{
	const struct tell *t = ((const struct metrics_view *)of)->tell;
	unsigned connections = 0, exchanges = 0;
	switch (f->which) {
	case UPTIME:
		out->number = (int64_t)(now_ms() - t->requests->started_ms);
		break;
	case CONNECTIONS:
		doors_counts(t->life, &connections, &exchanges);
		out->number = connections;
		break;
	case HELD:
		out->number = (int64_t)t->requests->held_bytes;
		break;
	case LAYOUTS:
		out->number = (int64_t)layout_cache_bytes(t->requests->layouts);
		break;
	case SERIES:
		out->number = (int64_t)t->requests->measures.count;
		break;
	case QUEUED:
		out->number = t->devices->queued;
		break;
	}
}

enum {
	FALLBACKS,
	RESUMED,
	COALESCED,
	EARLY_FREEZES,
	NOTES,
	DIGESTS,
	PREFIX_LOST,
	PREFIX_SAVED,
	LOST,
	EVENTS,
	EVENTS_LOST,
	LINES_LOST
};

static uint64_t count_of(const struct tell *t, size_t which)
{
	const struct counters *c = &t->requests->count;
	struct events_counts e = {0};
	if (t->events)
		e = events_counts(t->events);
	const uint64_t all[] = {[FALLBACKS] = c->fallbacks,
		[RESUMED] = c->resumed,
		[COALESCED] = c->coalesced,
		[EARLY_FREEZES] = c->early_freezes,
		[NOTES] = notes_of(t->requests)->written,
		[DIGESTS] = notes_of(t->requests)->used,
		[PREFIX_LOST] = prefixes_of(t->requests)->lost_tokens,
		[PREFIX_SAVED] = prefixes_of(t->requests)->saved_tokens,
		[LOST] = t->requests->measures.lost,
		[EVENTS] = e.events,
		[EVENTS_LOST] = e.lost,
		[LINES_LOST] = log_out_lost_ever().lines};
	return all[which];
}

static void get_count(const void *of, const struct field *f, struct field_value *out)
{
	out->number = (int64_t)count_of(((const struct metrics_view *)of)->tell, f->which);
}

static void get_layout_tokens(const void *of, const struct field *f, struct field_value *out)
{
	(void)f;
	out->histogram = &requests_of(of)->measures.layout_tokens;
}

#define STATE(name_, help_, unit_, which_)                                                         \
	{                                                                                          \
		.name = (name_), .help = (help_), .type = FIELD_INT, .unit = (unit_),              \
		.get = get_state, .which = (which_)                                                \
	}
#define SUM(name_, help_, which_)                                                                  \
	{                                                                                          \
		.name = (name_), .help = (help_), .type = FIELD_INT, .kind = FIELD_COUNT,          \
		.get = get_count, .which = (which_)                                                \
	}

static const struct field families[] = {
	FAMILY("tandem_build_info", "The version that runs.", &build_members, each_build),
	STATE("tandem_uptime_seconds", "Since this tandemd started; an upgrade starts another one.",
		"ms", UPTIME),

	FIELD_OBJECT_OF(NULL, &request_metric_families, NULL),

	SUM("tandem_fallbacks_total", "Condensing that was given up, or went another way.",
		FALLBACKS),
	SUM("tandem_resumptions_total", "Answers that went on after a death.", RESUMED),
	SUM("tandem_coalesced_total", "Requests that joined an equal one.", COALESCED),
	SUM("tandem_early_freezes_total", "Conversations shortened while nobody waited.",
		EARLY_FREEZES),
	FAMILY("tandem_overflows_total",
		"Prompts that were too long: condensed after the backend had refused them, or "
		"refused.",
		&by_kind_members, each_overflow),
	FAMILY("tandem_layouts_total", "Prompts sent in a shorter form.", &by_route_members,
		each_layout),
	{.name = "tandem_layout_tokens",
		.help = "Tokens of a prompt that was sent in a shorter form.",
		.type = FIELD_HISTOGRAM,
		.kind = FIELD_COUNT,
		.get = get_layout_tokens},
	SUM("tandem_notes_total", "Notes that were written while nobody waited.", NOTES),
	FAMILY("tandem_note_lines_total", "Lines of these that held, and that did not.",
		&by_kind_members, each_note_line),
	SUM("tandem_noted_digests_total", "Digests that were made with some of them.", DIGESTS),
	FAMILY("tandem_prefix_breaks_total",
		"Changes of a prompt's beginning that were left as they were.", &by_kind_members,
		each_break),
	FAMILY("tandem_prefix_repairs_total", "Changes of a prompt's beginning that were mended.",
		&by_kind_members, each_repair),
	SUM("tandem_prefix_lost_tokens_total", "Tokens read again because of a break, estimated.",
		PREFIX_LOST),
	SUM("tandem_prefix_saved_tokens_total", "Tokens that repairs saved, estimated.",
		PREFIX_SAVED),
	FAMILY("tandem_prediction_error_seconds",
		"Measured less predicted time to the first byte, without sign.",
		&ms_by_route_members, each_error),
	FAMILY("tandem_prediction_ratio", "Measured of predicted time to the first byte.",
		&percent_by_route_members, each_percent),
	FAMILY("tandem_job_queue_time_seconds", "How long jobs of devices waited.",
		&ms_by_kind_members, each_queue_wait),
	FAMILY("tandem_job_backend_time_seconds", "How long backends took for jobs.",
		&ms_by_kind_members, each_backend),

	STATE("tandem_connections", "Open connections of clients.", NULL, CONNECTIONS),
	STATE("tandem_queued_requests", "Requests of clients that wait for a slot.", NULL, QUEUED),
	STATE("tandem_held_bytes", "Request bodies in memory.", "bytes", HELD),
	STATE("tandem_layout_cache_bytes", "Layouts in memory.", "bytes", LAYOUTS),
	STATE("tandem_measure_series", "Label sets of requests (metrics.series).", NULL, SERIES),
	SUM("tandem_measures_lost_total", "Requests that were not measured: memory was out.", LOST),
	SUM("tandem_events_total", "Log lines told as events.", EVENTS),
	SUM("tandem_events_lost_total", "Events that slow listeners lost.", EVENTS_LOST),
	SUM("tandem_log_lines_lost_total", "Log lines that nobody read in time.", LINES_LOST),
	FAMILY("tandem_trace_spans_total",
		"Spans of requests that were traced: taken by the collector, rejected by it, "
		"dropped.",
		&by_kind_members, each_trace),
	FIELD_OBJECT_OF(NULL, &device_metric_families, NULL),
};
const struct fields document_metrics = FIELDS(families);
