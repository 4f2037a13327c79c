#include "supervisor/requests/request.h"

#include "common/base/hop.h"
#include "common/base/log.h"
#include "supervisor/requests/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* --- life --- */

void request_new_id(struct requests *s, char id[REQUEST_ID_BYTES])
{
	snprintf(id, REQUEST_ID_BYTES, "%06llx-%llx",
		(unsigned long long)(s->started_ms & 0xffffff),
		(unsigned long long)++s->next_request);
}

static const char *client_header(const void *x, const char *name)
{
	return exchange_header(x, name);
}

struct request *request_create(struct requests *s, struct exchange *x, enum dialect d,
	const struct request_ops *ops, size_t size)
{
	struct request *r = calloc(1, size);
	if (!r)
		return NULL;
	r->all = s;
	r->exchange = x;
	r->ops = ops;
	r->dialect = d;
	r->begun_ms = now_ms();
	r->client = client_key(s->client_secret, exchange_peer(x), client_header, x);
	r->holds = 1;
	request_new_id(s, r->id);
	exchange_set_context(x, r);
	TAILQ_INSERT_TAIL(&s->list, r, link);
	s->active++;
	log_step("request_begin", LOG_STR("req", r->id), LOG_STR("method", exchange_method(x)),
		LOG_SLICE("path", exchange_path(x)), LOG_END);
	return r;
}

void request_hold(struct request *r)
{
	r->holds++;
}

void request_release(struct request *r)
{
	if (--r->holds > 0)
		return;
	struct requests *s = r->all;
	TAILQ_REMOVE(&s->list, r, link);
	s->active--;
	free(r->forwarded);
	r->ops->destroy(r);
	devices_sweep(s->devices);
	s->events->over(s->ctx);
}

/* --- answers every kind gives --- */

void request_tell(struct exchange *x, const struct request_story *story)
{
	char tokens[64];
	snprintf(tokens, sizeof(tokens), "in=%llu sent=%llu", (unsigned long long)story->tokens_in,
		(unsigned long long)story->tokens_sent);
	exchange_add_header(x, "X-Tandem-Request-Id", slice_str(story->id));
	exchange_add_header(x, "X-Tandem-Strategy", slice_str(story->strategy));
	exchange_add_header(x, "X-Tandem-Tokens", slice_str(tokens));
	exchange_add_header(x, "X-Tandem-Reason", slice_str(story->reason));
}

void request_name(struct request *r)
{
	const char *header = dialect_request_id(r->dialect);
	char id[sizeof(DIALECT_ID_BEGIN) + REQUEST_ID_BYTES];
	if (!header)
		return;
	snprintf(id, sizeof(id), DIALECT_ID_BEGIN "%s", r->id);
	exchange_add_header(r->exchange, header, slice_str(id));
}

void request_refuse(struct request *r, int status, const char *message, int retry_after_s)
{
	struct buf own, body;
	buf_init(&own, 0);
	buf_init(&body, 0);
	status = dialect_status(r->dialect, status);
	dialect_error_body(r->dialect, status, slice_str(message), &own);
	dialect_error_name(r->dialect, buf_slice(&own), r->id, &body);
	buf_free(&own);
	request_name(r);
	request_tell(r->exchange, &(struct request_story){.id = r->id,
					  .strategy = "pass",
					  .tokens_in = r->tokens_in,
					  .reason = "refused by the gateway"});
	if (retry_after_s > 0) {
		char seconds[16];
		snprintf(seconds, sizeof(seconds), "%d", retry_after_s);
		exchange_add_header(r->exchange, "Retry-After", slice_str(seconds));
	}
	exchange_reply(r->exchange, status, "application/json", buf_slice(&body));
	buf_free(&body);
}

/* 422: workers died of it. */
void request_count_error(struct requests *s, int status)
{
	if (status == REQUEST_CANCELLED_STATUS)
		s->count.cancelled++;
	else if (status >= 400 && status < 500 && status != 422)
		s->count.refused++;
	else
		s->count.failed++;
}

bool request_may_hold(const struct requests *s, size_t held, size_t n)
{
	return held + n <= REQUEST_SMALL_BYTES ||
	       s->held_bytes + n <= (size_t)s->config->limits.body_total_bytes;
}

/* --- headers --- */

static bool forwarded(struct slice name)
{
	return !hop_header(name) && !hop_client_side(name) &&
	       !slice_ieq(name, SLICE("x-tandem-class"));
}

struct forwarding {
	struct proto_job *job;
	bool unpacked;
	struct slice connection; /* names further headers of this hop alone (RFC 9110 7.6.1) */
};

static bool forward_header(void *ctx, const char *name, const char *value)
{
	struct forwarding *f = ctx;
	struct proto_job *job = f->job;
	if (f->unpacked && strcasecmp(name, "content-encoding") == 0)
		return true;
	if (forwarded(slice_str(name)) && !slice_lists(f->connection, slice_str(name)))
		job->headers[job->header_count++] =
			(struct proto_header){slice_str(name), slice_str(value)};
	return true;
}

static bool count_header(void *ctx, const char *name, const char *value)
{
	(void)name, (void)value;
	++*(size_t *)ctx;
	return true;
}

int request_forward_headers(struct request *r, struct proto_job *job)
{
	size_t count = 0;
	exchange_each_header(r->exchange, count_header, &count);
	job->header_count = 0;
	free(r->forwarded);
	job->headers = r->forwarded = calloc(count + 1, sizeof(*r->forwarded));
	if (!r->forwarded)
		return -ENOMEM;
	const char *connection = exchange_header(r->exchange, "Connection");
	struct forwarding f = {.job = job,
		.unpacked = r->unpacked,
		.connection = slice_str(connection ? connection : "")};
	exchange_each_header(r->exchange, forward_header, &f);
	return 0;
}
