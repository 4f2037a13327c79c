#include "supervisor/life/rundir_watch.h"

#include "common/base/log.h"
#include "supervisor/life/life.h"

#include <errno.h>
#include <string.h>

static int put_back(struct life *l, enum rundir_state state, struct buf *err)
{
	int rc = state == RUNDIR_GONE ? rundir_mend(&l->rundir, err) : 0;
	if (rc == 0 && (rc = l->events->reopen(l->ctx)))
		buf_printf(err, "its sockets cannot be opened: %s", strerror(-rc));
	if (rc)
		return rc;
	rundir_take(&l->rundir);
	if (rundir_look(&l->rundir) == RUNDIR_GOOD)
		return 0;
	buf_add_str(err, "something else has the name of a socket or of the pid file");
	return -EEXIST;
}

void rundir_watch_look(struct life *l)
{
	struct rundir_watch *w = &l->rundir_watch;
	enum rundir_state state = rundir_look(&l->rundir);
	if (state == RUNDIR_GOOD) {
		w->told = false;
		return;
	}
	if (w->told && state == RUNDIR_NAMES_TAKEN)
		return; /* until it is gone */
	struct buf err;
	buf_init(&err, 512);
	int rc = put_back(l, state, &err);
	if (rc == 0)
		log_line(LOG_WARN, "run_dir_mended", LOG_STR("run_dir", l->run_dir), LOG_END);
	else if (!w->told)
		log_line(LOG_ERROR, "run_dir_lost", LOG_STR("run_dir", l->run_dir),
			LOG_STR("why", buf_cstr(&err)), LOG_END);
	w->told = rc != 0;
	buf_free(&err);
}

static void on_timer(uv_timer_t *timer)
{
	struct life *l = timer->data;
	if (l->state == LIFE_RUNNING)
		rundir_watch_look(l);
}

void rundir_watch_init(struct life *l)
{
	uv_timer_init(l->loop, &l->rundir_watch.timer);
	l->rundir_watch.timer.data = l;
	uv_timer_start(&l->rundir_watch.timer, on_timer, RUNDIR_LOOK_MS, RUNDIR_LOOK_MS);
	uv_unref((uv_handle_t *)&l->rundir_watch.timer);
}

void rundir_watch_fini(struct life *l)
{
	uv_close((uv_handle_t *)&l->rundir_watch.timer, NULL);
}
