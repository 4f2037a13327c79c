/*
 * A chat request's inner state, shared by the files of its life:
 *   chat.c          the table (states x events), reading
 *   chat_plan.c     the body is read: the plan, and the next stage
 *   chat_answer.c   the job on the answering device, heartbeats, the end
 *   chat_early.c    work for the next request while nobody waits
 *   chat_freeze.c   ... a layout that is frozen early
 *   chat_next.c     ... what it will begin with
 *   chat_notes.c    notes for digests to come, and the use of those that are there
 *   chat_condense.c selection, assembly
 *   chat_resume.c   what the client has of the answer, and going on after a death (retry.c: whether)
 *   chat_replay.c   ... exactly, where the backend keeps the stream
 *   chat_reply.c    what the client is told, and those that joined it
 *   chat_chunks.c   notes for what the selection leaves out: jobs and their fallbacks
 *   audience.c      who gets this answer; join.c: who may
 *   chat_facts.c    what it is planned from
 *   chat_guard.c    of which conversation it is, and what of its beginning is another now
 *   chat_adaptive.c which form is sent, by predicted time; what an answer teaches
 *   chat_bench.c    what an operator measures with
 *   chat_alias.c    a model that is another one's name
 *   chat_lane.c     a small request, on a small device and back
 *   chat_compact.c  making a block that stands for the conversation
 *   chat_read.c     the body as a view
 *   chat_measure.c  what is measured at its end
 *   chat_content.c  what is kept of its messages then, where that is wanted
 *   chat_shared.c   what all of them use
 * Each calls only those that stand below it; what comes from below goes to the table (chat_event()). What has a state or
 * much to offer has a header of its own; of the others the functions stand here.
 *
 *   READING -> PARSING -> [CONDENSING] -> WAITING -> ANSWERING -> OVER
 *      '-----> JOINED --------------------------------^---- death ---'
 *
 * Work on the thread pool (parsing large bodies, selection, assembly) owns the fields it writes
 * until its event comes back; the loop thread only reads `state` meanwhile. A request that ends
 * earlier is kept until the work is back.
 */
#ifndef TANDEM_CHAT_H
#define TANDEM_CHAT_H

#include "common/base/unpack.h"
#include "common/condense.h"
#include "supervisor/devices/job.h"
#include "supervisor/requests/chat_chunks.h"
#include "supervisor/requests/chat_compact.h"
#include "supervisor/requests/chat_content.h"
#include "supervisor/requests/chat_guard.h"
#include "supervisor/requests/chat_lane.h"
#include "supervisor/requests/chat_resume.h"
#include "supervisor/requests/client.h"
#include "supervisor/requests/decide.h"
#include "supervisor/requests/lane.h"
#include "supervisor/requests/notes_table.h"
#include "supervisor/requests/plan.h"
#include "supervisor/requests/request.h"
#include "supervisor/requests/weigh.h"

enum chat_state {
	CHAT_READING,
	CHAT_PARSING,
	CHAT_CONDENSING,
	CHAT_WAITING,
	CHAT_ANSWERING,
	CHAT_JOINED, /* gets the answer of `lead` */
	CHAT_OVER,
	CHAT_STATES
};

enum chat_event {
	CHAT_BODY_END,
	CHAT_UNPACKED,	/* the body is what the client packed (or could not be) */
	CHAT_PARSED,	/* the view is there (or its error) */
	CHAT_PREPARED,	/* the selection is there (or its refusal) */
	CHAT_SETTLED,	/* every chunk has its notes or goes without */
	CHAT_ORIGINAL,	/* condensing is given up: the unchanged request */
	CHAT_ASSEMBLED, /* the rewritten body is there (or could not be made) */
	CHAT_STARTED,	/* the first byte of the answer */
	CHAT_ENDED,
	CHAT_FAILED,	/* the answer's job failed; chat->failure says how */
	CHAT_TICK,	/* first-byte deadline, then heartbeats */
	CHAT_WAIT_OVER, /* the stage's deadline: notes too slow, or the answering device away for
			   too long */
	CHAT_GONE,	/* the client left */
	CHAT_CANCELLED, /* an operator ends it */
	CHAT_EVENTS,
};

/* A body up to this is read in the loop: well under a millisecond. */
#define CHAT_INLINE_BYTES (96u << 10)

struct chat {
	struct request base;
	void (*step)(struct chat *c, enum chat_event e);
	enum chat_state state;

	struct buf body; /* the client's bytes, unpacked */
	enum unpack_coding coding;
	struct buf unpacked; /* being made of body */
	int unpack_result;
	size_t held; /* counted in requests.held_bytes */
	struct chat_request view;
	bool parsed;
	struct dialect_error parse_error;
	int parse_result;
	struct buf model; /* decoded name */
	struct buf alias; /* the client's own, where that is one (aliases.h); else empty */
	char pinned[CONFIG_NAME_BYTES]; /* the device that the alias stands for; "": any */
	bool bench;			/* an operator measures that device with it (bench.h) */

	/* Coalescing (join.h, audience.h). */
	TAILQ_ENTRY(chat) open;	  /* in requests.chats */
	TAILQ_ENTRY(chat) member; /* in lead->joined */
	struct chat_list joined;  /* requests that get this one's answer as well */
	unsigned joined_count;
	struct chat *lead; /* of a JOINED one */
	bool is_open;
	size_t asked_bytes;  /* of the body as it came, where reading changes it (else 0), */
	uint64_t asked_hash; /* ... and its hash */
	char joined_to[REQUEST_ID_BYTES]; /* the id it joined; "" */
	bool left;			  /* its client has, and an equal request goes on with it */
	uint64_t taken;			  /* answer bytes its client's socket took */
	uint64_t credited;		  /* of these given to the worker as credit */

	struct chat_compact compact;
	struct chat_lane lane;
	struct chat_guard guard;
	struct chat_content content;
	enum job_class class;
	struct device *device; /* answers */
	struct device *small;  /* condenses; NULL: none */
	struct plan_facts facts;
	struct plan plan;
	uint64_t sent_tokens; /* estimate of what the answering device gets */
	struct token_census sent_census;
	char note[PLAN_REASON_BYTES]; /* what came after the plan, for X-Tandem-Reason and the log
				       */

	struct condense condense; /* its chains are there once the body is parsed */
	bool has_condense;	  /* it was asked for */
	enum condense_result prepared, assembled;
	struct chat_note *notes;
	size_t note_count, unsettled;
	struct buf notes_model; /* that the small device is asked for */
	struct buf rewritten;
	bool use_rewritten; /* the answering device gets `rewritten` */
	bool use_condensed; /* ... and it is shorter than the original */

	/* Routing by predicted time. */
	bool adaptive; /* this request is; a reload may have changed the mode since */
	struct weighed weighed;
	uint64_t *forced; /* early freezes that were decided when it was planned; owned */
	size_t forced_count;
	uint64_t put_off; /* a freeze that was decided and is not used yet (unread.h); 0: none */
	double put_off_window;	  /* of the layout without it; once that is prepared: with it */
	struct notes_offer offer; /* notes, as they were when it was planned */
	struct prefix_chain chain, sent_chain; /* of the body, of `rewritten`; empty once sent */
	struct forecast forecast;	       /* of what was sent */
	struct device *forecast_on; /* that it was sent to; NULL: nothing is to be learned */
	double predicted_ms;	    /* from its beginning to the first byte */
	double first_ms;	    /* from the job's start to the first byte; < 0: not yet */

	struct job *answer;
	uint64_t
		prompt_counted; /* tokens of the prompt that was sent, by the backend; 0: unknown */
	struct buf reply; /* the answer as its client will send it back, for what is read early */
	struct chat_resume resume;
	bool overflowed;			  /* the backend found the prompt too long, once */
	int64_t overflow_tokens, overflow_window; /* ... and what it counted; 0: it did not say */
	bool asked;				  /* a device was given the request */
	bool too_long;				  /* refused for it */
	bool counted;				  /* in by_strategy */
	bool explain;	   /* X-Tandem-Explain: what would be done is the answer */
	bool explain_body; /* ... and what would be sent */
	struct job_failure *failure;

	uv_work_t work;
	bool working;
	uv_timer_t tick, wait;
	unsigned timers_open;
	bool head_sent;
	struct { /* of a START that waits for the whole object (no stream) */
		int status;
		char *type;
		int64_t body_bytes;
	} head;
	bool hash_wanted; /* some bodies are refused now (poison.h) */
	uint64_t hash;
	uint64_t bytes_out; /* of the answer, heartbeats excluded */
	uint64_t bytes_at_tick;
	char tail[2]; /* last two bytes of the answer */
	uint64_t first_byte_ms;
	double queued_ms;	 /* for a slot; < 0: not yet */
	struct proto_usage used; /* what the backend has counted of the whole answer */
};

/* To the table of chat.c. */
static inline void chat_event(struct chat *c, enum chat_event e)
{
	c->step(c, e);
}

/* The chat that a request is; NULL: of another kind. */
const struct chat *chat_of_request(const struct request *r);

/* --- chat_shared.c --- */
/* Runs fn on the thread pool (or at once when `small`), then delivers the event unless the request
 * is over. */
void chat_work(struct chat *c, void (*fn)(struct chat *c), enum chat_event then, bool small);
/* Counts bytes that the request holds until it is destroyed. */
void chat_hold(struct chat *c, size_t n);
/* Counts and logs that the plan was left. */
void chat_fallback(struct chat *c, const char *cause, const char *to);
/* Its record tells of a prompt that was too long, and by whose count. */
void chat_overflow_told(struct chat *c, const char *why);
/* Counts the way that it takes, once. */
void chat_count_way(struct chat *c);
/* The client has a part of the answer. */
bool chat_begun(const struct chat *c);
/* A device was given its shorter form, and no thread is making another one (whose the fields would be). */
bool chat_went_shorter(const struct chat *c);
/* The backend has counted what it was sent. */
void chat_count_told(struct chat *c, int64_t prompt_tokens);
/* Says in a job what the worker is told of the client's request: method, path, headers, borrowed from the exchange.
 * 0 or -ENOMEM. */
int chat_address(struct chat *c, struct proto_job *message);
/* The answer's job names the exchange's strings: they are now those of another one. */
void chat_answer_readdress(struct chat *c);
/* The window that this device is asked to have the model in, for this request; 0: its own. One for
 * all, so that Ollama does not load the model anew, unless the device's settings pass the client's
 * on. */
int64_t chat_num_ctx(const struct chat *c, const struct device *d);

/* Is anything read for the next request of its conversation while nobody waits? */
bool chat_reads_early(const struct chat *c);

/* --- chat_plan.c --- */
/* Plans it by its view, and begins what is planned; or the request is over. */
void chat_plan(struct chat *c);

/* --- chat_read.c --- */
/* Reads the body: the view, its model, and what is made of them. Any thread. */
void chat_parse(struct chat *c);
/* The same of a body that was mended when it was read first. */
void chat_parse_again(struct chat *c);
/* What was read of the body is gone. */
void chat_reread(struct chat *c);

/* --- chat_alias.c --- */
/* The model is an alias: the body is made to name the real one, or the request is over. False: it is none, or was. */
bool chat_alias(struct chat *c);
/* The body is made to name that model, and read again. */
void chat_rename(struct chat *c, struct slice model);
/* Who answers: the alias's device while it is in use, else one that serves the model. */
struct device *chat_alias_device(const struct chat *c);

/* --- chat_bench.c --- */
/* The head is there: has it a ticket? */
void chat_bench_begin(struct chat *c);
/* It goes as it is. */
void chat_bench_plan(struct chat *c);
/* Nothing else is under way on its device; else the request is over. */
bool chat_bench_may_run(struct chat *c);
/* Other work has come while it ran. */
void chat_bench_yielded(struct chat *c);

/* --- chat_facts.c --- */
/* Fills facts, small and class; the device is known, the body parsed. */
void chat_gather_facts(struct chat *c);
/* How urgent it is; facts.tokens are known. */
enum job_class chat_class(const struct chat *c);
/* Then: the way that the client asks for (X-Tandem-Route). False: it asks for none that there is. */
bool chat_ask_way(struct chat *c);

/* --- chat_condense.c --- */
void chat_condense_prepare(struct chat *c);
/* The backend counted more tokens than we did: the selection alone, well within the window. */
void chat_condense_overflowed(struct chat *c);
void chat_condense_notes(struct chat *c);
/* A conversation that has just frozen keeps its window over restarts. */
void chat_condense_keep(struct chat *c);
void chat_condense_assemble(struct chat *c);

/* --- chat_adaptive.c --- */
/* Fills the plan; plan.condense: another form is to be made. */
void chat_adaptive_plan(struct chat *c);
/* A freeze that was put off must be made after all: the plan is to be carried out anew. */
void chat_adaptive_freeze(struct chat *c);
/* It is made (or could not be): which one goes? */
void chat_adaptive_choose(struct chat *c);
/* What is expected of the request that will be submitted; it is; its answer has ended; or it never
 * will. */
void chat_forecast_make(struct chat *c);
void chat_forecast_sent(struct chat *c);
void chat_forecast_ended(struct chat *c, const struct proto_usage *u);
void chat_forecast_cut(struct chat *c);

/* --- chat_early.c --- */
/* Says in an answer's job what of the answer will be wanted. */
void chat_early_ask(const struct chat *c, struct proto_job *message);
/* The answer has ended well: what can be done for the next request? */
void chat_early(struct chat *c);

/* --- chat_freeze.c --- */
/* Is the next request of the conversation likely to outgrow its room? */
bool chat_outgrows(const struct chat *c);
/* Freezes its layout, on the pool; the main device reads what comes of it. */
void chat_freeze(struct chat *c);

/* --- chat_measure.c --- */
/* The answer has ended; resumed: the counts are of its last part alone. */
void chat_measure_usage(struct chat *c, const struct proto_usage *u, bool resumed);
/* It is over: what is measured of it. */
void chat_measured(struct chat *c);
/* It is planned: its record says for which model, and why it goes the way that it goes. */
void chat_recorded(struct chat *c);

/* --- chat_notes.c --- */
/* What there is of notes, for a layout that is about to be made. */
void chat_notes_offer(struct chat *c);
/* The layout is made: what it took is decided from now on. False: another request has decided
 * meanwhile; the layout is no one for others. */
bool chat_notes_decide(struct chat *c);
/* The answer has ended well: are there groups to write notes about? */
void chat_notes_write(struct chat *c);

/* --- chat_answer.c --- */
/* Submits the request (rewritten or original) to the answering device. */
void chat_answer_submit(struct chat *c);
void chat_answer_tick(struct chat *c);
void chat_answer_failed(struct chat *c);
void chat_answer_ended(struct chat *c);
void chat_answer_wait_over(struct chat *c);

#endif
