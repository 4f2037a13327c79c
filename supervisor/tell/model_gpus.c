/* What the GPUs' driver says, with the devices of the configuration that use each GPU. */
#include "supervisor/devices/nvml.h"
#include "supervisor/tell/documents.h"
#include "supervisor/tell/json_doc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct view {
	const struct tell *t;
	const struct nvml_sample *sample;
};

struct gpu_view {
	const struct tell *t;
	const struct nvml_gpu *gpu;
};

/* --- a GPU --- */

static void each_pinned(const void *of, struct field_list *list)
{
	const struct gpu_view *v = of;
	for (size_t i = 0; i < v->t->devices->count; i++) {
		const struct config_device *conf = v->t->devices->of[i]->conf;
		if (conf->pin && nvml_pinned(conf->pin, v->gpu))
			field_item_text(list, conf->name);
	}
}

void gpu_get(const void *gpu, const struct field *f, struct field_value *out)
{
	const struct nvml_gpu *g = gpu;
	switch (f->which) {
	case GPU_INDEX:
		out->number = g->index;
		break;
	case GPU_NAME:
		field_say_text(out, g->name);
		break;
	case GPU_UUID:
		field_say_text(out, g->uuid);
		break;
	case GPU_USED:
		field_say_int_if(out, g->memory_total > 0, (int64_t)g->memory_used);
		break;
	case GPU_TOTAL:
		field_say_int_if(out, g->memory_total > 0, (int64_t)g->memory_total);
		break;
	case GPU_LOAD:
		field_say_int_if(out, g->load >= 0, g->load);
		break;
	case GPU_TEMPERATURE:
		field_say_int_if(out, g->temperature >= 0, g->temperature);
		break;
	case GPU_POWER:
		out->real = g->power;
		out->is = g->power >= 0 ? FIELD_SAID : FIELD_UNKNOWN;
		break;
	}
}

static void get_viewed(const void *of, const struct field *f, struct field_value *out)
{
	gpu_get(((const struct gpu_view *)of)->gpu, f, out);
}

#define GPU(name_, type_, unit_, which_)                                                           \
	{                                                                                          \
		.name = (name_), .type = (type_), .unit = (unit_), .get = get_viewed,              \
		.which = (which_)                                                                  \
	}

static const struct field gpu[] = {
	GPU("index", FIELD_INT, NULL, GPU_INDEX),
	GPU("name", FIELD_TEXT, NULL, GPU_NAME),
	GPU("uuid", FIELD_TEXT, NULL, GPU_UUID),
	GPU("memory_used_bytes", FIELD_INT, "bytes", GPU_USED),
	GPU("memory_total_bytes", FIELD_INT, "bytes", GPU_TOTAL),
	GPU("load_percent", FIELD_INT, "percent", GPU_LOAD),
	GPU("temperature_c", FIELD_INT, "C", GPU_TEMPERATURE),
	GPU("power_w", FIELD_REAL, "W", GPU_POWER),
	{.name = "pinned", .type = FIELD_LIST, .items = FIELD_TEXT, .each = each_pinned},
};
static const struct fields gpu_members = FIELDS(gpu);

/* --- all --- */

static void each_gpu(const void *of, struct field_list *list)
{
	const struct view *v = of;
	for (size_t i = 0; i < v->sample->count; i++)
		field_item(list, &(struct gpu_view){v->t, &v->sample->gpu[i]});
}

static void get_reason(const void *of, const struct field *f, struct field_value *out)
{
	(void)f;
	field_say_text(out, ((const struct view *)of)->sample->why);
}

static void get_age(const void *of, const struct field *f, struct field_value *out)
{
	uint64_t taken = ((const struct view *)of)->sample->taken_ms;
	(void)f;
	field_say_int_if(out, taken > 0, (int64_t)(now_ms() - taken));
}

static const struct field gpus[] = {
	FIELD_LIST_OF("gpus", &gpu_members, each_gpu),
	FIELD_OWN("reason", FIELD_TEXT, get_reason),
	FIELD_OWN_IN("age_ms", FIELD_INT, "ms", get_age),
};
const struct fields document_gpus = FIELDS(gpus);

void documents_gpus_of(struct tell *t, const struct nvml_sample *sample, struct buf *out)
{
	json_document(&document_gpus, &(struct view){t, sample}, out);
}

/* --- asking --- */

struct ask {
	struct tell *t;
	struct rep_question *q;
	struct buf *now; /* while documents_gpus() has not returned: the answer goes here */
	bool answered;
};

static void on_sample(void *ctx, const struct nvml_sample *sample)
{
	struct ask *ask = ctx;
	struct buf text;
	if (ask->now) {
		documents_gpus_of(ask->t, sample, ask->now);
		ask->answered = true;
		return;
	}
	buf_init(&text, 0);
	buf_add_char(&text, '{'); /* the question has it already: see below */
	documents_gpus_of(ask->t, sample, &text);
	buf_add_char(&text, '}');
	if (buf_error(&text) == 0)
		rep_reply(ask->q, (struct slice){text.p + 1, text.n - 1});
	else
		rep_reply(ask->q, SLICE("\"error\":\"out of memory\"}"));
	buf_free(&text);
	free(ask);
}

enum rep_when documents_gpus(struct tell *t, struct rep_question *q, struct buf *out)
{
	struct ask *ask = malloc(sizeof(*ask));
	int rc = -ENOMEM;
	if (ask) {
		*ask = (struct ask){.t = t, .q = q, .now = out};
		rc = nvml_ask(t->devices->nvml, on_sample, ask);
	}
	if (rc == 0 && !ask->answered) {
		ask->now = NULL;
		return REP_LATER;
	}
	if (rc) {
		json_put_key(out, "error");
		json_put_string(out, slice_str(strerror(-rc)));
	}
	free(ask);
	return REP_NOW;
}
