#include "supervisor/life/rundir_watch.h"

#include "common/base/log.h"
#include "supervisor/supervisor.h"
#include "supervisor/tell/stats.h"

#include <errno.h>
#include <string.h>

static int put_back(struct supervisor *s, enum rundir_state state, struct buf *err)
{
	int rc = state == RUNDIR_GONE ? rundir_mend(&s->rundir, err) : 0;
	if (rc == 0 && (rc = stats_reopen(s)))
		buf_printf(err, "its sockets cannot be opened: %s", strerror(-rc));
	if (rc)
		return rc;
	rundir_take(&s->rundir);
	if (rundir_look(&s->rundir) == RUNDIR_GOOD)
		return 0;
	buf_add_str(err, "something else has the name of a socket or of the pid file");
	return -EEXIST;
}

void rundir_watch_look(struct supervisor *s)
{
	struct rundir_watch *w = &s->rundir_watch;
	enum rundir_state state = rundir_look(&s->rundir);
	if (state == RUNDIR_GOOD) {
		w->told = false;
		return;
	}
	if (w->told && state == RUNDIR_NAMES_TAKEN)
		return; /* until it is gone */
	struct buf err;
	buf_init(&err, 512);
	int rc = put_back(s, state, &err);
	if (rc == 0)
		log_line(LOG_WARN, "run_dir_mended", LOG_STR("run_dir", s->run_dir), LOG_END);
	else if (!w->told)
		log_line(LOG_ERROR, "run_dir_lost", LOG_STR("run_dir", s->run_dir),
			LOG_STR("why", buf_cstr(&err)), LOG_END);
	w->told = rc != 0;
	buf_free(&err);
}

static void on_timer(uv_timer_t *timer)
{
	struct supervisor *s = timer->data;
	if (s->life.state == LIFE_RUNNING)
		rundir_watch_look(s);
}

void rundir_watch_init(struct supervisor *s)
{
	uv_timer_init(s->loop, &s->rundir_watch.timer);
	s->rundir_watch.timer.data = s;
	uv_timer_start(&s->rundir_watch.timer, on_timer, RUNDIR_LOOK_MS, RUNDIR_LOOK_MS);
	uv_unref((uv_handle_t *)&s->rundir_watch.timer);
}

void rundir_watch_fini(struct supervisor *s)
{
	uv_close((uv_handle_t *)&s->rundir_watch.timer, NULL);
}
