#include "proto/socket.h"
#include "proto/proto.h"

#include <errno.h>
#include <nng/protocol/pair1/pair.h>
#include <string.h>
#include <unistd.h>

#define BUFFERED_MESSAGES                                                                          \
	128 /* each way; with nng's default of 0 every message costs two thread switches */
#define SOCKET_MODE 0600

static int to_errno(int error)
{
	if (error & NNG_ESYSERR)
		return -(error & ~NNG_ESYSERR);
	switch (error) {
	case 0:
		return 0;
	case NNG_EINTR:
		return -EINTR;
	case NNG_ENOMEM:
		return -ENOMEM;
	case NNG_EINVAL:
	case NNG_EADDRINVAL:
		return -EINVAL;
	case NNG_EAGAIN:
		return -EAGAIN;
	case NNG_ETIMEDOUT:
		return -ETIMEDOUT;
	case NNG_ECONNREFUSED:
		return -ECONNREFUSED;
	case NNG_ECLOSED:
		return -EPIPE;
	case NNG_ENOENT:
		return -ENOENT;
	case NNG_EADDRINUSE:
		return -EADDRINUSE;
	case NNG_EPERM:
		return -EACCES;
	case NNG_ENOFILES:
		return -EMFILE;
	default:
		return -EIO;
	}
}

static bool is_ours(nng_pipe p)
{
	uint64_t uid;
	return nng_pipe_get_uint64(p, NNG_OPT_IPC_PEER_UID, &uid) == 0 && uid == geteuid();
}

static void on_pipe(nng_pipe p, nng_pipe_ev event, void *arg)
{
	struct link_socket *s = arg;
	int id = nng_pipe_id(p), none = 0;
	uint64_t pid = 0;

	switch (event) {
	case NNG_PIPE_EV_ADD_PRE:
		if (!is_ours(p) || !atomic_compare_exchange_strong(&s->pipe, &none, id)) {
			atomic_fetch_add(&s->strangers, 1);
			nng_pipe_close(p);
			return;
		}
		if (nng_pipe_get_uint64(p, NNG_OPT_IPC_PEER_PID, &pid) == 0)
			atomic_store(&s->pid, pid);
		return;
	case NNG_PIPE_EV_ADD_POST:
		atomic_store(&s->joined, true);
		break;
	case NNG_PIPE_EV_REM_POST:
		if (id != atomic_load(&s->pipe))
			return;
		if (!atomic_load(&s->joined)) { /* it spoke another protocol */
			atomic_store(&s->pid, 0);
			atomic_store(&s->pipe, 0);
			return;
		}
		atomic_store(&s->gone, true);
		break;
	default:
		return;
	}
	s->wake(s->ctx);
}

static const nng_pipe_ev pipe_events[] = {
	NNG_PIPE_EV_ADD_PRE,
	NNG_PIPE_EV_ADD_POST,
	NNG_PIPE_EV_REM_POST,
};
#define PIPE_EVENTS (sizeof(pipe_events) / sizeof(pipe_events[0]))

int link_open(struct link_socket *s)
{
	int rc = nng_pair1_open(&s->socket);
	if (rc)
		return to_errno(rc);
	s->open = true;
	rc = nng_socket_set_int(s->socket, NNG_OPT_RECVBUF, BUFFERED_MESSAGES);
	if (!rc)
		rc = nng_socket_set_int(s->socket, NNG_OPT_SENDBUF, BUFFERED_MESSAGES);
	if (!rc)
		rc = nng_socket_set_size(s->socket, NNG_OPT_RECVMAXSZ, PROTO_FRAME_MAX);
	if (!rc)
		rc = nng_socket_get_int(s->socket, NNG_OPT_RECVFD, &s->recv_fd);
	if (!rc)
		rc = nng_socket_get_int(s->socket, NNG_OPT_SENDFD, &s->send_fd);
	for (size_t i = 0; i < PIPE_EVENTS && !rc; i++)
		rc = nng_pipe_notify(s->socket, pipe_events[i], on_pipe, s);
	if (rc)
		link_close(s);
	return to_errno(rc);
}

/* Only a Unix socket tells who the peer is. */
static bool is_ipc(const char *url)
{
	return strncmp(url, "ipc://", 6) == 0;
}

int link_listen(struct link_socket *s, const char *url)
{
	nng_listener l;
	if (!is_ipc(url))
		return -EINVAL;
	int rc = nng_listener_create(&l, s->socket, url);
	if (!rc)
		rc = nng_listener_set_int(l, NNG_OPT_IPC_PERMISSIONS, SOCKET_MODE);
	if (!rc)
		rc = nng_listener_start(l, 0);
	return to_errno(rc);
}

int link_dial(struct link_socket *s, const char *url)
{
	if (!is_ipc(url))
		return -EINVAL;
	return to_errno(nng_dial(s->socket, url, NULL, 0));
}

void link_close(struct link_socket *s)
{
	if (!s->open)
		return;
	s->open = false;
	for (size_t i = 0; i < PIPE_EVENTS; i++)
		nng_pipe_notify(s->socket, pipe_events[i], NULL, NULL);
	nng_close(s->socket);
}

int link_send(struct link_socket *s, nng_msg *m)
{
	return to_errno(nng_sendmsg(s->socket, m, NNG_FLAG_NONBLOCK));
}

int link_receive(struct link_socket *s, nng_msg **m)
{
	return to_errno(nng_recvmsg(s->socket, m, NNG_FLAG_NONBLOCK));
}
