/* What is measured of devices and GPUs, as families of samples (prometheus.h). */
#include "supervisor/devices/job.h"
#include "supervisor/tell/documents.h"
#include "supervisor/tell/metrics.h"

#include <stdio.h>

static const struct devices *devices_of(const void *of)
{
	return ((const struct metrics_view *)of)->tell->devices;
}

/* --- devices as they are --- */

enum { SLOTS, RUNNING, PREFILL, DECODE, WINDOW, KEPT };

static void get_name(const void *of, const struct field *f, struct field_value *out)
{
	(void)f;
	field_say_text(out, ((const struct device *)of)->conf->name);
}

static void get_device(const void *of, const struct field *f, struct field_value *out)
{
	const struct device *d = of;
	double bytes;
	switch (f->which) {
	case KEPT:
		saved_there(&d->foresight.saved, &bytes);
		out->number = (int64_t)bytes;
		break;
	case SLOTS:
		out->number = device_slots(d);
		break;
	case RUNNING:
		out->number = d->inflight;
		break;
	case WINDOW:
		field_say_int_if(out, device_window(d) > 0, device_window(d));
		break;
	case PREFILL:
		out->real = d->prefill_tok_s;
		out->is = d->prefill_tok_s > 0 ? FIELD_SAID : FIELD_UNKNOWN;
		break;
	case DECODE:
		out->real = d->decode_tok_s;
		out->is = d->decode_tok_s > 0 ? FIELD_SAID : FIELD_UNKNOWN;
		break;
	}
}

#define OF_DEVICE(type_, which_)                                                                   \
	{                                                                                          \
		LABEL("device", get_name, 0),                                                      \
		{                                                                                  \
			.name = "value", .type = (type_), .get = get_device, .which = (which_)     \
		}                                                                                  \
	}

static const struct field slots[] = OF_DEVICE(FIELD_INT, SLOTS),
			  running[] = OF_DEVICE(FIELD_INT, RUNNING),
			  window[] = OF_DEVICE(FIELD_INT, WINDOW),
			  kept[] = OF_DEVICE(FIELD_INT, KEPT),
			  prefill[] = OF_DEVICE(FIELD_REAL, PREFILL),
			  decode[] = OF_DEVICE(FIELD_REAL, DECODE);
static const struct fields kept_members = FIELDS(kept), slot_members = FIELDS(slots),
			   running_members = FIELDS(running), window_members = FIELDS(window),
			   prefill_members = FIELDS(prefill), decode_members = FIELDS(decode);

static void each_of(const void *of, struct field_list *list)
{
	const struct devices *s = devices_of(of);
	for (size_t i = 0; i < s->count; i++)
		field_item(list, s->of[i]);
}

/* --- by state and by class --- */

struct labelled {
	const char *device, *label;
	uint64_t count;
};

enum { BY_DEVICE, BY_LABEL };

static void get_labelled(const void *of, const struct field *f, struct field_value *out)
{
	const struct labelled *l = of;
	if (f->type == FIELD_TEXT)
		field_say_text(out, f->which == BY_DEVICE ? l->device : l->label);
	else
		out->number = (int64_t)l->count;
}

#define BY(label_, kind_)                                                                          \
	{                                                                                          \
		LABEL("device", get_labelled, BY_DEVICE), LABEL((label_), get_labelled, BY_LABEL), \
		{                                                                                  \
			.name = "value", .type = FIELD_INT, .kind = (kind_), .get = get_labelled   \
		}                                                                                  \
	}

static const struct field by_state[] = BY("state", FIELD_STATE),
			  by_class[] = BY("class", FIELD_STATE),
			  by_outcome[] = BY("outcome", FIELD_COUNT),
			  by_direction[] = BY("direction", FIELD_COUNT);
static const struct field counted[] = {LABEL("device", get_labelled, BY_DEVICE),
	{.name = "value", .type = FIELD_INT, .kind = FIELD_COUNT, .get = get_labelled}};
static const struct fields state_members = FIELDS(by_state), class_count_members = FIELDS(by_class),
			   outcome_members = FIELDS(by_outcome),
			   direction_members = FIELDS(by_direction),
			   counted_members = FIELDS(counted);

/* All states, so that one that is left is told as 0. */
static void each_state(const void *of, struct field_list *list)
{
	const struct devices *s = devices_of(of);
	for (size_t i = 0; i < s->count; i++) {
		const char *name = s->of[i]->conf->name, *now = device_state_name(s->of[i]);
		for (int k = 0; k < WORKER_STATES; k++) {
			const char *state = worker_state_name((enum worker_state)k);
			field_item(list, &(struct labelled){name, state, strcmp(state, now) == 0});
		}
		field_item(list, &(struct labelled){name, "drained", strcmp("drained", now) == 0});
	}
}

static void each_waiting(const void *of, struct field_list *list)
{
	const struct devices *s = devices_of(of);
	for (size_t i = 0; i < s->count; i++)
		for (int k = 0; k < JOB_CLASSES; k++)
			field_item(list, &(struct labelled){s->of[i]->conf->name,
						 job_class_name((enum job_class)k),
						 s->of[i]->queue.class[k].waiting});
}

/* --- what devices have counted --- */

struct total {
	const char *label;
	size_t at; /* in struct device_totals */
};

static void each_total(
	const void *of, struct field_list *list, const struct total *outcomes, size_t n)
{
	struct totals sums;
	devices_totals(devices_of(of), &sums);
	for (size_t i = 0; i < sums.count; i++)
		for (size_t k = 0; k < n; k++) {
			struct labelled l = {sums.of[i].device, outcomes[k].label, 0};
			memcpy(&l.count, (const char *)&sums.of[i] + outcomes[k].at,
				sizeof(l.count));
			field_item(list, &l);
		}
}

#define EACH_TOTAL(name_, ...)                                                                     \
	static void name_(const void *of, struct field_list *list)                                 \
	{                                                                                          \
		static const struct total outcomes[] = {__VA_ARGS__};                              \
		each_total(of, list, outcomes, sizeof(outcomes) / sizeof(*outcomes));              \
	}
#define AT(member_) FIELD_AT(struct device_totals, member_, uint64_t)

EACH_TOTAL(each_job, {"done", AT(jobs_done)}, {"failed", AT(jobs_failed)},
	{"preempted", AT(jobs_preempted)})
EACH_TOTAL(each_warming, {"done", AT(warmed)}, {"cancelled", AT(warmings_cancelled)})
EACH_TOTAL(each_noting, {"done", AT(noted)}, {"cancelled", AT(notings_cancelled)})
EACH_TOTAL(each_kept, {"saved", AT(kept_saved)}, {"restored", AT(kept_restored)},
	{"wrong", AT(kept_wrong)})
EACH_TOTAL(each_bytes, {"in", AT(bytes_in)}, {"out", AT(bytes_out)})
EACH_TOTAL(each_start, {"", AT(starts)})
EACH_TOTAL(each_restart, {"", AT(restarts)})

/* --- GPUs --- */

static void get_gpu_index(const void *of, const struct field *f, struct field_value *out)
{
	static char text[16]; /* until the writer returns */
	(void)f;
	snprintf(text, sizeof(text), "%u", ((const struct nvml_gpu *)of)->index);
	field_say_text(out, text);
}

#define OF_GPU(type_, unit_, which_)                                                               \
	{                                                                                          \
		LABEL("gpu", get_gpu_index, 0), LABEL("name", gpu_get, GPU_NAME),                  \
		{                                                                                  \
			.name = "value", .type = (type_), .unit = (unit_), .get = gpu_get,         \
			.which = (which_)                                                          \
		}                                                                                  \
	}

static const struct field used[] = OF_GPU(FIELD_INT, "bytes", GPU_USED),
			  memory[] = OF_GPU(FIELD_INT, "bytes", GPU_TOTAL),
			  load[] = OF_GPU(FIELD_INT, "percent", GPU_LOAD),
			  temperature[] = OF_GPU(FIELD_INT, "C", GPU_TEMPERATURE),
			  power[] = OF_GPU(FIELD_REAL, "W", GPU_POWER);
static const struct fields used_members = FIELDS(used), memory_members = FIELDS(memory),
			   load_members = FIELDS(load), temperature_members = FIELDS(temperature),
			   power_members = FIELDS(power);

static void each_gpu(const void *of, struct field_list *list)
{
	const struct nvml_sample *sample = ((const struct metrics_view *)of)->gpus;
	for (size_t i = 0; i < sample->count; i++)
		field_item(list, &sample->gpu[i]);
}

/* --- all --- */

static const struct field families[] = {
	FAMILY("tandem_device_state", "1 for the state that a device is in.", &state_members,
		each_state),
	FAMILY("tandem_device_slots", "Requests that a device takes at once.", &slot_members,
		each_of),
	FAMILY("tandem_device_window_tokens", "The window of one slot, where it is known.",
		&window_members, each_of),
	FAMILY("tandem_num_requests_running", "Jobs that hold a slot.", &running_members, each_of),
	FAMILY("tandem_num_requests_waiting", "Jobs that wait for a slot.", &class_count_members,
		each_waiting),
	FAMILY("tandem_prefill_tokens_per_second", "How fast a device reads, as learned.",
		&prefill_members, each_of),
	FAMILY("tandem_decode_tokens_per_second", "How fast a device writes, as learned.",
		&decode_members, each_of),
	FAMILY("tandem_jobs_total", "Jobs of a device by how they ended.", &outcome_members,
		each_job),
	FAMILY("tandem_warmings_total", "Prompts read into the prefix cache while nobody waited.",
		&outcome_members, each_warming),
	FAMILY("tandem_notings_total", "Notes written while nobody waited.", &outcome_members,
		each_noting),
	FAMILY("tandem_kept_total", "Conversations saved in files, read back, and not used then.",
		&outcome_members, each_kept),
	FAMILY("tandem_kept_bytes", "What a device's conversations in files take.", &kept_members,
		each_of),
	FAMILY("tandem_device_bytes_total", "Bodies to a device's backend, answers from it.",
		&direction_members, each_bytes),
	FAMILY("tandem_worker_starts_total", "Workers that were started.", &counted_members,
		each_start),
	FAMILY("tandem_worker_restarts_total", "Of these after deaths that nobody ordered.",
		&counted_members, each_restart),
	FAMILY("tandem_gpu_memory_used_bytes", "Memory of a GPU in use.", &used_members, each_gpu),
	FAMILY("tandem_gpu_memory_total_bytes", "Memory of a GPU.", &memory_members, each_gpu),
	FAMILY("tandem_gpu_load_ratio", "How busy a GPU is.", &load_members, each_gpu),
	FAMILY("tandem_gpu_temperature_celsius", "Temperature of a GPU.", &temperature_members,
		each_gpu),
	FAMILY("tandem_gpu_power_watts", "Power that a GPU takes.", &power_members, each_gpu),
};
const struct fields device_metric_families = FIELDS(families);
