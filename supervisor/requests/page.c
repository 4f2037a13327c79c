#include "supervisor/requests/page.h"

#include "supervisor/front/origin.h"
#include "supervisor/requests/access.h"
#include "supervisor/requests/question.h"

#include <errno.h>
#include <stdlib.h>

#define END_MS 1000	 /* for what a reader has not taken yet at a stream's end, or at ours */
#define ANSWER_MS 120000 /* for any other answer */

#define PAGE_RETRY_AFTER_S 1

static const char page_prefix[] = "/ui/", api_prefix[] = "/ui/api/";

/* Nothing is loaded from elsewhere, nothing stands in the markup itself, and nobody frames it. */
#define PAGE_POLICY                                                                                \
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src "    \
	"'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "                    \
	"require-trusted-types-for 'script'"

struct page {
	struct question question;
	bool asks, streams;
	page_gone_fn *gone; /* of a stream, or of who waits; NULL: nobody is told, or was */
	void *ctx;
};

/* --- who may ask --- */

static bool begins_with(struct slice path, const char *prefix)
{
	size_t n = strlen(prefix);
	return path.n >= n && memcmp(path.p, prefix, n) == 0;
}

static void add_headers(struct exchange *x)
{
	static const struct {
		const char *name, *value;
	} headers[] = {
		{"Content-Security-Policy", PAGE_POLICY},
		{"X-Content-Type-Options", "nosniff"},
		{"X-Frame-Options", "DENY"},
		{"Referrer-Policy", "no-referrer"},
		{"Cross-Origin-Opener-Policy", "same-origin"},
		{"Cross-Origin-Resource-Policy", "same-origin"},
	};
	for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++)
		exchange_add_header(x, headers[i].name, slice_str(headers[i].value));
}

static bool is_read(const struct exchange *x)
{
	const char *method = exchange_method(x);
	return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* Who has no key may fetch files, and so takes nobody's room who has one. */
static bool is_full(struct requests *s, struct exchange *x, const struct route *route, bool asks)
{
	if (s->pages[asks] < (unsigned)s->config->limits.ui_readers)
		return false;
	request_turn_away(s, x, route->dialect, 503,
		"too many look at once; limits.ui_readers is reached", PAGE_RETRY_AFTER_S);
	return true;
}

/* True when it was refused, and answered. */
static bool refused(struct requests *s, struct exchange *x, const struct route *route, bool asks)
{
	if (!is_read(x)) {
		exchange_add_header(x, "Allow", SLICE("GET, HEAD"));
		request_turn_away(s, x, route->dialect, 405, "the page is only read", 0);
	} else if (!s->loopback && !config_has_keys(s->config)) {
		request_turn_away(s, x, route->dialect, 403,
			"where others than this machine can connect the page is there with keys "
			"only: access.key_file in tandem's configuration",
			0);
	} else if (asks && !origin_is_own(x)) {
		request_turn_away(s, x, route->dialect, 403, "only the page at /ui/ may ask", 0);
	} else {
		struct route known = *route;
		known.changes = false; /* it goes to no server */
		return (asks && access_gate(s, x, &known)) || is_full(s, x, route, asks);
	}
	return true;
}

/* --- a request --- */

/* The key was one when the head came; a reload may have come since. */
static void page_body_end(struct request *r)
{
	if (!page_may(r)) {
		exchange_add_header(
			r->exchange, "WWW-Authenticate", SLICE("Bearer realm=\"tandem\""));
		request_refuse(r, 401, "the keys are other ones now; an API key is needed here", 0);
		question_gone(r);
		return;
	}
	question_ask(r, r->all->events->page);
}

static void page_gone(struct request *r)
{
	struct page *p = (struct page *)r;
	page_gone_fn *gone = p->gone;
	question_gone(r);
	p->gone = NULL;
	if (!gone)
		return;
	gone(p->ctx);
	request_release(r);
}

static void page_cancel(struct request *r)
{
	if (!question_wanted(r))
		return;
	if (((struct page *)r)->streams)
		exchange_end_within(r->exchange, END_MS);
	else
		question_cancel(r);
	page_gone(r);
}

static void page_destroy(struct request *r)
{
	r->all->pages[((struct page *)r)->asks]--;
	free(r);
}

static const struct request_ops page_ops = {.aside = true,
	.body = question_body,
	.body_end = page_body_end,
	.sent = question_sent,
	.gone = page_gone,
	.cancel = page_cancel,
	.destroy = page_destroy};

void page_begin(struct requests *s, struct exchange *x, const struct route *route)
{
	bool asks = begins_with(exchange_path(x), api_prefix);
	add_headers(x);
	if (refused(s, x, route, asks))
		return;
	struct request *r = request_create(s, x, route->dialect, &page_ops, sizeof(struct page));
	if (!r) {
		question_out_of_memory(x);
		return;
	}
	((struct page *)r)->asks = asks;
	s->pages[asks]++;
}

/* --- answers --- */

bool page_wanted(const struct request *r)
{
	return question_wanted(r);
}

bool page_asks(const struct request *r)
{
	return ((const struct page *)r)->asks;
}

const struct key *page_key(const struct request *r)
{
	const struct keys *keys = &r->all->config->access.keys;
	return page_wanted(r) ? access_of(r->exchange, keys).key : NULL;
}

bool page_may(const struct request *r)
{
	return !page_asks(r) || !config_has_keys(r->all->config) || page_key(r);
}

struct slice page_name(const struct request *r)
{
	struct slice path = exchange_path(r->exchange);
	size_t n = strlen(page_asks(r) ? api_prefix : page_prefix);
	if (!begins_with(path, page_prefix))
		return (struct slice){0};
	return (struct slice){path.p + n, path.n - n};
}

/* Of an answer that is whole: nobody keeps his place with it for ever, nor this tandemd from ending. */
static void end_soon(struct exchange *x)
{
	exchange_end_within(x, exchange_quiesced(x) ? END_MS : ANSWER_MS);
}

/* "/ui" alone, however it is written: what the page names stands below it. */
static bool sent_on(struct request *r)
{
	struct exchange *x = r->exchange;
	if (begins_with(exchange_path(x), page_prefix))
		return false;
	exchange_add_header(x, "Location", SLICE("/ui/"));
	exchange_reply(x, 308, QUESTION_TEXT, SLICE("the page is at /ui/\n"));
	return true;
}

void page_send_file(struct request *r, const struct page_file *f)
{
	struct exchange *x = r->exchange;
	if (!page_wanted(r) || sent_on(r)) {
		question_over(r);
		return;
	}
	const char *has = exchange_header(x, "If-None-Match");
	exchange_add_header(x, "ETag", slice_str(f->etag));
	exchange_add_header(x, "Cache-Control", SLICE("no-cache"));
	if (!has || !strstr(has, f->etag))
		exchange_reply(x, 200, f->type, f->bytes);
	else
		exchange_head(x, 304, 0);
	end_soon(x);
	question_over(r);
}

bool page_wait(struct request *r, page_gone_fn *gone, void *ctx)
{
	struct page *p = (struct page *)r;
	if (!question_wanted(r)) {
		question_over(r);
		return false;
	}
	p->gone = gone;
	p->ctx = ctx;
	return true;
}

void page_answer(struct request *r, int status, struct slice json)
{
	struct exchange *x = r->exchange;
	((struct page *)r)->gone = NULL;
	if (page_wanted(r)) {
		exchange_add_header(x, "Cache-Control", SLICE("no-store"));
		if (json.n)
			exchange_reply(x, status, "application/json; charset=utf-8", json);
		else
			exchange_reply(x, 503, "application/json; charset=utf-8",
				SLICE("{\"error\":\"out of memory\"}"));
		end_soon(x);
	}
	question_over(r);
}

/* --- streams --- */

bool page_stream_begin(struct request *r, page_gone_fn *gone, void *ctx)
{
	struct page *p = (struct page *)r;
	struct exchange *x = r->exchange;
	bool wanted = question_wanted(r), head = wanted && strcmp(exchange_method(x), "HEAD") == 0;
	if (wanted) {
		exchange_add_header(x, "Content-Type", SLICE("text/event-stream"));
		exchange_add_header(x, "Cache-Control", SLICE("no-store"));
		exchange_add_header(x, "X-Accel-Buffering", SLICE("no"));
	}
	if (!wanted || exchange_head(x, 200, head ? 0 : -1) || head) {
		if (head)
			exchange_end(x);
		question_over(r);
		return false;
	}
	p->streams = true;
	p->gone = gone;
	p->ctx = ctx;
	return true;
}

int page_stream_write(struct request *r, struct slice bytes)
{
	return exchange_write(r->exchange, bytes.p, bytes.n);
}

void page_stream_end(struct request *r)
{
	((struct page *)r)->gone = NULL;
	exchange_end_within(r->exchange, END_MS);
	question_over(r);
}

/* --- all of them --- */

void page_leaving(struct requests *s)
{
	struct request *r;
	TAILQ_FOREACH(r, &s->list, link)
		if (r->ops == &page_ops && r->exchange && !question_wanted(r) &&
			exchange_status(r->exchange))
			exchange_end_within(r->exchange, END_MS);
}
