#include "supervisor/life/reload.h"

#include "common/base/log.h"
#include "common/base/log_out.h"
#include "supervisor/devices/succession.h"
#include "supervisor/life/life.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what a key means (pure) --- */

struct key_effect {
	const char *group, *name;
};

static bool listed(const struct key_effect *keys, size_t n, const char *group, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		bool same_group = keys[i].group == group ||
				  (keys[i].group && group && strcmp(keys[i].group, group) == 0);
		if (same_group && (!keys[i].name || strcmp(keys[i].name, name) == 0))
			return true;
	}
	return false;
}

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void fixed_key(void *ctx, const char *group, const char *name)
{
	static const struct key_effect fixed[] = {{"listen", NULL}, {"metrics", NULL},
		{NULL, "run_dir"}, {"limits", "connections"}, {"limits", "header_bytes"},
		{"limits", "header_total_bytes"}, {"limits", "stream_bytes"}, {"limits", "idle_ms"},
		{"limits", "headers"}, {"limits", "body_rate"}, {"deadlines", "head_ms"},
		{"deadlines", "body_ms"}, {"limits", "state_bytes"}};
	struct buf *out = ctx;
	if (!listed(fixed, COUNT(fixed), group, name))
		return;
	buf_printf(out, "%s%s%s%s", out->n ? ", " : "", group ? group : "", group ? "." : "", name);
}

void reload_fixed_keys(const struct config *before, const struct config *after, struct buf *out)
{
	config_differences(before, after, fixed_key, out);
}

static void worker_key(void *ctx, const char *group, const char *name)
{
	/* What ACK brings; link_bytes is the size of a queue that is made with the worker. */
	static const struct key_effect told[] = {{"log", NULL}, {"deadlines", "worker_boot_ms"},
		{"deadlines", "backend_connect_ms"}, {"deadlines", "backend_idle_ms"},
		{"deadlines", "backend_first_byte_ms"}, {"deadlines", "backend_silent_ms"},
		{"deadlines", "kv_ms"}, {"deadlines", "kv_idle_ms"}, {"limits", "kv_bytes"},
		{"limits", "backend_log_bytes"}, {NULL, "state_dir"}, {"limits", "body_bytes"},
		{"limits", "line_bytes"}, {"limits", "link_bytes"}, {"condense", "result_bytes"}};
	bool *concerned = ctx;
	*concerned = *concerned || listed(told, COUNT(told), group, name);
}

bool reload_concerns_workers(const struct config *before, const struct config *after)
{
	bool concerned = false;
	config_differences(before, after, worker_key, &concerned);
	return concerned;
}

static void device_key(void *ctx, const char *group, const char *name)
{
	static const struct key_effect live[] = {{NULL, "roles"}},
				       backend[] = {{NULL, "pin"}, {"backend", "type"},
					       {"backend", "command"}};
	enum reload_effect *effect = ctx, of_key = RELOAD_WORKER;
	if (listed(live, COUNT(live), group, name))
		of_key = RELOAD_NOTHING;
	else if (listed(backend, COUNT(backend), group, name))
		of_key = RELOAD_BACKEND;
	if (of_key > *effect)
		*effect = of_key;
}

enum reload_effect reload_device_effect(
	const struct config_device *before, const struct config_device *after)
{
	enum reload_effect effect = RELOAD_NOTHING;
	config_device_differences(before, after, device_key, &effect);
	/* Nothing that we started is there to be replaced: the new one may boot beside the old. */
	if (effect == RELOAD_BACKEND && !before->backend.command && !after->backend.command)
		effect = RELOAD_WORKER;
	return effect;
}

/* --- one reload --- */

struct reload {
	uv_work_t work;
	struct life *life;
	uint64_t operation;
	struct config config;
	struct buf err;
	int rc;
};

static void read_file(uv_work_t *w)
{
	struct reload *r = w->data;
	r->rc = config_load(r->life->config_path, &r->config, &r->err);
}

static void end(struct reload *r, bool ok, const char *why)
{
	struct life *l = r->life;
	operation_part_ended(&l->operations, r->operation, ok, why, now_ms());
	log_line(ok ? LOG_INFO : LOG_ERROR, "reload", LOG_STR("file", l->config_path),
		LOG_STR("result", ok ? "done" : "refused"), LOG_STR("why", why), LOG_END);
	l->reloading = false;
	service_reloaded(l);
	successor_look(l);
	buf_free(&r->err);
	free(r);
}

/* Room and quiet enough for it? Nothing is changed here. */
static bool possible(struct reload *r)
{
	const struct life *l = r->life;
	struct buf *err = &r->err;
	buf_clear(err);
	reload_fixed_keys(l->config, &r->config, err);
	if (err->n) {
		buf_add_str(err,
			": cannot change while tandemd runs; `tandemctl upgrade` takes it over");
		return false;
	}
	if (!doors_may_stay(l, &r->config, err))
		return false;
	for (size_t i = 0; i < l->devices->count; i++)
		if (device_busy(l->devices->of[i])) {
			buf_printf(err, "an operation on %s is under way",
				l->devices->of[i]->conf->name);
			return false;
		}
	if (l->devices->removed_count + l->devices->count > DEVICES_REMOVED_MAX) {
		buf_add_str(err, "too many removed devices still finish their jobs");
		return false;
	}
	return true;
}

/* A certificate is renewed under the same name. */
static bool renewed(struct reload *r)
{
	struct front *const doors[] = {r->life->front, r->life->metrics};
	const struct config *c = &r->config;
	for (size_t i = 0; i < COUNT(doors); i++)
		if (doors[i] &&
			front_renew(doors[i], c->listen.certificate, c->listen.key, &r->err))
			return false;
	return true;
}

static struct config_device *copy_of(const struct config_device *from)
{
	struct config_device *copy = calloc(1, sizeof(*copy));
	if (copy && config_device_copy(copy, from) == 0)
		return copy;
	free(copy);
	return NULL;
}

/* An old device under a configuration that still has it. */
static void change(struct reload *r, struct device *d, const struct config_device *after, bool all)
{
	enum reload_effect effect = reload_device_effect(d->conf, after);
	struct config_device *copy = copy_of(after);
	if (!copy) {
		operation_add_part(&r->life->operations, r->operation);
		operation_part_ended(&r->life->operations, r->operation, false,
			"out of memory: a device keeps its old settings", now_ms());
		return;
	}
	if (all && effect < RELOAD_WORKER)
		effect = RELOAD_WORKER;
	if (effect == RELOAD_NOTHING || (device_drained(d) && effect != RELOAD_NOTHING)) {
		struct config_device *old = (struct config_device *)d->conf;
		d->conf = copy;
		config_device_free(old);
		free(old);
		return;
	}
	log_line(LOG_INFO, "device_changed", LOG_STR("device", d->conf->name),
		LOG_STR("by", effect == RELOAD_BACKEND ? "another backend" : "a fresh worker"),
		LOG_END);
	operation_add_part(&r->life->operations, r->operation);
	bool backend = effect == RELOAD_BACKEND;
	int rc = device_reconfigure(d, copy, backend, !backend, r->operation);
	if (rc == 0)
		return;
	config_device_free(copy);
	free(copy);
	operation_part_ended(&r->life->operations, r->operation, false, "out of memory", now_ms());
}

/* The next reload tries again. */
static void not_added(struct reload *r, const struct config_device *conf)
{
	char why[CONFIG_NAME_BYTES + 48];
	snprintf(why, sizeof(why), "out of memory: device %s is not added", conf->name);
	log_line(LOG_ERROR, "device_not_added", LOG_STR("device", conf->name),
		LOG_STR("why", "out of memory"), LOG_END);
	operation_add_part(&r->life->operations, r->operation);
	operation_part_ended(&r->life->operations, r->operation, false, why, now_ms());
}

static void apply_devices(struct reload *r, const struct config *c, bool all)
{
	struct life *l = r->life;
	struct device *old[CONFIG_DEVICES_MAX];
	size_t old_count = l->devices->count;
	memcpy(old, l->devices->of, sizeof(old));
	l->devices->count = 0;
	for (size_t i = 0; i < c->device_count; i++) {
		struct device *d = NULL;
		for (size_t k = 0; k < old_count && !d; k++)
			if (old[k] && strcmp(old[k]->conf->name, c->devices[i].name) == 0) {
				d = old[k];
				old[k] = NULL;
			}
		if (d) {
			l->devices->of[l->devices->count++] = d;
			change(r, d, &c->devices[i], all);
		} else if ((d = device_create(l->devices, &c->devices[i]))) {
			l->devices->of[l->devices->count++] = d;
			log_line(LOG_INFO, "device_added", LOG_STR("device", d->conf->name),
				LOG_END);
			worker_start(d->current);
		} else {
			not_added(r, &c->devices[i]);
		}
	}
	for (size_t k = 0; k < old_count; k++) {
		if (!old[k])
			continue;
		log_line(
			LOG_INFO, "device_removed", LOG_STR("device", old[k]->conf->name), LOG_END);
		l->devices->removed[l->devices->removed_count++] = old[k];
		device_remove(old[k]);
	}
	devices_sweep(l->devices);
}

static void apply(struct reload *r)
{
	struct life *l = r->life;
	struct config before = *l->config;
	bool all = reload_concerns_workers(&before, &r->config);
	char *run_dir = l->config->run_dir;
	*l->config = r->config;
	/* Equal, but what points to the old string is spared. */
	if (l->run_dir == run_dir) {
		before.run_dir = l->config->run_dir;
		l->config->run_dir = run_dir;
	}
	log_init("tandemd", NULL, l->config->log.level, l->config->log.format,
		l->config->log.content);
	log_out_size((size_t)l->config->log.buffer_bytes);
	l->events->reloaded(l->ctx);
	requests_reloaded(l->requests);
	apply_devices(r, l->config, all);
	config_free(&before);
}

static void on_read(uv_work_t *w, int status)
{
	struct reload *r = w->data;
	(void)status;
	if (r->rc) {
		while (r->err.n && r->err.p[r->err.n - 1] == '\n')
			r->err.n--;
		end(r, false, r->err.n ? buf_cstr(&r->err) : "out of memory");
	} else if (life_stopping(r->life) || !possible(r) || !renewed(r)) {
		config_free(&r->config);
		end(r, false, life_stopping(r->life) ? "tandemd is stopping" : buf_cstr(&r->err));
	} else {
		apply(r);
		end(r, true, NULL);
	}
}

uint64_t reload_begin(struct life *l, struct buf *err)
{
	struct reload *r = l->reloading || life_stopping(l) ? NULL : calloc(1, sizeof(*r));
	if (!r) {
		buf_add_str(err, life_stopping(l) ? "tandemd is stopping"
				 : l->reloading	  ? "a reload is under way"
						  : "out of memory");
		return 0;
	}
	r->life = l;
	r->work.data = r;
	buf_init(&r->err, OPERATION_WHY_BYTES * 4);
	int rc = uv_queue_work(l->loop, &r->work, read_file, on_read);
	if (rc) {
		buf_add_str(err, uv_strerror(rc));
		buf_free(&r->err);
		free(r);
		return 0;
	}
	l->reloading = true;
	notify_reloading(&l->notify);
	r->operation = operation_begin(&l->operations, "reload", "all", 1, now_ms())->id;
	return r->operation;
}
