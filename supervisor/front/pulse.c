/* When libmicrohttpd runs next, how long an idle connection may stay, and when the front itself is no more. */
#include "supervisor/front/internal.h"

#include <stdlib.h>

static void on_idle(uv_idle_t *h)
{
	(void)h; /* its being active is its use */
}

void front_wake(struct front *f)
{
	if (f->pending)
		return;
	f->pending = true;
	uv_idle_start(&f->idle, on_idle);
}

unsigned front_idle_seconds(unsigned idle_ms)
{
	return (idle_ms + 999) / 1000;
}

void front_unhurry(struct connection *c)
{
	c->hurried = false;
	MHD_set_connection_option(
		c->mhd, MHD_CONNECTION_OPTION_TIMEOUT, front_idle_seconds(c->front->idle_ms));
}

void front_hurry(struct connection *c, unsigned idle_ms)
{
	c->hurried = true;
	MHD_set_connection_option(
		c->mhd, MHD_CONNECTION_OPTION_TIMEOUT, front_idle_seconds(idle_ms));
	front_wake(c->front); /* MHD looks at its timeouts, and sets the timer anew */
}

bool front_is_idle(const struct connection *c)
{
	return !c->current && !inlet_in_head(&c->inlet) && STAILQ_EMPTY(&c->inlet.heads);
}

bool front_is_full(const struct front *f)
{
	return f->connections >= f->connections_max || f->stream_count >= f->connections_max;
}

void front_handle_closed(struct front *f)
{
	if (--f->open_handles == 0)
		free(f);
}
