/*
 * What became of a request, step by step: waiting for a slot, condensing, the time to the first byte, the
 * answer, what went wrong on the way and what was done about it.
 *
 * Stages follow each other: at most one is open, and entering the next one ends it. What happens beside
 * them (notes, heartbeats, fallbacks) are steps of their own. At most `most` steps are kept; what comes
 * beyond is counted. Names and causes are words of ours: no text of a prompt comes in here.
 *
 * Pure: the caller says what time it is (now.h, ms). The caller owns the struct, which owns its steps.
 * Every function takes NULL for a request of which nothing is kept.
 */
#ifndef TANDEM_STEPS_H
#define TANDEM_STEPS_H

#include "common/config/config.h"

#include <stdint.h>

#define STEP_WHY_BYTES 64
#define STEP_NONE (-1) /* in the place of a number that steps_begin() gives */

enum step_kind {
	/* stages */
	STEP_READ,     /* the body comes */
	STEP_PARSE,    /* it is unpacked, understood, planned */
	STEP_JOINED,   /* another request's answer is its own */
	STEP_CONDENSE, /* a shorter form is made */
	STEP_QUEUE,    /* for a slot, or a device that is not ready */
	STEP_PREFILL,  /* of a stream: from the job's start to its first byte */
	STEP_DECODE,   /* ... and on to its last */
	STEP_ANSWER,   /* not of a stream: from the job's start to its end */
	/* beside them */
	STEP_NOTES,	/* a job for one chunk, at a condensing device */
	STEP_HEARTBEAT, /* from the first to the last, with their number */
	STEP_FALLBACK,	/* the plan was left */
	STEP_OVERFLOW,	/* the prompt was longer than the window */
	STEP_RETRY,	/* the request was given to a device again */
	STEP_RESUME,	/* an answer goes on after a death: how long it stood still */
	STEP_TAKEN,	/* its answer goes on for the one that had joined it */
	/* after its end */
	STEP_FREEZE,	 /* its conversation was shortened early */
	STEP_WARM,	 /* what follows was read into the main device's cache */
	STEP_IDLE_NOTES, /* notes were written for its digest */
	STEP_KINDS
};

enum step_outcome { STEP_OPEN, STEP_DONE, STEP_FAILED, STEP_CANCELLED, STEP_OUTCOMES };

struct step {
	enum step_kind kind;
	enum step_outcome outcome;
	char device[CONFIG_NAME_BYTES]; /* "": none */
	char why[STEP_WHY_BYTES];	/* "": it went well, or its kind says it */
	uint64_t begun_ms, ended_ms;	/* ended: 0 while it is open */
	int64_t tokens, cached;		/* < 0: unknown */
	unsigned count;			/* how often, where one step stands for several */
	unsigned number; /* which call of a device it belongs to (steps.call); of notes: which */
};

struct steps {
	struct step *of; /* in the order of their beginnings, as they were told */
	size_t count, room, most;
	uint64_t lost; /* beyond `most`, or for want of memory */
	int stage;     /* the open one, or STEP_NONE */
	unsigned call; /* how often it was given to the device that answers */
};

void steps_init(struct steps *s, size_t most);
void steps_fini(struct steps *s);
/* No more come but few: gives back what is not used. */
void steps_trim(struct steps *s);

/* It is given to a device that is to answer. */
void steps_call(struct steps *s);

/* The next stage; the one before is done. */
void steps_enter(struct steps *s, enum step_kind kind, const char *device, uint64_t now);
/* The stage is over, and there is no other yet. why: NULL: it went well. */
void steps_leave(struct steps *s, enum step_outcome how, const char *why, uint64_t now);

/* A step beside the stages. Its number, for steps_end(), which takes STEP_NONE too. */
int steps_begin(struct steps *s, enum step_kind kind, const char *device, uint64_t now);
/* Which one it is among those of its kind. */
void steps_number(struct steps *s, int step, unsigned number);
void steps_end(struct steps *s, int step, enum step_outcome how, const char *why, uint64_t now);
/* One without a length. */
void steps_point(
	struct steps *s, enum step_kind kind, const char *device, const char *why, uint64_t now);
/* One more of those that share a step. */
void steps_again(struct steps *s, enum step_kind kind, uint64_t now);

/* A copy of one that is over. */
void steps_add(struct steps *s, const struct step *it);

/* The step of that number, and the last one of a kind, valid until another one is added; NULL: there is none. */
const struct step *steps_at(const struct steps *s, int step);
struct step *steps_last(struct steps *s, enum step_kind kind);

/* The request is over: so is what is still open. */
void steps_close(struct steps *s, enum step_outcome how, uint64_t now);

/* What they take in memory. */
size_t steps_bytes(const struct steps *s);

const char *step_kind_name(enum step_kind k);	    /* "queue" */
const char *step_outcome_name(enum step_outcome o); /* "open", "done", "failed", "cancelled" */

#endif
