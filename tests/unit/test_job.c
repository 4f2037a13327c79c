/* Jobs without a worker: what they may look at, and when. */
#include "common/base/log.h"
#include "supervisor/devices/devices.h"
#include "supervisor/devices/job.h"
#include "supervisor/devices/succession.h"

#include <errno.h>
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

static void ignored(void *ctx)
{
	(void)ctx;
}

static const struct devices_events events_of_devices = {
	.changed = ignored, .idle = ignored, .flushed = ignored};

struct fixture {
	uv_loop_t loop;
	struct config config;
	struct devices devices;
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
	f->devices.config = &f->config;
	devices_init(&f->devices, &f->loop, &events_of_devices, NULL);
	f->config.limits.queue = 8;
	strcpy(f->conf.name, "gpu0");
	f->conf.slots = 1;
	struct device *d = f->devices.of[0] = device_create(&f->devices, &f->conf);
	assert_non_null(d);
	assert_int_equal(
		channel_listen(&f->loop, url, &o, &link_events, d, &d->current->channel), 0);
	d->current->state = WORKER_READY;
	device_changed(d);
}

static void teardown(struct fixture *f)
{
	struct device *d = f->devices.of[0];
	channel_close(d->current->channel);
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
	struct device *d = f.devices.of[0];
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
	job_record(d->current, &end);
	heard(log, sizeof(log));
	assert_int_equal(rc, 0);
	assert_non_null(strstr(log, "ev=job_start req=abc123-1"));
	assert_null(strstr(log, "##"));
	assert_int_equal(d->inflight, 0);
	assert_true(TAILQ_EMPTY(&d->running));
	teardown(&f);
}

/* --- waiting --- */

struct seen {
	unsigned restarts, ends, fails;
	int cause;
};

static void count_end(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)j, (void)r;
	((struct seen *)ctx)->ends++;
}

static void count_fail(void *ctx, struct job *j, const struct job_failure *f)
{
	(void)j;
	((struct seen *)ctx)->fails++;
	((struct seen *)ctx)->cause = f->cause;
}

static void count_restart(void *ctx, struct job *j)
{
	assert_false(j->running);
	((struct seen *)ctx)->restarts++;
}

static const struct job_events counting = {.start = start,
	.delta = start,
	.end = count_end,
	.fail = count_fail,
	.restart = count_restart};

static int submit(struct fixture *f, enum job_class class, uint64_t client, struct seen *seen,
	struct job **out)
{
	struct job_spec spec = {.takes_slot = true,
		.impatient = class == CLASS_MAP,
		.class = class,
		.client = client,
		.prompt_tokens = 8000,
		.output_tokens = 400,
		.body = SLICE("{}")};
	spec.message.kind = class == CLASS_MAP ? JOB_NOTES : JOB_CHAT;
	spec.message.body_bytes = 2;
	spec.message.timeout_ms = class == CLASS_MAP ? 60000 : 0;
	return job_submit(f->devices.of[0], &spec, &counting, seen, out);
}

static void say(struct fixture *f, enum proto_type type, uint64_t id)
{
	struct proto_record r = {.type = type, .job = id};
	if (type == PROTO_FAIL)
		r.u.fail.cause = FAIL_CANCELLED;
	job_record(f->devices.of[0]->current, &r);
}

/* Notes let an agent's job pass, twice; the third time they are left alone. */
static void test_notes_are_preempted(void **state)
{
	(void)state;
	struct fixture f;
	struct seen notes = {0}, chats = {0};
	struct job *note, *chat;
	log_init("test", NULL, LOG_ERROR, LOG_LOGFMT, false);
	setup(&f);
	struct device *d = f.devices.of[0];
	assert_int_equal(submit(&f, CLASS_MAP, 1, &notes, &note), 0);
	for (unsigned i = 1; i <= JOB_PREEMPTIONS_MAX + 1; i++) {
		bool yields = i <= JOB_PREEMPTIONS_MAX;
		assert_true(note->running);
		uint64_t was = note->id;
		assert_int_equal(submit(&f, CLASS_AGENT, 2, &chats, &chat), 0);
		assert_int_equal(d->preempting, yields);
		assert_false(chat->running); /* the slot is not free before the worker says so */
		say(&f, yields ? PROTO_FAIL : PROTO_END, was);
		assert_true(chat->running);
		assert_int_equal(notes.restarts, yields ? i : JOB_PREEMPTIONS_MAX);
		if (yields) {
			assert_false(note->running);
			assert_int_not_equal(note->id, was);
		}
		assert_int_equal(d->preempting, 0);
		assert_int_equal(d->inflight, 1);
		say(&f, PROTO_END, chat->id);
	}
	assert_int_equal(notes.ends, 1);
	assert_int_equal(notes.fails, 0);
	assert_int_equal(d->jobs_preempted, JOB_PREEMPTIONS_MAX);
	assert_int_equal(d->inflight, 0);
	teardown(&f);
}

/* It was ready just when it was to go; a job that waits on the same slot is told nothing of it. */
static void test_preempted_but_done(void **state)
{
	(void)state;
	struct fixture f;
	struct seen notes = {0}, chats = {0};
	struct job *note, *chat;
	setup(&f);
	assert_int_equal(submit(&f, CLASS_MAP, 1, &notes, &note), 0);
	assert_int_equal(submit(&f, CLASS_INTERACTIVE, 1, &chats, &chat), 0);
	say(&f, PROTO_END, note->id);
	assert_int_equal(notes.ends, 1);
	assert_int_equal(notes.restarts + notes.fails, 0);
	assert_int_equal(f.devices.of[0]->preempting, 0);
	say(&f, PROTO_END, chat->id);
	teardown(&f);
}

/* The owner gives up, the worker dies, or the device goes away while the cancel is under way. */
static void test_preempted_and_worse(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		struct fixture f;
		struct seen notes = {0}, chats = {0};
		struct job *note, *chat;
		setup(&f);
		struct device *d = f.devices.of[0];
		assert_int_equal(submit(&f, CLASS_MAP, 1, &notes, &note), 0);
		assert_int_equal(submit(&f, CLASS_INTERACTIVE, 1, &chats, &chat), 0);
		uint64_t id = note->id;
		if (how == 0) {
			job_cancel(note);
			say(&f, PROTO_FAIL, id);
			assert_true(chat->running);
		} else if (how == 1) {
			d->state = WORKER_BACKOFF;
			jobs_lost(d->current);
		} else {
			d->state = WORKER_LOADING;
			jobs_unready(d);
			say(&f, PROTO_FAIL, id);
		}
		assert_int_equal(notes.restarts, 0);
		assert_int_equal(notes.fails, how > 0);
		assert_true(how == 0 || notes.cause == JOB_LOST);
		assert_int_equal(d->preempting, 0);
		d->state = WORKER_READY;
		jobs_kick(d);
		say(&f, PROTO_END, chat->id);
		assert_int_equal(chats.ends, 1);
		assert_int_equal(d->inflight, 0);
		teardown(&f);
	}
}

/* The backend works at it already: it waits for a worker, but not behind others for a slot, and counts. */
static void test_a_slot_that_is_held(void **state)
{
	(void)state;
	struct fixture f;
	struct seen seen = {0};
	struct job *other, *held, *last;
	struct job_spec spec = {.takes_slot = true, .holds_slot = true, .body = SLICE("{}")};
	setup(&f);
	struct device *d = f.devices.of[0];
	spec.message.body_bytes = 2;
	d->state = WORKER_BACKOFF;
	f.config.limits.queue = 1;
	assert_int_equal(submit(&f, CLASS_INTERACTIVE, 1, &seen, &other), 0);
	assert_int_equal(submit(&f, CLASS_INTERACTIVE, 1, &seen, &last), -EBUSY);
	assert_int_equal(job_submit(d, &spec, &counting, &seen, &held), 0);
	d->state = WORKER_READY;
	jobs_kick(d);
	assert_true(held->running);
	assert_false(other->running);
	assert_int_equal(d->inflight, 1);
	say(&f, PROTO_END, held->id);
	assert_true(other->running);
	assert_int_equal(d->inflight, 1);
	d->state = WORKER_BACKOFF;
	assert_int_equal(job_submit(d, &spec, &counting, &seen, &held), 0);
	job_cancel(held);
	assert_true(TAILQ_EMPTY(&d->passing));
	say(&f, PROTO_END, other->id);
	assert_int_equal(f.devices.queued, 0);
	teardown(&f);
}

/* Of the streams that dead workers leave each next one hears, as long as they may be there. */
static void test_streams_to_be_forgotten(void **state)
{
	(void)state;
	struct fixture f;
	setup(&f);
	struct device *d = f.devices.of[0];
	struct worker *w = d->current;
	d->state = WORKER_BACKOFF;
	w->generation = 1;
	forget_stream(d, SLICE("left"), 0);
	forget_stream(d, SLICE("told"), 1);
	forget_stream(d, (struct slice){0}, 0);
	assert_int_equal(d->forgotten.next, 2);
	assert_int_equal(d->forgotten.of[0].told, 0);
	d->state = WORKER_READY;
	forget_tell(d);
	assert_int_equal(d->forgotten.of[0].told, 1);
	w->generation = 2; /* the one that was told may have died before it was done */
	forget_tell(d);
	assert_int_equal(d->forgotten.of[0].told, 2);
	assert_int_equal(d->forgotten.of[1].told, 2);
	w->generation = 3;
	d->forgotten.of[0].at_ms -= FORGET_KEEP_MS;
	forget_tell(d);
	assert_int_equal(d->forgotten.of[0].told, 2);
	assert_int_equal(d->forgotten.of[1].told, 3);
	for (unsigned i = 0; i < FORGET_MAX; i++)
		forget_stream(d, SLICE("more"), 0);
	assert_string_equal(d->forgotten.of[0].conversation, "more");
	assert_int_equal(d->forgotten.of[0].told, 3);
	teardown(&f);
}

static int submit_warm(struct fixture *f, struct seen *seen, struct job **out)
{
	struct job_spec spec = {.takes_slot = true,
		.impatient = true,
		.class = CLASS_IDLE,
		.prompt_tokens = 8000,
		.body = SLICE("{}")};
	spec.message.kind = JOB_WARM;
	spec.yields = true;
	spec.message.body_bytes = 2;
	return job_submit(f->devices.of[0], &spec, &counting, seen, out);
}

/* Notes that nobody waits for make way like a warming: also for notes that somebody does. */
static void test_idle_notes_yield(void **state)
{
	(void)state;
	struct fixture f;
	struct seen idle = {0}, notes = {0};
	struct job *j, *other;
	setup(&f);
	struct device *d = f.devices.of[0];
	struct job_spec spec = {.takes_slot = true,
		.impatient = true,
		.yields = true,
		.class = CLASS_IDLE,
		.body = SLICE("{}")};
	spec.message.kind = JOB_NOTES;
	spec.message.body_bytes = 2;
	assert_int_equal(job_submit(d, &spec, &counting, &idle, &j), 0);
	assert_true(j->running);
	uint64_t id = j->id;
	spec.yields = false;
	spec.class = CLASS_MAP;
	assert_int_equal(job_submit(d, &spec, &counting, &notes, &other), 0);
	assert_int_equal(idle.fails, 1);
	assert_int_equal(idle.cause, FAIL_CANCELLED);
	assert_int_equal(idle.restarts, 0);
	say(&f, PROTO_FAIL, id);
	assert_true(other->running);
	say(&f, PROTO_END, other->id);
	assert_int_equal(notes.ends, 1);
	assert_int_equal(d->inflight, 0);
	teardown(&f);
}

/* A warming ends when anything else comes, which is admitted as if its slot were free, and runs
 * when the worker has let go. */
static void test_a_warming_yields(void **state)
{
	(void)state;
	struct fixture f;
	struct seen warms = {0}, chats = {0};
	struct job *warm, *chat, *other;
	setup(&f);
	struct device *d = f.devices.of[0];
	f.config.limits.queue = 0;
	assert_int_equal(submit_warm(&f, &warms, &warm), 0);
	assert_true(warm->running);
	uint64_t id = warm->id;
	assert_true(jobs_wait_ms(d) == 0);
	assert_int_equal(submit(&f, CLASS_IDLE, 1, &chats, &chat), 0);
	assert_int_equal(warms.fails, 1);
	assert_int_equal(warms.cause, FAIL_CANCELLED);
	assert_false(chat->running);
	assert_true(jobs_wait_ms(d) > 0);
	say(&f, PROTO_FAIL, id);
	assert_true(chat->running);
	assert_int_equal(d->inflight, 1);
	say(&f, PROTO_END, chat->id);
	/* its end and the other work cross */
	assert_int_equal(submit_warm(&f, &warms, &warm), 0);
	id = warm->id;
	assert_int_equal(submit(&f, CLASS_AGENT, 1, &chats, &chat), 0);
	assert_int_equal(submit(&f, CLASS_AGENT, 1, &chats, &other), -EBUSY);
	say(&f, PROTO_END, id);
	assert_int_equal(warms.ends, 0);
	assert_int_equal(warms.fails, 2);
	assert_true(chat->running);
	say(&f, PROTO_END, chat->id);
	/* the worker goes */
	assert_int_equal(submit_warm(&f, &warms, &warm), 0);
	d->current->state = WORKER_DRAINING;
	device_changed(d);
	assert_int_equal(warms.fails, 3);
	jobs_lost(d->current);
	assert_int_equal(d->inflight, 0);
	assert_int_equal(submit_warm(&f, &warms, &warm), -EAGAIN);
	assert_int_equal(d->jobs_failed, 0);
	teardown(&f);
}

static void test_who_is_refused(void **state)
{
	(void)state;
	struct fixture f;
	struct seen seen = {0};
	struct job *running, *j[9];
	setup(&f);
	struct device *d = f.devices.of[0];
	f.devices.count = 1;
	f.config.limits.queue_per_client = 3;
	assert_int_equal(submit(&f, CLASS_AGENT, 1, &seen, &running), 0);
	assert_int_equal(job_retry_after_s(d), 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(submit(&f, i % 2 ? CLASS_AGENT : CLASS_IDLE, 1, &seen, &j[i]), 0);
	assert_int_equal(submit(&f, CLASS_INTERACTIVE, 1, &seen, &j[8]), -EBUSY);
	assert_int_equal(job_retry_after_s(d), JOB_RETRY_MAX_S); /* 3 x 8000 / 800 + 400 / 40 */
	d->prefill_tok_s = 8000;
	d->decode_tok_s = 400;
	assert_int_equal(job_retry_after_s(d), 7);
	for (int i = 3; i < 6; i++)
		assert_int_equal(submit(&f, CLASS_AGENT, 2, &seen, &j[i]), 0);
	assert_int_equal(submit(&f, CLASS_AGENT, 2, &seen, &j[8]), -EBUSY);
	for (int i = 6; i < 8; i++)
		assert_int_equal(submit(&f, CLASS_AGENT, 3, &seen, &j[i]), 0);
	assert_int_equal(submit(&f, CLASS_AGENT, 4, &seen, &j[8]), -EBUSY); /* all eight places */
	assert_int_equal(jobs_waiting(d), 8);
	assert_int_equal(queue_clients(&d->queue), 3); /* one of them in two classes */
	for (int i = 0; i < 8; i++)
		job_cancel(j[i]);
	assert_int_equal(f.devices.queued, 0);
	say(&f, PROTO_END, running->id);
	f.config.limits.queue_per_client = 0; /* no bound of its own */
	assert_int_equal(submit(&f, CLASS_AGENT, 1, &seen, &running), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(submit(&f, CLASS_AGENT, 1, &seen, &j[i]), 0);
	say(&f, PROTO_END, running->id);
	say(&f, PROTO_END, j[0]->id);
	assert_int_equal(seen.ends, 3);
	/* No worker will come: what waits is told so, and nothing waits from now on. */
	d->succession = DRAINED;
	jobs_lost(d->current);
	jobs_evict(d);
	assert_int_equal(seen.fails, 7);
	assert_int_equal(seen.cause, FAIL_DRAINING);
	assert_int_equal(submit(&f, CLASS_AGENT, 1, &seen, &running), -ENODEV);
	assert_int_equal(submit(&f, CLASS_MAP, 1, &seen, &running), -EAGAIN);
	assert_int_equal(f.devices.queued, 0);
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_cancelled_job_does_not_look_at_its_owner),
		cmocka_unit_test(test_notes_are_preempted),
		cmocka_unit_test(test_preempted_but_done),
		cmocka_unit_test(test_preempted_and_worse),
		cmocka_unit_test(test_a_slot_that_is_held),
		cmocka_unit_test(test_streams_to_be_forgotten),
		cmocka_unit_test(test_a_warming_yields),
		cmocka_unit_test(test_idle_notes_yield),
		cmocka_unit_test(test_who_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
