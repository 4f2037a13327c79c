/* What the GPUs' driver says, with the devices of the configuration that use each GPU. */
#include "supervisor/devices/nvml.h"
#include "supervisor/tell/stats.h"
#include "supervisor/tell/stats_put.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void put_gpu(struct buf *b, const struct tell *t, const struct nvml_gpu *g)
{
	put_element(b);
	put_int(b, "index", g->index);
	put_string(b, "name", g->name);
	put_string(b, "uuid", g->uuid);
	put_int_if(b, "memory_used_bytes", g->memory_total > 0, (int64_t)g->memory_used);
	put_int_if(b, "memory_total_bytes", g->memory_total > 0, (int64_t)g->memory_total);
	put_int_if(b, "load_percent", g->load >= 0, g->load);
	put_int_if(b, "temperature_c", g->temperature >= 0, g->temperature);
	if (g->power >= 0)
		put_real(b, "power_w", g->power);
	else
		put_null(b, "power_w");
	put_open(b, "pinned", '[');
	for (size_t i = 0; i < t->devices->count; i++) {
		if (!t->devices->of[i]->conf->pin || !nvml_pinned(t->devices->of[i]->conf->pin, g))
			continue;
		if (b->p && b->p[b->n - 1] != '[')
			buf_add_char(b, ',');
		json_put_string(b, slice_str(t->devices->of[i]->conf->name));
	}
	buf_add_str(b, "]}");
}

static void put_sample(struct buf *b, const struct tell *t, const struct nvml_sample *sample)
{
	put_open(b, "gpus", '[');
	for (size_t i = 0; i < sample->count; i++)
		put_gpu(b, t, &sample->gpu[i]);
	buf_add_char(b, ']');
	put_string(b, "reason", sample->why);
	put_int_if(b, "age_ms", sample->taken_ms > 0, (int64_t)(now_ms() - sample->taken_ms));
}

struct ask {
	struct tell *t;
	struct rep_question *q;
	struct buf *now; /* while stats_devices() has not returned: the answer goes here */
	bool answered;
};

static void on_sample(void *ctx, const struct nvml_sample *sample)
{
	struct ask *ask = ctx;
	struct buf text;
	if (ask->now) {
		put_sample(ask->now, ask->t, sample);
		ask->answered = true;
		return;
	}
	buf_init(&text, 0);
	buf_add_char(&text, '{'); /* the question has it already: see below */
	put_sample(&text, ask->t, sample);
	buf_add_char(&text, '}');
	if (buf_error(&text) == 0)
		rep_reply(ask->q, (struct slice){text.p + 1, text.n - 1});
	else
		rep_reply(ask->q, SLICE("\"error\":\"out of memory\"}"));
	buf_free(&text);
	free(ask);
}

enum rep_when stats_devices(struct tell *t, struct rep_question *q, struct buf *out)
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
	if (rc)
		put_string(out, "error", strerror(-rc));
	free(ask);
	return REP_NOW;
}
