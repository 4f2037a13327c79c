#include "supervisor/life/doors.h"

#include "supervisor/supervisor.h"

#include <errno.h>
#include <unistd.h>

int doors_again(struct supervisor *s, int listen_fd, struct buf *err)
{
	struct front *before = s->front;
	if (s->shut_count == DOORS_SHUT_MAX) {
		close(listen_fd);
		buf_add_str(err, "too many successors have died");
		return -EMFILE;
	}
	int rc = supervisor_open_front(s, listen_fd, err);
	if (rc) {
		s->front = before;
		return rc;
	}
	front_quiesce(before);
	s->shut[s->shut_count++] = before;
	return 0;
}

void doors_counts(const struct supervisor *s, unsigned *connections, unsigned *exchanges)
{
	unsigned c, x;
	*connections = *exchanges = 0;
	if (s->front)
		front_counts(s->front, connections, exchanges);
	for (size_t i = 0; i < s->shut_count; i++) {
		front_counts(s->shut[i], &c, &x);
		*connections += c;
		*exchanges += x;
	}
}

void doors_quiesce(struct supervisor *s)
{
	if (s->front)
		front_quiesce(s->front);
}

void doors_close_idle(struct supervisor *s, unsigned idle_ms)
{
	if (s->front)
		front_close_idle(s->front, idle_ms);
	for (size_t i = 0; i < s->shut_count; i++)
		front_close_idle(s->shut[i], idle_ms);
}

void doors_stop(struct supervisor *s)
{
	if (s->front)
		front_stop(s->front);
	for (size_t i = 0; i < s->shut_count; i++)
		front_stop(s->shut[i]);
}
