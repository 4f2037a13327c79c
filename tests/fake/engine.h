/*
 * The pretended inference engine: models, their slots with KV prefixes, loads and the time
 * everything takes.
 *
 * A gen is one generation. A dialect fills the upper part, engine_submit() takes it over; the
 * engine queues it FIFO and silently (docs/protocols.md#waiting), gives it a slot, lets prefill and
 * decoding take their time and calls the dialect's ops to write the reply. The engine frees the
 * gen.
 *
 * Time (docs/condensing.md#how-long-a-prompt-takes), per slot and independent of other slots:
 *   P(n, d) = n / prefill * (1 + (d + n/2) / depth_half)      n new tokens behind d cached ones
 *   D(o, d) = o / decode  * (1 + (d + o/2) / decode_half)     o tokens behind a prompt of d
 * Reported durations are these formulas, not the clock (1 us a token at an infinite rate), so they
 * repeat exactly.
 */
#ifndef FAKE_ENGINE_H
#define FAKE_ENGINE_H

#include "tests/fake/fake.h"
#include "tests/fake/prompt.h"

#define TRAIN_CTX 131072 /* tokens; num_ctx is clamped to it */
#define ENGINE_SLOTS_MAX 65536

struct gen;

enum gen_reason { REASON_STOP, REASON_LENGTH, REASON_TOOLS };

/* How a dialect writes; each is called with the reply of g->r still open. */
struct gen_ops {
	void (*begin)(struct gen *g);	 /* a streamed reply's headers */
	void (*progress)(struct gen *g); /* a prefill batch is done; only if g->progress */
	void (*text)(struct gen *g, bool thinking, struct slice text);
	/* A fragment of the arguments of g->r->script.tools[i]. */
	void (*tool)(struct gen *g, size_t i, struct slice fragment, bool first, bool last);
	void (*error)(struct gen *g,
		struct slice message); /* in-band once the stream has begun; ends the reply */
	void (*finish)(
		struct gen *g); /* the rest of the stream, or the whole reply; must end the reply */
};

struct model {
	struct model *next;
	struct engine *engine;
	char *name;
	bool listed; /* false: deleted */
	enum { MODEL_UNLOADED, MODEL_LOADING, MODEL_READY } state;
	unsigned num_ctx; /* tokens a slot */
	uint64_t runner;  /* hash of the other load-time options */
	struct slot *slots;
	struct saved *saved, **saved_end; /* the host cache, oldest first */
	unsigned slot_count, active;
	bool pumping;
	struct gen *queue, **queue_end;
	struct gen *loader; /* whose cancelling aborts the load */
	struct clock_task load;
	uint64_t uses;
};

struct slot {
	struct buf kv; /* text whose KV entries it holds */
	struct gen *gen;
	uint64_t used; /* larger: more recently; 0: never */
	int64_t task;  /* of its last gen */
	bool restored; /* from a file, and not used since */
};

struct gen {
	/* set by the dialect */
	struct request *r;
	const struct gen_ops *ops;
	struct model *model;
	struct prompt prompt;
	unsigned num_ctx; /* asked; 0: the server's default */
	uint64_t runner;
	int64_t max_tokens; /* -1: no limit */
	int id_slot;	    /* -1: any */
	bool stream, cache_prompt, progress, thinks, shift;
	bool unread;	/* what it writes (one token, for a limit of 0) is not in the cache */
	bool load_only; /* no answer wanted */
	bool unload_after;
	bool include_usage; /* OpenAI */
	struct slice name;  /* the model as the request spells it, raw JSON; lives as long as r */

	/* set by the engine, read by the dialect */
	struct slot *slot;
	unsigned slot_id;
	size_t moved;		   /* tokens copied to and from the host cache for it */
	size_t prompt_n, cached_n; /* tokens; prompt_n counts the cached ones too */
	size_t processed;	   /* of prompt_n */
	size_t emitted;		   /* tokens of the answer said, those that were given included */
	size_t given;	    /* of these, so many stood in the request: it goes on behind them */
	size_t given_bytes; /* of the prompt's end */
	struct buf echo; /* llama-server's chat begins with all that it was given to go on with */
	bool begun;	 /* the request ends with an answer of its own */
	enum gen_reason reason;
	bool window_full;
	struct buf text, thought;		 /* generated so far */
	uint64_t load_ns, prefill_ns, decode_ns; /* load: measured, with the wait for a slot */

	/* the engine's own */
	enum { GEN_QUEUED, GEN_PREFILL, GEN_DECODE, GEN_HUNG } state;
	struct gen *next;
	struct clock_task task;
	uint64_t submitted, started;
	size_t total, thinking, text_tokens, tool_tokens[SCRIPT_TOOLS];
	size_t cursor; /* bytes of the scripted text or arguments already said */
	bool blocked;  /* waits for the socket */
};

struct engine_count {
	uint64_t loads, reloads, loads_aborted, truncated;
	uint64_t prefilled, cached, generated; /* tokens */
	uint64_t restored;		       /* prompts taken back from the host cache */
	unsigned active, active_max; /* slots at work; from here on a reset keeps what is */
	unsigned waiting;
};

struct engine {
	struct fake *fake;
	struct model *models;
	bool ready; /* llama-server has loaded its model */
	struct clock_task boot;
	struct engine_count count;
};

struct engine *engine_create(struct fake *fake);

/* By name in any case, with :latest implied; NULL when unknown or deleted. */
struct model *engine_model(struct engine *e, struct slice name);

/* Adds a model, or lists it again. */
struct model *engine_add_model(struct engine *e, struct slice name);

/* A gen with nothing asked yet. */
struct gen *gen_create(struct request *r, const struct gen_ops *ops);

/* Frees one that was not submitted, or that the engine let go. */
void gen_free(struct gen *g);

/* Takes g over; r->gen is g until it ends. */
void engine_submit(struct gen *g);

/* Its client is gone: frees the slot at once, keeps what is in its KV, frees g. */
void engine_cancel(struct gen *g);
/* It is over, and who waits gets its slot. Frees g. */
void engine_leave(struct gen *g);

/* What hangs by its script goes on, and hangs again after so many chunks; -1: not. */
void engine_go_on(struct engine *e, int64_t hang_after);

/* Forgets the KV of all slots and unloads nothing. */
void engine_forget(struct engine *e);

/* --- gen.c, for engine.c --- */

/* g has its slot: starts the course of prefill and decoding. */
void gen_start(struct gen *g);

/* It hung by its script: it goes on. */
void gen_go_on(struct gen *g, int64_t hang_after);

/* The socket takes bytes again. */
void gen_resume(struct gen *g);

/* engine.c, for gen.c: takes g off its slot. The caller frees g, then calls engine_pump(). */
void engine_detach(struct gen *g);
void engine_pump(struct model *m);

/*
 * llama-server's host cache of prompts (--cache-ram; it is Ollama's too): called before g takes s.
 * Where s would lose most of what it holds, that is saved; where a saved prompt begins more of g's
 * than s does, it is put back. Returns the tokens copied. host_cache_clear() empties it.
 */
size_t host_cache_swap(struct model *m, struct slot *s, const struct gen *g);
void host_cache_clear(struct model *m);

/* What the model would have to keep of the answer: thinking, text and tool calls bounded
 * (answer.c). */
void answer_plan(struct gen *g);

/* Appends the tool calls that were said whole, as a prompt holds them (ask.c). */
void answer_put_calls(const struct gen *g, struct buf *out);

/* The tokens generated by this request. */
static inline size_t gen_new_tokens(const struct gen *g)
{
	return g->emitted - g->given;
}

/* Since prefill began; it may be put off by a copy. */
static inline uint64_t gen_progress_ms(const struct gen *g)
{
	uint64_t now = clock_now();

	return now > g->started ? (now - g->started) / MS_NS : 0;
}

/*
 * The request gives the answer's beginning (docs/protocols.md#continuing-an-answer): `text`,
 * or with `suffix` as much of its end as can be one. Where it is what this model says, the answer
 * goes on behind it.
 */
void answer_begin_with(struct gen *g, struct slice text, bool suffix);

/* Real servers do not go on with an answer while thinking is on; a model thinks when its script
 * says so. True: replied 400, and g is freed. */
bool answer_refuses_begun(struct gen *g);

/* Says token g->emitted: appends to text or thought and, when streaming, calls the ops. */
void answer_token(struct gen *g);

#endif
