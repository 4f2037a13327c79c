/*
 * One client request, whatever its kind: identity, the answer's headers, and the operations its
 * kind supplies.
 *
 * The front door's callbacks land in requests.c, which routes a new exchange to its kind (chat.c,
 * pass.c, probes.c) and then passes every event to that kind's operations. A request lives from the
 * exchange's head to its done callback, or longer while background work or jobs still refer to it
 * (request_hold / request_release).
 */
#ifndef TANDEM_REQUEST_H
#define TANDEM_REQUEST_H

#include "common/dialect/dialect.h"
#include "supervisor/devices/pick.h"
#include "supervisor/requests/requests.h"
#include "supervisor/requests/route.h"

#define REQUEST_ID_BYTES RECORD_ID_BYTES
/* What a client is told whose request an operator ended. No library tries again after this status.
 */
#define REQUEST_CANCELLED_STATUS 499
#define REQUEST_CANCELLED_TEXT "cancelled by the operator"

struct request_ops {
	bool aside; /* asks about the gateway itself: no event, and nothing of its key's share */
	size_t (*body)(struct request *r, const char *p, size_t n);
	void (*body_end)(struct request *r);
	void (*sent)(struct request *r, size_t n);
	void (*gone)(struct request *r);
	/* An operator ends it: the client is told where that is still possible. */
	void (*cancel)(struct request *r);
	/* The request is over and nothing refers to it: free what the kind owns, and r itself. */
	void (*destroy)(struct request *r);
};

struct request {
	TAILQ_ENTRY(request) link; /* in requests.list */
	struct requests *all;
	struct exchange *exchange; /* NULL after its done callback */
	const struct request_ops *ops;
	enum dialect dialect;
	char id[REQUEST_ID_BYTES];
	uint64_t begun_ms;
	enum measure_outcome outcome;	/* done, unless something else was counted */
	uint64_t client;		/* who asks (client.h) */
	struct caller *caller;		/* ... by the name of its key; NULL: it has none */
	unsigned own_headers;		/* those that its key stands in (access.h) */
	struct proto_header *forwarded; /* for jobs: request_forward_headers() */
	uint64_t tokens_in;		/* of what passes through, an estimate; 0: none, unknown */
	bool unpacked;			/* its body was packed on the way to us, and is not now */
	struct record *record;		/* until it is over; NULL: nothing is kept of it */
	struct record_trace trace; /* its place in a trace, and what its backend is told of it */
	char traceparent[TRACE_PARENT_BYTES];
	unsigned holds; /* the exchange, background work, running jobs */
};

/* A request of `size` bytes (struct request first) for this exchange, listed and held once for it.
 * NULL when memory is out. */
struct request *request_create(struct requests *s, struct exchange *x, enum dialect d,
	const struct request_ops *ops, size_t size);
void request_hold(struct request *r);
void request_release(struct request *r);

/* A record of it is kept from now on (history.h): of requests that devices work for. */
void request_remember(struct request *r);
/* It is over; what comes later is told to history_late(). */
void request_remembered(struct request *r, const struct measure *m);
/* Where its steps go; NULL, which steps.h takes, where nothing is kept. */
static inline struct steps *request_steps(const struct request *r)
{
	return r->record ? &r->record->steps : NULL;
}

/* A fresh id: unique over restarts of the supervisor, short enough to read aloud. */
void request_new_id(struct requests *s, char id[REQUEST_ID_BYTES]);

/* What every answer says of itself, as X-Tandem-* headers. */
struct request_story {
	const char *id;
	const char *strategy; /* "A", "B", "C" or "pass" */
	uint64_t tokens_in, tokens_sent;
	const char *reason;
};

void request_tell(struct exchange *x, const struct request_story *story);

/* May a request that holds `held` bytes of its body hold n more? Small bodies always may: whoever
 * fills limits.body_total_bytes with large ones does not shut everyone else out. What the small
 * ones hold is bounded by limits.connections. */
#define REQUEST_SMALL_BYTES 65536
bool request_may_hold(const struct requests *s, size_t held, size_t n);

/* Adds the header that clients of its dialect find a request's id in. */
void request_name(struct request *r);

/* Answers with the dialect's own error body. retry_after_s > 0 adds Retry-After. */
void request_refuse(struct request *r, int status, const char *message, int retry_after_s);

/* The same of an exchange that is no request, with an id of its own. */
void request_turn_away(struct requests *s, struct exchange *x, enum dialect d, int status,
	const char *message, int retry_after_s);

/* The key's name for logs; "" without one. */
static inline const char *request_key(const struct request *r)
{
	return r->caller ? r->caller->name : "";
}

/* The class that is asked for: the key's, else what the client says; NULL: none. */
const char *request_wish(const struct request *r);
/* The client's Authorization where it is for the backend, or NULL. */
const char *request_authorization(const struct request *r);

/* Gives the job the client's headers that may go to a backend: not those of one hop, nor what names
 * the client's side of the connection. The list is the request's, until it is asked for again; the
 * texts are the exchange's. 0, or -ENOMEM (then the job has none). */
int request_forward_headers(struct request *r, struct proto_job *job);

/* Counts how it ends, unless it is done. */
void request_count(struct request *r, enum measure_outcome o);
/* Counts an answer with that status as failed or, where it is the client's fault, as refused, or as
 * cancelled by an operator. */
void request_count_error(struct request *r, int status);

/* Kinds. */
void chat_begin(struct requests *s, struct exchange *x, enum dialect d);
void pass_begin(struct requests *s, struct exchange *x, const struct route *route);
/* GET /api/ps, of all devices. */
void loaded_begin(struct requests *s, struct exchange *x);
/* True when the path is answered from what the supervisor knows (model lists and the like), and
 * was. */
bool probe_answer(struct requests *s, struct exchange *x, const struct route *route);

#endif
