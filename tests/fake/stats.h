/*
 * What the fake backend remembers of the requests it got: counters, the log, dumped bodies.
 * Requests to /fake/ leave no trace.
 */
#ifndef FAKE_STATS_H
#define FAKE_STATS_H

#include "tests/fake/fake.h"

/* Opens --log and checks --dump. 0 or a negative errno. */
int stats_init(struct fake *f);

/* The three moments of a request. */
void stats_open(struct request *r, bool control);
void stats_body(struct request *r, struct slice piece);
void stats_close(struct request *r, enum http_end end);

/* The newest of the requests under way; its ->next is the one before. NULL: none. */
struct request *stats_under_way(const struct fake *f);

/* Sets the counters to zero; requests under way stay listed and sequence numbers go on. */
void stats_reset(struct fake *f);

/* The answer of GET /fake/stats. */
void stats_json(struct fake *f, struct buf *out);

#endif
