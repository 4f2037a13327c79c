#include "common/base/log_loop.h"

#include "common/base/log.h"

#define AGAIN_MS 20

static uv_prepare_t turn;
static uv_timer_t again;

static void on_again(uv_timer_t *timer)
{
	(void)timer; /* the turn it makes is what it is for */
}

static void on_turn(uv_prepare_t *prepare)
{
	(void)prepare;
	if (!log_flush() && !uv_is_active((uv_handle_t *)&again))
		uv_timer_start(&again, on_again, AGAIN_MS, 0);
}

void log_loop_start(uv_loop_t *loop)
{
	uv_prepare_init(loop, &turn);
	uv_timer_init(loop, &again);
	uv_prepare_start(&turn, on_turn);
	uv_unref((uv_handle_t *)&turn);
	uv_unref((uv_handle_t *)&again);
	log_defer(true);
}

void log_loop_stop(void)
{
	log_defer(false);
	uv_close((uv_handle_t *)&turn, NULL);
	uv_close((uv_handle_t *)&again, NULL);
}
