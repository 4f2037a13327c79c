/*
 * Reading what a request asks: messages, tools and prompts of all dialects into a gen's prompt.
 */
#ifndef FAKE_ASK_H
#define FAKE_ASK_H

#include "tests/fake/engine.h"

/* The text of the last user message, or the prompt, appended to out. */
void ask_last_user_text(struct json_value body, struct buf *out);

/* The body's "stream", or its dialect's default. */
bool ask_streams(const struct request *r);

/*
 * Messages and tools. Content may be a string or an array of parts (text, image_url); images may
 * also be Ollama's. Of the other members tool_calls count as their raw text.
 */
void ask_chat(struct gen *g, struct json_value body);
/* What the chat template makes of body's messages: taken as a prompt it is the same text again.
 * close: the last turn is closed and another begun, whatever its role. */
void ask_render(struct json_value body, bool close, struct buf *out);

/* system, prompt and suffix of a completion; a prompt may be an array of strings or of
 * token ids. */
void ask_completion(struct gen *g, struct json_value body);
/* llama-server's input_prefix and input_suffix. */
void ask_infill(struct gen *g, struct json_value body);

#endif
