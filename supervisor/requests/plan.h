/*
 * The plan of a chat request: a pure function of (request facts, device states, thresholds), so
 * that tests and later `explain` and `simulate` call the very code that routes.
 *
 *   A  below a_max_tokens: straight to the main device.
 *   B  up to b_max_tokens: one condensing pass on the small device, then the main device.
 *   C  above: chunks mapped in parallel over the small device's slots, then the main device.
 *
 * Times are estimates: tokens / learned rate (RATE_PREFILL_TOK_S, RATE_DECODE_TOK_S before the
 * first measurement).
 */
#ifndef TANDEM_PLAN_H
#define TANDEM_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#define PLAN_NOTES_PROMPT_TOKENS 260 /* instruction and template around a chunk */
#define PLAN_CHUNK_SLACK 1.35	     /* code has 3 characters a token where prose has 4 */
#define PLAN_COUNTED_SHARE                                                                         \
	.94 /* of the room by the count of a layout that did not fit, for the next one */
#define PLAN_OVERFLOW_SHARE                                                                        \
	0.7 /* of the room, for a second try when the backend counted more than we did */
#define PLAN_OUTPUT_RESERVE_TOKENS                                                                 \
	512 /* kept free in the main window for the answer when the client names no limit */
#define PLAN_SLACK 1.1 /* estimates are that far off: what fits must fit with this factor */
#define PLAN_COUNTED_SLACK 1.04 /* the same of a prompt most of which the backend has counted */
#define PLAN_REASON_BYTES 192

enum strategy {
	STRATEGY_A,
	STRATEGY_B,
	STRATEGY_C,
	STRATEGY_SMALL, /* a small request, to a small device (lane.h); no plan of this file's */
};

/* "A", "B", "C", "small" */
const char *strategy_name(enum strategy s);

struct plan_device {
	bool present; /* configured */
	bool ready;
	int64_t window; /* tokens of one slot, 0 unknown */
	int slots;
	double prefill_tok_s, decode_tok_s; /* 0 unknown */
};

struct plan_facts {
	uint64_t tokens;    /* estimate of the whole prompt */
	uint64_t counted;   /* of these, counted by the backend before; 0: none */
	int64_t max_output; /* asked for, -1 unknown */
	bool condensable;   /* the dialect and request allow a rewrite */
	bool bare;    /* a prompt for no template: shortened only where it does not fit, and without
		      notes */
	bool to_main; /* goes to a main device (a request for another device's model is never
			       condensed) */
	struct plan_device main, small;
	int64_t a_max_tokens, b_max_tokens;
	bool asked; /* these are such that a way comes out that the client asks for: plan_ask() */
	double keep_ratio_b, keep_ratio_c;
	int64_t chunk_tokens, notes_max_tokens, max_chunks;
};

struct plan {
	enum strategy strategy;
	bool condense;	  /* select and rewrite */
	bool notes;	  /* ask a device for notes as well */
	bool must_shrink; /* the original does not fit the main window */
	double keep_ratio;
	int64_t room_tokens;  /* the rewritten prompt must not be larger; 0: no bound known */
	int64_t chunk_tokens; /* of the old part, for one notes job */
	char reason[PLAN_REASON_BYTES];
};

void plan_decide(const struct plan_facts *f, struct plan *out);

/* Moves the thresholds, once f->tokens is known, so that sizes decide for that way. What cannot be rewritten, or not
 * be left as it is, goes as it would have. */
void plan_ask(struct plan_facts *f, enum strategy way);

/* Prompt tokens, by this prompt's estimate, the main device can hold beside the answer; 0 unknown.
 * Only what was not counted can be off. */
int64_t plan_room(const struct plan_facts *f);
/* The same for another text of the same conversation, its layout: that was not counted. */
int64_t plan_layout_room(const struct plan_facts *f);
/* The same once its layout was counted: by that count, and of what was as little new as in a turn. */
int64_t plan_counted_room(const struct plan_facts *f);
/* The room once the backend has refused what was taken for `sent` tokens. counted: what it found them to
 * be, of a layout, which the next one resembles; 0: it did not say, or it was another text. */
int64_t plan_room_after(const struct plan_facts *f, double sent, double counted);
/* Does the original fit the main device's window? Unknown windows fit. */
bool plan_fits(const struct plan_facts *f);

/*
 * A chunk's notes failed on the small device. True when sending the original to the main device is
 * estimated sooner than running the chunk there (chunks_left of chunk_tokens each, notes of
 * notes_max_tokens) and then the condensed prompt.
 */
bool plan_original_sooner(const struct plan_facts *f, uint64_t chunks_left, uint64_t chunk_tokens,
	uint64_t condensed_tokens, char reason[PLAN_REASON_BYTES]);

#endif
