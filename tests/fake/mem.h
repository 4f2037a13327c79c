/*
 * Allocation for a test tool: out of memory ends the process with a message, never a null pointer.
 */
#ifndef FAKE_MEM_H
#define FAKE_MEM_H

#include <stdio.h>
#include <stdlib.h>

static inline void *mem_grow(void *p, size_t n)
{
	p = realloc(p, n);
	if (!p) {
		fputs("fake-backend: out of memory\n", stderr);
		exit(70);
	}
	return p;
}

static inline void *mem_zalloc(size_t n)
{
	void *p = calloc(1, n);

	if (!p) {
		fputs("fake-backend: out of memory\n", stderr);
		exit(70);
	}
	return p;
}

#endif
