#include "supervisor/tandemd.h"

#include "common/base/log.h"
#include "common/base/log_loop.h"
#include "supervisor/life/listener.h"
#include "supervisor/tell/flush.h"
#include "supervisor/tell/metrics.h"
#include "supervisor/tell/traces.h"
#include "supervisor/tell/ui.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LAST_WORK_MS 1000 /* at the end: for what a thread is still at */

/* --- what the wings tell each other --- */

static void on_devices_changed(void *ctx)
{
	struct supervisor *s = ctx;
	life_devices_changed(&s->life);
}

static void on_idle(void *ctx)
{
	struct supervisor *s = ctx;
	life_event(&s->life, LIFE_LOOK);
}

static void on_part_ended(void *ctx, uint64_t operation, bool ok, const char *why)
{
	struct supervisor *s = ctx;
	operation_part_ended(&s->life.operations, operation, ok, why, now_ms());
}

static void on_flushed(void *ctx)
{
	struct supervisor *s = ctx;
	flush_look(s->tell.flush);
}

static void on_run_dir_used(void *ctx)
{
	struct supervisor *s = ctx;
	rundir_watch_look(&s->life);
}

static uint64_t oldest_request_ms(void *ctx)
{
	const struct supervisor *s = ctx;
	return requests_oldest_ms(&s->requests);
}

static void on_scrape(void *ctx, struct request *r)
{
	struct supervisor *s = ctx;
	scrape_ask(&s->tell, r);
}

static void on_page(void *ctx, struct request *r)
{
	struct supervisor *s = ctx;
	ui_answer(&s->tell, r);
}

static void on_recorded(void *ctx, const struct record *r)
{
	struct supervisor *s = ctx;
	traces_put(s->tell.traces, r);
}

static void on_recorded_late(void *ctx, const struct record *r, const struct step *it)
{
	struct supervisor *s = ctx;
	traces_put_late(s->tell.traces, r, it);
}

static int on_reopen(void *ctx)
{
	struct supervisor *s = ctx;
	return tell_reopen(&s->tell);
}

static void on_reloaded(void *ctx)
{
	struct supervisor *s = ctx;
	tell_reloaded(&s->tell);
}

static void on_leaving(void *ctx)
{
	struct supervisor *s = ctx;
	tell_leaving(&s->tell);
}

static void wire(struct supervisor *s)
{
	static const struct devices_events devices = {.changed = on_devices_changed,
		.idle = on_idle,
		.part_ended = on_part_ended,
		.flushed = on_flushed,
		.run_dir_used = on_run_dir_used,
		.oldest_request_ms = oldest_request_ms};
	static const struct requests_events requests = {.over = on_idle,
		.scrape = on_scrape,
		.page = on_page,
		.recorded = on_recorded,
		.recorded_late = on_recorded_late};
	static const struct life_events life = {
		.reopen = on_reopen, .reloaded = on_reloaded, .leaving = on_leaving};
	s->devices.config = s->requests.config = s->life.config = &s->config;
	s->devices.tokens = s->requests.tokens = s->tokens;
	s->devices.run_dir = s->life.run_dir;
	s->devices.worker_path = s->worker_path;
	s->tell.ctl_path = s->ctl_path;
	s->requests.devices = s->life.devices = s->tell.devices = &s->devices;
	s->life.requests = s->tell.requests = &s->requests;
	s->tell.life = &s->life;
	devices_init(&s->devices, s->loop, &devices, s);
	requests_init(&s->requests, s->loop, &requests, s);
	life_init(&s->life, s->loop, &life, s);
}

/* --- start --- */

static int beside(const char *folder, const char *name, char *out, size_t size)
{
	int n = snprintf(out, size, "%s/%s", folder, name);
	return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

/* The other programs, which stand beside this one. Without tandemctl all works but the page's doctor. */
static int find_others(struct supervisor *s)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0)
		return -errno;
	self[n] = '\0';
	const char *folder = dirname(self);
	int rc = beside(folder, "tandem-worker", s->worker_path, sizeof(s->worker_path));
	if (rc == 0)
		rc = beside(folder, "tandemctl", s->ctl_path, sizeof(s->ctl_path));
	if (rc == 0 && access(s->worker_path, X_OK))
		rc = -errno;
	return rc;
}

/* The path that we were started by, so that an upgrade finds what stands there by then: also where
 * it is a link. */
static int find_program(struct life *l)
{
	size_t room = sizeof(l->program);
	const char *name = l->argv[0];
	ssize_t n = 0;
	if (!strchr(name, '/'))
		n = readlink("/proc/self/exe", l->program, room - 1);
	else if (name[0] != '/')
		n = getcwd(l->program, room) ? (ssize_t)strlen(l->program) : -1;
	if (n < 0)
		return -errno;
	l->program[n] = '\0';
	if (!strchr(name, '/'))
		return 0;
	int length = snprintf(l->program + n, room - (size_t)n, "%s%s", n ? "/" : "", name);
	return (size_t)length < room - (size_t)n ? 0 : -ENAMETOOLONG;
}

/* The programs, and the run folder, or a part in a predecessor's. 0 or an exit code. */
static int prepare(struct supervisor *s, struct buf *err)
{
	struct life *l = &s->life;
	int rc = find_others(s);
	if (rc == 0)
		rc = find_program(l);
	if (rc) {
		buf_printf(err, "%s: %s", s->worker_path, strerror(-rc));
		return EXIT_START;
	}
	if (l->successor.waiting)
		rc = rundir_join(&l->rundir, l->run_dir, l->successor.handover.lock_fd, err);
	else
		rc = rundir_open(&l->rundir, l->run_dir, err);
	if (rc)
		return rc == -EBUSY ? EXIT_ANOTHER : EXIT_START;
	return 0;
}

/* The sockets that others know; a successor's come later. 0 or -errno. */
static int open_doors(struct supervisor *s, struct buf *err)
{
	struct life *l = &s->life;
	doors_take_metrics(l, handover_take_extra(&l->successor.handover, "metrics"));
	int rc = tell_begin(&s->tell);
	if (rc == 0)
		rc = tell_start(&s->tell);
	if (rc) {
		buf_printf(err, "stats socket in %s: %s", l->run_dir, strerror(-rc));
		return rc;
	}
	if (l->successor.waiting)
		return 0;
	int given = listener_given(l->config, &l->notify, &l->service.given);
	l->service.stored = given >= 0;
	rc = doors_open(l, given, err);
	if (rc == 0)
		rundir_take(&l->rundir);
	return rc;
}

/* Ours, or that of the tandemd before us; the one after us gets it too. 0 or -errno. */
static int take_lifeline(struct supervisor *s, struct buf *err)
{
	struct handover *h = &s->life.successor.handover;
	int rc = orphans_start(&s->devices, handover_take_extra(h, "lifeline"),
		handover_take_extra(h, "lifeline-read"));
	if (rc) {
		buf_printf(err, "cannot make the lifeline of the workers: %s", strerror(-rc));
		return rc;
	}
	warm_start(&s->devices);
	upgrade_offer(&s->life, "lifeline", s->devices.orphans.write_fd);
	upgrade_offer(&s->life, "lifeline-read", s->devices.orphans.read_fd);
	return 0;
}

/* What lasts over restarts, and what is learned. 0 or -errno. */
static int open_wings(struct supervisor *s)
{
	const struct config *c = &s->config;
	const char *state_dir = c->state_dir ? c->state_dir : s->life.run_dir;
	int rc = s->tokens ? 0 : -ENOMEM;
	if (rc == 0)
		rc = devices_open(&s->devices, state_dir, (size_t)c->limits.state_bytes);
	return rc ? rc : requests_open(&s->requests, state_dir, (size_t)c->limits.layout_bytes);
}

static int serve(struct supervisor *s, struct buf *err)
{
	int rc = open_doors(s, err);
	if (rc)
		return rc;
	rc = devices_start(&s->devices, err);
	if (rc == 0) {
		rc = life_begin(&s->life, err);
		uv_run(s->loop, UV_RUN_DEFAULT);
	}
	doors_stop(&s->life);
	devices_stop(&s->devices);
	return rc;
}

/* --- end --- */

static void on_late(uv_timer_t *t)
{
	*(bool *)t->data = true;
}

static void on_late_closed(uv_handle_t *h)
{
	(void)h;
}

/* Lets every handle close. False: a thread still works on something of which nobody wants to know
 * any more, a very long prompt for example. */
static bool run_out(uv_loop_t *loop)
{
	static uv_timer_t timer;
	static bool late;
	timer.data = &late;
	uv_timer_init(loop, &timer);
	uv_timer_start(&timer, on_late, LAST_WORK_MS, 0);
	uv_unref((uv_handle_t *)&timer);
	/* the last request's end stops it once more */
	while (!late && uv_run(loop, UV_RUN_ONCE))
		;
	if (late)
		return false;
	uv_close((uv_handle_t *)&timer, on_late_closed);
	uv_run(loop, UV_RUN_DEFAULT);
	return true;
}

/* Begins to close all there is, in the order of their needs. */
static void close_wings(struct supervisor *s)
{
	tell_stop(&s->tell);
	tell_end(&s->tell);
	devices_close(&s->devices);
	life_fini(&s->life);
	log_loop_stop();
}

static void free_wings(struct supervisor *s)
{
	devices_free(&s->devices);
	requests_free(&s->requests);
	tokens_destroy(s->tokens);
	rundir_close(&s->life.rundir);
}

int tandemd_run(struct supervisor *s, struct buf *err)
{
	signal(SIGPIPE, SIG_IGN);
	log_loop_start(s->loop);
	s->tokens = tokens_create();
	wire(s);
	int code = prepare(s, err);
	bool begun = code == 0;
	if (begun && (open_wings(s) || take_lifeline(s, err) || serve(s, err)))
		code = EXIT_START;
	if (code) {
		if (err->n == 0)
			buf_add_str(err, "out of memory");
		fprintf(stderr, "tandemd: %s\n", buf_cstr(err));
		successor_failed(&s->life, buf_cstr(err));
	}
	close_wings(s);
	if (!run_out(s->loop)) {
		rundir_close(&s->life.rundir);
		log_line(LOG_INFO, "stopped", LOG_INT("rc", code),
			LOG_STR("left", "work on a thread"), LOG_END);
		_exit(code); /* exit() would wait for the pool's threads */
	}
	uv_loop_close(s->loop);
	free_wings(s);
	if (begun)
		log_line(LOG_INFO, "stopped", LOG_INT("rc", code), LOG_END);
	return code;
}
