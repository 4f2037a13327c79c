#include "supervisor/tell/traces.h"

#include "common/base/json.h"
#include "common/base/log.h"
#include "supervisor/tell/otlp.h"
#include "supervisor/tell/tell.h"
#include "supervisor/tell/traces_process.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct traces {
	struct tell *tell;
	struct traces_process_list all;
	struct traces_process *now; /* NULL: none */
	uv_timer_t again;
	uint64_t delay_ms; /* before the next start */
	struct traces_counts counts;
	struct buf settings; /* that it was started with */
};

/* --- what it is told --- */

static const struct config *config_of(const struct traces *t)
{
	return t->tell->requests->config;
}

static void put_text(struct buf *b, const char *key, const char *text)
{
	if (!text)
		return;
	json_put_key(b, key);
	json_put_string(b, slice_str(text));
}

static void put_number(struct buf *b, const char *key, int64_t n)
{
	json_put_key(b, key);
	json_put_int(b, n);
}

/* A file that is another one by now makes other settings. */
static void put_file(struct buf *b, const char *key, const char *changed, const char *path)
{
	struct stat st;
	if (!path)
		return;
	put_text(b, key, path);
	if (stat(path, &st) == 0)
		put_number(
			b, changed, (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
}

/* workers/traces/settings.h */
static void put_settings(const struct config *c, struct buf *b)
{
	char host[256] = "";
	gethostname(host, sizeof(host) - 1);
	buf_add_char(b, '{');
	put_text(b, "endpoint", c->traces.endpoint);
	put_file(b, "headers_file", "headers_changed_ns", c->traces.headers_file);
	put_file(b, "ca_file", "ca_changed_ns", c->traces.ca_file);
	json_put_key(b, "resource");
	otlp_resource(TANDEM_VERSION, host, getpid(), b);
	put_number(b, "connect_ms", c->deadlines.backend_connect_ms);
	put_number(b, "timeout_ms", c->traces.timeout_ms);
	put_number(b, "delay_ms", c->traces.delay_ms);
	put_number(b, "batch_spans", c->traces.batch_spans);
	put_number(b, "queue_bytes", c->traces.queue_bytes);
	put_number(b, "last_ms", TRACES_LAST_MS);
	put_number(b, "log_level", c->log.level);
	put_number(b, "log_format", c->log.format);
	put_number(b, "log_buffer_bytes", c->log.buffer_bytes);
	buf_add_str(b, "}\n");
}

static const char *provider(const void *ctx, const char *device)
{
	const struct config_device *d = config_device(ctx, device);
	return d ? backend_type_name(d->backend.type) : NULL;
}

static bool is_recorded(const struct traces *t, const struct record *r)
{
	return t && r->trace.on && r->trace.at.sampled && config_of(t)->traces.endpoint;
}

/* text: "N SPANS\n" */
static void give(struct traces *t, size_t spans, const struct buf *text)
{
	t->counts.spans += spans;
	if (!t->now || buf_error(text) ||
		!traces_process_give(
			t->now, buf_slice(text), spans, (size_t)config_of(t)->traces.queue_bytes))
		t->counts.dropped += spans;
}

static void put(struct traces *t, const struct record *r, const struct step *late)
{
	const struct config *c = config_of(t);
	struct otlp_facts facts = {
		.tls = c->listen.certificate != NULL, .provider = provider, .ctx = c};
	struct buf spans, line;
	buf_init(&spans, (size_t)c->traces.queue_bytes);
	buf_init(&line, (size_t)c->traces.queue_bytes + 32);
	size_t n = late ? otlp_late_span(r, late, &facts, &spans) : otlp_spans(r, &facts, &spans);
	buf_printf(&line, "%zu ", n);
	buf_add_slice(&line, buf_slice(&spans));
	buf_add_char(&line, '\n');
	if (buf_error(&spans))
		line.error = buf_error(&spans);
	give(t, n, &line);
	buf_free(&spans);
	buf_free(&line);
}

void traces_put(struct traces *t, const struct record *r)
{
	if (is_recorded(t, r))
		put(t, r, NULL);
}

void traces_put_late(struct traces *t, const struct record *r, const struct step *late)
{
	if (is_recorded(t, r))
		put(t, r, late);
}

/* --- its process --- */

static void start(struct traces *t);

static void on_again(uv_timer_t *timer)
{
	start(timer->data);
}

static void start_later(struct traces *t, uint64_t lived_ms)
{
	const struct config *c = config_of(t);
	if (lived_ms >= (uint64_t)c->backoff.max_ms || t->delay_ms == 0)
		t->delay_ms = (uint64_t)c->backoff.first_ms;
	else if (t->delay_ms * 2 <= (uint64_t)c->backoff.max_ms)
		t->delay_ms *= 2;
	else
		t->delay_ms = (uint64_t)c->backoff.max_ms;
	uv_timer_start(&t->again, on_again, t->delay_ms, 0);
}

static void on_told(void *ctx, enum traces_fate what, uint64_t spans)
{
	struct traces_counts *c = &((struct traces *)ctx)->counts;
	switch (what) {
	case TRACES_SENT:
		c->sent += spans;
		break;
	case TRACES_REJECTED:
		c->rejected += spans;
		break;
	default:
		c->dropped += spans;
	}
}

static bool on_exited(void *ctx, struct traces_process *p, uint64_t lived_ms)
{
	struct traces *t = ctx;
	if (t->now != p)
		return false;
	t->now = NULL;
	t->counts.restarts++;
	start_later(t, lived_ms);
	return true;
}

static void start(struct traces *t)
{
	static const struct traces_process_events events = {.told = on_told, .exited = on_exited};
	int rc = traces_process_start(t->tell->life->loop, t->tell->devices->worker_path,
		buf_slice(&t->settings), &t->all, &events, t, &t->now);
	if (rc) {
		log_line(LOG_ERROR, "traces_start", LOG_STR("error", uv_strerror(rc)), LOG_END);
		start_later(t, 0);
		return;
	}
	log_line(LOG_INFO, "traces_start", LOG_STR("endpoint", config_of(t)->traces.endpoint),
		LOG_INT("worker_pid", traces_process_pid(t->now)), LOG_END);
}

/* The end of its input: it sends what it has, and ends. Until then it is still listened to. */
static void let_go(struct traces *t)
{
	struct traces_process *p = t->now;
	t->now = NULL;
	uv_timer_stop(&t->again);
	t->delay_ms = 0;
	if (p)
		traces_process_let_go(p);
}

void traces_reloaded(struct traces *t)
{
	struct buf settings;
	buf_init(&settings, 0);
	if (!t)
		return;
	if (config_of(t)->traces.endpoint)
		put_settings(config_of(t), &settings);
	if (slice_eq(buf_slice(&settings), buf_slice(&t->settings)) || buf_error(&settings)) {
		buf_free(&settings);
		return;
	}
	buf_free(&t->settings);
	t->settings = settings;
	let_go(t);
	if (settings.n)
		start(t);
}

struct traces *traces_create(struct tell *tell)
{
	struct traces *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->tell = tell;
	LIST_INIT(&t->all);
	buf_init(&t->settings, 0);
	uv_timer_init(tell->life->loop, &t->again);
	t->again.data = t;
	uv_unref((uv_handle_t *)&t->again);
	traces_reloaded(t);
	return t;
}

static void on_timer_closed(uv_handle_t *h)
{
	struct traces *t = h->data;
	buf_free(&t->settings);
	free(t);
}

void traces_destroy(struct traces *t)
{
	if (!t)
		return;
	let_go(t);
	traces_process_forget_all(&t->all);
	uv_close((uv_handle_t *)&t->again, on_timer_closed);
}

struct traces_counts traces_counts(const struct traces *t)
{
	return t ? t->counts : (struct traces_counts){0};
}

int traces_pid(const struct traces *t)
{
	return t && t->now ? traces_process_pid(t->now) : 0;
}
