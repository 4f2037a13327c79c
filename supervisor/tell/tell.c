#include "supervisor/tell/tell.h"

#include "common/base/log.h"
#include "supervisor/requests/page.h"
#include "supervisor/tell/commands.h"
#include "supervisor/tell/events.h"
#include "supervisor/tell/flush.h"
#include "supervisor/tell/traces.h"
#include "supervisor/tell/ui_doctor.h"
#include "supervisor/tell/ui_streams.h"

#include <errno.h>
#include <string.h>

static struct events_limits limits_of(const struct config *c)
{
	return (struct events_limits){.queue_bytes = (size_t)c->limits.event_bytes,
		.recent_bytes = (size_t)c->limits.recent_event_bytes};
}

static int open_sockets(struct tell *t)
{
	const struct life *l = t->life;
	const struct events_limits limits = limits_of(l->config);
	char path[RUNDIR_BYTES];
	t->flush = flush_create(l->loop, t->devices);
	if (!t->flush)
		return -ENOMEM;
	rundir_socket(&l->rundir, "stats", path);
	int rc = rep_start(l->loop, path, commands_answer, t, &t->stats);
	if (rc == 0) {
		rundir_socket(&l->rundir, "events", path);
		rc = events_start(l->loop, path, &limits, &t->events);
	}
	if (rc == 0)
		events_hear(t->events, ui_streams_hear, t->streams);
	else
		log_line(LOG_ERROR, "stats_socket", LOG_STR("run_dir", l->run_dir),
			LOG_STR("error", strerror(-rc)), LOG_END);
	return rc;
}

int tell_begin(struct tell *t)
{
	t->traces = traces_create(t);
	return t->traces ? 0 : -ENOMEM;
}

void tell_end(struct tell *t)
{
	traces_destroy(t->traces);
	t->traces = NULL;
}

static void close_sockets(struct tell *t)
{
	if (t->stats)
		rep_stop(t->stats);
	if (t->events)
		events_stop(t->events);
	flush_destroy(t->flush);
	t->stats = NULL;
	t->events = NULL;
	t->flush = NULL;
}

int tell_start(struct tell *t)
{
	const struct life *l = t->life;
	t->streams = ui_streams_create(l->loop, &l->config->deadlines.heartbeat_ms);
	t->doctor = ui_doctor_create(l->loop, t->ctl_path, l->run_dir, l->config);
	return t->streams && t->doctor ? open_sockets(t) : -ENOMEM;
}

int tell_reopen(struct tell *t)
{
	close_sockets(t);
	return open_sockets(t);
}

void tell_reloaded(struct tell *t)
{
	const struct events_limits limits = limits_of(t->life->config);
	traces_reloaded(t->traces);
	if (t->events) /* they could not be opened again */
		events_limit(t->events, &limits);
	ui_streams_end(t->streams); /* whose key is still there asks again */
	ui_doctor_anew(t->doctor);
}

void tell_leaving(struct tell *t)
{
	ui_streams_end(t->streams);
	ui_doctor_end(t->doctor);
	page_leaving(t->requests);
}

void tell_stop(struct tell *t)
{
	close_sockets(t);
	ui_streams_destroy(t->streams);
	ui_doctor_destroy(t->doctor);
	t->streams = NULL;
	t->doctor = NULL;
}
