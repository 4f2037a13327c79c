/*
 * What libmicrohttpd gets when it reads: recv() of this program stands before the C library's, for
 * every shared library in the process too, and for the descriptors of clients it hands out what
 * their inlet made (inlet.h). All others go through unchanged. libmicrohttpd offers no other way to
 * look at bytes before it does, short of a second pair of sockets for each client.
 *
 * libmicrohttpd watches with edge-triggered epoll and takes a short read for "nothing more is
 * there". So a read of ours is short only when socket and inlet are both empty; where that cannot
 * be, it is poked.
 */
#include "supervisor/front/internal.h"

#include "common/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define FDS_MAX (1u << 20)
#define READ_BYTES 65536

/* By descriptor; never moved, since other threads read sockets of their own through recv(). */
static struct connection **readers;
static size_t readers_size;

int intake_open(void)
{
	struct rlimit l;
	if (readers)
		return 0;
	readers_size =
		getrlimit(RLIMIT_NOFILE, &l) || l.rlim_max > FDS_MAX ? FDS_MAX : (size_t)l.rlim_max;
	readers = calloc(readers_size, sizeof(*readers));
	return readers ? 0 : -ENOMEM;
}

int intake_add(struct connection *c)
{
	if (c->fd < 0 || (size_t)c->fd >= readers_size)
		return -EMFILE;
	inlet_init(&c->inlet, c->front->header_bytes, c->front->headers_max, &c->front->heads);
	readers[c->fd] = c;
	return 0;
}

void intake_remove(struct connection *c)
{
	readers[c->fd] = NULL;
	inlet_fini(&c->inlet);
}

/* --- faults --- */

void intake_refuse(struct connection *c, int status, const char *text)
{
	struct inlet *in = &c->inlet;
	if (in->state == INLET_REFUSED)
		return;
	in->in_body = in->state != INLET_HEAD;
	in->fault = (struct head_fault){status, text};
	in->state = INLET_REFUSED;
	intake_poke(c);
}

/* Is what the fault is in all that is left of this connection? Else the requests before it come
 * first. */
static bool fault_is_due(const struct connection *c)
{
	const struct inlet *in = &c->inlet;
	if (!STAILQ_EMPTY(&in->heads) || inlet_waiting(in))
		return false;
	return in->in_body ? c->current && c->current->begun : !c->current;
}

static ssize_t read_fault(struct connection *c)
{
	const struct inlet *in = &c->inlet;
	if (!c->refused && !fault_is_due(c)) {
		errno = EAGAIN;
		return -1;
	}
	if (!c->refused) {
		c->refused = true;
		log_line(LOG_INFO, "request_refused", LOG_INT("status", in->fault.status),
			LOG_STR("why", in->fault.text), LOG_STR("peer", c->peer), LOG_END);
		if (c->current)
			exchange_refuse(c->current, in->fault.status, in->fault.text);
		else
			exchange_send_fault(c, in->fault.status, in->fault.text);
	}
	errno = ECONNRESET;
	return -1;
}

void intake_poke(struct connection *c)
{
	c->poke = c->front->poke_due = true;
	front_wake(c->front);
}

void intake_run_pokes(struct front *f)
{
	struct connection *c;
	if (!f->poke_due)
		return;
	f->poke_due = false;
	TAILQ_FOREACH(c, &f->open, link) {
		if (!c->poke)
			continue;
		c->poke = false;
		if (f->stopping || (c->current && c->current->suspended))
			continue; /* it reads when it is resumed */
		MHD_suspend_connection(c->mhd);
		MHD_resume_connection(c->mhd);
	}
}

/* --- reading --- */

static void note_head(struct connection *c)
{
	if (!inlet_in_head(&c->inlet))
		c->head_since_ms = 0;
	else if (c->head_since_ms == 0)
		c->head_since_ms = uv_now(c->front->loop) + !uv_now(c->front->loop);
}

/* One read of the socket: how many bytes it gave, and whether it gave all that was asked for. */
static ssize_t read_socket(struct connection *c, char *to, size_t max, size_t *taken, bool *full)
{
	static char space[READ_BYTES];
	bool straight = inlet_passable(&c->inlet) >= max;
	size_t wanted = straight ? max : sizeof(space);
	ssize_t n = recvfrom(c->fd, straight ? to : space, wanted, 0, NULL, NULL);
	if (n <= 0)
		return n;
	*full = (size_t)n == wanted;
	if (straight) {
		inlet_passed(&c->inlet, (size_t)n);
		*taken += (size_t)n;
		return n;
	}
	inlet_push(&c->inlet, space, (size_t)n);
	note_head(c);
	*taken += inlet_take(&c->inlet, to, max);
	return n;
}

static ssize_t read_connection(struct connection *c, char *to, size_t max)
{
	size_t taken = inlet_take(&c->inlet, to, max);
	bool full = true;
	while (full && taken < max && c->inlet.state != INLET_REFUSED) {
		ssize_t n = read_socket(c, to + taken, max - taken, &taken, &full);
		if (n <= 0 && taken == 0)
			return n;
		if (n <= 0)
			break;
	}
	if (taken > 0 && taken < max && c->inlet.state == INLET_REFUSED)
		intake_poke(c); /* the fault comes next, and no event tells of it */
	if (taken > 0)
		return (ssize_t)taken;
	if (c->inlet.state == INLET_REFUSED)
		return read_fault(c);
	errno = EAGAIN;
	return -1;
}

ssize_t recv(int fd, void *to, size_t max, int flags)
{
	struct connection *c = fd >= 0 && (size_t)fd < readers_size ? readers[fd] : NULL;
	return c && max > 0 ? read_connection(c, to, max)
			    : recvfrom(fd, to, max, flags, NULL, NULL);
}
