/*
 * Notes for the chunks that a layout leaves out: one job for each on the small device. What becomes of
 * failures stands in chat_condense.c.
 */
#include "supervisor/requests/chat.h"

#include "supervisor/devices/governor.h"
#include "supervisor/requests/tracing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const struct job_events note_events;

/* --- a job --- */

/* Bytes of text that make a token in this prompt. */
static double bytes_a_token(const struct chat *c)
{
	double images = (double)c->view.census.images * TOKENS_PER_IMAGE;
	double tokens = tokens_of(c->base.all->tokens, buf_slice(&c->model), &c->view.census);
	return (double)(c->view.text_bytes + 1) / (tokens - images + 1);
}

static void settle(struct chat_note *n)
{
	struct chat *c = n->chat;
	n->job = NULL;
	if (--c->unsettled == 0)
		chat_event(c, CHAT_SETTLED);
}

/* Among all notes jobs of the request: a chunk's second attempt is one of its own. */
static unsigned note_number(const struct chat_note *n)
{
	return 2 * (unsigned)n->index + n->on_main;
}

static int note_submit(struct chat_note *n, struct device *d)
{
	struct chat *c = n->chat;
	const struct config *conf = c->base.all->config;
	struct job_spec spec = {.takes_slot = true,
		.impatient = true,
		.class = CLASS_MAP,
		.client = c->base.client,
		.output_tokens = (uint64_t)conf->condense.notes_max_tokens,
		.body = condense_chunk(&c->condense, n->index)};
	spec.prompt_tokens =
		PLAN_NOTES_PROMPT_TOKENS + (uint64_t)((double)spec.body.n / bytes_a_token(c));
	spec.message.kind = JOB_NOTES;
	spec.message.request_id = slice_str(c->base.id);
	spec.message.dialect = c->base.dialect;
	spec.message.body_bytes = (int64_t)spec.body.n;
	/* Empty: the worker takes what its backend serves when the job runs. What we know of that
	 * here may change while the job waits. */
	spec.message.model = buf_slice(d == c->device ? &c->model : &c->notes_model);
	spec.message.num_ctx = governor_num_ctx(d, spec.message.model);
	spec.message.max_tokens = conf->condense.notes_max_tokens;
	spec.message.timeout_ms = conf->condense.job_timeout_ms;
	n->step = STEP_NONE;
	if (tracing_header(&c->base, TRACING_NOTES, note_number(n), n->traceparent, &n->header)) {
		spec.message.headers = &n->header;
		spec.message.header_count = 1;
	}
	int rc = job_submit(d, &spec, &note_events, n, &n->job);
	if (rc == 0 && !n->job->running)
		n->step = steps_begin(request_steps(&c->base), STEP_QUEUE, d->conf->name, now_ms());
	return rc;
}

static void note_step_over(struct chat_note *n, enum step_outcome how, const char *why)
{
	steps_end(request_steps(&n->chat->base), n->step, how, why, now_ms());
	n->step = STEP_NONE;
}

static void note_run(void *ctx, struct job *j)
{
	struct chat_note *n = ctx;
	note_step_over(n, STEP_DONE, NULL);
	struct steps *s = request_steps(&n->chat->base);
	n->step = steps_begin(s, STEP_NOTES, j->device->conf->name, now_ms());
	steps_number(s, n->step, note_number(n));
}

static size_t notes_open(const struct chat *c)
{
	size_t open = 0;
	for (size_t i = 0; i < c->note_count; i++)
		open += c->notes[i].job != NULL;
	return open;
}

/* The notes that are not in will not come: what there is must do. */
static void notes_suffice(struct chat *c)
{
	for (size_t i = 0; i < c->note_count; i++) {
		if (c->notes[i].job) {
			job_cancel(c->notes[i].job);
			note_step_over(&c->notes[i], STEP_CANCELLED, "not waited for");
		}
		c->notes[i].job = NULL;
	}
	c->unsettled = 0;
	chat_event(c, CHAT_SETTLED);
}

/* The small device did not deliver this chunk; hopeless: nor will it the others. */
static void note_fall_back(struct chat_note *n, const char *cause, bool hopeless)
{
	struct chat *c = n->chat;
	char times[PLAN_REASON_BYTES], to[PLAN_REASON_BYTES + 64];
	n->job = NULL;
	buf_clear(&n->text);
	if (n->on_main || !plan_fits(&c->facts)) {
		bool all = hopeless && !n->on_main;
		chat_fallback(c, cause,
			all ? "selection and the notes that came"
			    : "selection alone for this chunk");
		if (all)
			notes_suffice(c);
		else
			settle(n);
		return;
	}
	size_t chunk_tokens =
		(size_t)((double)condense_chunk(&c->condense, n->index).n / bytes_a_token(c));
	size_t on_main = hopeless ? 1 + notes_open(c) : 1;
	bool original =
		plan_original_sooner(&c->facts, on_main, chunk_tokens, c->sent_tokens, times);
	if (!original && c->device->state == WORKER_READY) {
		n->on_main = true;
		if (note_submit(n, c->device) == 0) {
			snprintf(to, sizeof(to), "this chunk on %s (%s)", c->device->conf->name,
				times);
			chat_fallback(c, cause, to);
			return;
		}
	}
	snprintf(to, sizeof(to), "original (%s)", times);
	chat_fallback(c, cause, to);
	chat_chunks_cancel(c);
	chat_event(c, CHAT_ORIGINAL);
}

static void note_start(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)ctx;
	(void)j;
	(void)r;
}

static void note_delta(void *ctx, struct job *j, const struct proto_record *r)
{
	struct chat_note *n = ctx;
	/* over its cap the sticky error makes the notes unused */
	buf_add_slice(&n->text, r->u.delta.bytes);
	job_credit(j, r->u.delta.bytes.n);
}

static void note_end(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)j;
	struct chat_note *n = ctx;
	struct slice verdict = r->u.end.verdict;
	if (buf_error(&n->text)) {
		buf_clear(&n->text);
		verdict = SLICE("too long");
	}
	if (n->text.n == 0)
		snprintf(n->unused, sizeof(n->unused), "%.*s", (int)verdict.n,
			verdict.n ? verdict.p : "");
	note_step_over(n, STEP_DONE, n->unused);
	settle(n);
}

static void note_fail(void *ctx, struct job *j, const struct job_failure *f)
{
	char cause[96];
	snprintf(cause, sizeof(cause), "notes on %s: %s", j->device->conf->name,
		job_cause_name(f->cause));
	note_step_over(ctx, STEP_FAILED, job_cause_name(f->cause));
	note_fall_back(ctx, cause, f->cause == FAIL_TIMEOUT || f->cause == JOB_LOST);
}

static void on_late(uv_timer_t *t)
{
	chat_event(t->data, CHAT_WAIT_OVER);
}

/* Each job has its own timeout once it runs; this one bounds the waiting for slots as well. */
static void watch_notes(struct chat *c)
{
	uint64_t slots = (uint64_t)device_slots(c->small);
	uint64_t rounds = 1 + (c->note_count + slots - 1) / slots;
	uv_timer_start(&c->wait, on_late,
		rounds * (uint64_t)c->base.all->config->condense.job_timeout_ms, 0);
}

/* More urgent work took its slot. JOB_PREEMPTIONS_MAX bounds how often the wait begins anew. */
static void note_restart(void *ctx, struct job *j)
{
	struct chat_note *n = ctx;
	buf_clear(&n->text);
	note_step_over(n, STEP_CANCELLED, "made room for other work");
	n->step = steps_begin(
		request_steps(&n->chat->base), STEP_QUEUE, j->device->conf->name, now_ms());
	watch_notes(n->chat);
}

static const struct job_events note_events = {.start = note_start,
	.delta = note_delta,
	.end = note_end,
	.fail = note_fail,
	.restart = note_restart,
	.run = note_run};

/* --- all of them --- */

void chat_chunks_start(struct chat *c, size_t chunks)
{
	c->notes = calloc(chunks, sizeof(*c->notes));
	if (!c->notes) {
		chat_fallback(c, "out of memory", "selection alone");
		chat_event(c, CHAT_SETTLED);
		return;
	}
	c->note_count = c->unsettled = chunks;
	/* Ours: a reload may free the settings while jobs wait. */
	buf_clear(&c->notes_model);
	buf_add_slice(&c->notes_model, slice_str(c->small->conf->model));
	watch_notes(c);
	for (size_t i = 0; i < chunks; i++) {
		c->notes[i] = (struct chat_note){.chat = c, .index = i};
		buf_init(&c->notes[i].text, (size_t)c->base.all->config->condense.result_bytes);
	}
	for (size_t i = 0; i < chunks && c->unsettled > 0; i++) {
		int rc = note_submit(&c->notes[i], c->small);
		if (rc)
			note_fall_back(&c->notes[i],
				rc == -EAGAIN ? "condensing device lost" : "out of memory", true);
	}
}

void chat_chunks_late(struct chat *c)
{
	if (c->working || notes_open(c) == 0)
		return; /* all notes are in: what runs now is ours and short */
	if (plan_fits(&c->facts)) {
		chat_fallback(c, "notes took too long", "original");
		chat_chunks_cancel(c);
		chat_event(c, CHAT_ORIGINAL);
		return;
	}
	chat_fallback(c, "notes took too long", "selection and the notes that came");
	notes_suffice(c);
}

/* Chunks that go without notes, for the reason that the client sees. */
void chat_chunks_tell_unused(struct chat *c)
{
	size_t without = 0, told = strlen(c->note);
	const char *why = "refused"; /* told by a fallback */
	for (size_t i = 0; i < c->note_count; i++) {
		if (c->notes[i].text.n)
			continue;
		if (without++ == 0 && c->notes[i].unused[0])
			why = c->notes[i].unused;
	}
	if (without)
		snprintf(c->note + told, sizeof(c->note) - told,
			"%s%zu of %zu chunks without notes (%s)", told ? "; " : "", without,
			c->note_count, why);
}

void chat_chunks_cancel(struct chat *c)
{
	for (size_t i = 0; i < c->note_count; i++) {
		if (c->notes[i].job) {
			job_cancel(c->notes[i].job);
			steps_end(request_steps(&c->base), c->notes[i].step, STEP_CANCELLED,
				"not waited for", now_ms());
		}
		buf_free(&c->notes[i].text);
	}
	free(c->notes);
	c->notes = NULL;
	c->note_count = c->unsettled = 0;
}
