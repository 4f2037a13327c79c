/*
 * Escapes in the paths of requests, as backends read them before they look for a handler: "%41",
 * and "%u0041", which the library of llama-server knows as well. Who compares a path with those of
 * a backend must see through both.
 */
#ifndef TANDEM_PERCENT_H
#define TANDEM_PERCENT_H

#include <stddef.h>

/* Bytes of the escape at p, or 0 when there is none; *value: the code that it stands for. */
size_t percent_escape(const char *p, const char *end, unsigned *value);

#endif
