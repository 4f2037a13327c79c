#include "supervisor/tell/tell.h"

#include "common/base/log.h"
#include "supervisor/tell/commands.h"
#include "supervisor/tell/events.h"
#include "supervisor/tell/flush.h"

#include <errno.h>
#include <string.h>

static int open_sockets(struct tell *t)
{
	const struct life *l = t->life;
	char path[RUNDIR_BYTES];
	t->flush = flush_create(l->loop, t->devices);
	if (!t->flush)
		return -ENOMEM;
	rundir_socket(&l->rundir, "stats", path);
	int rc = rep_start(l->loop, path, commands_answer, t, &t->stats);
	if (rc == 0) {
		rundir_socket(&l->rundir, "events", path);
		rc = events_start(l->loop, path, (size_t)l->config->limits.event_bytes, &t->events);
	}
	if (rc)
		log_line(LOG_ERROR, "stats_socket", LOG_STR("run_dir", l->run_dir),
			LOG_STR("error", strerror(-rc)), LOG_END);
	return rc;
}

int tell_start(struct tell *t)
{
	return open_sockets(t);
}

int tell_reopen(struct tell *t)
{
	tell_stop(t);
	return open_sockets(t);
}

void tell_reloaded(struct tell *t)
{
	if (t->events) /* they could not be opened again */
		events_set_queue_bytes(t->events, (size_t)t->life->config->limits.event_bytes);
}

void tell_stop(struct tell *t)
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
