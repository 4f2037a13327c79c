#include "supervisor/requests/request.h"

#include "common/base/hop.h"
#include "common/base/log.h"
#include "supervisor/requests/access.h"
#include "supervisor/requests/client.h"
#include "supervisor/requests/tracing.h"

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

struct asking {
	const struct exchange *x;
	const struct key *key;
};

/* Who has a key of ours is known by its name, whichever header it stands in. */
static const char *client_header(const void *ctx, const char *name)
{
	const struct asking *a = ctx;
	if (a->key && strcasecmp(name, "Authorization") == 0)
		return a->key->name;
	if (a->key && strcasecmp(name, "X-Api-Key") == 0)
		return NULL;
	return exchange_header(a->x, name);
}

/* False: memory is out. */
static bool know_client(struct request *r)
{
	struct requests *s = r->all;
	struct access a = access_of(r->exchange, &s->config->access.keys);
	struct asking asking = {.x = r->exchange, .key = a.key};
	r->own_headers = a.own;
	r->client =
		client_key(s->client_secret, exchange_peer(r->exchange), client_header, &asking);
	if (!a.key)
		return true;
	r->caller = callers_get(&s->callers, a.key);
	if (r->caller)
		callers_begin(r->caller, a.key);
	return r->caller != NULL;
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
	r->holds = 1;
	if (!ops->aside && !know_client(r)) {
		free(r);
		return NULL;
	}
	request_new_id(s, r->id);
	exchange_set_context(x, r);
	TAILQ_INSERT_TAIL(&s->list, r, link);
	s->active++;
	if (ops->aside)
		return r;
	log_step("request_begin", LOG_STR("req", r->id), LOG_STR("method", exchange_method(x)),
		LOG_SLICE("path", exchange_path(x)), LOG_STR("key", request_key(r)), LOG_END);
	return r;
}

static uint64_t wall_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

void request_remember(struct request *r)
{
	struct record *it = history_begin(&r->all->history, r->id, r->begun_ms, wall_ms());
	if (!it)
		return;
	it->dialect = r->dialect;
	record_text(it->method, sizeof(it->method), slice_str(exchange_method(r->exchange)));
	record_text(it->path, sizeof(it->path), exchange_path(r->exchange));
	record_text(it->key, sizeof(it->key), slice_str(request_key(r)));
	r->record = it;
	steps_enter(&it->steps, STEP_READ, NULL, r->begun_ms);
	tracing_begin(r);
}

void request_remembered(struct request *r, const struct measure *m)
{
	if (!r->record)
		return;
	if (r->exchange)
		r->record->status = exchange_status(r->exchange);
	r->record->trace.state = r->trace.state;
	r->trace.state = NULL;
	history_end(&r->all->history, r->record, m, now_ms());
	r->record = NULL;
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
	request_remembered(r, &(struct measure){.way = MEASURE_NO_WAY, .outcome = r->outcome});
	TAILQ_REMOVE(&s->list, r, link);
	s->active--;
	free(r->forwarded);
	free(r->trace.state);
	if (r->caller)
		callers_release(r->caller, &s->config->access.keys);
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

static void name_request(struct exchange *x, enum dialect d, const char *request_id)
{
	const char *header = dialect_request_id(d);
	char id[sizeof(DIALECT_ID_BEGIN) + REQUEST_ID_BYTES];
	if (!header)
		return;
	snprintf(id, sizeof(id), DIALECT_ID_BEGIN "%s", request_id);
	exchange_add_header(x, header, slice_str(id));
}

void request_name(struct request *r)
{
	name_request(r->exchange, r->dialect, r->id);
}

static void answer_error(struct exchange *x, enum dialect d, const struct request_story *story,
	int status, const char *message, int retry_after_s)
{
	struct buf own, body;
	buf_init(&own, 0);
	buf_init(&body, 0);
	status = dialect_status(d, status);
	dialect_error_body(d, status, slice_str(message), &own);
	dialect_error_name(d, buf_slice(&own), story->id, &body);
	buf_free(&own);
	name_request(x, d, story->id);
	request_tell(x, story);
	if (retry_after_s > 0) {
		char seconds[16];
		snprintf(seconds, sizeof(seconds), "%d", retry_after_s);
		exchange_add_header(x, "Retry-After", slice_str(seconds));
	}
	exchange_reply(x, status, "application/json", buf_slice(&body));
	buf_free(&body);
}

#define REFUSED_STORY "refused by the gateway"

void request_refuse(struct request *r, int status, const char *message, int retry_after_s)
{
	struct request_story story = {.id = r->id,
		.strategy = "pass",
		.tokens_in = r->tokens_in,
		.reason = REFUSED_STORY};
	answer_error(r->exchange, r->dialect, &story, status, message, retry_after_s);
}

void request_turn_away(struct requests *s, struct exchange *x, enum dialect d, int status,
	const char *message, int retry_after_s)
{
	char id[REQUEST_ID_BYTES];
	request_new_id(s, id);
	struct request_story story = {.id = id, .strategy = "pass", .reason = REFUSED_STORY};
	answer_error(x, d, &story, status, message, retry_after_s);
}

void request_count(struct request *r, enum measure_outcome o)
{
	struct counters *count = &r->all->count;
	r->outcome = o;
	count->refused += o == MEASURE_REFUSED;
	count->cancelled += o == MEASURE_CANCELLED;
	count->failed += o == MEASURE_FAILED;
}

/* 422: workers died of it. */
void request_count_error(struct request *r, int status)
{
	if (status == REQUEST_CANCELLED_STATUS)
		request_count(r, MEASURE_CANCELLED);
	else if (status >= 400 && status < 500 && status != 422)
		request_count(r, MEASURE_REFUSED);
	else
		request_count(r, MEASURE_FAILED);
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
	       !slice_ieq(name, SLICE("x-tandem-class")) &&
	       !slice_ieq(name, SLICE("x-tandem-route")) && !slice_ieq(name, SLICE(BENCH_HEADER));
}

struct forwarding {
	struct proto_job *job;
	bool unpacked;
	unsigned own; /* headers for us alone: access.h */
	const struct request *request;
	struct slice connection; /* names further headers of this hop alone (RFC 9110 7.6.1) */
};

static bool forward_header(void *ctx, const char *name, const char *value)
{
	struct forwarding *f = ctx;
	struct proto_job *job = f->job;
	if (f->unpacked && strcasecmp(name, "content-encoding") == 0)
		return true;
	if (forwarded(slice_str(name)) && !tracing_sets(f->request, slice_str(name)) &&
		!access_hides(f->own, slice_str(name)) &&
		!slice_lists(f->connection, slice_str(name)))
		job->headers[job->header_count++] =
			(struct proto_header){slice_str(name), slice_str(value)};
	return true;
}

const char *request_wish(const struct request *r)
{
	bool own = r->caller && r->caller->class[0];
	return own ? r->caller->class : exchange_header(r->exchange, "X-Tandem-Class");
}

const char *request_authorization(const struct request *r)
{
	bool own = r->own_headers & ACCESS_AUTHORIZATION;
	return own ? NULL : exchange_header(r->exchange, "Authorization");
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
	job->headers = r->forwarded = calloc(count + 2, sizeof(*r->forwarded));
	if (!r->forwarded)
		return -ENOMEM;
	const char *connection = exchange_header(r->exchange, "Connection");
	struct forwarding f = {.job = job,
		.unpacked = r->unpacked,
		.own = r->own_headers,
		.request = r,
		.connection = slice_str(connection ? connection : "")};
	exchange_each_header(r->exchange, forward_header, &f);
	if (job->header_count + 2 <= PROTO_JOB_HEADERS_MAX)
		job->header_count += tracing_headers(r, r->forwarded + job->header_count);
	return 0;
}
