/*
 * The answer's job has failed: is it tried again, and how? A pure function of facts and counts.
 *
 * Before the answer's first byte the whole request may be given to a device again, in another form, too; after it, the
 * answer may be gone on with where its stream stands at the end of a line or event.
 *
 * A request under which workers die may be what they die of. Deaths that follow each other without a byte of the answer
 * between them are held against it: at limits.request_deaths it is poison, and refused. Deaths that a worker was told to
 * die count for nothing, nor does a backend that is merely not there.
 */
#ifndef TANDEM_RETRY_H
#define TANDEM_RETRY_H

#include <stdbool.h>
#include <stdint.h>

/* A backend that cannot be reached while its worker does not know it yet: so many more tries of one
 * worker without a byte of the answer, after a pause that doubles. */
#define RETRY_MAX 4
#define RETRY_MS 50
/* Connections closed without a word that are not held against the request. */
#define RETRY_CLOSED_FREE 1

struct retry_facts {
	int cause;	    /* enum proto_cause or JOB_LOST */
	bool begun;	    /* the client has a part of the answer */
	bool advanced;	    /* bytes of it came since the last try */
	bool blameless;	    /* the worker was told to end, or this death has been told of before */
	bool original;	    /* another form was sent, and the original may go instead */
	bool shorter;	    /* a shorter form may be made */
	bool stuck;	    /* begun: the stream stands where nothing can go on */
	bool same_device;   /* it would go to the device that failed, which calls itself ready */
	bool same_worker;   /* and to the worker whose tries are counted */
	int64_t poison_at;  /* limits.request_deaths */
	int64_t deaths_max; /* limits.resumes */
};

/* Of one request. */
struct retry_counts {
	unsigned deaths;
	int64_t idle_deaths; /* of these, the last ones that no byte of the answer came before */
	unsigned closed;     /* times that a connection was closed without a word */
	unsigned tries;	     /* of one worker */
	unsigned timeouts;
};

enum retry {
	RETRY_NOT,
	RETRY_POISON,	/* workers die of it */
	RETRY_STUCK,	/* it could be gone on with, if the stream stood elsewhere */
	RETRY_AGAIN,	/* at once */
	RETRY_PAUSE,	/* after pause_ms */
	RETRY_ORIGINAL, /* at once, as the client sent it */
	RETRY_SHORTER,
};

struct retry_decision {
	enum retry what;
	uint64_t pause_ms;
	bool death; /* it was counted as one, or looked at as one that counts for nothing */
};

struct retry_decision retry_decide(const struct retry_facts *f, struct retry_counts *n);

#endif
