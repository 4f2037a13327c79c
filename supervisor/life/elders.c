#include "supervisor/life/elders.h"

#include "common/base/log.h"
#include "supervisor/supervisor.h"

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
	struct elders *list = &e->sup->elders;
	TAILQ_REMOVE(&list->list, e, link);
	list->count--;
	uv_close((uv_handle_t *)&e->poll, on_closed);
}

static void on_exit_seen(uv_poll_t *p, int status, int events)
{
	struct elder *e = p->data;
	struct supervisor *s = e->sup;
	(void)status;
	(void)events;
	log_line(LOG_INFO, "old_tandemd_ended", LOG_INT("old_pid", e->pid), LOG_END);
	drop(e);
	supervisor_check_stopped(s);
}

void elders_add(struct supervisor *s, pid_t pid, int fd)
{
	struct elder *e = calloc(1, sizeof(*e));
	int rc = e ? uv_poll_init(s->loop, &e->poll, fd) : UV_ENOMEM;
	if (rc) {
		log_line(LOG_WARN, "old_tandemd_unwatched", LOG_INT("old_pid", pid),
			LOG_STR("error", uv_strerror(rc)), LOG_END);
		close(fd);
		free(e);
		return;
	}
	e->sup = s;
	e->pid = pid;
	e->fd = fd;
	e->poll.data = e;
	TAILQ_INSERT_TAIL(&s->elders.list, e, link);
	s->elders.count++;
	uv_poll_start(&e->poll, UV_READABLE, on_exit_seen);
}

void elders_hurry(struct supervisor *s)
{
	struct elder *e;
	TAILQ_FOREACH(e, &s->elders.list, link)
		pidfd_send_signal(e->fd, SIGTERM, NULL, 0);
}

void elders_fini(struct supervisor *s)
{
	while (!TAILQ_EMPTY(&s->elders.list))
		drop(TAILQ_FIRST(&s->elders.list));
}
