/*
 * What is told of a running tandemd: REP (rep.h) at RUNDIR/stats.ipc for who asks (commands.h), PUB
 * at RUNDIR/events.ipc for who listens (events.h). A slow reader of either delays nobody.
 *
 * The wing's context: its modules take it. It stands above all other wings: it reads them, and orders through
 * life/control.h; nothing below knows of it. Loop thread only; nothing blocks.
 */
#ifndef TANDEM_TELL_H
#define TANDEM_TELL_H

#include "supervisor/life/life.h"

struct rep;
struct events;
struct flush;
struct ui_streams;
struct ui_doctor;
struct traces;

struct tell {
	struct life *life;
	struct devices *devices;
	struct requests *requests;
	const char *ctl_path; /* the tandemctl beside this program, which need not be there */
	struct rep *stats;    /* NULL: closed */
	struct events *events;
	struct flush *flush;	    /* whoever waits for the log */
	struct ui_streams *streams; /* pages that hear events */
	struct ui_doctor *doctor;   /* what the page asks of it */
	struct traces *traces;	    /* where spans go; NULL: nowhere */
};

/* Listens under names of this process's own; rundir_take() gives them the known ones. 0 or -errno;
 * tell_stop() is due either way. */
int tell_start(struct tell *t);
/* Traces, as long as the process runs, whoever has the sockets. 0 or -ENOMEM; tell_end() is due either way. */
int tell_begin(struct tell *t);
void tell_end(struct tell *t);
/* Both sockets anew, after a successor that took the names has failed. 0 or -errno. */
int tell_reopen(struct tell *t);
/* What is under way is finished, and no more: what would go on ends. */
void tell_leaving(struct tell *t);
/* The configuration is another one. */
void tell_reloaded(struct tell *t);
void tell_stop(struct tell *t);

#endif
