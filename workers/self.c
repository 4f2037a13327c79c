/* What every part of the worker may ask of it: that it says something, that it ends. */
#include "workers/worker.h"

#include "common/base/log.h"

#include <string.h>

void worker_put(struct worker_self *w, const struct proto_record *r)
{
	int rc = channel_put(w->channel, r);
	if (rc == 0 || w->phase == WORKER_ENDS)
		return;
	log_line(LOG_ERROR, "link_put", LOG_STR("record", proto_type_name(r->type)),
		LOG_STR("error", strerror(-rc)), LOG_END);
	worker_exit(w, WORKER_EXIT_LINK, "the link does not take a record");
}

void worker_exit(struct worker_self *w, enum worker_code code, const char *why)
{
	if (w->phase == WORKER_ENDS)
		return;
	w->drained = w->phase == WORKER_DRAINS;
	w->phase = WORKER_ENDS;
	w->code = code;
	log_line(code == WORKER_EXIT_OK ? LOG_INFO : LOG_WARN, "worker_exit", LOG_INT("code", code),
		LOG_STR("why", why), LOG_END);
	uv_timer_start(&w->deadline, w->exit_turn, 0, 0);
}

void worker_task_ended(struct worker_self *w)
{
	if (w->phase == WORKER_DRAINS && w->open_tasks == 0)
		worker_exit(w, WORKER_EXIT_OK, "drained");
}
