#include "workers/worker.h"

#include "common/base/log.h"
#include "common/base/log_loop.h"
#include "common/base/log_out.h"
#include "common/base/proc.h"
#include "workers/backend/backend.h"
#include "workers/http/http.h"
#include "workers/log_link.h"
#include "workers/tasks/replay.h"
#include "workers/tasks/task.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- ending --- */

static void on_term_closed(uv_handle_t *handle)
{
	(void)handle;
}

/* Everything that could still call back is closed; the loop ends when the handles are. */
static void worker_close(struct worker_self *w)
{
	log_link_stop();
	if (w->channel)
		channel_close(w->channel);
	w->channel = NULL;
	task_table_close(w->tasks);
	replays_destroy(w->replays);
	w->replays = NULL;
	backend_destroy(w->backend);
	w->backend = NULL;
	http_destroy(w->http);
	w->http = NULL;
	uv_close((uv_handle_t *)&w->deadline, on_term_closed);
	uv_close((uv_handle_t *)&w->term, on_term_closed);
	if (w->lifeline_open)
		uv_close((uv_handle_t *)&w->lifeline, on_term_closed);
	w->lifeline_open = false;
}

static void on_farewell(uv_timer_t *timer)
{
	struct worker_self *w = timer->data;
	if (!w->link_gone)
		log_line(LOG_WARN, "link_lingers", LOG_STR("why", "the supervisor did not hang up"),
			LOG_INT("after_ms", WORKER_BYE_MS), LOG_END);
	worker_close(w);
}

/*
 * The last record. nng sends on threads of its own, and a receiver that sees us hang up may drop
 * what it has not read; that the supervisor hangs up says that it has read all.
 */
static void on_backend_stopped(void *ctx)
{
	struct worker_self *w = ctx;
	struct proto_record r = {.type = PROTO_BYE};
	w->said_bye = true;
	if (!w->link_gone)
		worker_put(w, &r);
	uv_timer_start(&w->deadline, on_farewell, w->link_gone ? 0 : WORKER_BYE_MS, 0);
}

/* A process of many threads that is killed ends thread by thread, and we hear of the one that
 * started us: it may still be our parent then, as a zombie. */
static bool is_orphaned(const struct worker_self *w)
{
	return getppid() != w->parent || !proc_start(w->parent);
}

/*
 * What becomes of a backend that we started. Without us it is of use to the next incarnation,
 * unless it is what failed, or somebody wants it to end. When the supervisor is gone the lifeline
 * decides: another one of the family may use the backend.
 */
static enum backend_end ending_of(const struct worker_self *w)
{
	if (w->keep_backend || is_orphaned(w) || w->code == WORKER_EXIT_LINK ||
		w->code == WORKER_EXIT_MEMORY)
		return BACKEND_LEAVE;
	return w->drained && w->code == WORKER_EXIT_OK ? BACKEND_SAVE : BACKEND_ABRUPT;
}

static void stop_backend(void *ctx)
{
	struct worker_self *w = ctx;
	if (w->backend)
		backend_stop(w->backend, ending_of(w), on_backend_stopped, w);
	else
		on_backend_stopped(w);
}

/* A turn of its own: whoever asked for the end may stand deep in callbacks. */
static void on_exit_turn(uv_timer_t *timer)
{
	struct worker_self *w = timer->data;
	/* Streams that the backend keeps are of use to a next worker alone. */
	bool last = is_orphaned(w) || (w->code == WORKER_EXIT_OK && !w->keep_backend);
	/* Told to end: the jobs are as good as before, for another worker. */
	tasks_fail_all(w, w->code == WORKER_EXIT_OK ? FAIL_DRAINING : FAIL_CUT,
		"the worker is stopping", last);
	if (w->channel)
		channel_flush(w->channel);
	if (last && w->replays)
		replays_finish(w->replays, stop_backend, w);
	else
		stop_backend(w);
}

/* --- the link --- */

static void on_ack_deadline(uv_timer_t *timer)
{
	worker_exit(timer->data, WORKER_EXIT_ACK, "no configuration came");
}

/* Nobody to wait for any more, if that is what we do. */
static void link_is_gone(struct worker_self *w)
{
	w->link_gone = true;
	if (w->said_bye)
		uv_timer_start(&w->deadline, on_farewell, 0, 0);
}

static void on_peer(void *ctx, bool connected)
{
	struct worker_self *w = ctx;
	if (!connected) {
		link_is_gone(w);
		worker_exit(w, WORKER_EXIT_LINK, "the supervisor is gone");
		return;
	}
	struct proto_record r = {.type = PROTO_HELLO};
	r.u.hello.pid = (uint32_t)getpid();
	r.u.hello.device = slice_str(w->device);
	r.u.hello.version = SLICE(TANDEM_VERSION);
	worker_put(w, &r);
}

static void on_broken(void *ctx, int error, const char *what)
{
	struct worker_self *w = ctx;
	log_line(LOG_ERROR, "link_broken", LOG_STR("error", strerror(-error)),
		LOG_STR("what", what), LOG_END);
	link_is_gone(w);
	worker_exit(w, WORKER_EXIT_LINK, "the link is broken");
}

static void on_ack(struct worker_self *w, const struct proto_ack *ack)
{
	if (w->phase != WORKER_WAITS)
		return;
	w->phase = WORKER_SERVES;
	uv_timer_stop(&w->deadline);
	log_init("tandem-worker", w->device, (enum log_level)ack->log_level,
		(enum log_format)ack->log_format, ack->log_content);
	log_link_start(w);
	log_out_size(ack->log_buffer_bytes > 0 ? (size_t)ack->log_buffer_bytes : 0);
	if (settings_init(&w->settings, ack)) {
		worker_exit(w, WORKER_EXIT_ACK, "the configuration makes no sense");
		return;
	}
	if (http_create(w->loop, w->settings.connect_ms, &w->http) ||
		http_set_secrets(w->http, w->settings.key_file, w->settings.ca_file) ||
		!(w->replays = replays_create(w)) || backend_create(w, &w->backend)) {
		worker_exit(w, WORKER_EXIT_MEMORY, "out of memory");
		return;
	}
	backend_start(w->backend);
}

/* Resident bytes of this process; 0 when /proc does not say. */
static uint64_t rss_bytes(void)
{
	unsigned long size, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	if (!f)
		return 0;
	if (fscanf(f, "%lu %lu", &size, &resident) != 2)
		resident = 0;
	fclose(f);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void on_ping(struct worker_self *w, uint64_t seq)
{
	struct proto_record pong = {.type = PROTO_PONG}, stats = {.type = PROTO_STATS};
	log_flush(); /* PONG says so, too */
	pong.u.ping.seq = seq;
	/* A wait that nobody limits is no standstill of ours: a long prompt, a client that does not
	 * read. */
	pong.u.ping.progress = w->progress + http_waits(w->http);
	pong.u.ping.active = w->open_tasks;
	stats.u.stats.jobs_done = w->done;
	stats.u.stats.jobs_failed = w->failed;
	stats.u.stats.bytes_in = w->bytes_in;
	stats.u.stats.bytes_out = w->bytes_out;
	stats.u.stats.rss_bytes = rss_bytes();
	worker_put(w, &pong);
	worker_put(w, &stats);
}

static void on_drain_deadline(uv_timer_t *timer)
{
	worker_exit(timer->data, WORKER_EXIT_OK, "the drain deadline has passed");
}

static void on_drain(struct worker_self *w, int64_t deadline_ms, bool keep_backend)
{
	if (w->phase >= WORKER_DRAINS)
		return;
	w->phase = WORKER_DRAINS;
	w->keep_backend = keep_backend;
	log_line(LOG_INFO, "drain", LOG_INT("open", w->open_tasks),
		LOG_INT("deadline_ms", deadline_ms), LOG_END);
	if (w->open_tasks == 0)
		worker_exit(w, WORKER_EXIT_OK, "drained");
	else
		uv_timer_start(&w->deadline, on_drain_deadline,
			deadline_ms > 0 ? (uint64_t)deadline_ms : 0, 0);
}

static void on_record(void *ctx, const struct proto_record *r)
{
	struct worker_self *w = ctx;
	if (w->phase == WORKER_ENDS && r->type != PROTO_JOB && r->type != PROTO_PING)
		return;
	switch (r->type) {
	case PROTO_ACK:
		on_ack(w, &r->u.ack);
		break;
	case PROTO_JOB:
		tasks_open(w, r);
		break;
	case PROTO_BODY:
		tasks_body(w, r);
		break;
	case PROTO_CREDIT:
		tasks_credit(w, r);
		break;
	case PROTO_CANCEL:
		tasks_cancel(w, r);
		break;
	case PROTO_PING:
		on_ping(w, r->u.ping.seq);
		break;
	case PROTO_DRAIN:
		on_drain(w, r->u.drain.deadline_ms, r->u.drain.keep_backend);
		break;
	case PROTO_FORGET:
		replays_end(w->replays, r->u.forget.conversation, 0);
		break;
	default: /* the channel has refused the supervisor's own kinds already */
		break;
	}
}

static void on_room(void *ctx)
{
	struct worker_self *w = ctx;
	tasks_room(w);
}

/* --- signals and the lifeline --- */

static void on_term(uv_signal_t *signal, int number)
{
	struct worker_self *w = signal->data;
	(void)number;
	if (w->phase == WORKER_ENDS && w->backend)
		backend_hurry(w->backend);
	worker_exit(w, WORKER_EXIT_OK, "told to end");
}

static void on_lifeline_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
	static char byte;
	(void)handle, (void)hint;
	*buf = uv_buf_init(&byte, 1);
}

static void on_lifeline(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct worker_self *w = stream->data;
	(void)buf;
	if (n >= 0)
		return;
	uv_read_stop(stream);
	worker_exit(w, WORKER_EXIT_LINK, "stdin has ended");
}

/* Only a pipe or a socket says anything by its end: /dev/null ends at once. */
static void watch_lifeline(struct worker_self *w)
{
	struct stat st;
	if (fstat(STDIN_FILENO, &st) || !(S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
		return;
	uv_pipe_init(w->loop, &w->lifeline, 0);
	w->lifeline.data = w;
	w->lifeline_open = true;
	if (uv_pipe_open(&w->lifeline, STDIN_FILENO) == 0)
		uv_read_start((uv_stream_t *)&w->lifeline, on_lifeline_alloc, on_lifeline);
}

/* --- life --- */

static int worker_open(struct worker_self *w, const struct worker_options *o)
{
	static const struct channel_events events = {
		.record = on_record, .peer = on_peer, .broken = on_broken, .room = on_room};
	const struct channel_options options = {
		.generation = o->generation, .queue_bytes = WORKER_LINK_BYTES};
	w->tasks = task_table_create(w->loop, task_kind_ops);
	if (!w->tasks)
		return -ENOMEM;
	uv_timer_init(w->loop, &w->deadline);
	uv_signal_init(w->loop, &w->term);
	w->deadline.data = w->term.data = w;
	uv_signal_start(&w->term, on_term, SIGTERM);
	watch_lifeline(w);
	int rc = channel_dial(w->loop, o->link, &options, &events, w, &w->channel);
	if (rc) {
		log_line(LOG_ERROR, "link_dial", LOG_STR("error", strerror(-rc)), LOG_END);
		w->link_gone = true;
		worker_exit(w, WORKER_EXIT_LINK, "the supervisor cannot be reached");
		return 0;
	}
	uv_timer_start(&w->deadline, on_ack_deadline, WORKER_ACK_MS, 0);
	return 0;
}

int worker_run(const struct worker_options *o)
{
	uv_loop_t loop;
	struct worker_self w = {.loop = &loop,
		.device = o->device,
		.family_fd = o->lifeline_fd,
		.parent = getppid(),
		.exit_turn = on_exit_turn,
		.backend_silent = tasks_fail_silent};
	if (o->lifeline_fd >= 0) /* backends get it, their way */
		fcntl(o->lifeline_fd, F_SETFD, FD_CLOEXEC);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the whole terminal: the supervisor decides what
				    it means */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	log_init("tandem-worker", o->device, LOG_INFO, LOG_LOGFMT, false);
	if (uv_loop_init(&loop) || curl_global_init(CURL_GLOBAL_SSL))
		return WORKER_EXIT_MEMORY;
	log_loop_start(&loop);
	if (worker_open(&w, o))
		return WORKER_EXIT_MEMORY;
	uv_run(&loop, UV_RUN_DEFAULT);
	log_loop_stop();
	uv_run(&loop, UV_RUN_DEFAULT); /* closes them */
	uv_loop_close(&loop);
	task_table_destroy(w.tasks);
	settings_fini(&w.settings);
	curl_global_cleanup();
	return w.code;
}
