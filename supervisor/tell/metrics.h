/*
 * The answer to GET /metrics (docs/metrics.md): the document of all that is measured, in Prometheus' words. The GPUs'
 * driver is asked first, where its last word is old; an answer comes within NVML_WAIT_MS.
 */
#ifndef TANDEM_METRICS_H
#define TANDEM_METRICS_H

#include "supervisor/devices/nvml.h"
#include "supervisor/tell/field.h"
#include "supervisor/tell/tell.h"

/* What the document is of. */
struct metrics_view {
	const struct tell *tell;
	const struct nvml_sample *gpus; /* as far as known */
};

/* Rows of its tables: a label of a sample, its value where that is a count, a family of samples. */
#define LABEL(name_, get_, which_)                                                                 \
	{                                                                                          \
		.name = (name_), .type = FIELD_TEXT, .get = (get_), .which = (which_)              \
	}
#define COUNT(get_)                                                                                \
	{                                                                                          \
		.name = "value", .type = FIELD_INT, .kind = FIELD_COUNT, .get = (get_)             \
	}
#define FAMILY(name_, help_, members_, each_)                                                      \
	{                                                                                          \
		.name = (name_), .help = (help_), .type = FIELD_LIST, .items = FIELD_OBJECT,       \
		.members = (members_), .each = (each_)                                             \
	}

/* For requests_events.scrape: answers now or later, exactly once. */
void scrape_ask(struct tell *t, struct request *r);

#endif
