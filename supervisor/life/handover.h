/*
 * What an old tandemd hands to its successor: descriptors from HANDOVER_FIRST_FD on, and one
 * environment variable that says which is which:
 *
 *   TANDEM_UPGRADE="talk=3 listen=4 lock=5 given=0 operation=7 old=812:6 lifeline=7 wait=gpu0"
 *
 * talk: one end of a socketpair for the conversation (talk.h). old=PID:FD: a pidfd of a tandemd
 * that still finishes its streams; the one that hands over is the first. wait=NAME: a main device
 * that is ready and must be ready again. Any other NAME=FD is a descriptor that a module handed
 * over (handover_extra).
 */
#ifndef TANDEM_HANDOVER_H
#define TANDEM_HANDOVER_H

#include "common/config/config.h"

#include <sys/types.h>

#define HANDOVER_FIRST_FD 3
#define HANDOVER_OLD_MAX 65 /* the largest limits.old_processes, and the one that hands over */
#define HANDOVER_EXTRA_MAX 8
#define HANDOVER_FDS_MAX (HANDOVER_FIRST_FD + 3 + HANDOVER_OLD_MAX + HANDOVER_EXTRA_MAX)

struct handover_extra {
	char name[16];
	int fd;
};

struct handover {
	int talk_fd, listen_fd, lock_fd;
	bool given; /* the listening socket is a socket unit's, whatever the configuration says */
	uint64_t operation; /* the operator's command, which the successor reports on */
	struct {
		pid_t pid;
		int fd;
	} old[HANDOVER_OLD_MAX];
	size_t old_count;
	struct handover_extra extra[HANDOVER_EXTRA_MAX];
	size_t extra_count;
	char wait[CONFIG_DEVICES_MAX][CONFIG_NAME_BYTES];
	size_t wait_count;
};

/* Appends the variable as "TANDEM_UPGRADE=...\0" and puts our descriptors, in the order of their
 * numbers in the child, from fds[HANDOVER_FIRST_FD] on. Returns how many entries fds has. */
size_t handover_write(const struct handover *h, struct buf *env, int fds[HANDOVER_FDS_MAX]);

/* Reads and removes the variable; the descriptors get close-on-exec. 1: there was one; 0: none; -
 * EINVAL with words in err. */
int handover_read(struct handover *h, struct buf *err);

/* A descriptor that a module of the predecessor handed over; -1: none. Its caller owns it. */
int handover_take_extra(struct handover *h, const char *name);

#endif
