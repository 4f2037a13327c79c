/*
 * What a service manager is told: systemd's notification protocol (sd_notify(3)), spoken by hand: a
 * datagram of VARIABLE=value lines to the socket named by $NOTIFY_SOCKET.
 *
 * Without that variable every call does nothing. The variables of the protocol are taken out of the
 * environment at the start, so that no worker and no backend can speak for us. Nothing blocks: a
 * message that the manager's socket has no room for is dropped, with a line in the log.
 */
#ifndef TANDEM_NOTIFY_H
#define TANDEM_NOTIFY_H

#include "common/base/buf.h"

#include <stdbool.h>
#include <sys/un.h>
#include <uv.h>

struct notify {
	int fd;	    /* -1: nobody listens */
	bool quiet; /* another tandemd speaks for the service: nothing is sent */
	struct sockaddr_un to;
	socklen_t to_bytes;
	uint64_t watchdog_us; /* 0: the manager does not watch us */
	uv_timer_t watchdog;  /* of the real loop: a loop that hangs misses its beats */
};

/* Reads and removes the variables. A socket that cannot be used is logged and then left alone. */
void notify_init(struct notify *n, uv_loop_t *loop);
/* Closes the timer in the loop, and the socket. */
void notify_fini(struct notify *n);

/* Lines without the last newline: "READY=1", "STOPPING=1\nSTATUS=..." */
void notify_say(const struct notify *n, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* RELOADING=1 with the time stamp that it needs; READY=1 ends it. */
void notify_reloading(const struct notify *n);
/* The manager keeps a duplicate of fd under that name and gives it to our next incarnation. */
void notify_store(const struct notify *n, int fd, const char *name);

/* A beat at half of the period that the manager asked for, beginning now. */
void notify_watchdog_start(struct notify *n);
void notify_watchdog_stop(struct notify *n);
/* We speak for the service again, and are its main process. */
void notify_resume(struct notify *n);

/* Appends "NAME=value\0" for what a successor needs to speak to the same manager. */
void notify_environment(const struct notify *n, struct buf *out);

#endif
