#include "supervisor/tell/traces_process.h"

#include "common/base/log.h"
#include "common/base/now.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define REPORT_BYTES 256 /* of a line of the process */
/* Beyond TRACES_LAST_MS, for its end. */
#define PATIENCE_MS 200
/* A process that takes nothing for so long, while there is something, is ended. */
#define STUCK_MS 30000

struct traces_process {
	LIST_ENTRY(traces_process) link;
	const struct traces_process_events *events; /* NULL: nobody wants to know any more */
	void *ctx;
	uv_process_t process;
	uv_pipe_t in, out; /* its stdin and stdout */
	uv_timer_t patience;
	unsigned open;		     /* handles */
	uint64_t given;		     /* spans */
	uint64_t told[TRACES_FATES]; /* of those */
	uint64_t begun_ms, taken_ms; /* when it took something last */
	bool exited, read_all;
	char report[REPORT_BYTES];
	size_t n;
};

/* --- writing --- */

struct writing {
	uv_write_t write;
	char text[];
};

static void on_written(uv_write_t *w, int status)
{
	struct traces_process *p = w->handle->data;
	if (status == 0) /* else it is dead, and all is counted at its exit */
		p->taken_ms = now_ms();
	free(w->data);
}

static int write_text(struct traces_process *p, struct slice text)
{
	struct writing *w = malloc(sizeof(*w) + text.n);
	if (!w)
		return -ENOMEM;
	memcpy(w->text, text.p, text.n);
	w->write.data = w;
	uv_buf_t buf = uv_buf_init(w->text, (unsigned)text.n);
	int rc = uv_write(&w->write, (uv_stream_t *)&p->in, &buf, 1, on_written);
	if (rc)
		free(w);
	return rc;
}

/* Is there room for n more bytes in front of the pipe? */
static bool has_room(struct traces_process *p, size_t n, size_t most)
{
	size_t waiting = uv_stream_get_write_queue_size((const uv_stream_t *)&p->in);
	if (waiting && now_ms() - p->taken_ms > STUCK_MS)
		uv_process_kill(&p->process, SIGKILL);
	else if (waiting == 0)
		p->taken_ms = now_ms();
	return waiting + n <= most;
}

bool traces_process_give(struct traces_process *p, struct slice text, size_t spans, size_t most)
{
	if (!has_room(p, text.n, most) || write_text(p, text))
		return false;
	p->given += spans;
	return true;
}

/* --- what it says --- */

/* Sums only grow, and never over what it was given: its word is somebody else's. */
static void take_report(struct traces_process *p, const char *line)
{
	uint64_t sum[TRACES_FATES];
	if (!p->events || sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNu64, &sum[TRACES_SENT],
				  &sum[TRACES_REJECTED], &sum[TRACES_DROPPED]) != TRACES_FATES)
		return;
	for (int i = 0; i < TRACES_FATES; i++)
		if (sum[i] < p->told[i] || sum[i] > p->given)
			return;
	if (sum[TRACES_SENT] + sum[TRACES_REJECTED] + sum[TRACES_DROPPED] > p->given)
		return;
	for (int i = 0; i < TRACES_FATES; i++)
		p->events->told(p->ctx, (enum traces_fate)i, sum[i] - p->told[i]);
	memcpy(p->told, sum, sizeof(p->told));
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *buf)
{
	struct traces_process *p = h->data;
	(void)hint;
	if (p->n == sizeof(p->report)) /* no line of ours is as long */
		p->n = 0;
	*buf = uv_buf_init(p->report + p->n, (unsigned)(sizeof(p->report) - p->n));
}

static void look(struct traces_process *p);

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct traces_process *p = stream->data;
	char *end;
	(void)buf;
	if (n < 0) {
		uv_read_stop(stream);
		p->read_all = true;
		look(p);
		return;
	}
	p->n += (size_t)n;
	while ((end = memchr(p->report, '\n', p->n))) {
		size_t line = (size_t)(end - p->report) + 1;
		*end = '\0';
		take_report(p, p->report);
		memmove(p->report, p->report + line, p->n - line);
		p->n -= line;
	}
}

/* --- its end --- */

static void on_closed(uv_handle_t *h)
{
	struct traces_process *p = h->data;
	if (--p->open == 0)
		free(p);
}

static void close_all(struct traces_process *p)
{
	if (!uv_is_closing((uv_handle_t *)&p->patience))
		uv_close((uv_handle_t *)&p->patience, on_closed);
	if (!uv_is_closing((uv_handle_t *)&p->in))
		uv_close((uv_handle_t *)&p->in, on_closed);
	if (!uv_is_closing((uv_handle_t *)&p->out))
		uv_close((uv_handle_t *)&p->out, on_closed);
}

/* It has ended, and all that it had to say is read: what it has not told of is lost. */
static void look(struct traces_process *p)
{
	if (!p->exited || !p->read_all)
		return;
	close_all(p);
	if (!p->events)
		return;
	p->events->told(p->ctx, TRACES_DROPPED,
		p->given - p->told[TRACES_SENT] - p->told[TRACES_REJECTED] -
			p->told[TRACES_DROPPED]);
	LIST_REMOVE(p, link);
	p->events = NULL;
}

static void on_exit_seen(uv_process_t *process, int64_t status, int signal)
{
	struct traces_process *p = process->data;
	char why[32];
	bool wanted = p->events && p->events->exited(p->ctx, p, now_ms() - p->begun_ms);
	snprintf(why, sizeof(why), "%s %lld", signal ? "signal" : "exit",
		signal ? (long long)signal : (long long)status);
	log_line(wanted ? LOG_WARN : LOG_INFO, "traces_exit", LOG_INT("worker_pid", process->pid),
		LOG_STR("exit", why), LOG_END);
	p->exited = true;
	uv_close((uv_handle_t *)process, on_closed);
	look(p);
}

static void on_impatient(uv_timer_t *timer)
{
	struct traces_process *p = timer->data;
	uv_process_kill(&p->process, SIGKILL);
}

void traces_process_let_go(struct traces_process *p)
{
	uv_close((uv_handle_t *)&p->in, on_closed);
	uv_timer_start(&p->patience, on_impatient, TRACES_LAST_MS + PATIENCE_MS, 0);
}

void traces_process_forget_all(struct traces_process_list *list)
{
	struct traces_process *p;
	while ((p = LIST_FIRST(list))) {
		LIST_REMOVE(p, link);
		p->events = NULL;
	}
}

/* --- its start --- */

static int spawn(uv_loop_t *loop, const char *path, struct traces_process *p)
{
	const char *args[] = {path, "--traces", NULL};
	uv_stdio_container_t stdio[] = {
		{.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&p->in},
		{.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&p->out},
		{.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
	};
	uv_process_options_t o = {.exit_cb = on_exit_seen,
		.file = path,
		.args = (char **)(uintptr_t)args,
		.stdio = stdio,
		.stdio_count = 3};
	return uv_spawn(loop, &p->process, &o);
}

/* It runs; 0, or the error with which it must end. */
static int begin(struct traces_process *p, struct slice settings)
{
	int rc = uv_read_start((uv_stream_t *)&p->out, on_alloc, on_read);
	if (rc == 0)
		rc = write_text(p, settings);
	if (rc) {
		p->read_all = true;
		uv_process_kill(&p->process, SIGKILL);
	}
	return rc;
}

int traces_process_start(uv_loop_t *loop, const char *path, struct slice settings,
	struct traces_process_list *list, const struct traces_process_events *events, void *ctx,
	struct traces_process **out)
{
	struct traces_process *p = calloc(1, sizeof(*p));
	if (!p)
		return UV_ENOMEM;
	*p = (struct traces_process){.open = 4, .begun_ms = now_ms(), .taken_ms = now_ms()};
	uv_pipe_init(loop, &p->in, 0);
	uv_pipe_init(loop, &p->out, 0);
	uv_timer_init(loop, &p->patience);
	p->in.data = p->out.data = p->process.data = p->patience.data = p;
	int rc = spawn(loop, path, p);
	if (rc) {
		uv_close((uv_handle_t *)&p->process, on_closed);
		close_all(p);
		return rc;
	}
	LIST_INSERT_HEAD(list, p, link);
	p->events = events;
	p->ctx = ctx;
	rc = begin(p, settings);
	if (rc == 0)
		*out = p;
	return rc;
}

int traces_process_pid(const struct traces_process *p)
{
	return p->process.pid;
}
