/* Jobs without a worker: what they may look at, and when. */
#include "common/log.h"
#include "supervisor/job.h"
#include "supervisor/supervisor.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void on_record(void *ctx, const struct proto_record *r)
{
	(void)ctx, (void)r;
}

static void on_peer(void *ctx, bool connected)
{
	(void)ctx, (void)connected;
}

static void on_broken(void *ctx, int error, const char *what)
{
	(void)ctx, (void)error, (void)what;
}

static const struct channel_events link_events = {
	.record = on_record, .peer = on_peer, .broken = on_broken};

struct fixture {
	uv_loop_t loop;
	struct supervisor sup;
	struct config_device conf;
	char folder[64];
};

static void setup(struct fixture *f)
{
	char url[128];
	struct channel_options o = {.generation = 1, .queue_bytes = 1 << 20};
	memset(f, 0, sizeof(*f));
	strcpy(f->folder, "/tmp/tandem-job-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(url, sizeof(url), "ipc://%s/w.ipc", f->folder);
	assert_int_equal(uv_loop_init(&f->loop), 0);
	f->sup.loop = &f->loop;
	f->sup.config.limits.queue = 8;
	strcpy(f->conf.name, "gpu0");
	f->conf.slots = 1;
	struct device *d = f->sup.devices[0] = device_create(&f->sup, &f->conf);
	assert_non_null(d);
	assert_int_equal(channel_listen(&f->loop, url, &o, &link_events, d, &d->channel), 0);
	d->state = WORKER_READY;
}

static void teardown(struct fixture *f)
{
	struct device *d = f->sup.devices[0];
	channel_close(d->channel);
	device_destroy(d);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	rmdir(f->folder);
}

static void start(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)ctx, (void)j, (void)r;
}

static void failed(void *ctx, struct job *j, const struct job_failure *f)
{
	(void)ctx, (void)j, (void)f;
}

/* All that a call writes to standard error. */
static int silenced;
static FILE *said;

static void listen_to_log(void)
{
	fflush(stderr);
	silenced = dup(STDERR_FILENO);
	said = tmpfile();
	assert_non_null(said);
	dup2(fileno(said), STDERR_FILENO);
}

static void heard(char *out, size_t n)
{
	fflush(stderr);
	dup2(silenced, STDERR_FILENO);
	close(silenced);
	rewind(said);
	out[fread(out, 1, n - 1, said)] = '\0';
	fclose(said);
}

/* A cancel that crosses the worker's END: the owner and its strings are gone by then. */
static void test_a_cancelled_job_does_not_look_at_its_owner(void **state)
{
	(void)state;
	static const struct job_events events = {
		.start = start, .delta = start, .end = start, .fail = failed};
	struct fixture f;
	setup(&f);
	struct device *d = f.sup.devices[0];
	char id[] = "abc123-1", log[4096];
	struct job_spec spec = {.takes_slot = true, .body = SLICE("{}")};
	spec.message.kind = JOB_CHAT;
	spec.message.request_id = slice_str(id);
	spec.message.body_bytes = 2;
	struct job *j;
	log_init("test", NULL, LOG_DEBUG, LOG_LOGFMT, false);
	listen_to_log();
	int rc = job_submit(d, &spec, &events, NULL, &j);
	struct proto_record end = {.type = PROTO_END, .job = rc ? 0 : j->id};
	if (rc == 0)
		job_cancel(j);
	memset(id, '#', sizeof(id) - 1);
	job_record(d, &end);
	heard(log, sizeof(log));
	assert_int_equal(rc, 0);
	assert_non_null(strstr(log, "ev=job_start req=abc123-1"));
	assert_null(strstr(log, "##"));
	assert_int_equal(d->inflight, 0);
	assert_true(TAILQ_EMPTY(&d->running));
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_cancelled_job_does_not_look_at_its_owner),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
