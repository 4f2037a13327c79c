#include "supervisor/life/control.h"

#include "common/base/log.h"
#include "supervisor/devices/succession.h"
#include "supervisor/life/life.h"
#include "supervisor/life/reload.h"

#include <errno.h>
#include <stdio.h>

/* --- one device or all of them --- */

struct targets {
	struct device *const *devices;
	struct device *one;
	size_t count;
};

/* False, with words: there is no such device. */
static bool find(struct life *l, const char *name, struct targets *t, struct buf *err)
{
	t->one = name ? device_find(l->devices, name) : NULL;
	t->devices = name ? &t->one : l->devices->of;
	t->count = name ? 1 : l->devices->count;
	if (name && !t->one)
		buf_printf(err, "no device is called '%s'", name);
	return !name || t->one;
}

static const char *refusal(int rc)
{
	return rc == -EBUSY ? "another operation on it is under way" : "out of memory";
}

/* 0: it is under way; 1: it has ended well; -errno: it was refused. */
typedef int part_fn(struct device *d, uint64_t operation, const void *ctx);

/* Begins an operation with a part for each device. Of a single device a refusal is an error at
 * once.
 */
static uint64_t begin(struct life *l, const char *kind, const char *device, part_fn *part,
	const void *ctx, struct buf *err)
{
	struct targets t;
	if (life_stopping(l)) {
		buf_add_str(err, "tandemd is stopping");
		return 0;
	}
	if (!find(l, device, &t, err))
		return 0;
	uint64_t id = operation_begin(
		&l->operations, kind, device ? device : "all", (unsigned)t.count, now_ms())
			      ->id;
	for (size_t i = 0; i < t.count; i++) {
		int rc = part(t.devices[i], id, ctx);
		if (rc > 0)
			operation_part_ended(&l->operations, id, true, NULL, now_ms());
		if (rc >= 0)
			continue;
		char why[OPERATION_WHY_BYTES];
		snprintf(why, sizeof(why), "%s: %s", t.devices[i]->conf->name, refusal(rc));
		operation_part_ended(&l->operations, id, false, why, now_ms());
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

uint64_t control_restart(struct life *l, const char *device, bool backend, struct buf *err)
{
	return begin(l, "restart", device, restart_part, &backend, err);
}

static int drain_part(struct device *d, uint64_t operation, const void *ctx)
{
	(void)ctx;
	return device_drain(d, operation);
}

uint64_t control_drain(struct life *l, const char *device, struct buf *err)
{
	return begin(l, "drain", device, drain_part, NULL, err);
}

static int reset_part(struct device *d, uint64_t operation, const void *ctx)
{
	(void)ctx;
	(void)operation;
	device_reset(d);
	return 1;
}

uint64_t control_reset(struct life *l, const char *device, struct buf *err)
{
	return begin(l, "reset", device, reset_part, NULL, err);
}

uint64_t control_reload(struct life *l, struct buf *err)
{
	if (l->state == LIFE_RETIRING || upgrade_under_way(l)) {
		buf_add_str(err, "an upgrade is under way: the new tandemd reads the file");
		return 0;
	}
	return reload_begin(l, err);
}

uint64_t control_upgrade(struct life *l, struct buf *err)
{
	return upgrade_begin(l, err);
}
