#include "supervisor/life/operation.h"

#include "common/base/log.h"

#include <stdio.h>
#include <string.h>

static struct operation *place(struct operations *o, uint64_t id)
{
	return &o->kept[id % OPERATIONS_KEPT];
}

static void tell(const struct operation *op)
{
	log_line(op->state == OPERATION_FAILED ? LOG_WARN : LOG_INFO, "operation",
		LOG_INT("operation", op->id), LOG_STR("kind", op->kind),
		LOG_STR("target", op->target), LOG_STR("state", operation_state_name(op->state)),
		LOG_STR("why", op->why),
		LOG_INT("ms", op->ended_ms ? op->ended_ms - op->begun_ms : 0), LOG_END);
}

struct operation *operation_begin(
	struct operations *o, const char *kind, const char *target, unsigned parts, uint64_t now_ms)
{
	uint64_t id = ++o->last_id;
	struct operation *op = place(o, id);
	*op = (struct operation){.id = id, .kind = kind, .begun_ms = now_ms, .open = parts};
	snprintf(op->target, sizeof(op->target), "%s", target);
	if (parts == 0) {
		op->state = OPERATION_DONE;
		op->ended_ms = now_ms;
	}
	tell(op);
	return op;
}

void operation_add_part(struct operations *o, uint64_t id)
{
	struct operation *op = place(o, id);
	if (op->id == id)
		op->open++;
}

void operation_part_ended(
	struct operations *o, uint64_t id, bool ok, const char *why, uint64_t now_ms)
{
	struct operation *op = place(o, id);
	if (id == 0 || op->id != id || op->open == 0)
		return;
	size_t n = strlen(op->why);
	if (why && *why)
		snprintf(op->why + n, sizeof(op->why) - n, "%s%s", n ? "; " : "", why);
	if (!ok)
		op->state = OPERATION_FAILED;
	if (--op->open > 0)
		return;
	if (op->state == OPERATION_RUNNING)
		op->state = OPERATION_DONE;
	op->ended_ms = now_ms;
	tell(op);
}

const struct operation *operation_find(const struct operations *o, uint64_t id)
{
	const struct operation *op = &o->kept[id % OPERATIONS_KEPT];
	return id != 0 && op->id == id ? op : NULL;
}

const char *operation_state_name(enum operation_state s)
{
	static const char *const names[] = {"running", "done", "failed"};
	return names[s];
}
