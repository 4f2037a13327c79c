/*
 * What a worker says of itself with every heartbeat (PONG and STATS), and the sums of it over all
 * incarnations of a device: counters survive a worker's death.
 */
#ifndef TANDEM_REPORT_H
#define TANDEM_REPORT_H

#include "proto/proto.h"

/* Of one incarnation. */
struct report {
	uint64_t begun_ms;	   /* process started; monotonic */
	uint64_t heard_ms;	   /* last heartbeat; 0: none yet */
	uint64_t progress, active; /* of the last heartbeat: what has moved, jobs open */
	uint64_t jobs_done, jobs_failed, bytes_in, bytes_out, rss_bytes;
};

/* Of a device: every incarnation up to its last heartbeat. Bytes of bodies in, of answers out. */
struct report_sums {
	uint64_t heartbeats, bytes_in, bytes_out;
};

void report_begin(struct report *r, uint64_t now_ms);
/* A PONG or STATS record; anything else is ignored. */
void report_take(struct report *r, struct report_sums *sums, const struct proto_record *record,
	uint64_t now_ms);

#endif
