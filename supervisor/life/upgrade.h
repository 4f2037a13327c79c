/*
 * An upgrade as the old tandemd sees it: starts the program that now stands at its own path, with
 * the same arguments, and hands over to it. See the table in upgrade.c; successor.h is the new
 * one's side.
 *
 *   1. `tandemd -t` of the new program must accept the configuration.
 *   2. The successor starts with the listening socket, the lock and one end of a conversation
 *      (handover.h, talk.h), and with workers of its own. We serve on.
 *   3. It says that the main devices are ready; we tell it to take over; it accepts on the same
 *      socket and takes the names in the run folder; then we retire (life.h). At no moment does
 *      nobody accept.
 *
 *   4. For deadlines.upgrade_grace_ms we keep the listening socket and the lock. When the successor
 *      dies in that time, we take the service back.
 *
 * Whatever goes wrong before the end of 3 is a roll-back: the successor is ended, we go on, and the
 * operation fails with why. Nothing here blocks.
 */
#ifndef TANDEM_UPGRADE_H
#define TANDEM_UPGRADE_H

#include "supervisor/life/handover.h"
#include "supervisor/life/talk.h"

#include <stdbool.h>
#include <uv.h>

struct life;

#define UPGRADE_WHY_BYTES 400

enum upgrade_state {
	UPGRADE_IDLE,
	UPGRADE_CHECKING, /* the new program looks at the configuration */
	UPGRADE_BOOTING,  /* the successor runs, its devices are not ready */
	UPGRADE_TAKING,	  /* told to take over */
	UPGRADE_HANDED,	  /* it has; it may die yet */
	UPGRADE_SETTLED,  /* the service is the successor's for good */
	UPGRADE_UNDOING,  /* rolled back; the process is about to end */
	UPGRADE_STATES
};

enum upgrade_event {
	UPGRADE_ON_ASKED, /* the check runs */
	UPGRADE_ON_READY,
	UPGRADE_ON_TAKEN,
	UPGRADE_ON_FAILED, /* it says so, or says no more */
	UPGRADE_ON_EXIT,   /* the check or the successor; exit_status and exit_signal say how */
	UPGRADE_ON_TIMER,
	UPGRADE_ON_STOP,
	UPGRADE_EVENTS
};

/* What the table does to others: upgrade_process.c. Errors are negative errnos. */
struct upgrade_hands {
	/* Starts `tandemd -t` of the new program, whose words come into upgrade.said; UPGRADE_ON_EXIT follows. */
	int (*check)(struct life *l);
	/* Starts the successor, and the talk with it. */
	int (*boot)(struct life *l);
	/* Whichever of them runs. */
	void (*kill)(struct life *l, int signum);
	/* To the successor, where it can still be told. */
	void (*say)(struct life *l, const char *word);
	/* Nothing that either says is heard any more. */
	void (*hang_up)(struct life *l);
	/* It runs on by itself: we end. */
	void (*let_go)(struct life *l);
	/* A descriptor for the socket that we listen on, or -1. */
	int (*keep_socket)(struct life *l);
	/* Accepts on it again; it is not the caller's any more. */
	int (*open_again)(struct life *l, int fd, struct buf *err);
	void (*in_charge)(struct life *l);
};
extern const struct upgrade_hands upgrade_hands;

struct upgrade {
	const struct upgrade_hands *hands;
	enum upgrade_state state;
	uint64_t operation;
	int pid;	       /* of the check or the successor; 0: none runs */
	uv_process_t *process; /* heap: outlives us until it closes */
	uv_pipe_t *words;      /* the check's stderr, heap likewise; NULL at its end */
	int exit_status, exit_signal, ended_pid; /* of the last one that ended */
	bool told;				 /* TERM was sent: KILL is next */
	bool elsewhere;				 /* the successor listens at another address */
	int kept_fd; /* our listening socket in the time of grace; -1: none */
	struct talk *talk;
	uv_timer_t timer;	      /* of the state */
	char said[UPGRADE_WHY_BYTES]; /* the check's words, or what the successor waits for */
	char why[UPGRADE_WHY_BYTES];  /* of the roll-back; "": the process's end tells */
	struct handover_extra extra[HANDOVER_EXTRA_MAX];
	size_t extra_count;
};

void upgrade_init(struct life *l, const struct upgrade_hands *hands);
void upgrade_fini(struct life *l);

/* A descriptor that the successor gets under that name (handover_take_extra). Stays its caller's.
 */
void upgrade_offer(struct life *l, const char *name, int fd);

/* For upgrade_hands. */
void upgrade_event(struct life *l, enum upgrade_event e);

/* The number of the operation, or 0 with words in err. */
uint64_t upgrade_begin(struct life *l, struct buf *err);
/* An upgrade is under way and not yet through: a reload would be lost. */
bool upgrade_under_way(const struct life *l);
/* We were told to stop: a successor that has not taken over ends with us. */
void upgrade_stop(struct life *l);
/* The successor has lived for so long, or we have been told to stop, that nothing is taken back. */
bool upgrade_settled(const struct life *l);
/* No process that an unfinished upgrade started is left. */
bool upgrade_gone(const struct life *l);

#endif
