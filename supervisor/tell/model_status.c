/* The whole state in short, and what became of an order. */
#include "supervisor/devices/job.h"
#include "supervisor/tell/documents.h"

#include <unistd.h>

/* --- a device --- */

enum { DEVICE_NAME, DEVICE_SLOTS, DEVICE_WAITING };

static void get_device(const void *of, const struct field *f, struct field_value *out)
{
	const struct device *d = of;
	switch (f->which) {
	case DEVICE_NAME:
		field_say_text(out, d->conf->name);
		break;
	case DEVICE_SLOTS:
		out->number = device_slots(d);
		break;
	case DEVICE_WAITING:
		out->number = jobs_waiting(d);
		break;
	}
}

static void each_role(const void *of, struct field_list *list)
{
	const struct device *d = of;
	if (d->conf->roles & ROLE_MAIN)
		field_item_text(list, "main");
	if (d->conf->roles & ROLE_CONDENSE)
		field_item_text(list, "condense");
	if (d->conf->roles & ROLE_SMALL)
		field_item_text(list, "small");
}

static const void *current_worker(const void *of)
{
	return ((const struct device *)of)->current;
}

static void get_warming(const void *of, const struct field *f, struct field_value *out)
{
	(void)f;
	out->number = ((const struct device *)of)->warming != NULL;
}

static const struct field job_counts[] = {
	FIELD_COUNT_OF("done", struct device, jobs_done),
	FIELD_COUNT_OF("failed", struct device, jobs_failed),
	FIELD_COUNT_OF("preempted", struct device, jobs_preempted),
	FIELD_COUNT_OF("loads", struct device, loads),
	FIELD_COUNT_OF("load_ms", struct device, load_ms),
};
static const struct fields job_count_members = FIELDS(job_counts);

static const struct field warmings[] = {
	FIELD_OWN("running", FIELD_INT, get_warming),
	FIELD_COUNT_OF("done", struct device, warmed),
	FIELD_COUNT_OF("cancelled", struct device, warmings_cancelled),
};
static const struct fields warming_members = FIELDS(warmings);

static void get_noting(const void *of, const struct field *f, struct field_value *out)
{
	(void)f;
	out->number = ((const struct device *)of)->noting != NULL;
}

static const struct field notings[] = {
	FIELD_OWN("running", FIELD_INT, get_noting),
	FIELD_COUNT_OF("done", struct device, noted),
	FIELD_COUNT_OF("cancelled", struct device, notings_cancelled),
};
static const struct fields noting_members = FIELDS(notings);

enum { KEPT_FILES, KEPT_BYTES, KEPT_ON };

static void get_kept(const void *of, const struct field *f, struct field_value *out)
{
	const struct device *d = of;
	const struct saved *s = &d->foresight.saved;
	double bytes;
	size_t files = saved_there(s, &bytes);
	if (f->which == KEPT_ON)
		out->truth = device_has(d, TRAIT_SAVES_SLOTS) && !s->off;
	else
		out->number = f->which == KEPT_FILES ? (int64_t)files : (int64_t)bytes;
}

static const struct field kept[] = {
	{.name = "on", .type = FIELD_TRUTH, .get = get_kept, .which = KEPT_ON},
	{.name = "conversations", .type = FIELD_INT, .get = get_kept, .which = KEPT_FILES},
	{.name = "bytes", .type = FIELD_INT, .unit = "bytes", .get = get_kept, .which = KEPT_BYTES},
	FIELD_COUNT_OF("saved", struct device, foresight.saved.saves),
	FIELD_COUNT_OF("restored", struct device, foresight.saved.restores),
	FIELD_COUNT_OF("wrong", struct device, foresight.saved.wrong),
};
static const struct fields kept_members = FIELDS(kept);

static const struct field device_fields[] = {
	{.name = "name", .type = FIELD_TEXT, .get = get_device, .which = DEVICE_NAME},
	{.name = "roles", .type = FIELD_LIST, .items = FIELD_TEXT, .each = each_role},
	FIELD_OBJECT_OF(NULL, &worker_members, current_worker),
	FIELD_OBJECT_OF("backend", &backend_members, NULL),
	{.name = "slots", .type = FIELD_INT, .get = get_device, .which = DEVICE_SLOTS},
	{.name = "inflight",
		.type = FIELD_INT,
		.get = field_get_unsigned,
		.which = FIELD_AT(struct device, inflight, unsigned)},
	{.name = "waiting", .type = FIELD_INT, .get = get_device, .which = DEVICE_WAITING},
	FIELD_OBJECT_OF("queue", &class_members, NULL),
	FIELD_OBJECT_OF("jobs", &job_count_members, NULL),
	FIELD_OBJECT_OF("warming", &warming_members, NULL),
	FIELD_OBJECT_OF("notes", &noting_members, NULL),
	FIELD_OBJECT_OF("kept", &kept_members, NULL),
	{.name = "prefill_tok_s",
		.type = FIELD_REAL,
		.unit = "tokens/s",
		.get = field_get_double,
		.which = FIELD_AT(struct device, prefill_tok_s, double)},
	{.name = "decode_tok_s",
		.type = FIELD_REAL,
		.unit = "tokens/s",
		.get = field_get_double,
		.which = FIELD_AT(struct device, decode_tok_s, double)},
};
static const struct fields device_members = FIELDS(device_fields);

/* --- requests --- */

static const struct field strategies[] = {
	FIELD_COUNT_OF("A", struct requests, count.by_strategy[0]),
	FIELD_COUNT_OF("B", struct requests, count.by_strategy[1]),
	FIELD_COUNT_OF("C", struct requests, count.by_strategy[2]),
	FIELD_COUNT_OF("small", struct requests, count.by_strategy[3]),
};
static const struct fields strategy_members = FIELDS(strategies);

/* Those of the page are somebody who looks, for as long as that is. */
static void get_active(const void *of, const struct field *f, struct field_value *out)
{
	const struct requests *s = of;
	(void)f;
	out->number = s->active - s->pages[0] - s->pages[1];
}

static const struct field requests[] = {
	FIELD_OWN("active", FIELD_INT, get_active),
	FIELD_COUNT_OF("total", struct requests, count.requests),
	FIELD_COUNT_OF("failed", struct requests, count.failed),
	FIELD_COUNT_OF("refused", struct requests, count.refused),
	FIELD_COUNT_OF("cancelled", struct requests, count.cancelled),
	FIELD_COUNT_OF("fallbacks", struct requests, count.fallbacks),
	FIELD_COUNT_OF("passed", struct requests, count.passed),
	FIELD_COUNT_OF("coalesced", struct requests, count.coalesced),
	FIELD_COUNT_OF("resumed", struct requests, count.resumed),
	FIELD_OBJECT_OF("by_strategy", &strategy_members, NULL),
};
static const struct fields request_members = FIELDS(requests);

/* --- tandemd --- */

enum { VERSION, PID, UPTIME, LISTEN, ROUTING, CONNECTIONS, HELD, LAYOUTS };

static unsigned connections(const struct tell *t)
{
	unsigned n = 0, exchanges = 0;
	doors_counts(t->life, &n, &exchanges);
	return n;
}

static void get_tandemd(const void *of, const struct field *f, struct field_value *out)
{
	const struct tell *t = of;
	switch (f->which) {
	case VERSION:
		field_say_text(out, TANDEM_VERSION);
		break;
	case PID:
		out->number = getpid();
		break;
	case UPTIME:
		out->real = (double)(now_ms() - t->requests->started_ms) / 1000.0;
		break;
	case LISTEN:
		field_say_text(out, t->life->front ? front_address(t->life->front) : NULL);
		break;
	case ROUTING:
		field_say_text(out, t->requests->config->routing.mode == ROUTING_ADAPTIVE
					    ? "adaptive"
					    : "threshold");
		break;
	case CONNECTIONS:
		out->number = connections(t);
		break;
	case HELD:
		out->number = (int64_t)t->requests->held_bytes;
		break;
	case LAYOUTS:
		out->number = (int64_t)layout_cache_bytes(t->requests->layouts);
		break;
	}
}

static void each_elder(const void *of, struct field_list *list)
{
	const struct tell *t = of;
	const struct elder *e;
	TAILQ_FOREACH(e, &t->life->elders.list, link)
		field_item_int(list, e->pid);
}

static const struct field status[] = {
	{.name = "version", .type = FIELD_TEXT, .get = get_tandemd, .which = VERSION},
	{.name = "pid", .type = FIELD_INT, .get = get_tandemd, .which = PID},
	{.name = "uptime_s", .type = FIELD_REAL, .unit = "s", .get = get_tandemd, .which = UPTIME},
	{.name = "listen", .type = FIELD_TEXT, .get = get_tandemd, .which = LISTEN},
	{.name = "routing", .type = FIELD_TEXT, .get = get_tandemd, .which = ROUTING},
	{.name = "old_pids", .type = FIELD_LIST, .items = FIELD_INT, .each = each_elder},
	FIELD_LIST_OF("devices", &device_members, each_device),
	FIELD_OBJECT_OF("requests", &request_members, requests_of_tell),
	FIELD_OBJECT_OF("queue", &queue_members, NULL),
	{.name = "connections", .type = FIELD_INT, .get = get_tandemd, .which = CONNECTIONS},
	{.name = "held_bytes",
		.type = FIELD_INT,
		.unit = "bytes",
		.get = get_tandemd,
		.which = HELD},
	{.name = "layout_bytes",
		.type = FIELD_INT,
		.unit = "bytes",
		.get = get_tandemd,
		.which = LAYOUTS},
	FIELD_OBJECT_OF("notes", &held_notes_members, NULL),
};
const struct fields document_status = FIELDS(status);

/* --- an operation --- */

enum {
	OPERATION_ID,
	OPERATION_KIND,
	OPERATION_TARGET,
	OPERATION_STATE,
	OPERATION_WHY,
	OPERATION_MS
};

static void get_operation(const void *of, const struct field *f, struct field_value *out)
{
	const struct operation *op = of;
	switch (f->which) {
	case OPERATION_ID:
		out->number = (int64_t)op->id;
		break;
	case OPERATION_KIND:
		field_say_text(out, op->kind);
		break;
	case OPERATION_TARGET:
		field_say_text(out, op->target);
		break;
	case OPERATION_STATE: /* a part may have failed while others are under way */
		field_say_text(
			out, operation_state_name(op->ended_ms ? op->state : OPERATION_RUNNING));
		break;
	case OPERATION_WHY:
		field_say_text(out, op->why);
		break;
	case OPERATION_MS:
		out->number = (int64_t)((op->ended_ms ? op->ended_ms : now_ms()) - op->begun_ms);
		break;
	}
}

static const struct field operation[] = {
	{.name = "operation", .type = FIELD_INT, .get = get_operation, .which = OPERATION_ID},
	{.name = "kind", .type = FIELD_TEXT, .get = get_operation, .which = OPERATION_KIND},
	{.name = "target", .type = FIELD_TEXT, .get = get_operation, .which = OPERATION_TARGET},
	{.name = "state", .type = FIELD_TEXT, .get = get_operation, .which = OPERATION_STATE},
	{.name = "why", .type = FIELD_TEXT, .get = get_operation, .which = OPERATION_WHY},
	{.name = "ms",
		.type = FIELD_INT,
		.unit = "ms",
		.get = get_operation,
		.which = OPERATION_MS},
};
const struct fields document_operation = FIELDS(operation);
