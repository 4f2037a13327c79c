/* The listening socket, and addresses as text. */
#include "supervisor/front/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024

static int resolve(const char *address, int port, struct addrinfo **list)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV | AI_NUMERICHOST};
	const char *host = strcmp(address, "localhost") == 0 ? "127.0.0.1" : address;
	char service[16];
	snprintf(service, sizeof(service), "%d", port);
	return getaddrinfo(host, service, &hints, list) ? -EINVAL : 0;
}

int address_listen(const struct front_options *o, struct buf *err)
{
	struct addrinfo *list;
	int one = 1, rc = 0;
	if (resolve(o->address, o->port, &list)) {
		buf_printf(err, "listen.address \"%s\": not an IPv4 or IPv6 address", o->address);
		return -EINVAL;
	}
	int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		rc = -errno;
	if (fd >= 0) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, list->ai_addr, list->ai_addrlen) || listen(fd, BACKLOG))
			rc = -errno;
	}
	freeaddrinfo(list);
	if (rc == 0)
		return fd;
	buf_printf(err, "cannot listen on %s port %d: %s%s", o->address, o->port, strerror(-rc),
		rc == -EADDRINUSE ? " (another program has it, perhaps another tandemd)" : "");
	if (fd >= 0)
		close(fd);
	return rc;
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b, bool any_port)
{
	const struct sockaddr_in *a4 = (const void *)a, *b4 = (const void *)b;
	const struct sockaddr_in6 *a6 = (const void *)a, *b6 = (const void *)b;
	if (a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return a4->sin_addr.s_addr == b4->sin_addr.s_addr &&
		       (any_port || a4->sin_port == b4->sin_port);
	return memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0 &&
	       (any_port || a6->sin6_port == b6->sin6_port);
}

int front_check_listener(int fd, const char *address, int port, bool *same, struct buf *err)
{
	struct sockaddr_storage a = {0};
	socklen_t n = sizeof(a), n_int = sizeof(int);
	int type = 0, accepts = 0, flags = fcntl(fd, F_GETFL);
	if (flags < 0 || getsockname(fd, (struct sockaddr *)&a, &n) ||
		getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n_int) ||
		getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &n_int) ||
		type != SOCK_STREAM || !accepts ||
		(a.ss_family != AF_INET && a.ss_family != AF_INET6)) {
		buf_printf(err, "descriptor %d is not a listening TCP socket", fd);
		return -EINVAL;
	}
	fcntl(fd, F_SETFL, flags | O_NONBLOCK); /* two processes may be woken for one client */
	struct addrinfo *list;
	*same = false;
	if (resolve(address, port, &list) == 0) {
		*same = same_address((struct sockaddr *)&a, list->ai_addr, port == 0);
		freeaddrinfo(list);
	}
	return 0;
}

void address_name(struct front *f)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a = {0};
	socklen_t n = sizeof(a);
	char host[INET6_ADDRSTRLEN] = "?", port[8] = "?";
	if (getsockname(f->listen_fd, &a.any, &n) == 0)
		getnameinfo(&a.any, n, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(f->address, sizeof(f->address), a.any.sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s",
		host, port);
	if (a.any.sa_family == AF_INET6)
		f->loopback = IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr);
	else
		f->loopback = ntohl(a.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

void address_peer(const struct sockaddr *a, char out[ADDRESS_PEER_BYTES])
{
	char host[INET6_ADDRSTRLEN] = "?", port[8] = "?";
	bool v6 = a->sa_family == AF_INET6;
	getnameinfo(a, v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in), host,
		sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(out, ADDRESS_PEER_BYTES, v6 ? "[%s]:%s" : "%s:%s", host, port);
}
