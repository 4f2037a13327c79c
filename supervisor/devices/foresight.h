/*
 * What is known of a device for predictions: its rates (predict.h) and its prefix caches
 * (prefix.h), asked before a request goes and taught when it has ended.
 *
 * llama-server says how much of a prompt was cached. Ollama does not: where a warm and a cold
 * prefill would take clearly different times, the time that it reports tells which it was.
 *
 * Pure; owns the map. Times are ms, tokens the backend's.
 */
#ifndef TANDEM_FORESIGHT_H
#define TANDEM_FORESIGHT_H

#include "proto/proto.h"
#include "supervisor/devices/predict.h"
#include "supervisor/devices/prefix.h"
#include "supervisor/devices/saved.h"

struct foresight {
	struct predict_rates rates;
	struct prefix_map *map; /* NULL: memory was out; nothing is known of caches */
	double swap_ms;		/* to move one token's cache between slot and memory; < 0: not seen
				   yet */
	struct saved saved;	/* conversations in files */
	bool no_host_cache;	/* the backend is started so: a prompt that left its slot is gone */
};

/* Of one request. */
struct forecast {
	struct prefix_match match;
	double ms;	       /* to its first token, without the queue */
	uint64_t id;	       /* of the map, once sent; 0: none */
	uint64_t conversation; /* that it goes on with, or begins; 0: it has no chain */
	uint64_t kept;	       /* of what was restored, or is to be, this one begins it; 0: none */
	double kept_tokens;    /* ... with so many tokens, of which the answer's count must tell */
	bool restore;	       /* ... and it must be read back first: ms has that */
};

/* What came of it; < 0: unknown. */
struct outcome {
	double prompt, cached, output; /* tokens */
	double prompt_ms;	       /* prefill of what was not cached */
	double first_ms; /* from the job's start to its first token, loading of a model excluded */
	double behind;	 /* tokens of the prompt that stand behind its chain's; never unknown */
};

void foresight_init(struct foresight *f, unsigned slots);
void foresight_fini(struct foresight *f);
/* Its backend has so many slots from now on. */
void foresight_slots(struct foresight *f, unsigned slots);

/* What the device's backend does with prompts that leave their slot (prefix_puts_aside()). */
void foresight_puts_aside(struct foresight *f, double similarity);

/* What it takes to move so many tokens' cache between a slot and the backend's memory. */
double foresight_swap_ms(const struct foresight *f, double tokens);

struct forecast foresee(const struct foresight *f, const struct prefix_chain *c);
/* What a job says of the conversation and of what is restored for it. */
void forecast_ask(const struct forecast *fc, struct proto_job *job);
/* It is being sent (prefix_sent()). */
void foresight_sent(struct foresight *f, struct forecast *fc, struct prefix_chain *c);
/* It has ended well. Returns how many of its tokens were cached, as far as that can be told; < 0:
 * it cannot. */
double foresight_ended(struct foresight *f, const struct forecast *fc, const struct outcome *o);
/*
 * It was ended early. begun: its answer had begun, so that all of the prompt was read. Else nobody
 * says how far the backend came, and only what was there before counts: a prompt that is believed
 * to be cached and is not costs more than one that is read sooner than expected.
 */
void foresight_cancelled(struct foresight *f, const struct forecast *fc, bool begun);
/* A slot holds it since the backend's start: what is asked next may find it there, until the slots have
 * had others. */
void foresight_loaded(struct foresight *f, struct saved_chat *e);
/* The backend has lost its caches. */
void foresight_forget(struct foresight *f);

/* Does the backend use a prefix again? False once its counts have shown that it does not (hybrid
 * models, sliding windows): then warming is a waste. */
bool foresight_reuses(const struct foresight *f);

#endif
