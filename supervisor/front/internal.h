/*
 * Shared by the files of this folder, and nobody else. From the lowest to the highest: address.c
 * (the listening socket), pulse.c (when libmicrohttpd runs), linger.c, exchange_api.c (what the
 * supervisor asks of an exchange), by_hand.c (answers past libmicrohttpd), intake.c (what it
 * reads), exchange.c (one request and its answer), patience.c (clients that are slow), front.c
 * (daemon, loop, connections). TLS stands before it all: tls.h.
 */
#ifndef TANDEM_HTTP_INTERNAL_H
#define TANDEM_HTTP_INTERNAL_H

#include "supervisor/front/front.h"
#include "supervisor/front/inlet.h"
#include "supervisor/front/tls.h"

#include <microhttpd.h>
#include <sys/queue.h>

struct connection;
struct lingering;
TAILQ_HEAD(exchange_list, exchange);
TAILQ_HEAD(linger_list, lingering);
TAILQ_HEAD(connection_list, connection);

struct front {
	uv_loop_t *loop;
	struct MHD_Daemon *daemon;
	const struct front_events *events;
	void *ctx;
	size_t stream_bytes, header_bytes, headers_max;
	struct head_room heads;
	unsigned head_ms, body_ms, body_rate;
	unsigned connections_max;
	int listen_fd; /* -1 once quiesced */
	char address[80];
	uv_poll_t epoll;  /* MHD's epoll descriptor */
	uv_timer_t timer; /* MHD's own timeouts */
	uv_check_t check; /* runs MHD once a turn, after the turn's callbacks */
	uv_idle_t
		idle; /* active while a run is pending, so that the loop does not sleep before it */
	uv_timer_t patience; /* looks for clients that are too slow; active while there are any */
	unsigned open_handles;
	bool loopback, pending, quiesced, stopping, poke_due;
	unsigned idle_ms;
	unsigned connections;
	struct connection_list open; /* those that are watched; the one idle longest first */
	struct exchange_list exchanges;
	unsigned exchange_count;
	struct linger_list lingers;
	unsigned linger_count;
	struct tls *tls;       /* NULL: without */
	unsigned stream_count; /* of TLS, those in their handshake too */
};

#define ADDRESS_PEER_BYTES 64

/* A TCP connection: watches for clients that leave, which MHD does not while it has the connection
 * suspended or a write blocked. */
struct connection {
	TAILQ_ENTRY(connection) link; /* in front.open */
	struct front *front;
	struct MHD_Connection *mhd;
	uv_poll_t poll;
	int fd;
	char peer[ADDRESS_PEER_BYTES];
	struct tls_stream *stream; /* that this is an end of; NULL: without TLS, or it is over */
	struct exchange *current;
	struct inlet inlet;
	uint64_t idle_since_ms;		 /* its first moment, or the end of its last request */
	uint64_t head_since_ms;		 /* when the head that is coming in began; 0: none is */
	uint64_t body_since_ms, body_at; /* a window of time and its first byte: patience.c */
	bool refused; /* a fault was told to the client: nothing is read any more */
	bool poke;    /* libmicrohttpd shall read although the socket has nothing new */
	bool left;    /* the client has closed, or half-closed, its side */
	bool hurried; /* has a short timeout while it is idle: front_close_idle() */
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
	struct head *head;
	struct answer_header headers[EXCHANGE_HEADERS_MAX];
	unsigned header_count;
	int status;
	int64_t body_bytes; /* of the answer, -1 unknown */
	struct buf out;	    /* answer bytes not yet taken by MHD start at out_head */
	size_t out_head;
	uint64_t written, taken; /* answer bytes that came in, that went to MHD */
	uint64_t received;	 /* upload bytes, thrown away ones included */
	size_t discarded;	 /* upload thrown away after an early answer */
	uint64_t ended_ms;	 /* of an answer that came before the upload's end */
	uint64_t cut_ms;	 /* its client has had time for the rest of it; 0: never */
	bool begun;		 /* request line and headers are in */
	bool announced;		 /* the head event was made: gone and done will be, too */
	bool body_over;		 /* the upload is complete */
	bool body_wanted;	 /* exchange_resume_body() was called while body() runs */
	bool answered;		 /* exchange_head() was called */
	bool queued;		 /* the response is MHD's */
	bool ended;		 /* exchange_end() or exchange_abort() was called */
	bool aborted, gone, suspended;
};

/* --- address.c --- */

/* A socket that listens where the options say, or -errno with words in err. */
int address_listen(const struct front_options *o, struct buf *err);
/* Sets what the front says of its listening socket. */
void address_name(struct front *f);
/* "127.0.0.1:40000", "[::1]:40000" */
void address_peer(const struct sockaddr *a, char out[ADDRESS_PEER_BYTES]);

/* --- pulse.c --- */

/* One of the handles that the front lives for is closed: it is freed with the last one. */
void front_handle_closed(struct front *f);

/* Something was given to MHD: it must run before the loop sleeps. */
void front_wake(struct front *f);

/* A request begins: an idle connection's short timeout ends. */
void front_unhurry(struct connection *c);
/* It ends as soon as it has been idle that long. */
void front_hurry(struct connection *c, unsigned idle_ms);
/* No request has begun that is not over. */
bool front_is_idle(const struct connection *c);
/* All of limits.connections are taken. */
bool front_is_full(const struct front *f);
/* MHD counts in whole seconds. */
unsigned front_idle_seconds(unsigned idle_ms);

/* The client closed its side of this exchange's connection. */
void exchange_lost(struct exchange *x);
/* Its connection ends, whatever of the answer is still to go out; done follows. */
void exchange_cut(struct exchange *x);
/* An answer that has no body by the rules of HTTP: HEAD, 204, 304, length 0. */
bool exchange_bodyless(const struct exchange *x);
/* Takes a suspended connection up again. */
void exchange_resume(struct exchange *x);
/* Tells the supervisor of n answer bytes that are handed to the socket. */
void exchange_report_sent(struct exchange *x, size_t n);
/* The connection is closed and this exchange was never completed (MHD's own way out when memory is
 * short). */
void exchange_drop(struct exchange *x);

/* MHD's callbacks for requests. */
void *exchange_begin(void *cls, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result exchange_handle(void *cls, struct MHD_Connection *mhd, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_size,
	void **context);
void exchange_completed(void *cls, struct MHD_Connection *mhd, void **context,
	enum MHD_RequestTerminationCode code);

/*
 * intake.c: what libmicrohttpd gets when it reads from a connection's socket.
 * intake_open(): 0 or -ENOMEM; once per process. intake_add(): from now on, -EMFILE when the
 * descriptor is out of bounds.
 */
int intake_open(void);
int intake_add(struct connection *c);
void intake_remove(struct connection *c);
/* Has libmicrohttpd read once more, in the loop's next turn: data waits that no event will tell of.
 */
void intake_poke(struct connection *c);
/* Before libmicrohttpd runs. */
void intake_run_pokes(struct front *f);
/* Nothing more is read of this client: it gets this status as soon as what it asked before is
 * answered, and the connection ends. */
void intake_refuse(struct connection *c, int status, const char *text);

/* patience.c: the deadline of heads, the least rate of bodies. */
void patience_start(struct front *f);

/* What there is of the answer goes out past MHD; the connection must end after it. */
void exchange_answer_by_hand(struct exchange *x);
/* The body of this exchange's request is broken or too slow. What can still be told is told now;
 * then the connection ends. */
void exchange_refuse(struct exchange *x, int status, const char *text);
/* An early answer that waits for the rest of an upload goes out now; then the connection ends. */
void exchange_answer_now(struct exchange *x);
/* An answer of ours, past libmicrohttpd; the connection must end after it. */
void exchange_send_fault(struct connection *c, int status, const char *text);

/*
 * Keeps the socket of a connection that MHD is about to close open for a while and throws away what
 * still arrives. A close with unread bytes makes the kernel send RST, and a client in mid-upload
 * would then lose the answer it was sent (RFC 9112, 9.6).
 */
void linger_start(struct front *f, int fd);
void linger_stop_all(struct front *f);

#endif
