#include "workers/traces/sender.h"

#include "workers/http/http.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

/* Spans of one request. */
struct piece {
	STAILQ_ENTRY(piece) link;
	unsigned spans;
	size_t n;
	char text[];
};

STAILQ_HEAD(pieces, piece);

struct sender {
	uv_loop_t *loop;
	const struct traces_settings *settings;
	const struct traces_headers *headers;
	const struct sender_events *events;
	void *ctx;
	struct http *http;
	uv_timer_t timer; /* the next batch, or try */
	struct pieces waiting;
	size_t bytes, spans; /* of waiting */
	/* The batch under way; spans 0: none. */
	struct buf body;
	unsigned batch_spans, tries;
	uint64_t batch_since_ms;
	struct http_transfer *transfer;
	int status;
	struct buf answer;
	bool finishing, ailing;
	struct sender_counts counts;
};

/* --- pure --- */

uint64_t sender_pause_ms(unsigned tries, int64_t wish_s, double chance)
{
	uint64_t ms = SENDER_RETRY_FIRST_MS;
	if (wish_s > 0)
		return wish_s < SENDER_GIVE_UP_MS / 1000 ? (uint64_t)wish_s * 1000
							 : SENDER_GIVE_UP_MS;
	for (unsigned i = 1; i < tries && ms < SENDER_RETRY_MOST_MS; i++)
		ms *= 2;
	if (ms > SENDER_RETRY_MOST_MS)
		ms = SENDER_RETRY_MOST_MS;
	return ms + (uint64_t)((double)ms * chance / 5);
}

uint64_t sender_rejected(struct slice answer, struct buf *text)
{
	struct json_value root;
	struct json_error bad;
	int64_t n = 0;
	buf_clear(text);
	if (json_parse(answer, JSON_MAX_DEPTH, &root, &bad) || !json_is(root, JSON_OBJECT))
		return 0;
	struct json_value partial = json_get(root, "partialSuccess"),
			  rejected = json_get(partial, "rejectedSpans");
	char *words = json_string_dup(rejected); /* 64 bits are a string, or a number */
	if (words)
		n = strtoll(words, NULL, 10);
	else
		json_to_int(rejected, &n);
	free(words);
	json_string_decode(json_get(partial, "errorMessage"), text);
	return n > 0 ? (uint64_t)n : 0;
}

static const char *words_of(enum http_result result)
{
	switch (result) {
	case HTTP_OK:
		return "the collector does not take it";
	case HTTP_REFUSED:
		return "no connection to the collector";
	case HTTP_IDLE:
	case HTTP_TOTAL:
		return "the collector does not answer in time";
	case HTTP_CUT:
		return "the collector closed the connection";
	case HTTP_GARBAGE:
		return "the collector's answer is not HTTP";
	case HTTP_TLS:
		return "no TLS with the collector: its certificate is not trusted, or it speaks no "
		       "TLS";
	default:
		return "out of memory";
	}
}

static bool may_try_again(enum http_result result, int status)
{
	if (result != HTTP_OK)
		return result != HTTP_INTERNAL;
	return status == 429 || (status >= 502 && status <= 504);
}

/* --- batches --- */

static void look(struct sender *s);

static void on_timer(uv_timer_t *t)
{
	look(t->data);
}

static void wait_for(struct sender *s, uint64_t ms)
{
	uv_timer_start(&s->timer, on_timer, ms, 0);
}

static void told(struct sender *s)
{
	s->events->counted(s->ctx, &s->counts);
}

static void batch_over(struct sender *s)
{
	s->batch_spans = s->tries = 0;
	buf_clear(&s->body);
	wait_for(s, 0);
}

static void batch_begin(struct sender *s)
{
	struct piece *p;
	buf_clear(&s->body);
	buf_add_str(&s->body, "{\"resourceSpans\":[{\"resource\":");
	buf_add_str(&s->body, s->settings->resource);
	buf_add_str(&s->body,
		",\"scopeSpans\":[{\"scope\":{\"name\":\"tandem\",\"version\":\"" TANDEM_VERSION
		"\"},\"spans\":[");
	while ((p = STAILQ_FIRST(&s->waiting)) &&
		(s->batch_spans == 0 ||
			(s->batch_spans + p->spans <= (uint64_t)s->settings->batch_spans &&
				s->body.n + p->n <= SENDER_BATCH_BYTES))) {
		if (s->batch_spans)
			buf_add_char(&s->body, ',');
		buf_add(&s->body, p->text, p->n);
		s->batch_spans += p->spans;
		STAILQ_REMOVE_HEAD(&s->waiting, link);
		s->bytes -= p->n;
		s->spans -= p->spans;
		free(p);
	}
	buf_add_str(&s->body, "]}]}]}");
	s->batch_since_ms = uv_now(s->loop);
}

static void drop_batch(struct sender *s, const char *why)
{
	log_line(LOG_WARN, "traces_dropped", LOG_INT("spans", s->batch_spans), LOG_STR("why", why),
		LOG_INT("status", s->status), LOG_INT("tries", s->tries), LOG_END);
	s->counts.dropped += s->batch_spans;
	told(s);
	batch_over(s);
}

/* --- one try --- */

static void on_head(void *ctx, int status)
{
	struct sender *s = ctx;
	s->status = status;
}

static void on_body(void *ctx, struct slice bytes)
{
	struct sender *s = ctx;
	buf_add_slice(&s->answer, bytes); /* over its cap it is not understood */
}

static void batch_taken(struct sender *s)
{
	struct buf words;
	buf_init(&words, SENDER_ANSWER_BYTES);
	uint64_t rejected =
		buf_error(&s->answer) ? 0 : sender_rejected(buf_slice(&s->answer), &words);
	if (rejected > s->batch_spans)
		rejected = s->batch_spans;
	if (rejected || words.n)
		log_line(LOG_WARN, "traces_rejected", LOG_INT("spans", rejected),
			LOG_INT("of", s->batch_spans), LOG_SLICE("message", buf_slice(&words)),
			LOG_END);
	if (s->ailing)
		log_line(LOG_INFO, "traces_sent_again", LOG_INT("tries", s->tries), LOG_END);
	s->ailing = false;
	s->counts.rejected += rejected;
	s->counts.sent += s->batch_spans - rejected;
	buf_free(&words);
	told(s);
	batch_over(s);
}

static void batch_failed(struct sender *s, enum http_result result, int64_t wish_s)
{
	const char *why = words_of(result);
	uint32_t random = 0;
	if (!may_try_again(result, s->status)) {
		drop_batch(s, why);
		return;
	}
	uv_random(NULL, NULL, &random, sizeof(random), 0, NULL);
	uint64_t pause = sender_pause_ms(s->tries, wish_s, (double)random / UINT32_MAX);
	if (s->finishing || uv_now(s->loop) + pause - s->batch_since_ms > SENDER_GIVE_UP_MS) {
		drop_batch(s, why);
		return;
	}
	if (!s->ailing) /* once, until one gets through */
		log_line(LOG_WARN, "traces_wait", LOG_STR("why", why), LOG_INT("status", s->status),
			LOG_INT("pause_ms", pause), LOG_END);
	s->ailing = true;
	wait_for(s, pause);
}

static void on_done(void *ctx, enum http_result result)
{
	struct sender *s = ctx;
	int64_t wish_s = result == HTTP_OK ? http_retry_after_s(s->transfer) : 0;
	s->transfer = NULL;
	if (result == HTTP_OK && s->status >= 200 && s->status < 300)
		batch_taken(s);
	else
		batch_failed(s, result, wish_s);
}

static const struct http_events http_events = {.head = on_head, .body = on_body, .done = on_done};

static void send_batch(struct sender *s)
{
	struct proto_header headers[TRACES_HEADERS_MAX + 2] = {
		{SLICE("Content-Type"), SLICE("application/json")},
		{SLICE("User-Agent"), SLICE("tandem/" TANDEM_VERSION)}};
	memcpy(headers + 2, s->headers->of, s->headers->count * sizeof(*headers));
	struct http_request r = {.method = "POST",
		.target = slice_str(s->settings->target),
		.headers = headers,
		.header_count = s->headers->count + 2,
		.body = buf_slice(&s->body),
		.again = true,
		.idle_ms = s->settings->timeout_ms,
		.total_ms = s->settings->timeout_ms};
	buf_clear(&s->answer);
	s->status = 0;
	s->tries++;
	if (buf_error(&s->body) || http_start(s->http, &r, &http_events, s, &s->transfer))
		drop_batch(s, "it cannot be sent");
}

/* --- what is next --- */

static bool is_full(const struct sender *s)
{
	return s->spans >= (size_t)s->settings->batch_spans || s->bytes >= SENDER_BATCH_BYTES;
}

/* The timer says that it is time. */
static void look(struct sender *s)
{
	if (s->transfer)
		return;
	if (s->batch_spans == 0 && !STAILQ_EMPTY(&s->waiting))
		batch_begin(s);
	if (s->batch_spans)
		send_batch(s);
	else if (s->finishing)
		s->events->empty(s->ctx);
}

void sender_add(struct sender *s, unsigned spans, struct slice text)
{
	struct piece *p = NULL;
	if (s->bytes + text.n <= (size_t)s->settings->queue_bytes)
		p = malloc(sizeof(*p) + text.n);
	if (!p) {
		s->counts.dropped += spans;
		told(s);
		return;
	}
	bool first = STAILQ_EMPTY(&s->waiting);
	p->spans = spans;
	p->n = text.n;
	memcpy(p->text, text.p, text.n);
	STAILQ_INSERT_TAIL(&s->waiting, p, link);
	s->bytes += text.n;
	s->spans += spans;
	if (s->batch_spans)
		return; /* after the one under way */
	if (is_full(s))
		wait_for(s, 0);
	else if (first)
		wait_for(s, (uint64_t)s->settings->delay_ms);
}

void sender_finish(struct sender *s)
{
	s->finishing = true;
	if (!s->transfer)
		wait_for(s, 0);
}

/* --- life --- */

int sender_create(uv_loop_t *loop, const struct traces_settings *settings,
	const struct traces_headers *headers, const struct sender_events *events, void *ctx,
	struct sender **out)
{
	struct sender *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct sender){.loop = loop,
		.settings = settings,
		.headers = headers,
		.events = events,
		.ctx = ctx};
	STAILQ_INIT(&s->waiting);
	buf_init(&s->body, 0); /* one piece at least, then SENDER_BATCH_BYTES */
	buf_init(&s->answer, SENDER_ANSWER_BYTES);
	if (http_create(loop, settings->connect_ms, &s->http) ||
		http_set_secrets(s->http, NULL, settings->ca_file) ||
		http_set_base(s->http, settings->base)) {
		http_destroy(s->http);
		free(s);
		return -ENOMEM;
	}
	uv_timer_init(loop, &s->timer);
	s->timer.data = s;
	*out = s;
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	free(h->data);
}

void sender_destroy(struct sender *s)
{
	struct piece *p;
	s->counts.dropped += s->batch_spans + s->spans;
	if (s->batch_spans + s->spans)
		told(s);
	while ((p = STAILQ_FIRST(&s->waiting))) {
		STAILQ_REMOVE_HEAD(&s->waiting, link);
		free(p);
	}
	http_destroy(s->http);
	buf_free(&s->body);
	buf_free(&s->answer);
	uv_close((uv_handle_t *)&s->timer, on_closed);
}
