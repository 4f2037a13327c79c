/* The monotonic clock that libuv's timers go by, in ms. */
#ifndef TANDEM_NOW_H
#define TANDEM_NOW_H

#include <stdint.h>
#include <time.h>

static inline uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

#endif
