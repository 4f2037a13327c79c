#include "supervisor/requests/question.h"

size_t question_body(struct request *r, const char *p, size_t n)
{
	(void)r, (void)p;
	return n;
}

void question_sent(struct request *r, size_t n)
{
	(void)r, (void)n;
}

void question_gone(struct request *r)
{
	((struct question *)r)->over = true;
}

void question_cancel(struct request *r)
{
	if (question_wanted(r))
		request_refuse(r, REQUEST_CANCELLED_STATUS, REQUEST_CANCELLED_TEXT, 0);
	question_gone(r);
}

void question_ask(struct request *r, void (*who)(void *ctx, struct request *r))
{
	request_hold(r);
	who(r->all->ctx, r);
}

bool question_wanted(const struct request *r)
{
	return !((const struct question *)r)->over;
}

void question_over(struct request *r)
{
	question_gone(r);
	request_release(r);
}

void question_out_of_memory(struct exchange *x)
{
	exchange_reply(x, 503, QUESTION_TEXT, SLICE("out of memory\n"));
}
