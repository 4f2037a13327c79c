#include "supervisor/descriptors.h"

#include "common/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define FDS_OF_START 24
#define FDS_OF_DEVICE 8
#define FDS_OF_TLS 3 /* the client's socket and a pair */

/* Descriptors of our own: to start at all, for comfort, and those of a worker's links. */
#define FDS_LEAST 64
#define FDS_OWN 192
#define FDS_A_DEVICE 24

/*
 * A connection costs one descriptor, one with TLS three (front/tls.h); the shell's soft limit of 1024
 * is less than limits.connections allows. Where the hard limit is lower, fewer connections are taken,
 * and what we need ourselves is kept; where even that is not there, we do not start. 0 or -EMFILE.
 */
int descriptors_raise(const struct config *c, unsigned *connections, struct buf *err)
{
	struct rlimit l;
	rlim_t least = FDS_LEAST + FDS_A_DEVICE * (rlim_t)c->device_count;
	rlim_t own = FDS_OWN + FDS_A_DEVICE * (rlim_t)c->device_count;
	rlim_t each = c->listen.certificate ? FDS_OF_TLS : 1;
	rlim_t want = (rlim_t)c->limits.connections * each + own;
	*connections = (unsigned)c->limits.connections;
	if (getrlimit(RLIMIT_NOFILE, &l) || l.rlim_cur >= want)
		return 0;
	rlim_t before = l.rlim_cur;
	l.rlim_cur = l.rlim_max == RLIM_INFINITY || l.rlim_max >= want ? want : l.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &l))
		l.rlim_cur = before;
	if (l.rlim_cur >= want)
		return 0;
	if (l.rlim_cur < least) {
		buf_printf(err,
			"too few file descriptors: %llu may be open (ulimit -n), %llu are needed, "
			"%llu for limits.connections = %d",
			(unsigned long long)l.rlim_cur, (unsigned long long)least,
			(unsigned long long)want, (int)c->limits.connections);
		return -EMFILE;
	}
	rlim_t room = l.rlim_cur >= 2 * own ? l.rlim_cur - own : (l.rlim_cur - least) / 2 + 1;
	if ((rlim_t)c->limits.connections * each > room)
		*connections = room > each ? (unsigned)(room / each) : 1;
	log_line(LOG_WARN, "fd_limit", LOG_INT("limit", l.rlim_cur), LOG_INT("needed", want),
		LOG_INT("connections", *connections),
		LOG_STR("hint", "raise ulimit -n (LimitNOFILE) or lower limits.connections"),
		LOG_END);
	return 0;
}

/*
 * Descriptors for the loop, its sockets and the workers' links, so that nothing of the start meets
 * their end half way. 0, or -errno with words: the libraries below would crash, or say nothing.
 */
int descriptors_check(const struct config *c, struct buf *err)
{
	int fds[FDS_OF_START + FDS_OF_DEVICE * CONFIG_DEVICES_MAX], rc = 0;
	size_t want = FDS_OF_START + FDS_OF_DEVICE * c->device_count, n = 0;
	struct rlimit l = {0};
	while (n < want && rc == 0) {
		fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		rc = fds[n] < 0 ? -errno : 0;
		n += rc == 0;
	}
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	if (rc == 0)
		return 0;
	getrlimit(RLIMIT_NOFILE, &l);
	buf_printf(err,
		"%s: of %zu descriptors that a start needs %zu can be had (the limit is %llu: "
		"ulimit "
		"-n, LimitNOFILE=)",
		strerror(-rc), want, n, (unsigned long long)l.rlim_cur);
	return rc;
}
