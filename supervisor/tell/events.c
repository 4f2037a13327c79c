#include "supervisor/tell/events.h"

#include "common/base/json.h"
#include "common/base/log.h"
#include "supervisor/tell/pub.h"
#include "supervisor/tell/recent.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct events {
	struct pub *pub;
	struct recent recent;
	uint64_t seq;
	events_ear_fn *ear; /* NULL: none */
	void *ear_ctx;
};

static void put_text(struct buf *b, const char *key, const char *value)
{
	json_put_key(b, key);
	json_put_string(b, slice_str(value));
}

static void put_field(struct buf *b, const struct log_field *f)
{
	json_put_key(b, f->key);
	switch (f->type) {
	case LOG_F_STR:
	case LOG_F_SLICE:
		json_put_string(b, f->text);
		return;
	case LOG_F_INT:
		json_put_int(b, f->number);
		return;
	case LOG_F_MS:
		if (isfinite(f->real) && fabs(f->real) < 1e15) {
			buf_printf(b, "%.1f", f->real);
			return;
		}
		break;
	case LOG_F_END:
		break;
	}
	buf_add_str(b, "null");
}

static void put_head(struct buf *b, enum log_level level, const char *event)
{
	char now[LOG_TIME_BYTES];
	log_time(now);
	put_text(b, "time", now);
	put_text(b, "level", log_level_name(level));
	put_text(b, "event", event);
}

static void on_step(
	void *ctx, enum log_level level, const char *event, const struct log_field *fields)
{
	struct events *e = ctx;
	struct buf b;
	bool heard = e->ear && e->ear(e->ear_ctx, NULL);
	e->seq++;
	if (pub_subscribers(e->pub) == 0 && e->recent.max_bytes == 0 && !heard)
		return;
	buf_init(&b, 0);
	buf_add_char(&b, '{');
	json_put_key(&b, "seq");
	json_put_int(&b, (int64_t)e->seq);
	put_head(&b, level, event);
	for (const struct log_field *f = fields; f->type != LOG_F_END; f++)
		put_field(&b, f);
	buf_add_char(&b, '}');
	struct slice text = buf_slice(&b);
	if (buf_error(&b) == 0) {
		pub_send(e->pub, text);
		recent_add(&e->recent, text);
		if (heard)
			e->ear(e->ear_ctx, &text);
	}
	buf_free(&b);
}

static void lost_text(void *ctx, uint64_t count, struct buf *out)
{
	(void)ctx;
	buf_add_char(out, '{');
	put_head(out, LOG_WARN, "lost");
	json_put_key(out, "count");
	json_put_int(out, (int64_t)count);
	buf_add_char(out, '}');
}

int events_start(
	uv_loop_t *loop, const char *path, const struct events_limits *l, struct events **out)
{
	struct events *e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	int rc = pub_start(loop, path, l->queue_bytes, lost_text, NULL, &e->pub);
	if (rc) {
		free(e);
		return rc;
	}
	recent_init(&e->recent, l->recent_bytes);
	log_set_sink(on_step, e);
	*out = e;
	return 0;
}

void events_limit(struct events *e, const struct events_limits *l)
{
	pub_set_queue_bytes(e->pub, l->queue_bytes);
	recent_limit(&e->recent, l->recent_bytes);
}

void events_recent(const struct events *e, const char *request, struct buf *out)
{
	recent_put(&e->recent, request, out);
}

void events_hear(struct events *e, events_ear_fn *ear, void *ctx)
{
	e->ear = ear;
	e->ear_ctx = ctx;
}

void events_stop(struct events *e)
{
	log_set_sink(NULL, NULL);
	pub_stop(e->pub);
	recent_fini(&e->recent);
	free(e);
}

struct events_counts events_counts(const struct events *e)
{
	return (struct events_counts){
		.events = e->seq, .lost = pub_lost(e->pub), .subscribers = pub_subscribers(e->pub)};
}
