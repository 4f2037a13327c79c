#include "supervisor/requests/scrape.h"

#include "supervisor/requests/request.h"

#include <stdlib.h>

/* Prometheus' text format, exposition version 0.0.4. */
#define SCRAPE_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct scrape {
	struct request base;
	bool over;
};

static size_t scrape_body(struct request *r, const char *p, size_t n)
{
	(void)r, (void)p;
	return n; /* a question without one; what comes is thrown away */
}

static void scrape_body_end(struct request *r)
{
	request_hold(r);
	r->all->events->scrape(r->all->ctx, r);
}

static void scrape_sent(struct request *r, size_t n)
{
	(void)r, (void)n;
}

static void scrape_gone(struct request *r)
{
	((struct scrape *)r)->over = true;
}

static void scrape_cancel(struct request *r)
{
	struct scrape *c = (struct scrape *)r;
	if (c->over)
		return;
	c->over = true;
	request_refuse(r, REQUEST_CANCELLED_STATUS, REQUEST_CANCELLED_TEXT, 0);
}

static void scrape_destroy(struct request *r)
{
	r->all->scrapes--;
	free(r);
}

static const struct request_ops scrape_ops = {.body = scrape_body,
	.body_end = scrape_body_end,
	.sent = scrape_sent,
	.gone = scrape_gone,
	.cancel = scrape_cancel,
	.destroy = scrape_destroy};

void scrape_begin(struct requests *s, struct exchange *x)
{
	if (s->scrapes >= (unsigned)s->config->metrics.readers)
		exchange_reply(x, 503, "text/plain; charset=utf-8",
			SLICE("too many read at once; metrics.readers is reached\n"));
	else if (request_create(s, x, DIALECT_OPENAI_OTHER, &scrape_ops, sizeof(struct scrape)))
		s->scrapes++;
	else
		exchange_reply(x, 503, "text/plain; charset=utf-8", SLICE("out of memory\n"));
}

bool scrape_wanted(const struct request *r)
{
	return !((const struct scrape *)r)->over;
}

void scrape_answer(struct request *r, struct slice text)
{
	struct scrape *c = (struct scrape *)r;
	if (!c->over && text.n)
		exchange_reply(r->exchange, 200, SCRAPE_TYPE, text);
	else if (!c->over)
		exchange_reply(
			r->exchange, 503, "text/plain; charset=utf-8", SLICE("out of memory\n"));
	c->over = true;
	request_release(r);
}
