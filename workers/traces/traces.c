#include "workers/traces/traces.h"

#include "common/base/log_loop.h"
#include "common/base/log_out.h"
#include "workers/traces/sender.h"
#include "workers/worker.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_BYTES 65536

struct traces {
	uv_loop_t loop;
	uv_pipe_t in, out;
	uv_timer_t last;
	uv_signal_t term;
	struct buf line; /* what is not whole yet */
	bool told, ends; /* the settings are there; nothing more comes */
	struct traces_settings settings;
	struct traces_headers headers;
	struct sender *sender;
	char piece[READ_BYTES];
	enum worker_code code;
};

/* --- the end --- */

static void end(struct traces *t, enum worker_code code)
{
	if (uv_is_closing((uv_handle_t *)&t->last))
		return;
	t->code = code;
	if (t->sender)
		sender_destroy(t->sender);
	t->sender = NULL;
	uv_close((uv_handle_t *)&t->in, NULL);
	uv_close((uv_handle_t *)&t->last, NULL);
	uv_close((uv_handle_t *)&t->term, NULL);
	log_loop_stop();
	/* What was counted last is written before it closes. */
	if (!uv_is_closing((uv_handle_t *)&t->out) &&
		uv_stream_get_write_queue_size((uv_stream_t *)&t->out) == 0)
		uv_close((uv_handle_t *)&t->out, NULL);
}

static void on_last(uv_timer_t *timer)
{
	end(timer->data, WORKER_EXIT_OK);
}

static void on_empty(void *ctx)
{
	end(ctx, WORKER_EXIT_OK);
}

static void finish(struct traces *t)
{
	if (t->ends)
		return;
	t->ends = true;
	uv_read_stop((uv_stream_t *)&t->in);
	if (!t->sender) {
		end(t, WORKER_EXIT_OK);
		return;
	}
	uv_timer_start(&t->last, on_last, (uint64_t)t->settings.last_ms, 0);
	sender_finish(t->sender);
}

/* --- what is counted --- */

struct report {
	uv_write_t write;
	struct traces *traces;
	char text[80];
};

static void on_written(uv_write_t *w, int status)
{
	struct report *r = w->data;
	struct traces *t = r->traces;
	(void)status; /* nobody listens any more: so be it */
	free(r);
	if (uv_is_closing((uv_handle_t *)&t->last) && !uv_is_closing((uv_handle_t *)&t->out) &&
		uv_stream_get_write_queue_size((uv_stream_t *)&t->out) == 0)
		uv_close((uv_handle_t *)&t->out, NULL);
}

static void on_counted(void *ctx, const struct sender_counts *c)
{
	struct traces *t = ctx;
	struct report *r = calloc(1, sizeof(*r));
	if (!r || uv_is_closing((uv_handle_t *)&t->out)) {
		free(r);
		return;
	}
	int n = snprintf(r->text, sizeof(r->text), "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", c->sent,
		c->rejected, c->dropped);
	uv_buf_t buf = uv_buf_init(r->text, (unsigned)n);
	r->traces = t;
	r->write.data = r;
	if (uv_write(&r->write, (uv_stream_t *)&t->out, &buf, 1, on_written))
		free(r);
}

/* --- what comes --- */

static const struct sender_events sender_events = {.counted = on_counted, .empty = on_empty};

/* The first line. False: the process ends. */
static bool begin(struct traces *t, struct slice line)
{
	struct buf why;
	buf_init(&why, 256);
	bool good = traces_settings_read(&t->settings, line) == 0;
	if (good) {
		log_init("tandem-worker", "traces", t->settings.log_level, t->settings.log_format,
			false);
		log_out_size((size_t)t->settings.log_buffer_bytes);
	}
	if (good && t->settings.headers_file &&
		headers_read(&t->headers, t->settings.headers_file, &why)) {
		log_line(LOG_ERROR, "traces_headers", LOG_STR("file", t->settings.headers_file),
			LOG_STR("why", buf_cstr(&why)), LOG_END);
		good = false;
	}
	buf_free(&why);
	if (good &&
		sender_create(&t->loop, &t->settings, &t->headers, &sender_events, t, &t->sender)) {
		end(t, WORKER_EXIT_MEMORY);
		return false;
	}
	if (!good) {
		end(t, WORKER_EXIT_ACK);
		return false;
	}
	/* The longest piece that is queued at all, its number and its end. */
	t->line.max = (size_t)t->settings.queue_bytes + 32 + READ_BYTES; /* a piece behind a line */
	t->told = true;
	return true;
}

static void take(struct traces *t, struct slice line)
{
	char *end_of_number = NULL;
	const char *space = line.n ? memchr(line.p, ' ', line.n) : NULL;
	unsigned long spans = space ? strtoul(line.p, &end_of_number, 10) : 0;
	if (spans == 0 || end_of_number != space) {
		log_line(LOG_ERROR, "traces_line", LOG_STR("why", "it has no number of spans"),
			LOG_END);
		return;
	}
	size_t skip = (size_t)(space - line.p) + 1;
	sender_add(t->sender, (unsigned)spans, (struct slice){line.p + skip, line.n - skip});
}

static void take_lines(struct traces *t)
{
	size_t from = 0;
	const char *line_end;
	while (!t->ends && !uv_is_closing((uv_handle_t *)&t->last) && from < t->line.n &&
		(line_end = memchr(t->line.p + from, '\n', t->line.n - from))) {
		struct slice line = {t->line.p + from, (size_t)(line_end - t->line.p) - from};
		from += line.n + 1;
		if (t->told)
			take(t, line);
		else if (!begin(t, line))
			return;
	}
	buf_drop(&t->line, from);
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *buf)
{
	struct traces *t = h->data;
	(void)hint;
	*buf = uv_buf_init(t->piece, sizeof(t->piece));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct traces *t = stream->data;
	if (n < 0) {
		finish(t);
		return;
	}
	if (buf_add(&t->line, buf->base, (size_t)n)) {
		log_line(LOG_ERROR, "traces_line", LOG_STR("why", "it is too long"), LOG_END);
		end(t, WORKER_EXIT_LINK);
		return;
	}
	take_lines(t);
}

static void on_term(uv_signal_t *signal, int number)
{
	(void)number;
	finish(signal->data);
}

/* --- life --- */

static int open_all(struct traces *t)
{
	uv_loop_t *loop = &t->loop;
	if (uv_loop_init(loop) || curl_global_init(CURL_GLOBAL_SSL))
		return WORKER_EXIT_MEMORY;
	uv_pipe_init(loop, &t->in, 0);
	uv_pipe_init(loop, &t->out, 0);
	uv_timer_init(loop, &t->last);
	uv_signal_init(loop, &t->term);
	t->in.data = t->out.data = t->last.data = t->term.data = t;
	uv_signal_start(&t->term, on_term, SIGTERM);
	log_loop_start(loop);
	if (uv_pipe_open(&t->in, STDIN_FILENO) || uv_pipe_open(&t->out, STDOUT_FILENO))
		return WORKER_EXIT_USAGE;
	return uv_read_start((uv_stream_t *)&t->in, on_alloc, on_read) ? WORKER_EXIT_USAGE
								       : WORKER_EXIT_OK;
}

int traces_run(void)
{
	static struct traces t;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN); /* the supervisor decides what it means */
	log_init("tandem-worker", "traces", LOG_INFO, LOG_LOGFMT, false);
	buf_init(&t.line, TRACES_SETTINGS_BYTES);
	int rc = open_all(&t);
	if (rc) {
		fprintf(stderr, "tandem-worker --traces is started by tandemd\n");
		return rc;
	}
	uv_run(&t.loop, UV_RUN_DEFAULT);
	uv_loop_close(&t.loop);
	traces_settings_fini(&t.settings);
	headers_fini(&t.headers);
	buf_free(&t.line);
	curl_global_cleanup();
	return t.code;
}
