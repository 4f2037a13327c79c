/* What models have taught: for each a factor a class, and how sure it is. */
#include "common/tokens.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define NAME_BYTES_MAX 512 /* longer names are no model's */

/* Deviations: of a report around a perfect estimate, as a share and in tokens; what a factor may
 * drift between two lessons; and the doubt that a report beyond TOKENS_TRUST raises at most. */
#define NOISE_SHARE 0.04
#define NOISE_TOKENS 8.0
#define DRIFT 0.01
#define DOUBT_MAX 0.5

#define COVARIANCE_MAX 100.0 /* of what is loaded */

static const struct {
	double rate;  /* tokens a unit */
	double doubt; /* standard deviation of the factor before the first lesson */
	double small; /* the factor where the vocabulary is a small one */
} start[TOKEN_CLASSES] = {
	[TOKEN_MESSAGE] = {5.0, 0.5, 1.0},
	[TOKEN_WORD] = {0.85, 0.25, 0.88},
	[TOKEN_LETTER] = {0.082, 0.35, 1.7},
	[TOKEN_ACCENT] = {0.32, 1.0, 4.0},
	[TOKEN_NOISE] = {0.73, 0.15, 1.15},
	[TOKEN_DIGIT] = {0.96, 0.3, 1.3},
	[TOKEN_PUNCT] = {0.43, 0.3, 1.4},
	[TOKEN_BREAK] = {1.4, 0.3, 0.9},
	[TOKEN_CYRILLIC] = {0.36, 0.7, 1.87},
	[TOKEN_GREEK] = {0.65, 0.7, 1.67},
	[TOKEN_SEMITIC] = {0.43, 0.8, 2.5},
	[TOKEN_INDIC] = {0.58, 0.9, 2.4},
	[TOKEN_HAN] = {0.75, 0.7, 1.8},
	[TOKEN_KANA] = {0.54, 0.9, 2.5},
	[TOKEN_HANGUL] = {0.80, 1.0, 2.55},
	[TOKEN_SIGN] = {1.2, 0.5, 1.5},
	[TOKEN_EMOJI] = {1.9, 0.6, 1.2},
	[TOKEN_OTHER] = {1.5, 0.7, 1.0},
};

struct entry {
	struct slice name; /* owned */
	double factor[TOKEN_CLASSES];
	double covariance[TOKEN_CLASSES][TOKEN_CLASSES];
	uint64_t used; /* tick of the last lesson */
};

struct tokens {
	struct entry *entries[TOKENS_MODELS_MAX]; /* owned */
	size_t count;
	uint64_t tick;
};

struct tokens *tokens_create(void)
{
	return calloc(1, sizeof(struct tokens));
}

static void entry_free(struct entry *e)
{
	free((char *)e->name.p);
	free(e);
}

void tokens_destroy(struct tokens *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->count; i++)
		entry_free(t->entries[i]);
	free(t);
}

static struct entry *find(const struct tokens *t, struct slice model)
{
	for (size_t i = 0; i < t->count; i++)
		if (slice_ieq(t->entries[i]->name, model))
			return t->entries[i];
	return NULL;
}

static double sum(const struct token_census *c, const double *factor)
{
	double n = (double)c->images * TOKENS_PER_IMAGE;
	for (size_t i = 0; i < TOKEN_CLASSES; i++)
		n += (double)c->chars[i] * start[i].rate * (factor ? factor[i] : 1.0);
	return n;
}

double token_census_start(const struct token_census *c)
{
	return sum(c, NULL);
}

double tokens_of(const struct tokens *t, struct slice model, const struct token_census *c)
{
	const struct entry *e = find(t, model);
	return sum(c, e ? e->factor : NULL);
}

uint64_t tokens_estimate(const struct tokens *t, struct slice model, const struct token_census *c)
{
	double n = ceil(tokens_of(t, model, c));
	return n < 1 ? 1 : n < 0x1p62 ? (uint64_t)n : UINT64_C(1) << 62;
}

static struct entry *entry_create(struct slice model)
{
	struct entry *e = calloc(1, sizeof(*e));
	char *name = slice_dup(model);
	if (!e || !name) {
		free(e);
		free(name);
		return NULL;
	}
	e->name = (struct slice){name, model.n};
	for (size_t i = 0; i < TOKEN_CLASSES; i++) {
		e->factor[i] = 1;
		e->covariance[i][i] = start[i].doubt * start[i].doubt;
	}
	return e;
}

/* A fresh entry, in a free place or that of the one taught longest ago. NULL when memory is out. */
static struct entry *add(struct tokens *t, struct slice model)
{
	struct entry *e = entry_create(model);
	if (!e)
		return NULL;
	size_t at = 0;
	if (t->count < TOKENS_MODELS_MAX) {
		at = t->count++;
	} else {
		for (size_t i = 1; i < t->count; i++)
			if (t->entries[i]->used < t->entries[at]->used)
				at = i;
		entry_free(t->entries[at]);
	}
	t->entries[at] = e;
	return e;
}

void tokens_vocabulary(struct tokens *t, struct slice model, uint64_t entries)
{
	/* Lists may be long: nobody is forgotten for one. */
	if (entries == 0 || entries >= TOKENS_SMALL_VOCABULARY || model.n == 0 ||
		model.n > NAME_BYTES_MAX || t->count == TOKENS_MODELS_MAX || find(t, model))
		return;
	struct entry *e = add(t, model);
	for (size_t i = 0; e && i < TOKEN_CLASSES; i++)
		e->factor[i] = start[i].small;
}

/* The update of the filter: h is the start table's tokens of each class, `told` the report. */
static void lesson(struct entry *e, const double h[TOKEN_CLASSES], double told)
{
	double estimate = 0, variance, ph[TOKEN_CLASSES];
	for (size_t i = 0; i < TOKEN_CLASSES; i++)
		estimate += h[i] * e->factor[i];
	variance = pow(NOISE_SHARE * estimate, 2) + NOISE_TOKENS * NOISE_TOKENS;
	for (size_t i = 0; i < TOKEN_CLASSES; i++) {
		ph[i] = 0;
		for (size_t j = 0; j < TOKEN_CLASSES; j++)
			ph[i] += e->covariance[i][j] * h[j];
		variance += h[i] * ph[i];
	}
	double miss = told - estimate, most = TOKENS_TRUST * sqrt(variance);
	double doubt = fabs(miss) > most ? fmin(fabs(miss) / estimate, DOUBT_MAX) : 0;
	miss = fmin(fmax(miss, -most), most);
	for (size_t i = 0; i < TOKEN_CLASSES; i++) {
		double share = h[i] * e->factor[i] / estimate;
		e->factor[i] += ph[i] / variance * miss;
		for (size_t j = 0; j < TOKEN_CLASSES; j++)
			e->covariance[i][j] -= ph[i] * ph[j] / variance;
		e->covariance[i][i] = fmax(e->covariance[i][i], 0) + share * DRIFT * DRIFT +
				      share * doubt * doubt;
		e->factor[i] = fmin(fmax(e->factor[i], TOKENS_FACTOR_MIN), TOKENS_FACTOR_MAX);
	}
}

void tokens_learn(
	struct tokens *t, struct slice model, const struct token_census *c, uint64_t prompt_tokens)
{
	double h[TOKEN_CLASSES], all = 0;
	for (size_t i = 0; i < TOKEN_CLASSES; i++)
		all += h[i] = (double)c->chars[i] * start[i].rate;
	if (prompt_tokens < TOKENS_LEARN_MIN || all < 1 || c->images || model.n == 0 ||
		model.n > NAME_BYTES_MAX)
		return;
	struct entry *e = find(t, model);
	if (!e)
		e = add(t, model);
	if (!e)
		return; /* the start table serves on */
	lesson(e, h, (double)prompt_tokens);
	e->used = ++t->tick;
}

/* --- kept --- */

/* Another table of classes or rates is another format. */
struct saved {
	double rates[TOKEN_CLASSES]; /* of the start table: what the factors are of */
	double factor[TOKEN_CLASSES];
	double covariance[TOKEN_CLASSES][TOKEN_CLASSES];
};

struct slice tokens_model(const struct tokens *t, size_t i)
{
	return i < t->count ? t->entries[i]->name : (struct slice){0};
}

int tokens_save(const struct tokens *t, struct slice model, struct buf *out)
{
	const struct entry *e = find(t, model);
	struct saved s;
	if (!e)
		return -ENOENT;
	for (size_t i = 0; i < TOKEN_CLASSES; i++)
		s.rates[i] = start[i].rate;
	memcpy(s.factor, e->factor, sizeof(s.factor));
	memcpy(s.covariance, e->covariance, sizeof(s.covariance));
	return buf_add(out, &s, sizeof(s));
}

static bool is_sane(const struct saved *s)
{
	for (size_t i = 0; i < TOKEN_CLASSES; i++) {
		if (s->rates[i] != start[i].rate || !(s->factor[i] >= TOKENS_FACTOR_MIN) ||
			!(s->factor[i] <= TOKENS_FACTOR_MAX) || !(s->covariance[i][i] >= 0))
			return false;
		for (size_t j = 0; j < TOKEN_CLASSES; j++)
			if (!(fabs(s->covariance[i][j]) <= COVARIANCE_MAX))
				return false;
	}
	return true;
}

bool tokens_load(struct tokens *t, struct slice model, struct slice saved)
{
	struct saved s;
	if (saved.n != sizeof(s) || model.n == 0 || model.n > NAME_BYTES_MAX)
		return false;
	memcpy(&s, saved.p, sizeof(s));
	struct entry *e = is_sane(&s) ? find(t, model) : NULL;
	if (!e && is_sane(&s))
		e = add(t, model);
	if (!e)
		return false;
	memcpy(e->factor, s.factor, sizeof(s.factor));
	memcpy(e->covariance, s.covariance, sizeof(s.covariance));
	e->used = ++t->tick;
	return true;
}
