/* The sums: counters and histograms. They never fall as long as tandemd runs, over every incarnation of a worker. */
#include "common/base/log_out.h"
#include "supervisor/tell/documents.h"
#include "supervisor/tell/events.h"
#include "supervisor/tell/traces.h"

/* --- of devices: by name, with what a reload has removed --- */

static const struct field device_counts[] = {
	{.name = "device",
		.type = FIELD_TEXT,
		.get = field_get_chars,
		.which = offsetof(struct device_totals, device)},
	FIELD_COUNT_OF("jobs_done", struct device_totals, jobs_done),
	FIELD_COUNT_OF("jobs_failed", struct device_totals, jobs_failed),
	FIELD_COUNT_OF("starts", struct device_totals, starts),
	FIELD_COUNT_OF("restarts", struct device_totals, restarts),
	FIELD_COUNT_OF("heartbeats", struct device_totals, heartbeats),
	FIELD_BYTES_OF("bytes_in", struct device_totals, bytes_in),
	FIELD_BYTES_OF("bytes_out", struct device_totals, bytes_out),
};
static const struct fields device_count_members = FIELDS(device_counts);

static void each_device_counts(const void *of, struct field_list *list)
{
	struct totals sums;
	devices_totals(((const struct tell *)of)->devices, &sums);
	for (size_t i = 0; i < sums.count; i++)
		field_item(list, &sums.of[i]);
}

/* --- of tandemd --- */

enum { JOBS, OPERATIONS, EVENTS, EVENTS_LOST, LINES_LOST };

static void get_sum(const void *of, const struct field *f, struct field_value *out)
{
	const struct tell *t = of;
	struct events_counts e = {0};
	if (f->which == EVENTS || f->which == EVENTS_LOST) {
		out->is = t->events ? FIELD_SAID : FIELD_LEFT_OUT;
		if (t->events)
			e = events_counts(t->events);
	}
	switch (f->which) {
	case JOBS:
		out->number = (int64_t)t->devices->next_job;
		break;
	case OPERATIONS:
		out->number = (int64_t)t->life->operations.last_id;
		break;
	case EVENTS:
		out->number = (int64_t)e.events;
		break;
	case EVENTS_LOST:
		out->number = (int64_t)e.lost;
		break;
	case LINES_LOST:
		out->number = (int64_t)log_out_lost_ever().lines;
		break;
	}
}

static const void *devices_of(const void *of)
{
	return ((const struct tell *)of)->devices;
}

/* --- of traces --- */

enum { SPANS, SENT, REJECTED, DROPPED, RESTARTS };

static void get_traces(const void *of, const struct field *f, struct field_value *out)
{
	struct traces_counts n = traces_counts(((const struct tell *)of)->traces);
	const uint64_t all[] = {[SPANS] = n.spans,
		[SENT] = n.sent,
		[REJECTED] = n.rejected,
		[DROPPED] = n.dropped,
		[RESTARTS] = n.restarts};
	out->number = (int64_t)all[f->which];
}

#define OF_TRACES(name_, which_)                                                                   \
	{                                                                                          \
		.name = (name_), .type = FIELD_INT, .kind = FIELD_COUNT, .get = get_traces,        \
		.which = (which_)                                                                  \
	}

static const struct field traces[] = {
	OF_TRACES("spans", SPANS),
	OF_TRACES("sent", SENT),
	OF_TRACES("rejected", REJECTED),
	OF_TRACES("dropped", DROPPED),
	OF_TRACES("restarts", RESTARTS),
};
static const struct fields trace_members = FIELDS(traces);

static const struct field requests[] = {
	FIELD_COUNT_OF("requests", struct requests, count.requests),
	FIELD_COUNT_OF("passed", struct requests, count.passed),
	FIELD_COUNT_OF("failed", struct requests, count.failed),
	FIELD_COUNT_OF("refused", struct requests, count.refused),
	FIELD_COUNT_OF("cancelled", struct requests, count.cancelled),
	FIELD_COUNT_OF("fallbacks", struct requests, count.fallbacks),
	FIELD_COUNT_OF("strategy_a", struct requests, count.by_strategy[0]),
	FIELD_COUNT_OF("strategy_b", struct requests, count.by_strategy[1]),
	FIELD_COUNT_OF("strategy_c", struct requests, count.by_strategy[2]),
	FIELD_COUNT_OF("strategy_small", struct requests, count.by_strategy[3]),
	FIELD_COUNT_OF("early_freezes", struct requests, count.early_freezes),
	FIELD_COUNT_OF("shortened_to_fit", struct requests, count.shortened_to_fit),
	FIELD_COUNT_OF("too_long", struct requests, count.too_long),
	FIELD_COUNT_OF("largest_prompt_tokens", struct requests, count.largest_prompt),
};
static const struct fields request_members = FIELDS(requests);

#define SUM(name_, which_)                                                                         \
	{                                                                                          \
		.name = (name_), .type = FIELD_INT, .kind = FIELD_COUNT, .get = get_sum,           \
		.which = (which_)                                                                  \
	}

static const struct field counters[] = {
	FIELD_OBJECT_OF(NULL, &request_members, requests_of_tell),
	FIELD_OBJECT_OF(NULL, &note_count_members, NULL),
	FIELD_OBJECT_OF(NULL, &prefix_sum_members, NULL),
	SUM("jobs", JOBS),
	SUM("operations", OPERATIONS),
	SUM("events", EVENTS),
	SUM("events_lost", EVENTS_LOST),
	SUM("log_lines_lost", LINES_LOST),
	FIELD_OBJECT_OF("traces", &trace_members, NULL),
	FIELD_LIST_OF("devices", &device_count_members, each_device_counts),
};
const struct fields document_counters = FIELDS(counters);

/* --- how long things took --- */

#define TIMES(name_, thing_, member_, unit_)                                                       \
	{                                                                                          \
		.name = (name_), .type = FIELD_HISTOGRAM, .kind = FIELD_COUNT, .unit = (unit_),    \
		.get = field_get_histogram, .which = FIELD_AT(thing_, member_, struct histogram)   \
	}
/* By way: A, B, C, small, and what passed through. */
#define BY_WAY(member_)                                                                            \
	TIMES("A", struct requests, member_[0], "ms"),                                             \
		TIMES("B", struct requests, member_[1], "ms"),                                     \
		TIMES("C", struct requests, member_[2], "ms"),                                     \
		TIMES("small", struct requests, member_[3], "ms"),                                 \
		TIMES("pass", struct requests, member_[4], "ms")
/* By enum proto_kind. */
#define BY_KIND(member_)                                                                           \
	TIMES("chat", struct devices, member_[0], "ms"),                                           \
		TIMES("notes", struct devices, member_[1], "ms"),                                  \
		TIMES("pass", struct devices, member_[2], "ms"),                                   \
		TIMES("warm", struct devices, member_[3], "ms")
/* A, B, C and small: what was predicted. */
#define BY_STRATEGY(member_, unit_)                                                                \
	TIMES("A", struct requests, member_[0], unit_),                                            \
		TIMES("B", struct requests, member_[1], unit_),                                    \
		TIMES("C", struct requests, member_[2], unit_),                                    \
		TIMES("small", struct requests, member_[3], unit_)
_Static_assert(TIMED_KINDS == 4, "rows are missing");
_Static_assert(STRATEGIES == 4, "rows are missing");

static const struct field first_byte[] = {BY_WAY(times.first_byte)};
static const struct field total[] = {BY_WAY(times.total)};
static const struct field queue_wait[] = {BY_KIND(times.queue_wait)};
static const struct field backend[] = {BY_KIND(times.backend)};
static const struct field error[] = {BY_STRATEGY(predictions.error, "ms")};
static const struct field percent[] = {BY_STRATEGY(predictions.percent, "percent")};

static const struct fields first_byte_members = FIELDS(first_byte), total_members = FIELDS(total),
			   queue_wait_members = FIELDS(queue_wait),
			   backend_time_members = FIELDS(backend), error_members = FIELDS(error),
			   percent_members = FIELDS(percent);

static const struct field histograms[] = {
	FIELD_OBJECT_OF("first_byte", &first_byte_members, requests_of_tell),
	FIELD_OBJECT_OF("total", &total_members, requests_of_tell),
	FIELD_OBJECT_OF("queue_wait", &queue_wait_members, devices_of),
	FIELD_OBJECT_OF("backend", &backend_time_members, devices_of),
	FIELD_OBJECT_OF("prediction_error", &error_members, requests_of_tell),
	FIELD_OBJECT_OF("prediction_percent", &percent_members, requests_of_tell),
};
const struct fields document_histograms = FIELDS(histograms);
