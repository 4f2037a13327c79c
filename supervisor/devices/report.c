#include "supervisor/devices/report.h"

void report_begin(struct report *r, uint64_t now_ms)
{
	*r = (struct report){.begun_ms = now_ms};
}

/* What was added since the last record. A count that falls is a worker's mistake and adds nothing.
 */
static uint64_t grown(uint64_t *last, uint64_t now)
{
	uint64_t by = now > *last ? now - *last : 0;
	*last = now;
	return by;
}

void report_take(struct report *r, struct report_sums *sums, const struct proto_record *record,
	uint64_t now_ms)
{
	if (record->type == PROTO_PONG) {
		r->heard_ms = now_ms;
		r->progress = record->u.ping.progress;
		r->active = record->u.ping.active;
		sums->heartbeats++;
	} else if (record->type == PROTO_STATS) {
		r->jobs_done = record->u.stats.jobs_done;
		r->jobs_failed = record->u.stats.jobs_failed;
		r->rss_bytes = record->u.stats.rss_bytes;
		sums->bytes_in += grown(&r->bytes_in, record->u.stats.bytes_in);
		sums->bytes_out += grown(&r->bytes_out, record->u.stats.bytes_out);
	}
}
