#include "supervisor/tell/traces.h"

#include "common/base/json.h"
#include "common/base/log.h"
#include "supervisor/tell/otlp.h"
#include "supervisor/tell/tell.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPORT_BYTES 256 /* of a line of the process */
/* For what waits when a process has to end (tandemd's own end waits for it); and for its end after that. */
#define LAST_MS 500
#define PATIENCE_MS 200
/* A process that takes nothing for so long, while there is something, is ended. */
#define STUCK_MS 30000

/* One process; it may outlive its being used. */
struct sending {
	LIST_ENTRY(sending) link;
	struct traces *traces; /* NULL: nobody wants to know of it any more */
	uv_process_t process;
	uv_pipe_t in, out; /* its stdin and stdout */
	uv_timer_t patience;
	unsigned open;		     /* handles */
	uint64_t given;		     /* spans */
	uint64_t told[3];	     /* sent, rejected, dropped */
	uint64_t begun_ms, taken_ms; /* when it took something last */
	bool exited, read_all;
	char report[REPORT_BYTES];
	size_t n;
};

LIST_HEAD(sending_list, sending);

struct traces {
	struct tell *tell;
	struct sending_list all;
	struct sending *now; /* NULL: none */
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
	put_number(b, "last_ms", LAST_MS);
	put_number(b, "log_level", c->log.level);
	put_number(b, "log_format", c->log.format);
	put_number(b, "log_buffer_bytes", c->log.buffer_bytes);
	buf_add_str(b, "}\n");
}

/* --- writing --- */

struct writing {
	uv_write_t write;
	char text[];
};

static void on_written(uv_write_t *w, int status)
{
	struct sending *s = w->handle->data;
	if (status == 0) /* else it is dead, and all is counted at its exit */
		s->taken_ms = now_ms();
	free(w->data);
}

static int write_text(struct sending *s, struct slice text)
{
	struct writing *w = malloc(sizeof(*w) + text.n);
	if (!w)
		return -ENOMEM;
	memcpy(w->text, text.p, text.n);
	w->write.data = w;
	uv_buf_t buf = uv_buf_init(w->text, (unsigned)text.n);
	int rc = uv_write(&w->write, (uv_stream_t *)&s->in, &buf, 1, on_written);
	if (rc)
		free(w);
	return rc;
}

static const char *provider(const void *ctx, const char *device)
{
	const struct config_device *d = config_device(ctx, device);
	return d ? backend_type_name(d->backend.type) : NULL;
}

/* Is there room for n more bytes in front of the pipe? */
static bool has_room(const struct traces *t, size_t n)
{
	struct sending *s = t->now;
	size_t waiting = uv_stream_get_write_queue_size((const uv_stream_t *)&s->in);
	if (waiting && now_ms() - s->taken_ms > STUCK_MS)
		uv_process_kill(&s->process, SIGKILL);
	else if (waiting == 0)
		s->taken_ms = now_ms();
	return waiting + n <= (size_t)config_of(t)->traces.queue_bytes;
}

static bool is_recorded(const struct traces *t, const struct record *r)
{
	return t && r->trace.on && r->trace.at.sampled && config_of(t)->traces.endpoint;
}

/* text: "N SPANS\n" */
static void give(struct traces *t, size_t spans, const struct buf *text)
{
	t->counts.spans += spans;
	if (!t->now || buf_error(text) || !has_room(t, text->n) ||
		write_text(t->now, buf_slice(text)))
		t->counts.dropped += spans;
	else
		t->now->given += spans;
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

/* --- what it says --- */

/* Sums only grow, and never over what it was given: its word is somebody else's. */
static void take_report(struct sending *s, const char *line)
{
	uint64_t sum[3];
	struct traces *t = s->traces;
	if (!t || sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNu64, &sum[0], &sum[1], &sum[2]) != 3)
		return;
	for (int i = 0; i < 3; i++)
		if (sum[i] < s->told[i] || sum[i] > s->given)
			return;
	if (sum[0] + sum[1] + sum[2] > s->given)
		return;
	t->counts.sent += sum[0] - s->told[0];
	t->counts.rejected += sum[1] - s->told[1];
	t->counts.dropped += sum[2] - s->told[2];
	memcpy(s->told, sum, sizeof(s->told));
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *buf)
{
	struct sending *s = h->data;
	(void)hint;
	if (s->n == sizeof(s->report)) /* no line of ours is as long */
		s->n = 0;
	*buf = uv_buf_init(s->report + s->n, (unsigned)(sizeof(s->report) - s->n));
}

static void look(struct sending *s);

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct sending *s = stream->data;
	char *end;
	(void)buf;
	if (n < 0) {
		uv_read_stop(stream);
		s->read_all = true;
		look(s);
		return;
	}
	s->n += (size_t)n;
	while ((end = memchr(s->report, '\n', s->n))) {
		size_t line = (size_t)(end - s->report) + 1;
		*end = '\0';
		take_report(s, s->report);
		memmove(s->report, s->report + line, s->n - line);
		s->n -= line;
	}
}

/* --- its life --- */

static void on_closed(uv_handle_t *h)
{
	struct sending *s = h->data;
	if (--s->open == 0)
		free(s);
}

static void close_all(struct sending *s)
{
	if (!uv_is_closing((uv_handle_t *)&s->patience))
		uv_close((uv_handle_t *)&s->patience, on_closed);
	if (!uv_is_closing((uv_handle_t *)&s->in))
		uv_close((uv_handle_t *)&s->in, on_closed);
	if (!uv_is_closing((uv_handle_t *)&s->out))
		uv_close((uv_handle_t *)&s->out, on_closed);
}

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

/* It has ended, and all that it had to say is read: what it has not told of is lost. */
static void look(struct sending *s)
{
	struct traces *t = s->traces;
	if (!s->exited || !s->read_all)
		return;
	close_all(s);
	if (!t)
		return;
	t->counts.dropped += s->given - s->told[0] - s->told[1] - s->told[2];
	LIST_REMOVE(s, link);
	s->traces = NULL;
}

static void on_exit_seen(uv_process_t *process, int64_t status, int signal)
{
	struct sending *s = process->data;
	struct traces *t = s->traces;
	bool wanted = t && t->now == s;
	char why[32];
	snprintf(why, sizeof(why), "%s %lld", signal ? "signal" : "exit",
		signal ? (long long)signal : (long long)status);
	log_line(wanted ? LOG_WARN : LOG_INFO, "traces_exit", LOG_INT("worker_pid", process->pid),
		LOG_STR("exit", why), LOG_END);
	if (wanted) {
		t->now = NULL;
		t->counts.restarts++;
		start_later(t, now_ms() - s->begun_ms);
	}
	s->exited = true;
	uv_close((uv_handle_t *)process, on_closed);
	look(s);
}

static int spawn(struct traces *t, struct sending *s)
{
	const char *args[] = {t->tell->devices->worker_path, "--traces", NULL};
	uv_stdio_container_t stdio[] = {
		{.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&s->in},
		{.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&s->out},
		{.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
	};
	uv_process_options_t o = {.exit_cb = on_exit_seen,
		.file = args[0],
		.args = (char **)(uintptr_t)args,
		.stdio = stdio,
		.stdio_count = 3};
	return uv_spawn(t->tell->life->loop, &s->process, &o);
}

/* 0 or a negative libuv error; then it ends, if it had begun at all. */
static int begin(struct traces *t, struct sending *s)
{
	int rc = spawn(t, s);
	if (rc) {
		uv_close((uv_handle_t *)&s->process, on_closed);
		close_all(s);
		return rc;
	}
	LIST_INSERT_HEAD(&t->all, s, link);
	s->traces = t;
	rc = uv_read_start((uv_stream_t *)&s->out, on_alloc, on_read);
	if (rc == 0)
		rc = write_text(s, buf_slice(&t->settings));
	if (rc) {
		s->read_all = true;
		uv_process_kill(&s->process, SIGKILL);
	}
	return rc;
}

static void start(struct traces *t)
{
	uv_loop_t *loop = t->tell->life->loop;
	struct sending *s = calloc(1, sizeof(*s));
	int rc = UV_ENOMEM;
	if (s) {
		*s = (struct sending){.open = 4, .begun_ms = now_ms(), .taken_ms = now_ms()};
		uv_pipe_init(loop, &s->in, 0);
		uv_pipe_init(loop, &s->out, 0);
		uv_timer_init(loop, &s->patience);
		s->in.data = s->out.data = s->process.data = s->patience.data = s;
		rc = begin(t, s);
	}
	if (rc) {
		log_line(LOG_ERROR, "traces_start", LOG_STR("error", uv_strerror(rc)), LOG_END);
		start_later(t, 0);
		return;
	}
	t->now = s;
	log_line(LOG_INFO, "traces_start", LOG_STR("endpoint", config_of(t)->traces.endpoint),
		LOG_INT("worker_pid", s->process.pid), LOG_END);
}

static void on_impatient(uv_timer_t *timer)
{
	struct sending *s = timer->data;
	uv_process_kill(&s->process, SIGKILL);
}

/* The end of its input: it sends what it has, and ends. Until then it is still listened to. */
static void let_go(struct traces *t)
{
	struct sending *s = t->now;
	t->now = NULL;
	uv_timer_stop(&t->again);
	t->delay_ms = 0;
	if (!s)
		return;
	uv_close((uv_handle_t *)&s->in, on_closed);
	uv_timer_start(&s->patience, on_impatient, LAST_MS + PATIENCE_MS, 0);
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
	struct sending *s;
	let_go(t);
	while ((s = LIST_FIRST(
			&t->all))) { /* they end by themselves, and the loop waits for that */
		LIST_REMOVE(s, link);
		s->traces = NULL;
	}
	uv_close((uv_handle_t *)&t->again, on_timer_closed);
}

struct traces_counts traces_counts(const struct traces *t)
{
	return t ? t->counts : (struct traces_counts){0};
}

int traces_pid(const struct traces *t)
{
	return t && t->now ? t->now->process.pid : 0;
}
