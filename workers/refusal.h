/*
 * Error bodies of backends: what they say, and whether they mean "the prompt does not fit". Pure.
 * Shapes: Ollama {"error":"..."}, llama-server {"error":{"message":...,"type":...}}, and Ollama
 * around a llama-server's, as a string (protocols.md 1.2, 1.11, 2.5).
 */
#ifndef TANDEM_WORKERS_REFUSAL_H
#define TANDEM_WORKERS_REFUSAL_H

#include "common/buf.h"

#include <stdint.h>

#define REFUSAL_TEXT_BYTES 512

struct refusal {
	char text[REFUSAL_TEXT_BYTES]; /* whole UTF-8; never empty */
	bool overflow;
	int64_t prompt_tokens, window_tokens; /* of an overflow; 0 unknown */
};

void refusal_read(int status, struct slice body, struct refusal *out);

#endif
