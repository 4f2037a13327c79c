#include "proto/link.h"
#include "proto/proto.h"

#include <errno.h>
#include <nng/protocol/pair1/pair.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUFFERED_MESSAGES                                                                          \
	128 /* each way; with nng's default of 0 every message costs two thread switches */
#define HOP_COUNT_BYTES 4 /* of a pair1 message; nng's limit counts them */
#define SOCKET_MODE 0600
#define SCHEME "ipc://"
#define DOWN_SUFFIX ".down"

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

static uint64_t peer_key(nng_pipe p)
{
	uint64_t pid = 0;
	nng_pipe_get_uint64(p, NNG_OPT_IPC_PEER_PID, &pid);
	return pid << 32 | (uint32_t)nng_pipe_id(p);
}

/* Takes the place of the peer for key, unless it is or was taken, or another process has the other
 * way. */
static bool claim(struct link_way *w, uint64_t key)
{
	unsigned long long nobody = 0;
	if (!atomic_compare_exchange_strong(&w->peer, &nobody, key))
		return false;
	uint64_t other = atomic_load(&w->other->peer);
	if (other == 0 || other >> 32 == key >> 32)
		return true;
	atomic_store(&w->peer, 0);
	return false;
}

static void on_pipe(nng_pipe p, nng_pipe_ev event, void *arg)
{
	struct link_way *w = arg;
	uint64_t key = peer_key(p);

	switch (event) {
	case NNG_PIPE_EV_ADD_PRE:
		if (is_ours(p) && claim(w, key))
			return;
		atomic_fetch_add(&w->link->strangers, 1);
		nng_pipe_close(p);
		break;
	case NNG_PIPE_EV_ADD_POST:
		atomic_store(&w->joined, true);
		break;
	case NNG_PIPE_EV_REM_POST:
		if ((uint32_t)atomic_load(&w->peer) != (uint32_t)key)
			return;
		atomic_store(&w->gone, true);
		break;
	default:
		return;
	}
	w->link->wake(w->link->ctx);
}

static const nng_pipe_ev pipe_events[] = {
	NNG_PIPE_EV_ADD_PRE,
	NNG_PIPE_EV_ADD_POST,
	NNG_PIPE_EV_REM_POST,
};
#define PIPE_EVENTS (sizeof(pipe_events) / sizeof(pipe_events[0]))

static int open_way(
	struct link *l, struct link_way *w, struct link_way *other, const char *fd_option)
{
	w->link = l;
	w->other = other;
	int rc = nng_pair1_open(&w->socket);
	if (rc)
		return rc;
	w->open = true;
	rc = nng_socket_set_int(w->socket, NNG_OPT_RECVBUF, BUFFERED_MESSAGES);
	if (!rc)
		rc = nng_socket_set_int(w->socket, NNG_OPT_SENDBUF, BUFFERED_MESSAGES);
	if (!rc)
		rc = nng_socket_set_size(
			w->socket, NNG_OPT_RECVMAXSZ, PROTO_FRAME_MAX + HOP_COUNT_BYTES);
	if (!rc)
		rc = nng_socket_get_int(w->socket, fd_option, &w->fd);
	for (size_t i = 0; i < PIPE_EVENTS && !rc; i++)
		rc = nng_pipe_notify(w->socket, pipe_events[i], on_pipe, w);
	return rc;
}

static void close_way(struct link_way *w)
{
	if (!w->open)
		return;
	w->open = false;
	for (size_t i = 0; i < PIPE_EVENTS; i++)
		nng_pipe_notify(w->socket, pipe_events[i], NULL, NULL);
	nng_close(w->socket);
}

int link_open(struct link *l)
{
	int rc = open_way(l, &l->in, &l->out, NNG_OPT_RECVFD);
	if (!rc)
		rc = open_way(l, &l->out, &l->in, NNG_OPT_SENDFD);
	return to_errno(rc);
}

/* Only a Unix socket tells who the peer is, so any other kind of URL is refused. */
static int set_urls(struct link *l, const char *url)
{
	int n = snprintf(l->down_url, sizeof l->down_url, "%s%s", url, DOWN_SUFFIX);
	if (strncmp(url, SCHEME, strlen(SCHEME)) != 0 || (size_t)n >= sizeof l->down_url)
		return -EINVAL;
	snprintf(l->url, sizeof l->url, "%s", url);
	return 0;
}

static int listen_way(struct link_way *w, const char *url)
{
	nng_listener l;
	int rc = nng_listener_create(&l, w->socket, url);
	if (!rc)
		rc = nng_listener_set_int(l, NNG_OPT_IPC_PERMISSIONS, SOCKET_MODE);
	if (!rc)
		rc = nng_listener_start(l, 0);
	return to_errno(rc);
}

int link_listen(struct link *l, const char *url)
{
	int rc = set_urls(l, url);
	if (!rc)
		rc = listen_way(&l->in, l->url);
	if (!rc)
		l->url_is_ours = true;
	if (!rc)
		rc = listen_way(&l->out, l->down_url);
	if (!rc)
		l->down_url_is_ours = true;
	return rc;
}

int link_dial(struct link *l, const char *url)
{
	int rc = set_urls(l, url);
	if (!rc)
		rc = to_errno(nng_dial(l->out.socket, l->url, NULL, 0));
	if (!rc)
		rc = to_errno(nng_dial(l->in.socket, l->down_url, NULL, 0));
	return rc;
}

void link_unlink(struct link *l)
{
	if (l->down_url_is_ours)
		unlink(l->down_url + strlen(SCHEME));
	if (l->url_is_ours)
		unlink(l->url + strlen(SCHEME));
	l->down_url_is_ours = l->url_is_ours = false;
}

void link_close_out(struct link *l)
{
	close_way(&l->out);
}

void link_close_in(struct link *l)
{
	close_way(&l->in);
}

void link_hold_in(struct link *l)
{
	nng_socket_set_int(l->in.socket, NNG_OPT_RECVBUF, 0);
}

int link_send(struct link *l, nng_msg *m)
{
	return to_errno(nng_sendmsg(l->out.socket, m, NNG_FLAG_NONBLOCK));
}

int link_receive(struct link *l, nng_msg **m)
{
	return to_errno(nng_recvmsg(l->in.socket, m, NNG_FLAG_NONBLOCK));
}
