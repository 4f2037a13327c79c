#include "supervisor/life/elders.h"

#include "common/base/log.h"
#include "supervisor/life/life.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

static void on_closed(uv_handle_t *h)
{
	struct elder *e = h->data;
	close(e->fd);
	free(e);
}

static void drop(struct elder *e)
{
	struct elders *list = &e->life->elders;
	TAILQ_REMOVE(&list->list, e, link);
	list->count--;
	uv_close((uv_handle_t *)&e->poll, on_closed);
}

static void on_exit_seen(uv_poll_t *p, int status, int events)
{
	struct elder *e = p->data;
	struct life *l = e->life;
	(void)status;
	(void)events;
	log_line(LOG_INFO, "old_tandemd_ended", LOG_INT("old_pid", e->pid), LOG_END);
	drop(e);
	life_event(l, LIFE_LOOK);
}

void elders_add(struct life *l, pid_t pid, int fd)
{
	struct elder *e = calloc(1, sizeof(*e));
	int rc = e ? uv_poll_init(l->loop, &e->poll, fd) : UV_ENOMEM;
	if (rc) {
		log_line(LOG_WARN, "old_tandemd_unwatched", LOG_INT("old_pid", pid),
			LOG_STR("error", uv_strerror(rc)), LOG_END);
		close(fd);
		free(e);
		return;
	}
	e->life = l;
	e->pid = pid;
	e->fd = fd;
	e->poll.data = e;
	TAILQ_INSERT_TAIL(&l->elders.list, e, link);
	l->elders.count++;
	uv_poll_start(&e->poll, UV_READABLE, on_exit_seen);
}

void elders_hurry(struct life *l)
{
	struct elder *e;
	TAILQ_FOREACH(e, &l->elders.list, link)
		pidfd_send_signal(e->fd, SIGTERM, NULL, 0);
}

void elders_fini(struct life *l)
{
	while (!TAILQ_EMPTY(&l->elders.list))
		drop(TAILQ_FIRST(&l->elders.list));
}
