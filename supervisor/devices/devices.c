#include "supervisor/devices/devices.h"

#include "common/base/log.h"
#include "supervisor/devices/governor.h"
#include "supervisor/devices/job.h"
#include "supervisor/devices/nvml.h"
#include "supervisor/devices/succession.h"

#include <errno.h>
#include <stdlib.h>

/* --- what a worker tells --- */

static void on_ready(struct worker *w)
{
	succession_ready(w);
	forget_tell(w->device);
	jobs_kick(w->device);
}

static void on_unready(struct worker *w)
{
	if (w == w->device->current)
		jobs_unready(w->device);
}

static void on_state(struct worker *w)
{
	device_changed(w->device);
}

static void on_stuck(struct worker *w)
{
	jobs_lost(w);
	succession_stuck(w);
}

static bool may_spawn(struct worker *w)
{
	return warm_may_spawn(w->device);
}

static void on_record(struct worker *w, const struct proto_record *r)
{
	if (r->type == PROTO_KEPT)
		device_kept(w, r);
	else if (r->type != PROTO_MODELS)
		job_record(w, r);
	else if (w->state == WORKER_LOADING || w->state == WORKER_READY)
		device_models(
			w->device, &r->u.models); /* of one that goes, its successor knows better */
}

static void on_ack(struct worker *w, struct proto_ack *a)
{
	a->body_bytes = job_body_bytes_max(w->device->all->config);
	warm_fill(w, a);
}

static void on_gone(struct worker *w)
{
	struct devices *s = w->device->all;
	warm_worker_gone(w, w->asked_to_end);
	jobs_lost(w);
	succession_gone(w); /* may free it */
	devices_flushed(s);
	devices_sweep(s); /* ... and its device */
	s->events->idle(s->ctx);
}

static const struct worker_events worker_events = {.may_spawn = may_spawn,
	.ack = on_ack,
	.state = on_state,
	.ready = on_ready,
	.unready = on_unready,
	.late = succession_late,
	.died = succession_died,
	.failed = succession_failed,
	.stuck = on_stuck,
	.learned = device_learned,
	.record = on_record,
	.room = jobs_room,
	.gone = on_gone};

/* --- one device --- */

struct device *device_create(struct devices *s, const struct config_device *conf)
{
	struct device *d = calloc(1, sizeof(*d));
	struct config_device *copy = calloc(1, sizeof(*copy));
	if (!d || !copy || config_device_copy(copy, conf)) {
		free(copy);
		free(d);
		return NULL;
	}
	d->all = s;
	d->conf = copy;
	d->number = s->next_device++;
	d->state = WORKER_STOPPED;
	d->not_ready_since_ms = now_ms();
	queue_init(&d->queue);
	TAILQ_INIT(&d->passing);
	TAILQ_INIT(&d->workers);
	TAILQ_INIT(&d->running);
	foresight_init(&d->foresight, (unsigned)copy->slots);
	device_foresees(d);
	if (s->keep)
		keep_rates(s->keep, copy->name, &d->foresight.rates);
	warm_device_created(d);
	d->current = worker_create(d);
	if (d->current)
		return d;
	foresight_fini(&d->foresight);
	config_device_free(copy);
	free(copy);
	free(d);
	return NULL;
}

void device_destroy(struct device *d)
{
	struct worker *w;
	governor_forget(d->all->governor, d);
	while ((w = TAILQ_FIRST(&d->workers)))
		worker_destroy(w);
	device_models_free(d);
	queue_fini(&d->queue);
	foresight_fini(&d->foresight);
	config_device_free((struct config_device *)d->conf);
	free((struct config_device *)d->conf);
	if (d->conf_before) {
		config_device_free(d->conf_before);
		free(d->conf_before);
	}
	free(d);
}

/* Requests refer to the devices that were there when they began. */
static bool in_use(const struct devices *s, const struct device *d)
{
	const struct worker *w;
	TAILQ_FOREACH(w, &d->workers, link)
		if (worker_has_process(w))
			return true;
	return queue_waiting(&d->queue) > 0 || !TAILQ_EMPTY(&d->passing) ||
	       !TAILQ_EMPTY(&d->running) || s->events->oldest_request_ms(s->ctx) <= d->removed_ms;
}

void devices_sweep(struct devices *s)
{
	for (size_t i = 0; i < s->removed_count;) {
		if (in_use(s, s->removed[i])) {
			i++;
			continue;
		}
		log_line(LOG_INFO, "device_gone", LOG_STR("device", s->removed[i]->conf->name),
			LOG_END);
		struct device_totals sums = device_totals(s->removed[i]);
		totals_add(&s->past, &sums);
		device_destroy(s->removed[i]);
		s->removed[i] = s->removed[--s->removed_count];
	}
}

static void add_totals(struct totals *to, struct device *const *devices, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct device_totals d = device_totals(devices[i]);
		totals_add(to, &d);
	}
}

void devices_totals(const struct devices *s, struct totals *out)
{
	*out = (struct totals){.count = 0};
	add_totals(out, s->of, s->count);
	add_totals(out, s->removed, s->removed_count);
	for (size_t i = 0; i < s->past.count; i++)
		totals_add(out, &s->past.of[i]);
}

/* --- all of them --- */

void devices_init(
	struct devices *s, uv_loop_t *loop, const struct devices_events *events, void *ctx)
{
	s->loop = loop;
	s->events = events;
	s->ctx = ctx;
	s->worker_events = &worker_events;
	s->worker_hands = &worker_hands;
}

int devices_open(struct devices *s, const char *state_dir, size_t state_bytes)
{
	s->governor = governor_create(s);
	if (!s->governor)
		return -ENOMEM;
	s->keep = keep_start(s->loop, state_dir, state_bytes);
	if (s->keep)
		keep_teach(s->keep, s->tokens);
	return nvml_create(s->loop, &s->nvml);
}

int devices_start(struct devices *s, struct buf *err)
{
	for (size_t i = 0; i < s->config->device_count; i++) {
		struct device *d = device_create(s, &s->config->devices[i]);
		if (!d) {
			buf_printf(err, "out of memory for device %s", s->config->devices[i].name);
			return -ENOMEM;
		}
		s->of[s->count++] = d;
	}
	for (size_t i = 0; i < s->count; i++)
		worker_start(s->of[i]->current);
	return 0;
}

void devices_stop(struct devices *s)
{
	for (size_t i = 0; i < s->count; i++) {
		device_keep_rates(s->of[i], true);
		device_destroy(s->of[i]);
	}
	for (size_t i = 0; i < s->removed_count; i++)
		device_destroy(s->removed[i]);
	s->count = s->removed_count = 0;
}

void devices_close(struct devices *s)
{
	governor_stop(s->governor);
	if (s->nvml)
		nvml_destroy(s->nvml);
	s->nvml = NULL;
	for (size_t i = 0; s->keep && tokens_model(s->tokens, i).n; i++)
		keep_tokens(s->keep, s->tokens, tokens_model(s->tokens, i));
	if (s->keep)
		keep_stop(s->keep);
	orphans_stop(s);
}

void devices_free(struct devices *s)
{
	keep_destroy(s->keep);
	governor_destroy(s->governor);
}
