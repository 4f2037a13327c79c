/*
 * Measuring a device (`tandemctl bench`): an order over the stats socket, which its owner alone can
 * give, makes a ticket; chats that show it (X-Tandem-Bench) go to that device, unchanged, past keys,
 * and stand in nobody's way: they run only where nothing else does, and end as soon as any other
 * work comes. Nothing is learned of them but how fast the device is.
 *
 * One ticket at a time: a newer order ends the older one's. Pure but for the random bytes of a
 * ticket. Times are now_ms()'s.
 */
#ifndef TANDEM_REQUESTS_BENCH_H
#define TANDEM_REQUESTS_BENCH_H

#include "common/config/config.h"

#include <stdint.h>

#define BENCH_HEADER "X-Tandem-Bench"
#define BENCH_TICKET_BYTES 33 /* 128 bits as hex digits */
#define BENCH_SECONDS_MAX 3600

/* What a chat with a ticket is told, besides what other chats are: 409 both, to be tried again. */
#define BENCH_BUSY_TEXT "other work is under way on this device; it comes first"
#define BENCH_YIELDED_TEXT "other work has come"

struct bench {
	char ticket[BENCH_TICKET_BYTES]; /* "": none */
	char device[CONFIG_NAME_BYTES];
	uint64_t until_ms;
};

/* A new ticket for that device. 0, or -EAGAIN: there is no randomness yet. */
int bench_order(struct bench *b, const char *device, uint64_t until_ms);

/* The device that a request with this header is for; NULL: the ticket is none, or over. */
const char *bench_device(const struct bench *b, const char *header, uint64_t now);

#endif
