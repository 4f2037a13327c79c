/*
 * What is kept of requests for whoever looks at them: those under way, and the last ones that are over
 * (limits.history of them, in limits.history_bytes), each with its steps (steps.h).
 *
 * A record is found by its request's id; what comes after the request's end (a warming, notes) is added to
 * it as long as it is kept. No text of a prompt or an answer, and no key, is in it. It lives in memory alone:
 * a restart or an upgrade begins with none. Pure but for memory; looking one up is linear.
 *
 * The history owns its records. One that is under way stays until history_end(); from then on the history
 * may forget it at any time.
 */
#ifndef TANDEM_HISTORY_H
#define TANDEM_HISTORY_H

#include "common/base/trace_context.h"
#include "supervisor/requests/measures.h"
#include "supervisor/requests/steps.h"

#include <sys/queue.h>

#define RECORD_ID_BYTES 24
#define RECORD_TEXT_BYTES 96	/* of a path or a model's name; what is longer is cut */
#define RECORD_REASON_BYTES 432 /* two of PLAN_REASON_BYTES, and whom it joined */

/* What was sent of a message. The words are static. */
struct record_message {
	const char *role, *level, *reason;
	size_t bytes_in, bytes_out; /* of text */
};

/* Its place in a trace (tracing.h). */
struct record_trace {
	bool on, remote;		  /* it has one; it goes on with its client's */
	struct trace_context at;	  /* its own span */
	uint8_t parent[TRACE_SPAN_BYTES]; /* of a remote one: the client's */
	char *state;			  /* tracestate, owned; NULL: none */
};

struct record {
	TAILQ_ENTRY(record) link; /* newest first */
	char id[RECORD_ID_BYTES];
	bool over;
	uint64_t begun_ms, ended_ms; /* now.h */
	uint64_t begun_at_ms;	     /* since 1970 */
	enum dialect dialect;
	char method[16], path[RECORD_TEXT_BYTES]; /* the path without a query */
	char key[KEY_NAME_BYTES];		  /* "": it has none */
	char model[RECORD_TEXT_BYTES];		  /* "": not known, or not yet */
	char reason[RECORD_REASON_BYTES];	  /* why it took its way; "" */
	int status;				  /* HTTP's; 0: none yet */
	struct measure measure; /* when it is over; its device is `device` below */
	char device[CONFIG_NAME_BYTES];
	struct steps steps;
	uint64_t conversation; /* guardian.h; 0: none that is known */
	char prefix
		[RECORD_TEXT_BYTES]; /* what became of its beginning, as in X-Tandem-Prefix; "" */
	struct record_message *messages; /* of one that was shortened, the newest ones; owned */
	size_t message_count, message_most;
	size_t messages_lost; /* older ones beyond message_most, or for want of memory */
	bool routed;	      /* its path is one of those that we know */
	const char
		*operation; /* of a model, as OpenTelemetry calls it ("chat"), static; NULL: none */
	struct record_trace trace;
};

TAILQ_HEAD(record_list, record);

struct history {
	struct record_list running, past;
	size_t count, bytes;	 /* of past */
	size_t most, bytes_most; /* ... at most */
	size_t steps_most;	 /* of a request that begins */
	size_t messages_most;	 /* ... that is shortened */
	/* A request is over; a step has come to one that was. NULL: nobody wants to know. */
	void (*ended)(void *ctx, const struct record *r);
	void (*late)(void *ctx, const struct record *r, const struct step *it);
	void *ctx;
};

void history_init(struct history *h);
void history_fini(struct history *h);
/* Other bounds; what is above goes at once. */
void history_limit(struct history *h, size_t most, size_t bytes_most, size_t steps_most);
/* ... of messages of a request that begins from now on; none without. */
void history_limit_messages(struct history *h, size_t most);

/* A request begins. NULL: memory is out, and nothing is kept of it. */
struct record *history_begin(struct history *h, const char *id, uint64_t now, uint64_t now_at);
/* It is over; r may be gone afterwards. m->device is copied. */
void history_end(struct history *h, struct record *r, const struct measure *m, uint64_t now);
/* The record of that id, under way or over; NULL: there is none. */
struct record *history_find(struct history *h, const char *id);

/* A whole step that comes after the end of the request with that id; where nothing is kept of it, nothing
 * is done. */
void history_late(struct history *h, const char *id, const struct step *it);

/* Room for the last of so many messages, all zero; *first: which one it begins with. NULL: nothing is kept of them. */
struct record_message *record_messages(struct record *r, size_t count, size_t *first);

/* Copies text that may be longer than there is room for, without cutting a character of UTF-8. */
void record_text(char *to, size_t size, struct slice text);
/* "running", or how it ended (measures.h) */
const char *record_state(const struct record *r);
/* "A", "B", "C", "small", "pass"; NULL: it took none, or is not over. */
const char *record_way(const struct record *r);

#endif
