/*
 * The page at /ui/, as requests: its files, what it asks for, and the streams of events that it reads. What is answered
 * is known to who stands above (requests_events.page); who may ask is decided here.
 *
 *   405  anything but GET and HEAD: the page gives no orders
 *   403  other machines can connect, and no keys are configured
 *   403  another page's script asks (origin_is_own()), whatever `origins` allows it elsewhere
 *   401  keys are configured, and none was sent: what is below /ui/api/. The files are the same for everybody and tell
 *        nothing, and a browser cannot send a key before it has them. A reload may take the key away: looked at again when the
 *        request is handed out
 *   503  limits.ui_readers others of its kind (files, questions) are under way
 *
 * Paths are taken as they are written: an escape in one names nothing.
 */
#ifndef TANDEM_PAGE_H
#define TANDEM_PAGE_H

#include "supervisor/requests/requests.h"
#include "supervisor/requests/route.h"

struct exchange;

void page_begin(struct requests *s, struct exchange *x, const struct route *route);
/* This tandemd takes its leave: who has not taken an answer within about a second loses it, and so keeps nobody from
 * ending. */
void page_leaving(struct requests *s);

/* --- for who answers; each is handed out once, held until it is answered --- */

/* Its client still waits. */
bool page_wanted(const struct request *r);
/* It asks for something, and has shown its key; else for one of the files. */
bool page_asks(const struct request *r);
/* Asks for one of the files, or with a key that still is one, where there are any. */
bool page_may(const struct request *r);
/* The key that it has shown, until the next reload; NULL: none, or nobody waits any more. */
const struct key *page_key(const struct request *r);
/* What for: "status" of "/ui/api/status?x", "app.js" of "/ui/app.js", "" of "/ui/". Borrowed from the request. */
struct slice page_name(const struct request *r);

struct page_file {
	const char *type, *etag;
	struct slice bytes; /* static */
};
/* A file, or 304 where the client has it. */
void page_send_file(struct request *r, const struct page_file *f);

/* Its client is there no more: nobody waits for the answer, or listens. r is its answerer's no more. Comes once at most,
 * and not after page_answer() or page_stream_end(). */
typedef void page_gone_fn(void *ctx);

/* Its answer comes later, and who makes it wants to know when nobody waits for it any more. False: nobody does already;
 * then it is over. */
bool page_wait(struct request *r, page_gone_fn *gone, void *ctx);
/* The whole answer, never kept by a cache. Empty: memory was out. Who does not take it within two minutes loses it, as
 * with a file. */
void page_answer(struct request *r, int status, struct slice json);

/* --- streams --- */

/* Sends the head of an endless answer, text/event-stream. False: nobody is there any more, or only the head was asked
 * for; then it is over already. */
bool page_stream_begin(struct request *r, page_gone_fn *gone, void *ctx);
/* Copies. -ENOBUFS: the client reads too slowly, limits.stream_bytes wait for it; nothing was taken. */
int page_stream_write(struct request *r, struct slice bytes);
/* Ends it; r is the stream's no more. A reader that does not take what is written within about a second loses it. */
void page_stream_end(struct request *r);

#endif
