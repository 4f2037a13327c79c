/*
 * llama-server's kept streams (docs/protocols.md#kept-streams): a stream that is asked for with a
 * conversation's name goes into a ring as well, is generated to its end whoever leaves, and is given
 * again from any byte that the ring holds.
 */
#ifndef FAKE_STREAMS_H
#define FAKE_STREAMS_H

#include "tests/fake/fake.h"

#define STREAM_RING_BYTES (4u << 20)
#define STREAM_KEEP_S 300 /* after its end */

/* r asks for a stream by name, if it does: it is kept from now on. */
void streams_keep(struct request *r);
/* r is over: it was a kept stream's, or read one, or neither. */
void streams_over(struct request *r);
size_t streams_count(const struct fake *f);

/* GET and DELETE of /v1/stream. */
void streams_get(struct request *r);
void streams_delete(struct request *r);

#endif
