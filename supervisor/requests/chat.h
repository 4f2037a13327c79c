/*
 * A chat request's inner state, shared by the files of its life:
 *   chat.c          the table (states x events), reading
 *   chat_plan.c     the body is read: the plan, and the next stage
 *   chat_answer.c   the job on the answering device, heartbeats, the end
 *   chat_early.c    work for the next request while nobody waits
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
 *   chat_shared.c   what all of them use
 * Each calls only those that stand below it; what comes from below goes to the table (chat_event()).
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
#include "common/dialect/compaction.h"
#include "common/guard/guard.h"
#include "supervisor/devices/job.h"
#include "supervisor/requests/client.h"
#include "supervisor/requests/decide.h"
#include "supervisor/requests/lane.h"
#include "supervisor/requests/notes_table.h"
#include "supervisor/requests/plan.h"
#include "supervisor/requests/request.h"
#include "supervisor/requests/retry.h"
#include "supervisor/requests/weigh.h"

#define CHAT_GUARD_TEXT_BYTES 512

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

struct chat_note {
	struct chat *chat;
	size_t index;
	struct job *job; /* NULL when settled */
	bool on_main;	 /* second attempt */
	int step;	 /* of the request's record (steps.h) */
	char traceparent[TRACE_PARENT_BYTES];
	struct proto_header header; /* of its job; names traceparent */
	struct buf text;
	char unused[16]; /* why its notes are none; "" */
};

#define CHAT_CONVERSATION_BYTES 56 /* 24 name the client's objects, 32 are secret */

/* The backend's stream that the last job asked for. */
struct chat_replay {
	char conversation[CHAT_CONVERSATION_BYTES + 1]; /* "": it is not kept */
	bool again;					/* the job reads it again */
	int64_t source; /* so many bytes of it have become what the client has */
	/* As the job that asked for it had them: it went on with so much text. */
	bool continues;
	size_t said;
	int64_t tokens;
};

struct chat_resume {
	struct buf text; /* of the answer; up to `said` the client has it, the rest is held */
	size_t said;
	int64_t tokens;	 /* of what was said */
	bool opaque;	 /* there is more to the answer than text, or too much of it */
	struct buf held; /* the bytes of a line or event (without a stream: of the object) that is
			    not whole */
	bool open;	 /* it was too long to be held: the client has half of one */
	struct buf identity; /* of the first START */
	struct buf body;     /* of the job that goes on: the request, then the text */
	size_t body_held;    /* counted in requests.held_bytes */

	struct chat_replay replay;
	struct retry_counts counts;
	uint64_t bytes_at_start;	 /* bytes_out when the last job was submitted */
	const struct device *cut_device; /* whose backend cut the answer last */
	uint64_t cut_generation;
	bool poison;	  /* refused: workers die of it */
	uint64_t retried; /* generation of the worker whose tries are counted */
	uint64_t lost_ms;
};

/* A body up to this is read in the loop: well under a millisecond. */
#define CHAT_INLINE_BYTES (96u << 10)

struct chat_compact {
	struct compaction_wish wish;
	uint64_t block;	  /* a hash of the block that the body came with or got; 0: none */
	const char *code; /* of an error, static; NULL: it has none */
	uint64_t tokens;  /* of the prompt before, ... */
	uint64_t after;	  /* ... and with the block in its place */
	int64_t window;	  /* of its device */
	bool keep_key;	  /* the first block of all: its key is written with it */
	bool begun;	  /* it is being made, or has been */
	int result;	  /* ... 0: the body is the short conversation with the block */
};

/* What the guardian of the prefix is at with this request. */
struct chat_guard {
	enum prefix_repair repair;	  /* as it was set when the request was read */
	bool watched;			  /* prompt is there */
	bool mended;			  /* the body is another one than came */
	struct guard_prompt prompt;	  /* of the body, until the conversation takes it over */
	uint64_t attribution;		  /* of the body that came */
	uint64_t conversation;		  /* 0: none */
	struct guard_verdict found, left; /* in the body that came, in what is sent */
	char text[CHAT_GUARD_TEXT_BYTES]; /* X-Tandem-Prefix */
};

/* The small lane (docs/routing.md#the-small-lane). */
enum lane_state {
	LANE_UNSEEN, /* nobody has asked yet */
	LANE_OFF,    /* not small, or no small device takes it */
	LANE_ON,     /* the device is a small one */
	LANE_LEFT,   /* it has been, and a main one takes its place */
};

struct chat_lane {
	enum lane_state state;
	char why[LANE_WHY_BYTES]; /* for X-Tandem-Reason; "" where it is nothing small */
	struct buf model;	  /* that a main device is asked for */
	bool named;		  /* c->alias is there for this alone */
	char pinned[CONFIG_NAME_BYTES];
	int64_t wait_ms; /* for a slot */
};

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
	uint64_t taken;			  /* answer bytes its client's socket took */
	uint64_t credited;		  /* of these given to the worker as credit */

	struct chat_compact compact;
	struct chat_lane lane;
	struct chat_guard guard;
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
/* The client has a part of the answer. */
bool chat_begun(const struct chat *c);
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

/* --- chat_lane.c --- */
/* Is it small, and is there a device for it? True: the body is being read again. */
bool chat_lane(struct chat *c);
/* The plan of what is small. */
void chat_lane_plan(struct chat *c);
/* Its job waits, or is silent, for too long, or its device will not come? True: a main one has it now. */
bool chat_lane_waited(struct chat *c);
/* Nobody has seen a byte of an answer: a main device answers instead. */
void chat_lane_leave(struct chat *c, const char *cause);

/* --- chat_bench.c --- */
/* The head is there: has it a ticket? */
void chat_bench_begin(struct chat *c);
/* It goes as it is. */
void chat_bench_plan(struct chat *c);
/* Nothing else is under way on its device; else the request is over. */
bool chat_bench_may_run(struct chat *c);
/* Other work has come while it ran. */
void chat_bench_yielded(struct chat *c);

/* --- chat_compact.c --- */
/* A block is wanted: it is made, or the request is over. False: it goes on. */
bool chat_compact(struct chat *c);

/* --- chat_facts.c --- */
/* Fills facts, small and class; the device is known, the body parsed. */
void chat_gather_facts(struct chat *c);
/* How urgent it is; facts.tokens are known. */
enum job_class chat_class(const struct chat *c);
/* Then: the way that the client asks for (X-Tandem-Route). False: it asks for none that there is. */
bool chat_ask_way(struct chat *c);

/* --- chat_guard.c --- */
/* The body is all there, and will be read; it is being read (on the pool), the view being there. */
void chat_guard_begin(struct chat *c);
void chat_guard_read(struct chat *c);
/* It is read. True: the body is mended, and must be read again. */
bool chat_guard_mend(struct chat *c);
/* Names what has changed, once the request's facts are there, and remembers what is sent. */
void chat_guard_name(struct chat *c);
/* The answer has ended: what was sent is in this device's cache. cached: < 0: unknown. */
void chat_guard_ended(
	struct chat *c, const struct device *d, const struct proto_usage *u, double cached);
void chat_guard_fini(struct chat *c);

/* --- chat_condense.c --- */
void chat_condense_prepare(struct chat *c);
/* The backend counted more tokens than we did: the selection alone, well within the window. */
void chat_condense_overflowed(struct chat *c);
void chat_condense_notes(struct chat *c);
/* A conversation that has just frozen keeps its window over restarts. */
void chat_condense_keep(struct chat *c);
void chat_condense_assemble(struct chat *c);

/* --- chat_chunks.c --- */
/* Asks for the notes of so many chunks; CHAT_SETTLED follows, or CHAT_ORIGINAL. */
void chat_chunks_start(struct chat *c, size_t chunks);
/* They took too long. */
void chat_chunks_late(struct chat *c);
/* Chunks that go without notes, for the reason that the client sees. */
void chat_chunks_tell_unused(struct chat *c);
/* Cancels the notes that are open and frees all of them. */
void chat_chunks_cancel(struct chat *c);

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

/* --- chat_reply.c --- */
#define CHAT_RETRY_AFTER_S 5
/* Sends bytes of the answer. False: the client cannot take them, and the request is over. */
bool chat_answer_write(struct chat *c, struct slice bytes);
/* The same alone, as exchange_write() for c: a joined one that cannot take them gets a broken stream. */
int chat_answer_pieces(struct chat *c, struct slice bytes);
/* The answer is complete for those that joined c. */
void chat_end_joined(struct chat *c);
/* c's client has left. True: another one's exchange has taken its place and c goes on. */
bool chat_hand_over(struct chat *c);
/* The head of the START that came last, to all who get this answer. */
void chat_answer_kept_head(struct chat *c);
/* The client has half of a line or event. */
bool chat_line_is_open(const struct chat *c);
/* Refuses a request that workers die of. */
void chat_answer_poison(struct chat *c);
/* Sends status and headers of a good answer. */
void chat_answer_head(struct chat *c, int status, const char *content_type, int64_t body_bytes);
/* Ends the request with an error in whatever form is still possible. body empty: the dialect's own.
 */
void chat_answer_error(struct chat *c, int status, struct slice message, struct slice body,
	struct slice content_type, int retry_after_s);
/* Answers with what would be done; the layout has been made if the plan wants one. */
void chat_explain(struct chat *c);
/* Answers with the number of its tokens, as learned. */
void chat_answer_count(struct chat *c);
/* Answers with the compaction block alone. */
void chat_answer_compaction(struct chat *c);
/* The prompt cannot fit the window. */
void chat_answer_overflow(struct chat *c);
/* Stops timers and jobs; the state is OVER afterwards. */
void chat_finish(struct chat *c);

/* --- chat_resume.c --- */
void chat_resume_init(struct chat *c);
void chat_resume_fini(struct chat *c);
/* A job's START and DELTA. */
void chat_resume_started(struct chat *c, const struct proto_record *r);
void chat_resume_delta(struct chat *c, const struct proto_record *r);
/* Makes of a job for the request, whose body is set, one that goes on with the answer. 0, -ENOMEM,
 * -E2BIG. */
int chat_resume_spec(struct chat *c, struct job_spec *spec);
enum chat_again_what {
	AGAIN_NOT,
	AGAIN_SUBMIT,
	AGAIN_PAUSE,   /* ... after a pause */
	AGAIN_SHORTER, /* in another form: the backend counts more tokens than we do */
	AGAIN_MAIN,    /* on a main device, as if there were no small one */
};
struct chat_again {
	enum chat_again_what what;
	uint64_t ms; /* of the pause */
};
/* The answer's job failed: what is done? */
struct chat_again chat_resume_failed(struct chat *c, const struct job_failure *f);
/* Before it is submitted after a pause: its device may be out of use by now. */
void chat_resume_look_again(struct chat *c);
/* The answer's job waits: another device that could run it at once, or NULL. */
struct device *chat_resume_elsewhere(struct chat *c);

/* --- chat_replay.c --- */
/* Names the stream in the next job, and says where to begin in it. */
void chat_replay_spec(struct chat *c, struct job_spec *spec);
/* The client has what so many bytes of the backend's have become. */
void chat_replay_advanced(struct chat *c, int64_t source);
/* Does the answer wait for its own device, although another one could go on with it? */
bool chat_replay_waits(const struct chat *c);
/* The job failed so: may the next one read the same stream? It will (again), or not. */
bool chat_replay_can(const struct chat *c, const struct job_failure *f);
void chat_replay_failed(struct chat *c, const struct job_failure *f, bool again);
/* Nobody will read it, and no worker knows. */
void chat_replay_drop(struct chat *c);
/* It is whole, and its worker sees to it. */
void chat_replay_ended(struct chat *c);

/* A full queue is no reason yet to end an answer that has begun. */
bool chat_resume_patient(const struct chat *c);

#endif
