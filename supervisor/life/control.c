#include "supervisor/life/control.h"

#include "common/base/log.h"
#include "supervisor/devices/restart.h"
#include "supervisor/life/reload.h"
#include "supervisor/requests/request.h"

#include <errno.h>
#include <stdio.h>

/* --- one device or all of them --- */

struct targets {
	struct device *const *devices;
	struct device *one;
	size_t count;
};

/* False, with words: there is no such device. */
static bool find(struct supervisor *s, const char *name, struct targets *t, struct buf *err)
{
	t->one = name ? device_find(s, name) : NULL;
	t->devices = name ? &t->one : s->devices;
	t->count = name ? 1 : s->device_count;
	if (name && !t->one)
		buf_printf(err, "no device is called '%s'", name);
	return !name || t->one;
}

static const char *refusal(int rc)
{
	return rc == -EBUSY ? "another operation on it is under way" : "out of memory";
}

typedef int part_fn(struct device *d, uint64_t operation, const void *ctx);

/* Begins an operation with a part for each device. Of a single device a refusal is an error at
 * once.
 */
static uint64_t begin(struct supervisor *s, const char *kind, const char *device, part_fn *part,
	const void *ctx, struct buf *err)
{
	struct targets t;
	if (s->stopping) {
		buf_add_str(err, "tandemd is stopping");
		return 0;
	}
	if (!find(s, device, &t, err))
		return 0;
	uint64_t id = operation_begin(
		&s->operations, kind, device ? device : "all", (unsigned)t.count, now_ms())
			      ->id;
	for (size_t i = 0; i < t.count; i++) {
		int rc = part(t.devices[i], id, ctx);
		if (rc == 0)
			continue;
		char why[OPERATION_WHY_BYTES];
		snprintf(why, sizeof(why), "%s: %s", t.devices[i]->conf->name, refusal(rc));
		operation_part_ended(&s->operations, id, false, why, now_ms());
		if (!device)
			continue;
		buf_add_str(err, why);
		return 0;
	}
	log_line(LOG_INFO, "operation", LOG_INT("operation", id), LOG_STR("kind", kind),
		LOG_STR("target", device ? device : "all"), LOG_END);
	return id;
}

static int restart_part(struct device *d, uint64_t operation, const void *ctx)
{
	return device_restart(d, *(const bool *)ctx, operation);
}

uint64_t control_restart(struct supervisor *s, const char *device, bool backend, struct buf *err)
{
	return begin(s, "restart", device, restart_part, &backend, err);
}

static int drain_part(struct device *d, uint64_t operation, const void *ctx)
{
	(void)ctx;
	return device_drain(d, operation);
}

uint64_t control_drain(struct supervisor *s, const char *device, struct buf *err)
{
	return begin(s, "drain", device, drain_part, NULL, err);
}

static int reset_part(struct device *d, uint64_t operation, const void *ctx)
{
	(void)ctx;
	device_reset(d);
	operation_part_ended(&d->sup->operations, operation, true, NULL, now_ms());
	return 0;
}

uint64_t control_reset(struct supervisor *s, const char *device, struct buf *err)
{
	return begin(s, "reset", device, reset_part, NULL, err);
}

uint64_t control_reload(struct supervisor *s, struct buf *err)
{
	if (s->life.state == LIFE_RETIRING || upgrade_under_way(s)) {
		buf_add_str(err, "an upgrade is under way: the new tandemd reads the file");
		return 0;
	}
	return reload_begin(s, err);
}

uint64_t control_upgrade(struct supervisor *s, struct buf *err)
{
	return upgrade_begin(s, err);
}

bool control_cancel(struct supervisor *s, const char *request_id)
{
	struct request *r;
	TAILQ_FOREACH(r, &s->requests, link)
		if (strcmp(r->id, request_id) == 0) {
			r->ops->cancel(r);
			return true;
		}
	return false;
}
