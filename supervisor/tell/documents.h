/*
 * The documents of the stats socket (commands.h), each a table of fields (field.h) that a writer
 * renders.
 *
 * Names are part of the interface: they may be added to, never changed; the request `fields` tells
 * them with types and units.
 */
#ifndef TANDEM_DOCUMENTS_H
#define TANDEM_DOCUMENTS_H

#include "supervisor/devices/nvml.h"
#include "supervisor/tell/field.h"
#include "supervisor/tell/rep.h"
#include "supervisor/tell/tell.h"

/* Of a struct tell. */
extern const struct fields document_status, document_workers, document_jobs, document_queues,
	document_backends, document_counters, document_histograms, document_nng, document_keys,
	document_sessions;
/* Of a struct requests_view (model_requests.c): the newest ones; one of them with its steps. */
struct requests_view {
	const struct tell *tell;
	size_t most;
	const struct record *one;
};
extern const struct fields document_requests, document_request;
/* Of a struct operation. */
extern const struct fields document_operation;
/* Of a struct metrics_view (metrics.h). */
extern const struct fields document_metrics;
/* ... its parts: requests by their labels; devices and GPUs. */
extern const struct fields request_metric_families, device_metric_families;
/* Of the GPUs; see documents_gpus(). */
extern const struct fields document_gpus;

/* What the driver says of a GPU: a getter of a struct nvml_gpu, with one of these in `which`. */
enum gpu_value {
	GPU_INDEX,
	GPU_NAME,
	GPU_UUID,
	GPU_USED,
	GPU_TOTAL,
	GPU_LOAD,
	GPU_TEMPERATURE,
	GPU_POWER
};
void gpu_get(const void *gpu, const struct field *f, struct field_value *out);

/* Asks the driver first where its last word is old. A later answer ends the object itself. */
enum rep_when documents_gpus(struct tell *t, struct rep_question *q, struct buf *out);
/* The same document's members, of a sample that is there. */
void documents_gpus_of(struct tell *t, const struct nvml_sample *sample, struct buf *out);

/* --- parts of several documents --- */

extern const struct fields worker_members;     /* of a struct worker: its incarnation */
extern const struct fields backend_members;    /* of a struct device */
extern const struct fields class_members;      /* of a struct device: waiting jobs by class */
extern const struct fields queue_members;      /* of a struct tell: what waits on all devices */
extern const struct fields held_notes_members; /* of a struct tell: notes of idle time */
extern const struct fields note_count_members; /* ... and what became of them */
extern const struct fields prefix_sum_members; /* ... and prefixes that broke */
extern const struct fields alias_members;      /* of a struct alias */

/* The requests of a struct tell: `inner` of what they have to tell. */
static inline const void *requests_of_tell(const void *tell)
{
	return ((const struct tell *)tell)->requests;
}

/* Hands each device of the configuration to the list. */
void each_device(const void *tell, struct field_list *list);

/* The same of each entry of `models`, as a struct alias. */
void each_alias(const void *tell, struct field_list *list);

#endif
