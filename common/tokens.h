/*
 * Token estimates: what a prompt will cost, before any backend has counted it.
 *
 * A *census* counts a text's units by class: words and their letters, digits, punctuation, runs of
 * white space, characters of each script. Tokens = sum over the classes of units x rate x factor.
 * The rates are the start table (fitted to real vocabularies: docs/tokens.md); the factors begin at
 * 1 and are learned per model and class from the prompt counts that backends report. So a Chinese
 * conversation teaches what Chinese costs, and nothing about English.
 *
 * The lesson is the measurement update of a Kalman filter (Simon, "Optimal State Estimation",
 * ch. 5): of the difference between report and estimate each class takes a part by its share of
 * the estimate and by how little is known of it yet. A report further off than
 * TOKENS_TRUST deviations is cut to that many and raises the doubt, so one absurd report moves an
 * experienced model by a step while a real change is followed within a few answers.
 *
 * Pure arithmetic, no I/O; nothing blocks. A struct tokens belongs to one thread.
 */
#ifndef TANDEM_TOKENS_H
#define TANDEM_TOKENS_H

#include "common/base/buf.h"

#include <stdint.h>

enum token_class {
	TOKEN_MESSAGE, /* what a chat template puts around one message */
	TOKEN_WORD,    /* words in Latin letters; an inner capital or a digit begins another one */
	TOKEN_LETTER,  /* their letters */
	TOKEN_ACCENT,  /* of these, beyond ASCII */
	TOKEN_NOISE,   /* letters and digits without words: base64, hex, ids */
	TOKEN_DIGIT,
	TOKEN_PUNCT, /* ASCII signs; repeated ones count as one eighth each */
	TOKEN_BREAK, /* runs of white space that are more than one blank */
	TOKEN_CYRILLIC,
	TOKEN_GREEK,
	TOKEN_SEMITIC, /* Hebrew, Arabic and their neighbours */
	TOKEN_INDIC,   /* the scripts of India and South East Asia */
	TOKEN_HAN,     /* with CJK punctuation and full-width forms */
	TOKEN_KANA,
	TOKEN_HANGUL,
	TOKEN_SIGN, /* typographic signs, arrows, mathematics, box drawing */
	TOKEN_EMOJI,
	TOKEN_OTHER, /* any other character, and each byte that is no UTF-8 */
	TOKEN_CLASSES
};

#define TOKENS_LEARN_MIN 256 /* reported tokens; less says too little */
#define TOKENS_PER_IMAGE 768 /* what Ollama counts */
#define TOKENS_MODELS_MAX 64 /* models remembered; the one taught longest ago is forgotten */
#define TOKENS_FACTOR_MIN 0.25
#define TOKENS_FACTOR_MAX 4.0
#define TOKENS_TRUST 3.0
#define TOKENS_SMALL_VOCABULARY 65536 /* entries: below, little beyond English has its own */

/* Units of each class. Additive: a prompt's census is the sum of its parts'. */
struct token_census {
	uint64_t chars[TOKEN_CLASSES];
	uint64_t images;
};

/* Counts a text (UTF-8; broken bytes count as TOKEN_OTHER). Time is linear in its bytes. */
void token_census_add(struct token_census *c, struct slice utf8_text);

/* Adds another one. */
void token_census_sum(struct token_census *to, const struct token_census *more);

/* Adds n messages: what the template writes around them. */
void token_census_messages(struct token_census *c, uint64_t n);

/* Tokens by the start table alone: the same on every machine and at all times. */
double token_census_start(const struct token_census *c);

struct tokens;

struct tokens *tokens_create(void); /* NULL when memory is out */
void tokens_destroy(struct tokens *t);

/* Tokens of so much text for this model (name compared without case), by what it has taught. */
double tokens_of(const struct tokens *t, struct slice model, const struct token_census *c);

/* The model's vocabulary has so many entries (0 unknown): where that is a small one and nothing has
 * been learned yet, its factors begin at what such vocabularies cost. */
void tokens_vocabulary(struct tokens *t, struct slice model, uint64_t entries);

/* A whole prompt's tokens: the above, rounded up; at least 1. */
uint64_t tokens_estimate(const struct tokens *t, struct slice model, const struct token_census *c);

/* A backend counted prompt_tokens for a prompt with this census. Prompts with images and short ones
 * teach nothing. */
void tokens_learn(
	struct tokens *t, struct slice model, const struct token_census *c, uint64_t prompt_tokens);

/* The name of the i-th model that has taught something; empty after the last one. */
struct slice tokens_model(const struct tokens *t, size_t i);

/* What a model has taught, to be kept over restarts on this machine: its bytes are appended. 0, or
 * -ENOENT: nothing, or buf's error. */
int tokens_save(const struct tokens *t, struct slice model, struct buf *out);
/* False: that is nothing that was saved; the model is as before. */
bool tokens_load(struct tokens *t, struct slice model, struct slice saved);

#endif
