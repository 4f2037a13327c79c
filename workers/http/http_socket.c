/*
 * curl's sockets in the loop. curl asks to watch a connection with each request and not to watch it
 * with each end; doing so costs five system calls a request. So a connection stays watched for its
 * whole life, and only when something happens on it that nobody waits for is the watch taken off.
 *
 * curl 7.88 tells nobody when it closes a socket that is not connected yet: until something is
 * expected to be read from it, a socket is no longer known once curl no longer watches it.
 */
#include "workers/http/http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct http_socket {
	uv_poll_t poll;
	struct http *http;
	curl_socket_t fd;
	bool opened;	/* by http_socket_open(): a connection, or about to be one */
	bool connected; /* we hear of its close */
	int wanted;	/* UV_READABLE, UV_WRITABLE: what curl waits for */
	int watched;	/* ... and what the loop watches, maybe for longer */
};

static void on_closed(uv_handle_t *handle)
{
	struct http_socket *s = handle->data;
	struct http *h = s->http;
	free(s);
	if (--h->handles == 0)
		free(h);
}

static void forget(struct http_socket *s)
{
	s->http->sockets[s->fd] = NULL;
	uv_close((uv_handle_t *)&s->poll, on_closed); /* off the loop at once, freed later */
}

static struct http_socket *find(const struct http *h, curl_socket_t fd)
{
	return (size_t)fd < h->socket_room ? h->sockets[fd] : NULL;
}

static int make_room(struct http *h, curl_socket_t fd)
{
	size_t need = (size_t)fd + 1, room = h->socket_room;
	if (need <= room)
		return 0;
	need = need < room * 2 ? room * 2 : need;
	struct http_socket **sockets = realloc(h->sockets, need * sizeof(*sockets));
	if (!sockets)
		return -ENOMEM;
	for (size_t i = room; i < need; i++)
		sockets[i] = NULL;
	h->sockets = sockets;
	h->socket_room = need;
	return 0;
}

static struct http_socket *add(struct http *h, curl_socket_t fd, bool opened)
{
	struct http_socket *s = find(h, fd);
	if (s)
		forget(s); /* closed in silence, and its number used again */
	s = calloc(1, sizeof(*s));
	if (!s || make_room(h, fd) || uv_poll_init_socket(h->loop, &s->poll, fd)) {
		free(s);
		return NULL;
	}
	s->http = h;
	s->fd = fd;
	s->opened = opened;
	s->poll.data = s;
	h->handles++;
	h->sockets[fd] = s;
	return s;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct http_socket *s = poll->data;
	int mask = status < 0 ? CURL_CSELECT_ERR : 0;
	if (!s->wanted) {
		uv_poll_stop(poll); /* an idle connection ended, or a paused answer goes on */
		s->watched = 0;
		return;
	}
	if (events & UV_READABLE)
		mask |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		mask |= CURL_CSELECT_OUT;
	http_act(s->http, s->fd, mask);
}

int http_socket_watch(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
	struct http *h = ctx;
	struct http_socket *s = find(h, fd);
	(void)easy;
	(void)socket_ctx;
	if (what == CURL_POLL_REMOVE) {
		if (s && s->connected)
			s->wanted = 0;
		else if (s)
			forget(s);
		return 0;
	}
	if (!s)
		s = add(h, fd, false); /* how a name's resolver wakes curl */
	if (!s)
		return -1;
	s->wanted = 0;
	if (what & CURL_POLL_IN)
		s->wanted |= UV_READABLE;
	if (what & CURL_POLL_OUT)
		s->wanted |= UV_WRITABLE;
	s->connected = s->opened && (s->connected || (what & CURL_POLL_IN));
	if (!s->wanted || s->watched == s->wanted)
		return 0;
	s->watched = s->wanted;
	return uv_poll_start(&s->poll, s->wanted, on_poll) ? -1 : 0;
}

curl_socket_t http_socket_open(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
	int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
	(void)purpose;
	if (fd >= 0 && !add(ctx, fd, true)) {
		close(fd);
		return CURL_SOCKET_BAD;
	}
	return fd; /* -1 is CURL_SOCKET_BAD */
}

int http_socket_close(void *ctx, curl_socket_t fd)
{
	struct http_socket *s = find(ctx, fd);
	if (s)
		forget(s);
	return close(fd);
}
