/*
 * The tokens of a text, each with a small number and what is known of it.
 *
 * Grows up to VOCAB_MAX tokens; later ones are not counted. Equal 64-bit hashes count as equal
 * tokens.
 */
#ifndef TANDEM_TEXT_VOCAB_H
#define TANDEM_TEXT_VOCAB_H

#include "common/base/hash.h"
#include "common/text/token.h"

#define VOCAB_MAX (1u << 20)
#define VOCAB_NONE UINT32_MAX

enum {
	VOCAB_SHAPED = 1,
	VOCAB_WHOLE = 2,   /* stands as a token of its own, not only as a part of one */
	VOCAB_AGENT = 4,   /* an agent's message has it (or, of one text, the instruction) */
	VOCAB_LIVE = 8,	   /* the verbatim part has it */
	VOCAB_SECRET = 16, /* looks like a credential */
};

struct vocab_word {
	uint64_t hash;
	const char *p; /* where it stood first */
	uint32_t n;
	uint32_t turn;	/* 1 + the newest message of the user or the agent that has it; 0: none */
	uint32_t count; /* how often it stood */
	uint8_t kind;	/* enum token_kind */
	uint8_t flags;
};

struct vocab {
	struct vocab_word *word;
	uint32_t *slot; /* 1 + index into word; 0: free */
	uint32_t n, cap, mask;
};

void vocab_fini(struct vocab *v);

/* The number of a token, new or known; VOCAB_NONE when full. -ENOMEM through *error. */
uint32_t vocab_add(struct vocab *v, const char *p, size_t n, int *error);

/* The number of a known token, else VOCAB_NONE. */
uint32_t vocab_find(const struct vocab *v, const char *p, size_t n);

#endif
