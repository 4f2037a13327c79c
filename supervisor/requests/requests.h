/*
 * The requests of clients, with what all of them share. The wing's context: its modules take it or a request
 * (request.all), and nothing above.
 *
 * Requests are listed from the exchange's head to their last reference. What is told upwards goes through
 * requests_events, given at its creation. Loop thread only; nothing blocks.
 */
#ifndef TANDEM_REQUESTS_H
#define TANDEM_REQUESTS_H

#include "common/base/histogram.h"
#include "common/base/now.h"
#include "common/config/config.h"
#include "common/layout/state.h"
#include "common/tokens.h"
#include "supervisor/devices/devices.h"
#include "supervisor/front/front.h"
#include "supervisor/requests/bench.h"
#include "supervisor/requests/callers.h"
#include "supervisor/requests/compact_key.h"
#include "supervisor/requests/contents.h"
#include "supervisor/requests/history.h"
#include "supervisor/requests/measures.h"
#include "supervisor/requests/poison.h"
#include "supervisor/requests/unread.h"

#include <sys/queue.h>
#include <uv.h>

#define STRATEGIES 4 /* A, B, C, small */

struct counters {
	uint64_t requests, failed, refused, cancelled, fallbacks, passed, coalesced, resumed;
	uint64_t by_strategy[STRATEGIES];
	uint64_t early_freezes;	   /* conversations shortened while nobody waited */
	uint64_t shortened_to_fit; /* prompts that the main device's window would not hold whole */
	uint64_t too_long;	   /* ... and that did not fit shortened either */
	uint64_t largest_prompt;   /* as its client sent it, in tokens; an estimate */
};

/* How long requests took, in ms, by way: A, B, C, small, pass. */
#define TIMED_STRATEGIES (STRATEGIES + 1)

struct times {
	struct histogram first_byte[TIMED_STRATEGIES], total[TIMED_STRATEGIES];
};

/* Routing by predicted time: the time to the first byte, by way. */
struct predictions {
	struct histogram error[STRATEGIES];   /* measured - predicted, without sign; ms */
	struct histogram percent[STRATEGIES]; /* measured of predicted; percent */
};

struct request;

struct requests_events {
	/* One has ended, and nothing refers to it: the shutdown looks whether it can go on. */
	void (*over)(void *ctx);
	/* Somebody asks for what is measured: scrape_answer(), at once or later. */
	void (*scrape)(void *ctx, struct request *r);
	/* Somebody looks at the page, or it asks for something: page_answer() and its like. */
	void (*page)(void *ctx, struct request *r);
	/* One is over, with its record; one that was has had a further step. */
	void (*recorded)(void *ctx, const struct record *r);
	void (*recorded_late)(void *ctx, const struct record *r, const struct step *it);
};

struct guardian;
struct idle_notes;
TAILQ_HEAD(request_list, request);
struct chat;
TAILQ_HEAD(chat_list, chat);

struct requests {
	uv_loop_t *loop;
	const struct config *config;
	struct devices *devices;
	struct tokens *tokens;	      /* borrowed */
	struct layout_cache *layouts; /* what was decided for earlier requests */
	struct guardian *guardian;    /* what is known of conversations; NULL: nothing */
	struct idle_notes *notes;     /* what the small devices write while nobody waits */
	const struct requests_events *events;
	void *ctx;

	struct request_list list;
	struct chat_list chats;	   /* those that a retry may join (join.h) */
	unsigned active;	   /* requests in the list */
	unsigned scrapes;	   /* of these: for /metrics */
	unsigned pages[2];	   /* ... for the page at /ui/: its files, what it asks for */
	size_t held_bytes;	   /* request bodies held in memory */
	uint64_t client_secret[2]; /* keys the hashes of clients (client.h), and of their tools */
	uint64_t next_request;
	uint64_t started_ms; /* of this tandemd */
	struct counters count;
	struct times times;
	struct predictions predictions;
	struct measures measures;
	struct history history;	  /* of each request: its steps */
	struct contents contents; /* log.content: of those that were shortened, their messages */
	struct poison poison;
	struct unread unread; /* early freezes that are being read */
	struct bench bench;   /* the ticket of an operator who measures */
	struct compact_key compact_key;
	struct callers callers; /* who has a key */
	bool loopback;		/* we listen on loopback only: Host headers are looked at */
	bool metrics_loopback;	/* ... and where metrics.address has a door of its own, there */
	bool ending;		/* no worker will come any more */
};

/* s is all zero but for what its caller has to lend: config, devices, tokens. */
void requests_init(
	struct requests *s, uv_loop_t *loop, const struct requests_events *events, void *ctx);
/* The cache of layouts, at most layout_bytes; the devices' store tells it of windows. The key of compaction
 * blocks, in state_dir. What is measured, and what else is remembered of conversations. 0 or -ENOMEM. */
int requests_open(struct requests *s, const char *state_dir, size_t layout_bytes);
void requests_free(struct requests *s);
/* The configuration is another one. */
void requests_reloaded(struct requests *s);

/* For front_start(); ctx is a struct requests. */
extern const struct front_events requests_front_events;

/* The same for a door that has nothing but /metrics. */
extern const struct front_events requests_metrics_events;

/* When the oldest one began; UINT64_MAX: there is none. */
uint64_t requests_oldest_ms(const struct requests *s);
/* Ends a client's request by its id, as if the client had left, with an error in its dialect where
 * one can still be told. True when there was one. */
bool requests_cancel(struct requests *s, const char *id);

#endif
