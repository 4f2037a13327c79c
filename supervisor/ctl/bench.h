/*
 * The parts of `tandemctl bench`: a device is measured with made-up prompts that go through
 * tandemd's own front door, with a ticket of the stats socket (requests/bench.h).
 *
 *   bench.c          options, the ticket, the order of things
 *   bench_ask.c      one request over HTTP (libcurl)
 *   bench_text.c     made-up prompts, each of which begins like no other
 *   bench_measure.c  depths: reading, writing, first tokens
 *   bench_routes.c   what each route would cost, by the server's own word (X-Tandem-Explain)
 *   bench_reload.c   what a reload costs
 *   bench_print.c    the tables, and the JSON
 *   bench_say.c      what is under way, and the time that is left for it
 *
 * Times are ms of the monotonic clock unless named otherwise; tokens the backend's. Everything
 * blocks, until the deadline at the most.
 */
#ifndef TANDEM_CTL_BENCH_H
#define TANDEM_CTL_BENCH_H

#include "supervisor/ctl/ctl.h"

#define BENCH_ROWS_MAX 12
#define BENCH_SIZES 3 /* 2K, 8K, 32K */
#define BENCH_ROUTES (2 * BENCH_SIZES)
#define BENCH_WHY_BYTES 256

/* One depth; < 0: not known. */
struct bench_row {
	int64_t tokens;	    /* of the cold prompt */
	double prompt_ms;   /* that the backend read it in */
	double span_tok_s;  /* over what the depth before did not have */
	double first_ms;    /* cold: from the request to the first token */
	int64_t warm_new;   /* tokens that the next turn has more */
	double warm_ms;	    /* its first token */
	double foretold_ms; /* ... as tandemd would have predicted it */
	double write_tok_s;
};

struct bench_route {
	int64_t size; /* tokens, about */
	bool session; /* else one question about a text */
	char goes[24];
	double tokens, sent; /* estimates of tandemd */
	bool fits;	     /* the original does */
	double original_ms;  /* with nothing cached; < 0: it does not fit, or no rates are known */
	double sent_ms;
	char why[BENCH_WHY_BYTES];
};

struct bench_reload {
	bool done;
	char how[32]; /* "restart", "unload and load" */
	double ms;
	double save_ms, restore_ms; /* < 0: none was */
	int64_t slots, bytes;
	double after_ms;	   /* first token of the next turn of a conversation of before */
	char why[BENCH_WHY_BYTES]; /* it was not done */
};

struct bench_asked {
	const char *device; /* NULL: the first main one */
	long seconds;
	bool reload, json;
};

struct benching {
	struct ctl *ctl;
	struct bench_asked asked;
	void *http; /* a curl handle */
	char ticket[64], device[64], shown_model[128], url[192];
	struct buf model; /* as it is asked for */
	int64_t window;	  /* 0: unknown */
	bool main, backend_ours;
	char backend[32];
	int64_t begun_ms, deadline_ms;
	double chars_a_token;
	uint64_t random; /* state of made-up text */
	bool told_wait;
	long wait_ms; /* before the last try of a row of them; 0: the first */
	struct bench_row row[BENCH_ROWS_MAX];
	size_t rows;
	struct bench_route route[BENCH_ROUTES];
	size_t routes;
	struct bench_reload reload;
	double read_before, write_before, read_after, write_after; /* learned rates, tokens/s */
	char stopped[BENCH_WHY_BYTES];				   /* why there is not more; "" */
};

/* --- bench_text.c --- */

/* A prompt of about so many tokens, as "messages":[...]; the next one begins otherwise. `turns`: 1
 * the prompt, 2 with an answer and a next question behind it, 3 and one more. */
struct bench_prompt {
	struct buf text;
	size_t chars;
};

void bench_prompt_make(struct benching *b, struct bench_prompt *p, int64_t tokens);
void bench_prompt_put(const struct bench_prompt *p, int turns, struct buf *body);
/* An agent's session of about so many tokens. */
void bench_session_put(struct benching *b, int64_t tokens, struct buf *body);

/* --- bench_ask.c --- */

enum bench_end {
	BENCH_DONE,
	BENCH_BUSY, /* other work came first: try again */
	BENCH_LATE, /* the time was over */
	BENCH_FAILED,
};

struct bench_answer {
	double first_ms, total_ms; /* since it was sent */
	int64_t prompt_tokens, output_tokens;
	double prompt_ms, output_ms; /* the backend's; < 0: it does not say */
	struct buf body;	     /* all of it, where it was asked for */
	char error[BENCH_WHY_BYTES];
};

enum ctl_exit bench_http_begin(struct benching *b);
void bench_http_end(struct benching *b);
/* A body that begins with the model and ends with what put() adds. */
void bench_body_begin(const struct benching *b, struct buf *body);
/* One request. explain: nothing is answered, *a's body is what would be done. a->body is the
 * caller's, and cleared first. */
enum bench_end bench_ask(struct benching *b, const char *path, const struct buf *body, bool explain,
	struct bench_answer *a);
/* Waits a moment before the next try, and says once that it does. False: the time is over. */
bool bench_wait(struct benching *b);

/* --- the rest --- */

/* Fills rows until the window or the time is at its end. */
enum bench_end bench_measure(struct benching *b);
/* Fills routes. */
enum bench_end bench_routes(struct benching *b);
void bench_reload_measure(struct benching *b);
void bench_print(struct benching *b);
void bench_print_json(struct benching *b);

/* --- bench_say.c --- */

double bench_clock_ms(void);
int64_t bench_now_ms(void);
/* Left of the time; 0: over. */
int64_t bench_left_ms(const struct benching *b);
/* Says on stderr, where that is a terminal, what is under way. */
void bench_progress(const struct benching *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Says on stderr. */
void bench_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
