/*
 * The OpenAI API as llama-server has it and as others have it: the same bodies but for a few members.
 *
 * Private to common/dialect/, between back_llama.c and back_openai.c.
 */
#ifndef TANDEM_DIALECT_BACK_OPENAI_H
#define TANDEM_DIALECT_BACK_OPENAI_H

#include "common/dialect/back.h"

struct openai_manner {
	/* Beside the names that all of them have for a sampler. */
	const struct back_sampler *samplers;
	size_t sampler_count;
	/* Appends what turns thinking on or off, or sets its effort. */
	void (*put_think)(struct back_work *w);
	/* Appends the format of an answer to a plain prompt. */
	void (*put_prompt_format)(struct back_work *w);
	bool infills; /* a prompt may have a suffix */
};

/* back_dialect.build */
int back_openai_build(struct back_work *w, const struct openai_manner *m);

/* The format as response_format. */
void back_openai_put_format(struct back_work *w);
/* back_dialect.notes */
void back_openai_put_notes(int64_t max_tokens, int64_t num_ctx, struct buf *out);

#endif
