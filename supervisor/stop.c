/* The way out: answers under way have drain_ms, then the workers end, then the loop does. */
#include "common/log.h"
#include "supervisor/restart.h"
#include "supervisor/supervisor.h"

void supervisor_check_stopped(struct supervisor *s)
{
	if (!s->stopping)
		return;
	if (s->active > 0 && uv_is_active((uv_handle_t *)&s->drain_timer))
		return;
	bool all_gone = true;
	for (size_t i = 0; i < s->device_count; i++)
		all_gone = device_stop(s->devices[i]) && all_gone;
	for (size_t i = 0; i < s->removed_count; i++)
		all_gone = device_stop(s->removed[i]) && all_gone;
	if (all_gone && adopt_quiet(s))
		uv_stop(s->loop);
}

static void on_drain_over(uv_timer_t *t)
{
	struct supervisor *s = t->data;
	uv_timer_stop(t);
	supervisor_check_stopped(s);
}

void supervisor_stop(struct supervisor *s, int signum)
{
	bool again = s->stopping;
	log_line(LOG_INFO, "stopping", LOG_INT("signal", signum), LOG_INT("active", s->active),
		LOG_INT("again", again), LOG_END);
	s->stopping = true;
	if (again) {
		uv_timer_stop(&s->drain_timer);
	} else {
		front_quiesce(s->front);
		uv_timer_start(
			&s->drain_timer, on_drain_over, (uint64_t)s->config.deadlines.drain_ms, 0);
	}
	supervisor_check_stopped(s);
}
