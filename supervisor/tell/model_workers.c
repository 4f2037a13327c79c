/* The lists of workers, queues and backends. */
#include "supervisor/devices/job.h"
#include "supervisor/devices/worker.h"
#include "supervisor/tell/documents.h"

/* --- workers --- */

enum { STATE, PID, GENERATION, UPTIME, RESTARTS, LAST_EXIT, HEARTBEAT };

static void get_incarnation(const void *of, const struct field *f, struct field_value *out)
{
	const struct worker *w = of;
	const struct report *r = &w->report;
	const struct device *d = w->device;
	bool lives = w->pid > 0, heard = lives && r->heard_ms > 0;
	switch (f->which) {
	case STATE:
		field_say_text(
			out, w == d->current ? device_state_name(d) : worker_state_name(w->state));
		break;
	case PID:
		field_say_int_if(out, lives, w->pid);
		break;
	case GENERATION:
		out->number = (int64_t)w->generation;
		break;
	case UPTIME:
		field_say_int_if(out, lives, (int64_t)(now_ms() - r->begun_ms));
		break;
	case RESTARTS:
		out->number = (int64_t)d->restarts;
		break;
	case LAST_EXIT:
		field_say_text(out, d->last_exit);
		break;
	case HEARTBEAT:
		field_say_int_if(out, heard, (int64_t)(now_ms() - r->heard_ms));
		break;
	}
}

static const struct field incarnation[] = {
	{.name = "state", .type = FIELD_TEXT, .get = get_incarnation, .which = STATE},
	{.name = "pid", .type = FIELD_INT, .get = get_incarnation, .which = PID},
	{.name = "generation", .type = FIELD_INT, .get = get_incarnation, .which = GENERATION},
	{.name = "uptime_ms",
		.type = FIELD_INT,
		.unit = "ms",
		.get = get_incarnation,
		.which = UPTIME},
	{.name = "restarts",
		.type = FIELD_INT,
		.kind = FIELD_COUNT,
		.get = get_incarnation,
		.which = RESTARTS},
	{.name = "last_exit", .type = FIELD_TEXT, .get = get_incarnation, .which = LAST_EXIT},
	{.name = "heartbeat_ms",
		.type = FIELD_INT,
		.unit = "ms",
		.get = get_incarnation,
		.which = HEARTBEAT},
};
const struct fields worker_members = FIELDS(incarnation);

enum { WORKER_DEVICE, WORKER_PART, WORKER_MISSED, WORKER_BACKLOG, WORKER_DETAIL };

static const char *part(const struct worker *w)
{
	if (w->device->succession == REMOVED)
		return "removed";
	return w == w->device->current ? "current" : w == w->device->next ? "next" : "old";
}

static void get_worker(const void *of, const struct field *f, struct field_value *out)
{
	const struct worker *w = of;
	switch (f->which) {
	case WORKER_DEVICE:
		field_say_text(out, w->device->conf->name);
		break;
	case WORKER_PART:
		field_say_text(out, part(w));
		break;
	case WORKER_MISSED:
		field_say_int_if(out, w->pid > 0, w->pings_missed);
		break;
	case WORKER_BACKLOG:
		field_say_int_if(out, w->channel != NULL,
			w->channel ? (int64_t)channel_backlog(w->channel) : 0);
		break;
	case WORKER_DETAIL:
		field_say_text(out, w->backend.detail);
		break;
	}
}

/* What it said with its last heartbeat. `which`: the offset in struct report. */
static void get_report(const void *of, const struct field *f, struct field_value *out)
{
	const struct worker *w = of;
	field_get_u64(&w->report, f, out);
	field_say_int_if(out, w->pid > 0 && w->report.heard_ms > 0, out->number);
}

#define REPORT(name_, member_, kind_, unit_)                                                       \
	{                                                                                          \
		.name = (name_), .type = FIELD_INT, .kind = (kind_), .unit = (unit_),              \
		.get = get_report, .which = FIELD_AT(struct report, member_, uint64_t)             \
	}

static const struct field worker[] = {
	{.name = "device", .type = FIELD_TEXT, .get = get_worker, .which = WORKER_DEVICE},
	{.name = "part", .type = FIELD_TEXT, .get = get_worker, .which = WORKER_PART},
	FIELD_OBJECT_OF(NULL, &worker_members, NULL),
	{.name = "missed_heartbeats", .type = FIELD_INT, .get = get_worker, .which = WORKER_MISSED},
	REPORT("progress", progress, FIELD_STATE, NULL),
	REPORT("active_jobs", active, FIELD_STATE, NULL),
	REPORT("jobs_done", jobs_done, FIELD_STATE, NULL), /* of this process: begins anew */
	REPORT("jobs_failed", jobs_failed, FIELD_STATE, NULL),
	REPORT("bytes_in", bytes_in, FIELD_STATE, "bytes"),
	REPORT("bytes_out", bytes_out, FIELD_STATE, "bytes"),
	REPORT("rss_bytes", rss_bytes, FIELD_STATE, "bytes"),
	{.name = "link_backlog_bytes",
		.type = FIELD_INT,
		.unit = "bytes",
		.get = get_worker,
		.which = WORKER_BACKLOG},
	{.name = "detail", .type = FIELD_TEXT, .get = get_worker, .which = WORKER_DETAIL},
};
static const struct fields listed_worker = FIELDS(worker);

static void of_devices(struct field_list *list, struct device *const *devices, size_t n)
{
	const struct worker *w;
	for (size_t i = 0; i < n; i++)
		TAILQ_FOREACH(w, &devices[i]->workers, link)
			field_item(list, w);
}

static void each_worker(const void *of, struct field_list *list)
{
	const struct devices *s = ((const struct tell *)of)->devices;
	of_devices(list, s->of, s->count);
	of_devices(list, s->removed, s->removed_count);
}

static const struct field workers[] = {FIELD_LIST_OF("workers", &listed_worker, each_worker)};
const struct fields document_workers = FIELDS(workers);

/* --- queues --- */

static void get_class(const void *of, const struct field *f, struct field_value *out)
{
	out->number = ((const struct device *)of)->queue.class[f->which].waiting;
}

#define CLASS(name_, class_)                                                                       \
	{                                                                                          \
		.name = (name_), .type = FIELD_INT, .get = get_class, .which = (class_)            \
	}

static const struct field classes[] = {
	CLASS("interactive", CLASS_INTERACTIVE),
	CLASS("agent", CLASS_AGENT),
	CLASS("map", CLASS_MAP),
	CLASS("idle", CLASS_IDLE),
};
_Static_assert(sizeof(classes) / sizeof(*classes) == JOB_CLASSES, "a class has no field");
const struct fields class_members = FIELDS(classes);

enum { WAITING, CLIENTS, OLDEST, LIMIT, LIMIT_OF_CLIENT };

/* What waits on all devices, of how many clients (each device's counted by itself), how long. */
static void get_queue(const void *of, const struct field *f, struct field_value *out)
{
	const struct tell *t = of;
	const struct devices *s = t->devices;
	out->number = 0;
	switch (f->which) {
	case WAITING:
		out->number = s->queued;
		break;
	case CLIENTS:
		for (size_t i = 0; i < s->count; i++)
			out->number += queue_clients(&s->of[i]->queue);
		break;
	case OLDEST:
		for (size_t i = 0; i < s->count; i++) {
			int64_t ms = (int64_t)jobs_oldest_ms(s->of[i]);
			out->number = ms > out->number ? ms : out->number;
		}
		break;
	case LIMIT:
		out->number = t->life->config->limits.queue;
		break;
	case LIMIT_OF_CLIENT:
		out->number = t->life->config->limits.queue_per_client;
		break;
	}
}

static const struct field queue[] = {
	{.name = "waiting", .type = FIELD_INT, .get = get_queue, .which = WAITING},
	{.name = "clients", .type = FIELD_INT, .get = get_queue, .which = CLIENTS},
	{.name = "oldest_ms", .type = FIELD_INT, .unit = "ms", .get = get_queue, .which = OLDEST},
};
const struct fields queue_members = FIELDS(queue);

enum { QUEUE_DEVICE, QUEUE_WAITING, QUEUE_OLDEST, QUEUE_SLOTS };

static void get_queue_of(const void *of, const struct field *f, struct field_value *out)
{
	const struct device *d = of;
	switch (f->which) {
	case QUEUE_DEVICE:
		field_say_text(out, d->conf->name);
		break;
	case QUEUE_WAITING:
		out->number = jobs_waiting(d);
		break;
	case QUEUE_OLDEST:
		field_say_int_if(out, jobs_waiting(d) > 0, (int64_t)jobs_oldest_ms(d));
		break;
	case QUEUE_SLOTS:
		out->number = device_slots(d);
		break;
	}
}

static const struct field queue_of[] = {
	{.name = "device", .type = FIELD_TEXT, .get = get_queue_of, .which = QUEUE_DEVICE},
	{.name = "waiting", .type = FIELD_INT, .get = get_queue_of, .which = QUEUE_WAITING},
	FIELD_OBJECT_OF("queue", &class_members, NULL),
	{.name = "oldest_ms",
		.type = FIELD_INT,
		.unit = "ms",
		.get = get_queue_of,
		.which = QUEUE_OLDEST},
	{.name = "inflight",
		.type = FIELD_INT,
		.get = field_get_unsigned,
		.which = FIELD_AT(struct device, inflight, unsigned)},
	{.name = "slots", .type = FIELD_INT, .get = get_queue_of, .which = QUEUE_SLOTS},
};
static const struct fields listed_queue = FIELDS(queue_of);

static const struct field queues[] = {
	FIELD_OBJECT_OF(NULL, &queue_members, NULL),
	{.name = "limit", .type = FIELD_INT, .get = get_queue, .which = LIMIT},
	{.name = "limit_per_client", .type = FIELD_INT, .get = get_queue, .which = LIMIT_OF_CLIENT},
	FIELD_LIST_OF("queues", &listed_queue, each_device),
};
const struct fields document_queues = FIELDS(queues);
