#include "supervisor/requests/scrape.h"

#include "supervisor/requests/question.h"

#include <stdlib.h>

/* Prometheus' text format, exposition version 0.0.4. */
#define SCRAPE_TYPE "text/plain; version=0.0.4; charset=utf-8"

static void scrape_body_end(struct request *r)
{
	question_ask(r, r->all->events->scrape);
}

static void scrape_destroy(struct request *r)
{
	r->all->scrapes--;
	free(r);
}

static const struct request_ops scrape_ops = {.body = question_body,
	.body_end = scrape_body_end,
	.sent = question_sent,
	.gone = question_gone,
	.cancel = question_cancel,
	.destroy = scrape_destroy};

void scrape_begin(struct requests *s, struct exchange *x)
{
	if (s->scrapes >= (unsigned)s->config->metrics.readers)
		exchange_reply(x, 503, QUESTION_TEXT,
			SLICE("too many read at once; metrics.readers is reached\n"));
	else if (request_create(s, x, DIALECT_OPENAI_OTHER, &scrape_ops, sizeof(struct question)))
		s->scrapes++;
	else
		question_out_of_memory(x);
}

bool scrape_wanted(const struct request *r)
{
	return question_wanted(r);
}

void scrape_answer(struct request *r, struct slice text)
{
	if (question_wanted(r) && text.n)
		exchange_reply(r->exchange, 200, SCRAPE_TYPE, text);
	else if (question_wanted(r))
		question_out_of_memory(r->exchange);
	question_over(r);
}
