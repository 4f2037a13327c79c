/*
 * Condensing one chat request: from what a plan asks for, in the model's tokens, to a layout, the
 * text that notes are written about, and the rewritten body. The server and `tandemctl explain` use
 * the same functions, so what is explained is what is sent.
 *
 * condense_init(), condense_prepare() and condense_assemble() are pure and linear in the body:
 * about 1 ms for 10K tokens, safe on a thread pool, nothing blocks. Every result is owned by struct
 * condense; the request must outlive it.
 */
#ifndef TANDEM_CONDENSE_H
#define TANDEM_CONDENSE_H

#include "common/layout/layout.h"
#include "common/layout/state.h"

enum condense_result {
	CONDENSE_OK,
	CONDENSE_NOTHING, /* there is nothing worth shrinking, or nothing needs to */
	CONDENSE_NO_ROOM, /* even with everything raised it is larger than the window */
	CONDENSE_FAILED,  /* memory */
};

/* What the plan knows. Tokens are the model's unless they say start (the start table's). */
struct condense_facts {
	double tokens, tokens_start; /* of the whole prompt */
	int64_t room_tokens;	     /* the prompt must not take more; 0: no bound known */
	bool sizes_decide;	     /* also a text that is asked about as a whole is cut */
	bool overflowed; /* the backend refused the window that was tried: take this one from now on
			  */
	uint64_t without; /* a group end at which a freeze was decided that is not made this time: a
			     state that has passed it is another layout's; 0: none */
	bool waits;	  /* a larger window is left for an early freeze (state.h) */
	bool explained; /* it is not sent: the conversation keeps its window, whatever this one has */
	double keep_ratio;    /* of a prompt that would fit, kept; 0: what fits stays as it is */
	int64_t least_tokens; /* what a prompt that fits is not shrunk below */
	size_t chunk_bytes;   /* of source text for one notes job; 0: no notes are wanted */
	size_t max_chunks;
	size_t notes_bytes; /* most that the notes of one chunk may take in the prompt */
};

struct condense {
	const struct chat_request *request;
	struct condense_facts facts;
	uint64_t *chains; /* of each message; condense_init() */
	uint32_t *groups;
	double tools_start, system_start;
	struct layout_options options;
	struct layout_state *from; /* of an earlier request; owned */
	struct layout layout;
	struct layout_state *made; /* for the cache; owned until it is taken */
	struct layout_chunk *chunks;
	size_t chunk_count;
	double scale;	  /* start tokens to the model's */
	struct buf tools; /* on a diet, because the prompt fits in no other way; empty: the client's
			     own */
	size_t tools_full; /* of these, with their full text: the model had called them wrongly */
};

/* Chains and sizes. 0 or -ENOMEM. condense_fini() always. */
int condense_init(struct condense *c, const struct chat_request *r);
void condense_fini(struct condense *c);

/*
 * Fills options. The window in start tokens comes from the ratio of the two counts of this prompt,
 * in coarse steps; with a cache the window that the conversation began with stays its own, and a
 * state of an earlier request is looked up. The cache belongs to the caller's thread.
 */
void condense_options(
	struct condense *c, const struct condense_facts *f, struct layout_cache *cache);

/* The layout is made for another window than options found. Start tokens. */
void condense_window(struct condense *c, double window);

/* The window, in start tokens, that f offers (its tokens and room alone count), where that is larger
 * than the one that options have and the conversation's may grow; else 0. */
double condense_wider(
	const struct condense *c, const struct layout_cache *cache, const struct condense_facts *f);

/* Lays out and cuts the chunks for notes. */
enum condense_result condense_prepare(struct condense *c);

/* The chain of the conversation's beginning, that its window is remembered by (state.h). */
uint64_t condense_beginning(const struct condense *c);

/* Tokens of the model that the laid out prompt takes. */
double condense_tokens(const struct condense *c);

size_t condense_chunks(const struct condense *c);
struct slice condense_chunk(const struct condense *c, size_t i);

/*
 * Writes the rewritten body: the layout, and notes[i] of each chunk (empty slices: none; NULL: no
 * notes at all). set_num_ctx as in chat_request_rewrite(). CONDENSE_OK, or CONDENSE_FAILED (then
 * the original must be sent).
 */
enum condense_result condense_assemble(
	struct condense *c, const struct slice *notes, int64_t set_num_ctx, struct buf *body);

/* "12 as sent, 30 L1, 40 in a digest, 1 cut": what became of the messages, for logs and headers. */
void condense_summary(const struct condense *c, char *out, size_t size);

#endif
