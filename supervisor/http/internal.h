/*
 * Shared by front.c (daemon, loop, connections) and exchange.c (one request and its answer). Nobody else includes this.
 */
#ifndef TANDEM_HTTP_INTERNAL_H
#define TANDEM_HTTP_INTERNAL_H

#include "supervisor/http/front.h"

#include <microhttpd.h>
#include <sys/queue.h>

struct connection;
TAILQ_HEAD(exchange_list, exchange);

struct front {
	uv_loop_t *loop;
	struct MHD_Daemon *daemon;
	const struct front_events *events;
	void *ctx;
	size_t stream_bytes;
	int listen_fd;
	char address[80];
	uv_poll_t epoll;   /* MHD's epoll descriptor */
	uv_timer_t timer;  /* MHD's own timeouts */
	uv_check_t check;  /* runs MHD once a turn, after the turn's callbacks */
	uv_idle_t idle;    /* active while a run is pending, so that the loop does not sleep before it */
	bool pending, quiesced, stopping;
	unsigned connections;
	struct exchange_list exchanges;
	unsigned exchange_count;
};

/* A TCP connection: watches for clients that leave while MHD has it suspended. */
struct connection {
	struct front *front;
	uv_poll_t poll;
	struct exchange *current;
};

struct answer_header {
	char *name, *value;
};

#define EXCHANGE_HEADERS_MAX 64

struct exchange {
	TAILQ_ENTRY(exchange) link; /* in front.exchanges */
	struct front *front;
	struct connection *connection;
	struct MHD_Connection *mhd;
	void *context;
	char *target;       /* as sent */
	const char *method; /* MHD's, as long as the request */
	char peer[64];
	struct answer_header headers[EXCHANGE_HEADERS_MAX];
	unsigned header_count;
	int status;
	int64_t body_bytes;
	struct buf out; /* answer bytes not yet taken by MHD start at out_head */
	size_t out_head;
	uint64_t taken;      /* answer bytes taken by MHD */
	size_t discarded;    /* upload thrown away after an early answer */
	bool head_seen;      /* on_head was called */
	bool body_over;      /* on_body_end was called */
	bool answered;       /* exchange_head() was called */
	bool queued;         /* the response is MHD's */
	bool ended, aborted, gone, suspended;
};

/* Something was given to MHD: it must run before the loop sleeps. */
void front_wake(struct front *f);
/* The client of this exchange is gone. */
void exchange_lost(struct exchange *x);
/* Takes a suspended connection up again. */
void exchange_resume(struct exchange *x);

/* MHD's callbacks for requests. */
void *exchange_begin(void *cls, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result exchange_handle(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
		const char *upload, size_t *upload_size, void **context);
void exchange_completed(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode code);

#endif
