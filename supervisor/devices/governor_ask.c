/* What Ollama is asked about a model, and told to load. */
#include "supervisor/devices/governor_private.h"

#include "common/base/json.h"
#include "common/base/log.h"
#include "common/dialect/dialect.h"

void governor_quiet(struct entry *e)
{
	e->phase = PHASE_QUIET;
	e->needed = e->wished = 0;
}

static void job_over(struct entry *e)
{
	e->job = NULL;
	buf_free(&e->body);
	buf_free(&e->answer);
}

static void on_start(void *ctx, struct job *j, const struct proto_record *r)
{
	(void)ctx, (void)j, (void)r;
}

static void on_delta(void *ctx, struct job *j, const struct proto_record *r)
{
	struct entry *e = ctx;
	buf_add_slice(&e->answer, r->u.delta.bytes); /* over its cap nothing is learned */
	job_credit(j, r->u.delta.bytes.n);
}

static void on_shown(void *ctx, struct job *j, const struct proto_record *r)
{
	struct entry *e = ctx;
	(void)j, (void)r;
	if (buf_error(&e->answer) == 0)
		window_read_model(buf_slice(&e->answer), &e->kv_bytes, &e->trained);
	e->known = true;
	e->phase = PHASE_WANTED;
	job_over(e);
}

static void on_not_shown(void *ctx, struct job *j, const struct job_failure *f)
{
	struct entry *e = ctx;
	(void)j;
	log_line(LOG_WARN, "window_unknown", LOG_STR("device", e->device->conf->name),
		LOG_SLICE("model", e->model), LOG_STR("cause", job_cause_name(f->cause)), LOG_END);
	governor_quiet(e); /* the next request that does not fit asks again */
	job_over(e);
}

static void on_loaded(void *ctx, struct job *j, const struct proto_record *r)
{
	struct entry *e = ctx;
	(void)j;
	log_line(LOG_INFO, "window_raised", LOG_STR("device", e->device->conf->name),
		LOG_SLICE("model", e->model), LOG_INT("from", e->before), LOG_INT("to", e->set),
		LOG_INT("load_ms", r->u.end.usage.load_ms > 0 ? r->u.end.usage.load_ms : 0),
		LOG_INT("ms", now_ms() - e->began_ms), LOG_STR("cost", "the model's cache is cold"),
		LOG_END);
	governor_quiet(e);
	job_over(e);
}

static void on_not_loaded(void *ctx, struct job *j, const struct job_failure *f)
{
	struct entry *e = ctx;
	(void)j;
	log_line(LOG_WARN, "window_not_raised", LOG_STR("device", e->device->conf->name),
		LOG_SLICE("model", e->model), LOG_INT("from", e->before), LOG_INT("to", e->set),
		LOG_STR("cause", job_cause_name(f->cause)), LOG_SLICE("message", f->message),
		LOG_END);
	if (f->cause == FAIL_STATUS || f->cause == FAIL_TIMEOUT)
		e->refused = e->set; /* Ollama says no; anything else says nothing of the window */
	e->set = e->before;
	governor_quiet(e);
	job_over(e);
}

static const struct job_events show_events = {
	.start = on_start, .delta = on_delta, .end = on_shown, .fail = on_not_shown};
static const struct job_events load_events = {
	.start = on_start, .delta = on_delta, .end = on_loaded, .fail = on_not_loaded};

static struct job_spec spec_of(struct entry *e, int64_t timeout_ms)
{
	struct job_spec spec = {
		.impatient = true, .class = CLASS_IDLE, .body = buf_slice(&e->body)};
	spec.message.request_id = SLICE("window");
	spec.message.body_bytes = (int64_t)e->body.n;
	spec.message.model = e->model;
	spec.message.timeout_ms = timeout_ms;
	return spec;
}

static void put_body(struct entry *e, const char *more)
{
	buf_init(&e->body, 0);
	buf_init(&e->answer, GOVERNOR_SHOW_BYTES);
	buf_add_str(&e->body, "{\"model\":");
	json_put_string(&e->body, e->model);
	buf_add_str(&e->body, more);
}

void governor_ask_model(struct entry *e)
{
	put_body(e, "}");
	struct job_spec spec = spec_of(e, GOVERNOR_ASK_MS);
	spec.message.kind = JOB_PASS;
	spec.message.method = SLICE("POST");
	spec.message.path = SLICE("/api/show");
	e->phase = PHASE_ASKING;
	if (buf_error(&e->body) || job_submit(e->device, &spec, &show_events, e, &e->job)) {
		governor_quiet(e);
		job_over(e);
	}
}

void governor_load(struct entry *e, const struct window_step *step, int64_t from)
{
	log_line(LOG_INFO, "window_raise", LOG_STR("device", e->device->conf->name),
		LOG_SLICE("model", e->model), LOG_INT("from", from), LOG_INT("to", step->to),
		LOG_STR("reason", step->reason), LOG_END);
	put_body(e, ",\"prompt\":\"\",\"stream\":false}");
	struct job_spec spec = spec_of(e, GOVERNOR_LOAD_MS);
	spec.message.kind = JOB_CHAT;
	spec.message.dialect = DIALECT_OLLAMA_GENERATE;
	spec.message.num_ctx = step->to;
	spec.takes_slot = true; /* what comes meanwhile waits here and not in Ollama */
	e->before = from;
	e->set = step->to;
	e->phase = PHASE_LOADING;
	e->began_ms = now_ms();
	if (buf_error(&e->body) || job_submit(e->device, &spec, &load_events, e, &e->job)) {
		e->set = e->before;
		governor_quiet(e);
		job_over(e);
	}
}
