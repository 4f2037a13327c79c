#include "supervisor/life/service.h"

#include "common/base/log.h"
#include "supervisor/devices/worker.h"
#include "supervisor/life/listener.h"
#include "supervisor/supervisor.h"

#include <stdio.h>

/* While models load, the manager's start timeout is moved on by EXTEND_MS every EXTEND_EVERY_MS, by
 * the real loop: a start may take long, but a start that hangs is noticed. */
#define EXTEND_EVERY_MS 10000
#define EXTEND_MS 30000

static void on_extend(uv_timer_t *t)
{
	struct supervisor *s = t->data;
	notify_say(&s->notify, "EXTEND_TIMEOUT_USEC=%d", EXTEND_MS * 1000);
}

static bool main_ready(const struct supervisor *s)
{
	for (size_t i = 0; i < s->device_count; i++)
		if ((s->devices[i]->conf->roles & ROLE_MAIN) &&
			s->devices[i]->state == WORKER_READY)
			return true;
	return false;
}

/* "gpu0 ready, gpu1 loading: 40 %" */
static void describe(const struct supervisor *s, char *out, size_t size)
{
	size_t n = 0;
	out[0] = '\0';
	for (size_t i = 0; i < s->device_count && n < size - 1; i++) {
		const struct device *d = s->devices[i];
		bool more = d->state != WORKER_READY && d->current->backend.detail[0];
		int length = snprintf(out + n, size - n, "%s%s %s%s%.80s", i ? ", " : "",
			d->conf->name, device_state_name(d), more ? ": " : "",
			more ? d->current->backend.detail : "");
		n += length > 0 ? (size_t)length : 0;
	}
	for (char *p = out; *p; p++)
		if (*p == '\n') /* would begin another variable */
			*p = ' ';
}

static void tell(struct supervisor *s)
{
	struct service *v = &s->service;
	char status[SERVICE_STATUS_BYTES];
	describe(s, status, sizeof(status));
	if (strcmp(status, v->status) != 0) {
		memcpy(v->status, status, sizeof(status));
		notify_say(&s->notify, "STATUS=%s", status);
	}
	if (v->announced || !main_ready(s))
		return;
	v->announced = true;
	uv_timer_stop(&v->extend);
	notify_say(&s->notify, "READY=1");
	log_line(LOG_INFO, "ready", LOG_STR("devices", status), LOG_END);
}

void supervisor_devices_changed(struct supervisor *s)
{
	successor_look(s);
	if (s->service.in_charge && s->life.state == LIFE_RUNNING)
		tell(s);
}

void supervisor_in_charge(struct supervisor *s)
{
	struct service *v = &s->service;
	v->in_charge = true;
	s->notify.quiet = false;
	log_line(LOG_INFO, "listening", LOG_STR("address", front_address(s->front)),
		LOG_STR("run_dir", s->run_dir), LOG_INT("devices", s->device_count), LOG_END);
	if (!v->stored)
		notify_store(&s->notify, front_listen_fd(s->front), LISTENER_STORED_NAME);
	notify_watchdog_start(&s->notify);
	uv_timer_start(&v->extend, on_extend, 0, EXTEND_EVERY_MS);
	tell(s);
}

void service_init(struct supervisor *s)
{
	uv_timer_init(s->loop, &s->service.extend);
	s->service.extend.data = s;
}

void service_fini(struct supervisor *s)
{
	uv_close((uv_handle_t *)&s->service.extend, NULL);
}

void service_reloaded(struct supervisor *s)
{
	s->service.status[0] = '\0';
	notify_say(&s->notify, "READY=1");
	supervisor_devices_changed(s);
}
