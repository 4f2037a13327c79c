#include "supervisor/requests/idle_notes.h"

#include "common/base/hash.h"
#include "common/base/log.h"
#include "supervisor/devices/governor.h"
#include "supervisor/devices/job.h"
#include "supervisor/requests/plan.h"

#include <stdio.h>
#include <stdlib.h>

struct idle_run {
	struct idle_notes *notes;
	struct device *device;
	struct buf model;
	struct idle_unit unit[IDLE_UNITS_MAX];
	size_t count, at; /* units; the one that is written about */
	size_t piece;	  /* of that one */
	struct job *job;
	struct buf text; /* of that one, so far */
	size_t received; /* of text: of this piece */
	struct buf request_id;
	uint64_t client;
	uint64_t begun_ms;
};

/* --- what is kept --- */

struct idle_notes *idle_notes_create(struct requests *s)
{
	struct idle_notes *n = calloc(1, sizeof(*n));
	struct keep *k = s->devices->keep;
	if (!n)
		return NULL;
	n->all = s;
	if (notes_table_init(&n->table, (size_t)s->config->limits.notes_bytes)) {
		idle_notes_destroy(n);
		return NULL;
	}
	if (k)
		notes_table_load(&n->table, k);
	return n;
}

void idle_notes_destroy(struct idle_notes *n)
{
	if (!n)
		return;
	notes_table_fini(&n->table);
	free(n);
}

void idle_notes_reloaded(struct idle_notes *n)
{
	notes_table_limit(&n->table, (size_t)n->all->config->limits.notes_bytes);
	notes_worth_forget(&n->worth);
}

void idle_notes_decided(struct idle_notes *n, uint64_t chain, struct slice packed, size_t bytes)
{
	uint64_t key = notes_digest_key(chain);
	memo_put(n->table.digests, key, packed);
	if (n->all->devices->keep)
		keep_note(n->all->devices->keep, STORE_DIGEST, key, packed);
	n->count.used++;
	log_line(LOG_INFO, "digest_noted", LOG_INT("bytes", bytes), LOG_END);
}

/* --- who may write --- */

static uint64_t model_hash(struct slice model)
{
	return hash_bytes(model.p, model.n);
}

static bool is_idle(const struct device *d)
{
	return d->state == WORKER_READY && !device_hopeless(d) && d->inflight == 0 &&
	       queue_waiting(&d->queue) == 0;
}

/* A client has its own model there: an Ollama would put it out of memory for ours. */
static bool would_disturb(const struct device *d, struct slice model)
{
	return d->asked_ms && now_ms() - d->asked_ms < IDLE_MODEL_MS &&
	       !device_same_model(slice_str(d->asked_model), model);
}

static bool may_write(const struct idle_notes *n, const struct device *d)
{
	struct slice model = slice_str(device_model(d));
	return notes_are_written_by(d->conf->roles) && is_idle(d) && !d->noting &&
	       now_ms() >= d->notes_paused_ms && model.n && !would_disturb(d, model) &&
	       !notes_worth_is_off(&n->worth, model_hash(model));
}

struct device *idle_notes_device(const struct idle_notes *n)
{
	const struct devices *s = n->all->devices;
	const struct config *conf = n->all->config;
	bool wanted = conf->condense.idle_notes && conf->routing.mode == ROUTING_ADAPTIVE &&
		      conf->limits.notes_bytes > 0 && !n->all->ending && !s->stopping;
	for (size_t i = 0; wanted && i < s->count; i++)
		if (may_write(n, s->of[i]))
			return s->of[i];
	return NULL;
}

size_t idle_notes_piece_bytes(const struct config *conf, const struct device *d)
{
	double tokens = (double)conf->condense.chunk_tokens;
	double room = (double)(governor_window(d, slice_str(device_model(d))) -
			       PLAN_NOTES_PROMPT_TOKENS - conf->condense.notes_max_tokens);
	if (room > 0 && room / PLAN_CHUNK_SLACK < tokens)
		tokens = room / PLAN_CHUNK_SLACK;
	return (size_t)(tokens * NOTES_BYTES_A_TOKEN);
}

/* --- a run --- */

static void unit_free(struct idle_unit *u)
{
	for (size_t i = 0; i < LAYOUT_UNIT_CHUNKS; i++)
		buf_free(&u->text[i]);
}

static void run_free(struct idle_run *r)
{
	r->device->noting = NULL;
	for (size_t i = 0; i < r->count; i++)
		unit_free(&r->unit[i]);
	buf_free(&r->model);
	buf_free(&r->text);
	buf_free(&r->request_id);
	free(r);
}

static void tell_step(const struct idle_run *r, const char *why)
{
	char id[RECORD_ID_BYTES];
	bool done = strcmp(why, "done") == 0;
	struct step it = {.kind = STEP_IDLE_NOTES,
		.outcome = done ? STEP_DONE : STEP_CANCELLED,
		.begun_ms = r->begun_ms,
		.ended_ms = now_ms(),
		.tokens = -1,
		.cached = -1,
		.count = (unsigned)r->at};
	snprintf(it.device, sizeof(it.device), "%s", r->device->conf->name);
	snprintf(it.why, sizeof(it.why), "%s", done ? "" : why);
	record_text(id, sizeof(id), buf_slice(&r->request_id));
	history_late(&r->notes->all->history, id, &it);
}

static void end(struct idle_run *r, const char *why)
{
	tell_step(r, why);
	log_line(LOG_INFO, "notes_run", LOG_SLICE("req", buf_slice(&r->request_id)),
		LOG_STR("device", r->device->conf->name), LOG_STR("end", why),
		LOG_INT("units", r->at), LOG_INT("of", r->count), LOG_END);
	run_free(r);
}

/* A unit is done: what was written about it is there from now on, if it is nothing as well. */
static void put_unit(struct idle_run *r)
{
	struct idle_notes *n = r->notes;
	uint64_t key = notes_key(r->unit[r->at].key, buf_slice(&r->model));
	struct keep *k = n->all->devices->keep;
	memo_put(n->table.notes, key, buf_slice(&r->text));
	if (k)
		keep_note(k, STORE_NOTE, key, buf_slice(&r->text));
	buf_clear(&r->text);
	r->piece = 0;
	r->at++;
}

static const struct job_events note_events;

static int submit(struct idle_run *r)
{
	const struct config *conf = r->notes->all->config;
	struct job_spec spec = {.takes_slot = true,
		.impatient = true,
		.yields = true,
		.class = CLASS_IDLE,
		.client = r->client,
		.output_tokens = (uint64_t)conf->condense.notes_max_tokens,
		.body = buf_slice(&r->unit[r->at].text[r->piece])};
	spec.prompt_tokens =
		PLAN_NOTES_PROMPT_TOKENS + (uint64_t)((double)spec.body.n / NOTES_BYTES_A_TOKEN);
	spec.message.kind = JOB_NOTES;
	spec.message.request_id = buf_slice(&r->request_id);
	spec.message.body_bytes = (int64_t)spec.body.n;
	spec.message.model = buf_slice(&r->model);
	spec.message.num_ctx = governor_num_ctx(r->device, spec.message.model);
	spec.message.max_tokens = conf->condense.notes_max_tokens;
	spec.message.timeout_ms = conf->condense.job_timeout_ms;
	spec.message.strict = true;
	return job_submit(r->device, &spec, &note_events, r, &r->job);
}

/* The next piece, if there is one and still nobody needs the device. */
static void go_on(struct idle_run *r)
{
	while (r->at < r->count && r->piece == r->unit[r->at].count)
		put_unit(r);
	if (r->at == r->count) {
		r->device->noted++;
		end(r, "done");
	} else if (!is_idle(r->device)) {
		r->notes->count.preempted++;
		r->device->notings_cancelled++;
		end(r, "other work has come");
	} else {
		r->received = r->text.n;
		if (submit(r))
			end(r, "not possible");
	}
}

static void on_start(void *ctx, struct job *j, const struct proto_record *rec)
{
	(void)ctx, (void)j, (void)rec;
}

static void on_delta(void *ctx, struct job *j, const struct proto_record *rec)
{
	struct idle_run *r = ctx;
	buf_add_slice(&r->text, rec->u.delta.bytes);
	job_credit(j, rec->u.delta.bytes.n);
}

/* False: its model is given up. */
static bool judge(struct idle_run *r, const struct proto_record *rec)
{
	struct idle_notes *n = r->notes;
	unsigned kept = (unsigned)rec->u.end.notes_kept,
		 refused = (unsigned)rec->u.end.notes_refused;
	n->count.written++;
	n->count.kept += kept;
	n->count.dropped += refused;
	n->count.bytes += r->text.n - r->received;
	if (!notes_worth_add(&n->worth, model_hash(buf_slice(&r->model)), kept, refused))
		return true;
	log_line(LOG_WARN, "notes_given_up", LOG_STR("device", r->device->conf->name),
		LOG_SLICE("model", buf_slice(&r->model)),
		LOG_STR("why", "hardly a line of its notes stands in what they are about"),
		LOG_INT("answers", NOTES_WORTH_ANSWERS), LOG_END);
	return false;
}

static void on_end(void *ctx, struct job *j, const struct proto_record *rec)
{
	struct idle_run *r = ctx;
	(void)j;
	r->job = NULL;
	if (buf_error(&r->text)) {
		buf_clear(&r->text); /* more than a digest would take */
		r->received = 0;
	}
	r->piece++;
	if (judge(r, rec))
		go_on(r);
	else
		end(r, "model given up");
}

/* A text that a model cannot be asked about is done without notes; with another failure its device
 * is let alone for a while. */
static void on_fail(void *ctx, struct job *j, const struct job_failure *f)
{
	struct idle_run *r = ctx;
	(void)j;
	r->job = NULL;
	if (f->cause == FAIL_CANCELLED) {
		r->notes->count.preempted++;
		r->device->notings_cancelled++;
		end(r, "other work has come");
		return;
	}
	r->notes->count.failed++;
	r->device->notes_paused_ms = now_ms() + IDLE_PAUSE_MS;
	if (f->cause == FAIL_OVERFLOW || f->cause == FAIL_TOO_LARGE || f->cause == FAIL_EMPTY) {
		buf_clear(&r->text);
		put_unit(r);
	}
	end(r, job_cause_name(f->cause));
}

static const struct job_events note_events = {
	.start = on_start, .delta = on_delta, .end = on_end, .fail = on_fail};

void idle_notes_start(struct idle_notes *n, struct device *d, struct idle_unit *units, size_t count,
	struct slice request_id, uint64_t client)
{
	struct idle_run *r = calloc(1, sizeof(*r));
	for (size_t i = 0; i < count; i++) {
		if (r && i < IDLE_UNITS_MAX)
			r->unit[r->count++] = units[i];
		else
			unit_free(&units[i]);
	}
	if (!r)
		return;
	r->notes = n;
	r->device = d;
	r->client = client;
	r->begun_ms = now_ms();
	d->noting = r;
	buf_init(&r->text, NOTES_TEXT_MAX);
	buf_add_slice(&r->model, slice_str(device_model(d)));
	buf_add_slice(&r->request_id, request_id);
	if (buf_error(&r->model) || buf_error(&r->request_id))
		end(r, "out of memory");
	else
		go_on(r);
}
