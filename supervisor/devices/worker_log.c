/* What a worker logs, for those who listen to events: under a name of its own, with its process and
 * device. What a worker says is not trusted: keys and names are plain, texts have their bounds. */
#include "supervisor/devices/worker.h"

#include "common/base/log.h"
#include "supervisor/devices/device.h"

#include <stdio.h>

#define PREFIX "worker."
#define NAME_BYTES 48
#define OWN_FIELDS 3 /* proc, pid, device */

/* Lower case, digits and _, and not too long: then a copy of it. */
static bool plain(struct slice from, char to[NAME_BYTES])
{
	if (from.n == 0 || from.n >= NAME_BYTES)
		return false;
	for (size_t i = 0; i < from.n; i++)
		if (!((from.p[i] >= 'a' && from.p[i] <= 'z') ||
			    (from.p[i] >= '0' && from.p[i] <= '9') || from.p[i] == '_'))
			return false;
	memcpy(to, from.p, from.n);
	to[from.n] = '\0';
	return true;
}

static struct log_field field_of(const struct proto_log_field *f, const char *key)
{
	switch (f->kind) {
	case PROTO_LOG_NUMBER:
		return LOG_INT(key, f->number);
	case PROTO_LOG_REAL:
		return LOG_MS(key, f->real);
	default:
		return LOG_SLICE(key, f->text);
	}
}

/* What is ours to say of an event. */
static bool is_own(const char *key)
{
	static const char *const own[] = {"seq", "time", "level", "event", "proc", "pid", "device"};
	for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
		if (strcmp(key, own[i]) == 0)
			return true;
	return false;
}

void worker_logged(struct worker *w, const struct proto_record *r)
{
	char names[PROTO_LOG_FIELDS_MAX][NAME_BYTES], name[NAME_BYTES];
	char event[NAME_BYTES + sizeof(PREFIX)];
	struct log_field fields[PROTO_LOG_FIELDS_MAX + OWN_FIELDS + 1];
	size_t n = 0;
	if (!plain(r->u.log.event, name))
		return;
	snprintf(event, sizeof(event), PREFIX "%s", name);
	fields[n++] = LOG_STR("proc", "tandem-worker");
	fields[n++] = LOG_INT("pid", w->pid);
	fields[n++] = LOG_STR("device", w->device->conf->name);
	for (size_t i = 0; i < r->u.log.field_count; i++)
		if (plain(r->u.log.fields[i].key, names[i]) && !is_own(names[i]))
			fields[n++] = field_of(&r->u.log.fields[i], names[i]);
	fields[n] = LOG_END;
	log_relay(r->u.log.level < LOG_ERROR ? (enum log_level)r->u.log.level : LOG_ERROR, event,
		fields);
}
