#include "supervisor/front/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_MS 5000		  /* a client has that long to read its answer */
#define LINGER_BYTES (256u << 20) /* read and thrown away meanwhile */
#define LINGERS_MAX 64		  /* beyond, connections are closed at once */

struct lingering {
	TAILQ_ENTRY(lingering) link; /* in front.lingers */
	struct front *front;
	uv_poll_t poll;
	uv_timer_t timer;
	int fd;
	size_t drained;
	unsigned open_handles;
};

static void on_handle_closed(uv_handle_t *h)
{
	struct lingering *l = h->data;
	if (--l->open_handles == 0)
		free(l);
}

static void linger_end(struct lingering *l)
{
	TAILQ_REMOVE(&l->front->lingers, l, link);
	l->front->linger_count--;
	uv_poll_stop(&l->poll);
	close(l->fd);
	uv_close((uv_handle_t *)&l->poll, on_handle_closed);
	uv_close((uv_handle_t *)&l->timer, on_handle_closed);
}

static void on_late(uv_timer_t *t)
{
	linger_end(t->data);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	static char sink[65536];
	struct lingering *l = poll->data;
	(void)events;
	ssize_t n = status ? 0 : recvfrom(l->fd, sink, sizeof(sink), MSG_DONTWAIT, NULL, NULL);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		l->drained += (size_t)n;
	if (n <= 0 || l->drained > LINGER_BYTES)
		linger_end(l);
}

void linger_start(struct front *f, int fd)
{
	if (f->linger_count == LINGERS_MAX)
		return;
	struct lingering *l = calloc(1, sizeof(*l));
	if (!l)
		return;
	l->front = f;
	l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (l->fd < 0 || uv_poll_init(f->loop, &l->poll, l->fd)) {
		if (l->fd >= 0)
			close(l->fd);
		free(l);
		return;
	}
	uv_timer_init(f->loop, &l->timer);
	l->poll.data = l->timer.data = l;
	l->open_handles = 2;
	TAILQ_INSERT_TAIL(&f->lingers, l, link);
	f->linger_count++;
	uv_poll_start(&l->poll, UV_READABLE, on_readable);
	uv_timer_start(&l->timer, on_late, LINGER_MS, 0);
}

void linger_stop_all(struct front *f)
{
	while (!TAILQ_EMPTY(&f->lingers))
		linger_end(TAILQ_FIRST(&f->lingers));
}
