/*
 * Error bodies of backends: what they say, and whether they mean "the prompt does not fit". Pure.
 * Shapes: Ollama {"error":"..."}, llama-server {"error":{"message":...,"type":...}}, and Ollama
 * around a llama-server's, as a string. Overflows are known by their type or by their words: each
 * engine has several.
 */
#ifndef TANDEM_WORKERS_REFUSAL_H
#define TANDEM_WORKERS_REFUSAL_H

#include "common/base/buf.h"

#include <stdint.h>

#define REFUSAL_TEXT_BYTES 512

struct refusal {
	char text[REFUSAL_TEXT_BYTES]; /* whole UTF-8; never empty */
	bool overflow;
	int64_t prompt_tokens, window_tokens; /* of an overflow; 0 unknown */
};

void refusal_read(int status, struct slice body, struct refusal *out);

/* The same for an error's words alone, as they come in the middle of a 200. */
void refusal_read_text(struct slice text, struct refusal *out);

#endif
