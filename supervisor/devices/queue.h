/*
 * Who is next: the jobs that wait for the slots of one device.
 *
 * Strictly by class, except that a class which was passed over QUEUE_LIFT times gets one turn: none
 * starves. Within a class the clients share by tokens, not by jobs: start-time fair queueing (P.
 * Goyal, H. Vin, H. Cheng: "Start-Time Fair Queuing", SIGCOMM 1996). A job's start tag is the
 * larger of the class's virtual time and the finish tag of its client's job before it, its finish
 * tag lies its cost later; the smallest start tag is handed out, and is then the virtual time. Jobs
 * of one client in one class go in the order they came.
 *
 * Pure: no clock, no loop. An entry lives in its owner's struct and is in the queue from
 * queue_put() to queue_leave(): waiting, or running once taken. A client is remembered while it has
 * entries or is ahead of the virtual time; of those without entries at most QUEUE_DEBTORS_MAX, and
 * none in a class where nothing waits or runs. Putting, taking and leaving are linear in the
 * clients of the class, which limits.queue and limits.connections bound.
 */
#ifndef TANDEM_QUEUE_H
#define TANDEM_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define QUEUE_LIFT 8	      /* turns of others after which a waiting class gets one */
#define QUEUE_DEBTORS_MAX 256 /* remembered clients without a job, for each class */

enum job_class {
	CLASS_INTERACTIVE, /* somebody waits for each word */
	CLASS_AGENT,	   /* a program in a loop */
	CLASS_MAP,	   /* our own: notes of a request */
	CLASS_IDLE,	   /* titles, tags and the like */
	JOB_CLASSES
};

/* "interactive", "agent", "map", "idle" */
const char *job_class_name(enum job_class c);

struct queue_flow;

struct queue_entry {
	TAILQ_ENTRY(queue_entry) in_flow, in_all; /* while it waits */
	struct queue_flow *flow;		  /* NULL: not in the queue */
	uint64_t start, cost;			  /* virtual tokens, tokens */
	uint64_t order;				  /* of arrival */
	bool waiting;
	bool lifted; /* had its class's turn against the order of classes */
};

TAILQ_HEAD(queue_list, queue_entry);
LIST_HEAD(queue_flows, queue_flow);

struct queue_flow {
	LIST_ENTRY(queue_flow) link;
	struct queue_list entries; /* waiting */
	uint64_t client;
	uint64_t finish; /* tag of its newest job */
	enum job_class class;
	unsigned waiting, running;
};

struct queue {
	struct queue_list all; /* waiting, in the order they came */
	uint64_t arrivals;
	struct {
		struct queue_flows flows;
		uint64_t now; /* virtual time, tokens */
		unsigned waiting, running, debtors;
		unsigned passed_over;
	} class[JOB_CLASSES];
};

void queue_init(struct queue *q);
/* Frees what is remembered of clients; the entries are their owners'. */
void queue_fini(struct queue *q);

/* e waits from now on; cost in tokens (0 counts as 1). 0 or -ENOMEM. */
int queue_put(struct queue *q, struct queue_entry *e, enum job_class class, uint64_t client,
	uint64_t cost);
/* The next one, which stays where it is; NULL: nothing waits. */
struct queue_entry *queue_next(const struct queue *q);
/* The next one, taken out to run; NULL: nothing waits. */
struct queue_entry *queue_take(struct queue *q);
/* A running entry waits again, in its old place and at no further cost. */
void queue_put_back(struct queue *q, struct queue_entry *e);
/* Waiting or running: it is over. What did not run is not charged. Ignored when not in the queue.
 */
void queue_leave(struct queue *q, struct queue_entry *e);

/* Entries that wait, all classes together. */
unsigned queue_waiting(const struct queue *q);
/* Those of one client, of the classes that clients are in (not CLASS_MAP). */
unsigned queue_client_waiting(const struct queue *q, uint64_t client);
/* Clients of which something waits, each counted once. */
unsigned queue_clients(const struct queue *q);

#endif
