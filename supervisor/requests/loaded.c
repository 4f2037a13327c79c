/*
 * GET /api/ps: what is loaded, on all devices. Each ready one is asked at the same time; those that
 * fail or are slow are left out.
 *
 * What the workers pass on is a backend's own text: it is read with the parser that clients' bodies
 * go through, and only whole elements of its list are copied.
 */
#include "common/base/json.h"
#include "common/base/log.h"
#include "supervisor/devices/job.h"
#include "supervisor/requests/request.h"

#include <errno.h>
#include <stdlib.h>

#define LOADED_WAIT_MS 2000
#define LOADED_BYTES 262144 /* one device's answer; a model takes less than 1 KB */
#define LOADED_RETRY_AFTER_S 5

struct loaded;

struct loaded_part {
	struct loaded *whole;
	struct job *job; /* NULL: not asked, or over */
	struct buf body;
	bool good;
};

struct loaded {
	struct request base;
	struct loaded_part parts[CONFIG_DEVICES_MAX];
	size_t count;
	unsigned open;
	bool asking, over;
};

static void loaded_finish(struct loaded *l)
{
	l->over = true;
	for (size_t i = 0; i < l->count; i++) {
		if (l->parts[i].job)
			job_cancel(l->parts[i].job);
		l->parts[i].job = NULL;
	}
}

static void put_list(struct slice body, struct buf *out)
{
	struct json_value root, one;
	if (json_parse(body, JSON_MAX_DEPTH, &root, NULL))
		return;
	struct json_iter it = json_iter(json_get(root, "models"));
	while (json_array_next(&it, &one)) {
		if (out->p[out->n - 1] != '[')
			buf_add_char(out, ',');
		buf_add_slice(out, one.raw);
	}
}

static void answer_when_all_are_in(struct loaded *l)
{
	struct exchange *x = l->base.exchange;
	struct buf body;
	bool any = false;
	if (l->asking || l->open > 0 || l->over)
		return;
	buf_init(&body, 0);
	buf_add_str(&body, "{\"models\":[");
	for (size_t i = 0; i < l->count && !buf_error(&body); i++) {
		any = any || l->parts[i].good;
		if (l->parts[i].good)
			put_list(buf_slice(&l->parts[i].body), &body);
	}
	buf_add_str(&body, "]}");
	if (!any || buf_error(&body)) {
		request_count_error(&l->base, 503);
		request_refuse(&l->base, 503, any ? "out of memory" : "no device is available",
			LOADED_RETRY_AFTER_S);
	} else {
		request_tell(x, &(struct request_story){.id = l->base.id,
					.strategy = "pass",
					.reason = "what the devices have loaded"});
		exchange_reply(x, 200, "application/json; charset=utf-8", buf_slice(&body));
	}
	buf_free(&body);
	loaded_finish(l);
}

/* --- from the workers --- */

static void part_start(void *ctx, struct job *j, const struct proto_record *r)
{
	struct loaded_part *p = ctx;
	(void)j;
	p->good = r->u.start.status == 200;
}

static void part_delta(void *ctx, struct job *j, const struct proto_record *r)
{
	struct loaded_part *p = ctx;
	if (buf_add_slice(&p->body, r->u.delta.bytes))
		p->good = false;
	job_credit(j, r->u.delta.bytes.n);
}

static void part_over(struct loaded_part *p)
{
	p->job = NULL;
	p->whole->open--;
	answer_when_all_are_in(p->whole);
}

static void part_end(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)j, (void)r;
	part_over(ctx);
}

static void part_fail(void *ctx, struct job *j, const struct job_failure *f)
{
	struct loaded_part *p = ctx;
	(void)j, (void)f;
	p->good = false;
	part_over(p);
}

static const struct job_events part_events = {
	.start = part_start, .delta = part_delta, .end = part_end, .fail = part_fail};

/* --- from the client --- */

static size_t loaded_body(struct request *r, const char *p, size_t n)
{
	(void)r, (void)p;
	return n; /* a question without one; what comes is thrown away */
}

static void loaded_body_end(struct request *r)
{
	struct loaded *l = (struct loaded *)r;
	struct requests *s = r->all;
	struct job_spec spec = {.impatient = true, .class = CLASS_INTERACTIVE, .client = r->client};
	spec.message.kind = JOB_PASS;
	spec.message.request_id = slice_str(r->id);
	spec.message.dialect = r->dialect;
	spec.message.method = SLICE("GET");
	spec.message.path = SLICE("/api/ps");
	spec.message.timeout_ms = LOADED_WAIT_MS;
	if (request_forward_headers(r, &spec.message))
		spec.message.header_count =
			0; /* memory is short: the question stands without them */
	l->asking = true;
	for (size_t i = 0; i < s->devices->count && !l->over; i++) {
		struct loaded_part *p = &l->parts[l->count];
		*p = (struct loaded_part){.whole = l};
		buf_init(&p->body, LOADED_BYTES);
		if (job_submit(s->devices->of[i], &spec, &part_events, p, &p->job))
			continue; /* it is not ready */
		l->count++;
		l->open++;
	}
	l->asking = false;
	answer_when_all_are_in(l);
}

static void loaded_sent(struct request *r, size_t n)
{
	(void)r, (void)n;
}

static void loaded_gone(struct request *r)
{
	struct loaded *l = (struct loaded *)r;
	if (l->over)
		return;
	request_count(r, MEASURE_CANCELLED);
	loaded_finish(l);
}

static void loaded_cancel(struct request *r)
{
	struct loaded *l = (struct loaded *)r;
	if (l->over)
		return;
	request_count_error(r, REQUEST_CANCELLED_STATUS);
	request_refuse(r, REQUEST_CANCELLED_STATUS, REQUEST_CANCELLED_TEXT, 0);
	loaded_finish(l);
}

static void loaded_destroy(struct request *r)
{
	struct loaded *l = (struct loaded *)r;
	for (size_t i = 0; i < l->count; i++)
		buf_free(&l->parts[i].body);
	free(l);
}

static const struct request_ops loaded_ops = {.body = loaded_body,
	.body_end = loaded_body_end,
	.sent = loaded_sent,
	.gone = loaded_gone,
	.cancel = loaded_cancel,
	.destroy = loaded_destroy};

void loaded_begin(struct requests *s, struct exchange *x)
{
	struct request *r =
		request_create(s, x, DIALECT_OLLAMA_OTHER, &loaded_ops, sizeof(struct loaded));
	if (!r) {
		exchange_reply(x, 503, "application/json", SLICE("{\"error\":\"out of memory\"}"));
		return;
	}
	s->count.passed++;
}
