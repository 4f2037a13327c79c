#include "supervisor/tell/otlp.h"

#include "common/base/json.h"
#include "supervisor/requests/tracing.h"

#include <inttypes.h>
#include <stdio.h>

/* Numbers of the protocol's SpanKind and StatusCode. */
enum kind { KIND_INTERNAL = 1, KIND_SERVER = 2, KIND_CLIENT = 3 };
enum { STATUS_ERROR = 2 };
/* Span.flags: the W3C flags, and whether the parent is known to be remote or not. */
enum { FLAG_SAMPLED = 1, FLAG_HAS_REMOTE = 0x100, FLAG_REMOTE = 0x200 };

#define NAME_BYTES (RECORD_TEXT_BYTES + 32)

/* One record on its way out. */
struct writer {
	const struct record *r;
	const struct otlp_facts *facts;
	struct buf *out;
	size_t spans;
};

struct span {
	const char *name;
	enum kind kind;
	uint8_t id[TRACE_SPAN_BYTES];
	const uint8_t *parent; /* NULL: the beginning of a trace */
	uint64_t begun_ms, ended_ms;
};

/* --- parts --- */

static void put_text(struct buf *b, const char *key, const char *text)
{
	json_put_key(b, key);
	json_put_string(b, slice_str(text));
}

static void put_id(struct buf *b, const char *key, const uint8_t *id, size_t n)
{
	char text[2 * TRACE_ID_BYTES + 1];
	trace_hex(id, n, text);
	put_text(b, key, text);
}

static void put_time(const struct writer *w, const char *key, uint64_t ms)
{
	json_put_key(w->out, key);
	buf_printf(w->out, "\"%" PRIu64 "000000\"", w->r->begun_at_ms + (ms - w->r->begun_ms));
}

static void attribute(struct buf *b, const char *key, const char *type)
{
	buf_add_str(b, b->n && b->p[b->n - 1] == '[' ? "{" : ",{");
	put_text(b, "key", key);
	json_put_key(b, "value");
	buf_add_char(b, '{');
	json_put_key(b, type);
}

static void say_text(struct buf *b, const char *key, const char *text)
{
	if (!text || !*text)
		return;
	attribute(b, key, "stringValue");
	json_put_string(b, slice_str(text));
	buf_add_str(b, "}}");
}

/* Below 0: unknown. */
static void say_int(struct buf *b, const char *key, int64_t n)
{
	if (n < 0)
		return;
	attribute(b, key, "intValue");
	buf_printf(b, "\"%" PRId64 "\"}}", n);
}

static void say_truth(struct buf *b, const char *key, bool truth)
{
	attribute(b, key, "boolValue");
	buf_add_str(b, truth ? "true}}" : "false}}");
}

/* --- spans --- */

/* Its attributes come next. */
static void span_begin(struct writer *w, const struct span *s)
{
	const struct record_trace *t = &w->r->trace;
	struct buf *b = w->out;
	bool remote = t->remote && s->parent == t->parent;
	buf_add_str(b, w->spans++ ? ",{" : "{");
	put_id(b, "traceId", t->at.trace, sizeof(t->at.trace));
	put_id(b, "spanId", s->id, sizeof(s->id));
	if (s->parent)
		put_id(b, "parentSpanId", s->parent, TRACE_SPAN_BYTES);
	if (t->state)
		put_text(b, "traceState", t->state);
	json_put_key(b, "flags");
	json_put_int(b, FLAG_SAMPLED | FLAG_HAS_REMOTE | (remote ? FLAG_REMOTE : 0));
	put_text(b, "name", s->name);
	json_put_key(b, "kind");
	json_put_int(b, s->kind);
	put_time(w, "startTimeUnixNano", s->begun_ms);
	put_time(w, "endTimeUnixNano", s->ended_ms);
	json_put_key(b, "attributes");
	buf_add_char(b, '[');
}

static void span_failed(struct writer *w, const char *why)
{
	json_put_key(w->out, "status");
	buf_add_char(w->out, '{');
	if (why && *why)
		put_text(w->out, "message", why);
	json_put_key(w->out, "code");
	json_put_int(w->out, STATUS_ERROR);
	buf_add_char(w->out, '}');
}

static void span_end(struct writer *w)
{
	buf_add_char(w->out, '}');
}

/* --- a step --- */

static void step_ids(const struct writer *w, size_t index, uint8_t id[TRACE_SPAN_BYTES])
{
	trace_span_within(&w->r->trace.at, TRACING_STEP, (unsigned)index, id);
}

static void say_gen_ai(struct writer *w, const char *operation, const char *device)
{
	struct buf *b = w->out;
	say_text(b, "gen_ai.operation.name", operation);
	say_text(b, "gen_ai.provider.name", w->facts->provider(w->facts->ctx, device));
	say_text(b, "tandem.device", device);
}

static void say_step(struct writer *w, const struct step *s)
{
	say_text(w->out, "tandem.outcome", step_outcome_name(s->outcome));
	say_text(w->out, s->outcome == STEP_FAILED ? "error.type" : "tandem.why", s->why);
}

static void put_step(struct writer *w, size_t index, const struct step *s, const uint8_t *parent)
{
	bool calls = s->kind == STEP_NOTES;
	struct span span = {.name = step_kind_name(s->kind),
		.kind = calls ? KIND_CLIENT : KIND_INTERNAL,
		.parent = parent,
		.begun_ms = s->begun_ms,
		.ended_ms = s->ended_ms};
	if (calls)
		trace_span_within(&w->r->trace.at, TRACING_NOTES, s->number, span.id);
	else
		step_ids(w, index, span.id);
	span_begin(w, &span);
	if (calls)
		say_gen_ai(w, "chat", s->device);
	else
		say_text(w->out, "tandem.device", s->device);
	say_step(w, s);
	say_int(w->out, "tandem.tokens", s->tokens);
	say_int(w->out, "tandem.tokens.cached", s->cached);
	buf_add_char(w->out, ']');
	if (s->outcome == STEP_FAILED)
		span_failed(w, s->why);
	span_end(w);
}

/* --- calls of devices --- */

static bool is_of_call(const struct step *s)
{
	return s->kind == STEP_PREFILL || s->kind == STEP_DECODE || s->kind == STEP_ANSWER;
}

/* One call: its steps are in a row, whatever stands between them. */
struct call {
	const struct step *first, *last;
	int64_t in, cached, out;
};

static struct call call_of(const struct record *r, size_t from)
{
	struct call c = {&r->steps.of[from], &r->steps.of[from], -1, -1, -1};
	for (size_t i = from; i < r->steps.count; i++) {
		const struct step *s = &r->steps.of[i];
		if (!is_of_call(s) || s->number != c.first->number)
			continue;
		c.last = s;
		if (s->kind == STEP_DECODE) {
			c.out = s->tokens;
		} else {
			c.in = s->tokens;
			c.cached = s->cached;
		}
	}
	return c;
}

static void put_call(struct writer *w, size_t from)
{
	const struct record *r = w->r;
	struct call c = call_of(r, from);
	char name[NAME_BYTES];
	struct span span = {.name = name,
		.kind = KIND_CLIENT,
		.parent = r->trace.at.span,
		.begun_ms = c.first->begun_ms,
		.ended_ms = c.last->ended_ms};
	snprintf(name, sizeof(name), "%s%s%s", r->operation ? r->operation : r->method,
		r->model[0] && r->operation ? " " : "", r->operation ? r->model : "");
	trace_span_within(&r->trace.at, TRACING_CALL, c.first->number, span.id);
	span_begin(w, &span);
	say_gen_ai(w, r->operation, c.first->device);
	say_text(w->out, "gen_ai.request.model", r->model);
	say_int(w->out, "gen_ai.usage.input_tokens", c.in);
	say_int(w->out, "gen_ai.usage.cache_read.input_tokens", c.cached);
	say_int(w->out, "gen_ai.usage.output_tokens", c.out);
	say_step(w, c.last);
	buf_add_char(w->out, ']');
	if (c.last->outcome == STEP_FAILED)
		span_failed(w, c.last->why);
	span_end(w);
	for (size_t i = from; i < r->steps.count; i++) {
		const struct step *s = &r->steps.of[i];
		if (is_of_call(s) && s->number == c.first->number)
			put_step(w, i, s, span.id);
	}
}

static bool begins_call(const struct record *r, size_t at)
{
	const struct step *s = &r->steps.of[at];
	for (size_t i = at; is_of_call(s) && i-- > 0;)
		if (is_of_call(&r->steps.of[i]))
			return r->steps.of[i].number != s->number;
	return is_of_call(s);
}

/* --- the request --- */

static bool is_event(const struct step *s)
{
	switch (s->kind) {
	case STEP_HEARTBEAT:
	case STEP_FALLBACK:
	case STEP_OVERFLOW:
	case STEP_RETRY:
	case STEP_RESUME:
	case STEP_TAKEN:
		return true;
	default:
		return false;
	}
}

static void put_event(struct writer *w, const struct step *s)
{
	char name[NAME_BYTES];
	struct buf *b = w->out;
	buf_add_str(b, b->p && b->n && b->p[b->n - 1] == '[' ? "{" : ",{");
	put_time(w, "timeUnixNano", s->ended_ms);
	snprintf(name, sizeof(name), "tandem.%s", step_kind_name(s->kind));
	put_text(b, "name", name);
	json_put_key(b, "attributes");
	buf_add_char(b, '[');
	say_text(b, "tandem.why", s->why);
	say_text(b, "tandem.device", s->device);
	say_int(b, "tandem.tokens", s->tokens);
	say_int(b, "tandem.count", s->kind == STEP_HEARTBEAT ? (int64_t)s->count : -1);
	say_int(b, "tandem.ms", s->kind == STEP_RESUME ? (int64_t)(s->ended_ms - s->begun_ms) : -1);
	buf_add_str(b, "]}");
}

static void say_http(struct writer *w)
{
	const struct record *r = w->r;
	struct buf *b = w->out;
	say_text(b, "http.request.method", r->method);
	say_text(b, "url.path", r->path);
	say_text(b, "url.scheme", w->facts->tls ? "https" : "http");
	say_text(b, "http.route", r->routed ? r->path : NULL);
	say_int(b, "http.response.status_code", r->status ? r->status : -1);
}

static void say_tandem(struct writer *w)
{
	const struct record *r = w->r;
	const struct measure *m = &r->measure;
	struct buf *b = w->out;
	say_text(b, "tandem.request.id", r->id);
	say_text(b, "tandem.dialect", dialect_name(r->dialect));
	say_text(b, "tandem.strategy", record_way(r));
	say_text(b, "tandem.reason", r->reason);
	say_text(b, "tandem.outcome", measure_outcome_name(m->outcome));
	say_text(b, "tandem.device", r->device);
	say_text(b, "tandem.key", r->key);
	say_int(b, "tandem.tokens.in", (int64_t)m->tokens[MEASURE_IN]);
	say_int(b, "tandem.tokens.sent", (int64_t)m->tokens[MEASURE_SENT]);
	if (m->outcome == MEASURE_DONE && m->first_ms >= 0)
		say_int(b, "tandem.first_byte_ms", (int64_t)m->first_ms);
	say_truth(b, "tandem.shortened", m->layout);
	if (r->steps.lost)
		say_int(b, "tandem.steps.lost", (int64_t)r->steps.lost);
}

static void put_request(struct writer *w)
{
	const struct record *r = w->r;
	char name[NAME_BYTES], status[16];
	bool failed = r->measure.outcome == MEASURE_FAILED || r->status >= 500;
	struct span span = {.name = name,
		.kind = KIND_SERVER,
		.parent = r->trace.remote ? r->trace.parent : NULL,
		.begun_ms = r->begun_ms,
		.ended_ms = r->ended_ms};
	memcpy(span.id, r->trace.at.span, sizeof(span.id));
	snprintf(name, sizeof(name), "%s%s%s", r->method, r->routed ? " " : "",
		r->routed ? r->path : "");
	snprintf(status, sizeof(status), "%d", r->status);
	span_begin(w, &span);
	say_http(w);
	say_tandem(w);
	if (failed)
		say_text(w->out, "error.type", r->status >= 500 ? status : "failed");
	buf_add_char(w->out, ']');
	json_put_key(w->out, "events");
	buf_add_char(w->out, '[');
	for (size_t i = 0; i < r->steps.count; i++)
		if (is_event(&r->steps.of[i]))
			put_event(w, &r->steps.of[i]);
	buf_add_char(w->out, ']');
	if (failed)
		span_failed(w, NULL);
	span_end(w);
}

size_t otlp_spans(const struct record *r, const struct otlp_facts *facts, struct buf *out)
{
	struct writer w = {r, facts, out, 0};
	put_request(&w);
	for (size_t i = 0; i < r->steps.count; i++) {
		const struct step *s = &r->steps.of[i];
		if (begins_call(r, i))
			put_call(&w, i);
		else if (!is_of_call(s) && !is_event(s))
			put_step(&w, i, s, r->trace.at.span);
	}
	return w.spans;
}

size_t otlp_late_span(const struct record *r, const struct step *late,
	const struct otlp_facts *facts, struct buf *out)
{
	struct writer w = {r, facts, out, 0};
	put_step(&w, r->steps.count + r->steps.lost, late, r->trace.at.span);
	return w.spans;
}

void otlp_resource(const char *version, const char *host, int64_t pid, struct buf *out)
{
	buf_add_char(out, '{');
	json_put_key(out, "attributes");
	buf_add_char(out, '[');
	say_text(out, "service.name", "tandem");
	say_text(out, "service.version", version);
	say_text(out, "host.name", host);
	say_int(out, "process.pid", pid);
	buf_add_str(out, "]}");
}
