/*
 * The options of a llama-server that say how it holds its model. They are llama.cpp's own, as a
 * configuration, Ollama (which starts one for each model) or a user writes them; others are passed
 * over. What is not given keeps what stands there; what cannot be read is as good as not given. Pure.
 */
#ifndef TANDEM_ENGINE_ARGS_H
#define TANDEM_ENGINE_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#define ENGINE_CACHE_BYTES 16 /* "q8_0" */

struct engine_args {
	int flash;			     /* -fa: 0, 1, -1 not given or auto */
	char cache_type[ENGINE_CACHE_BYTES]; /* -ctk; "" */
	unsigned split;			     /* -ts: shares above 0; 0 */
	int64_t window, slots;		     /* -c (of all slots), -np; 0 */
	int64_t gpu_layers;		     /* -ngl; -1 */
	int port;			     /* 0 */
	bool embedding;
};

void engine_args_init(struct engine_args *a);
/* One option and the word behind it; NULL: there is none. */
void engine_args_take(struct engine_args *a, const char *option, const char *value);
/* The name of a type of cache in text, as far as it is one. */
void engine_cache_type(char out[ENGINE_CACHE_BYTES], const char *text);

#endif
