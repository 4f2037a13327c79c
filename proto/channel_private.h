/*
 * Private to proto/: what channel.c (records out and in) and channel_life.c (opening and closing)
 * share.
 */
#ifndef TANDEM_CHANNEL_PRIVATE_H
#define TANDEM_CHANNEL_PRIVATE_H

#include "proto/channel.h"
#include "proto/link.h"

/* A frame that nng had no room for. */
struct waiting {
	struct waiting *next;
	nng_msg *message;
};

enum channel_life {
	CHANNEL_OPEN,
	CHANNEL_SETTLING,    /* hanging up: letting sends of the last moment end */
	CHANNEL_CLOSING_OUT, /* a thread closes the way out */
	CHANNEL_LINGERING,   /* hung up; waiting for the peer to do so */
	CHANNEL_HOLDING,     /* it does not: making the way in quiet */
	CHANNEL_CLOSING,     /* a thread closes all that is open */
};

struct channel {
	struct link link;
	struct channel_options options;
	const struct channel_events *events;
	void *ctx;
	bool supervisor;

	uv_poll_t readable;
	/* Polled only while frames wait: nng's SENDFD is readable nearly always. */
	uv_poll_t writable;
	uv_async_t wake;
	/*
	 * Active while something is to be done before the loop polls again: a started frame, an
	 * error to tell. An active idle handle also keeps the loop from sleeping, whichever handle
	 * of this turn put the record.
	 */
	uv_idle_t soon;
	uv_timer_t timer; /* of the closing */
	int handles;

	struct proto_writer writer;
	struct proto_reader *reader;
	struct waiting *first, **last;
	size_t waiting_bytes;
	bool was_full; /* somebody waits for room() */

	int error;
	char what[128];
	bool error_told, joined_told, gone_told;
	bool reading;
	struct channel_counts counts;

	enum channel_life life;
	bool closed; /* by its owner: no callback comes any more */
	uv_thread_t thread;
	atomic_bool thread_done;
};

void channel_on_readable(uv_poll_t *handle, int status, int events);
void channel_on_wake(uv_async_t *handle);
/* Forgets the frames that wait. */
void channel_drop_waiting(struct channel *c);
/* The loop was woken while the channel hangs up or closes. */
void channel_go_on_closing(struct channel *c);

static inline bool channel_closed(const struct channel *c)
{
	return c->closed;
}

#endif
