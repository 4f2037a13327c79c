#include "supervisor/life/service.h"

#include "common/base/log.h"
#include "supervisor/devices/worker.h"
#include "supervisor/life/life.h"
#include "supervisor/life/listener.h"

#include <stdio.h>

/* While models load, the manager's start timeout is moved on by EXTEND_MS every EXTEND_EVERY_MS, by
 * the real loop: a start may take long, but a start that hangs is noticed. */
#define EXTEND_EVERY_MS 10000
#define EXTEND_MS 30000

static void on_extend(uv_timer_t *t)
{
	struct life *l = t->data;
	notify_say(&l->notify, "EXTEND_TIMEOUT_USEC=%d", EXTEND_MS * 1000);
}

static bool main_ready(const struct life *l)
{
	for (size_t i = 0; i < l->devices->count; i++)
		if ((l->devices->of[i]->conf->roles & ROLE_MAIN) &&
			l->devices->of[i]->state == WORKER_READY)
			return true;
	return false;
}

/* "gpu0 ready, gpu1 loading: 40 %" */
static void describe(const struct life *l, char *out, size_t size)
{
	size_t n = 0;
	out[0] = '\0';
	for (size_t i = 0; i < l->devices->count && n < size - 1; i++) {
		const struct device *d = l->devices->of[i];
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

static void tell(struct life *l)
{
	struct service *v = &l->service;
	char status[SERVICE_STATUS_BYTES];
	describe(l, status, sizeof(status));
	if (strcmp(status, v->status) != 0) {
		memcpy(v->status, status, sizeof(status));
		notify_say(&l->notify, "STATUS=%s", status);
	}
	if (v->announced || !main_ready(l))
		return;
	v->announced = true;
	uv_timer_stop(&v->extend);
	notify_say(&l->notify, "READY=1");
	log_line(LOG_INFO, "ready", LOG_STR("devices", status), LOG_END);
}

void service_look(struct life *l)
{
	if (l->service.in_charge && l->state == LIFE_RUNNING)
		tell(l);
}

void service_in_charge(struct life *l)
{
	struct service *v = &l->service;
	v->in_charge = true;
	l->notify.quiet = false;
	bool near = front_is_loopback(l->front);
	log_line(LOG_INFO, "listening", LOG_STR("address", front_address(l->front)),
		LOG_STR("tls", front_has_tls(l->front) ? "yes" : "no"),
		LOG_STR("access", config_has_keys(l->config) ? "keys"
				  : near		     ? "local"
							     : "open"),
		LOG_STR("run_dir", l->run_dir), LOG_INT("devices", l->devices->count), LOG_END);
	if (!v->stored)
		notify_store(&l->notify, front_listen_fd(l->front), LISTENER_STORED_NAME);
	notify_watchdog_start(&l->notify);
	uv_timer_start(&v->extend, on_extend, 0, EXTEND_EVERY_MS);
	tell(l);
}

void service_init(struct life *l)
{
	uv_timer_init(l->loop, &l->service.extend);
	l->service.extend.data = l;
}

void service_fini(struct life *l)
{
	uv_close((uv_handle_t *)&l->service.extend, NULL);
}

void service_reloaded(struct life *l)
{
	l->service.status[0] = '\0';
	notify_say(&l->notify, "READY=1");
	service_look(l);
}
