/*
 * Between http.c (the multi handle and what is called), http_turn.c (between curl's calls),
 * http_socket.c (its sockets in the loop), http_deadline.c, http_key.c, http_transfer.c and
 * http_answer.c (one transfer). Nobody else includes this.
 */
#ifndef TANDEM_WORKERS_HTTP_INTERNAL_H
#define TANDEM_WORKERS_HTTP_INTERNAL_H

#include "workers/http/http.h"

#include <curl/curl.h>

enum transfer_life {
	TRANSFER_RUNS,
	TRANSFER_DOOMED, /* cancelled from within curl: released as soon as curl returns */
	TRANSFER_ENDS,	 /* done() is being called: there is nothing left to cancel */
};

enum transfer_hold {
	HOLD_RECEIVER = 1, /* who gets it wants nothing now */
	HOLD_TURN = 2,	   /* others have their turn first */
};

struct http_transfer {
	struct http_transfer *prev, *next; /* in http.active, or next alone in http.idle */
	struct http *http;
	CURL *easy;
	const struct http_events *events;
	void *ctx;

	struct curl_slist *slist; /* request headers */
	struct curl_slist
		*last;	   /* of them: curl_slist_append() would walk the whole list each time */
	struct buf line;   /* request target with the prefix */
	struct buf head;   /* answer headers: "name: value\n" each */
	struct buf upload; /* queued by http_send(), taken from upload_at on */
	size_t upload_at;
	bool upload_end;
	unsigned sends; /* how often curl has begun to send the request */

	int status;
	enum transfer_life life;
	unsigned held;	   /* enum transfer_hold: why no body is taken now */
	int curl_paused;   /* what curl was told of it: CURLPAUSE_RECV; CURLPAUSE_SEND: no upload */
	size_t turn_bytes; /* received since others had their turn */
	bool head_done;	   /* head() was called */
	bool attention;	   /* curl_easy_pause() is due at the next turn */
	char error[CURL_ERROR_SIZE];

	uint64_t started_ms, last_ms; /* loop time */
	int64_t idle_ms, total_ms, first_ms;
	bool early_head;
};

struct http {
	uv_loop_t *loop;
	CURLM *multi;
	uv_timer_t curl_timer;	      /* what CURLMOPT_TIMERFUNCTION asks for */
	uv_timer_t sweep;	      /* the earliest idle or total deadline */
	uv_idle_t wake;		      /* something needs attention at the next turn */
	uint64_t sweep_at;	      /* loop time it is armed for; 0: not */
	unsigned handles;	      /* uv handles not yet closed */
	struct http_socket **sockets; /* by descriptor; NULL where none is watched */
	size_t socket_room;
	int64_t connect_ms;
	char *origin;	      /* "http://host:port/" */
	char *prefix;	      /* "/prefix" or "" */
	struct http_key *key; /* NULL: none */
	char *ca_file;	      /* NULL: the system's */
	struct http_transfer *active, *idle;
	unsigned idle_count;
	unsigned in_curl; /* curl is on the stack: it may not be entered again */
	bool attention;	  /* some transfer is doomed or needs curl_easy_pause() */
	bool closing;
	uint64_t last_byte_ms;
	uint64_t waits; /* sweeps that found a transfer which may be silent */
};

/* http_key.c */
struct http_key *http_key_create(const char *path);
void http_key_destroy(struct http_key *k);
/* The value of an Authorization header, fresh. NULL: http_key_words() says why. */
const char *http_key_header(struct http_key *k);
const char *http_key_words(const struct http_key *k);
/* Of a caller's header: it would tell, or contradict, who asks. */
bool http_key_hides(struct slice name);

/* http_deadline.c: looks at the transfer's deadlines in time. */
void http_watch_deadlines(struct http_transfer *t);
/* http_turn.c: takes it out of curl; the connection closes unless the answer was complete. */
void http_transfer_remove(struct http_transfer *t);
/* It is over, whatever curl thinks. */
void http_transfer_finish(struct http_transfer *t, enum http_result result);

/* Runs curl for what happened on a socket, or CURL_SOCKET_TIMEOUT; then delivers what is done. */
void http_act(struct http *h, curl_socket_t fd, int events);

/* Of one transfer, before the rest of the loop has its turn: curl reads on for as long as the
 * socket has something, and a fast backend's answer of 15 MB would be one turn. */
#define HTTP_TURN_BYTES (1u << 20)
/* The transfer goes on in the next turn. */
void http_yield(struct http_transfer *t);

/* CURLMOPT_SOCKETFUNCTION, CURLOPT_OPENSOCKETFUNCTION and CURLOPT_CLOSESOCKETFUNCTION; ctx is the
 * http. */
int http_socket_watch(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx);
curl_socket_t http_socket_open(void *ctx, curlsocktype purpose, struct curl_sockaddr *address);
int http_socket_close(void *ctx, curl_socket_t fd);

/* A transfer from the pool or a new one; NULL when memory is out. */
struct http_transfer *transfer_get(struct http *h);
/* Resets it into the pool (or frees it). It must be out of the multi handle. */
void transfer_put(struct http_transfer *t);
void transfer_free(struct http_transfer *t);

/* Sets every curl option of this request. 0, -EINVAL or -ENOMEM. */
int transfer_setup(struct http_transfer *t, const struct http_request *r);

/* Applies pause state to curl; only when curl is not on the stack. */
void transfer_apply_pause(struct http_transfer *t);

/* curl's verdict in our words. */
enum http_result transfer_result(CURLcode code);

/*
 * Has doomed and paused transfers looked at when curl is off the stack, at the latest in the next
 * turn.
 */
void http_need_attention(struct http *h);

#endif
