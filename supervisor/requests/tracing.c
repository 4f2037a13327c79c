#include "supervisor/requests/tracing.h"

#include <strings.h>

/* What a client's headers say, in the order in which they came. */
struct told {
	struct slice parent;
	unsigned parents;
	struct buf state;
};

static bool look(void *ctx, const char *name, const char *value)
{
	struct told *t = ctx;
	if (strcasecmp(name, "traceparent") == 0) {
		t->parent = slice_str(value);
		t->parents++;
	} else if (strcasecmp(name, "tracestate") == 0) {
		if (t->state.n)
			buf_add_char(&t->state, ',');
		buf_add_str(&t->state, value);
	}
	return true;
}

/* Nothing of a tracestate counts that is not well-formed; its traceparent does all the same. */
static char *state_of(struct told *t)
{
	struct buf state;
	char *copy = NULL;
	buf_init(&state, TRACE_STATE_BYTES);
	if (!buf_error(&t->state) && trace_state_read(buf_slice(&t->state), &state) && state.n)
		copy = slice_dup(buf_slice(&state));
	buf_free(&state);
	return copy;
}

/* False: no randomness is to be had, so there is no trace. */
static bool new_id(uint8_t *id, size_t n)
{
	uint8_t any = 0;
	if (uv_random(NULL, NULL, id, n, 0, NULL))
		return false;
	for (size_t i = 0; i < n; i++)
		any |= id[i];
	return any != 0;
}

void tracing_begin(struct request *r)
{
	const struct config *conf = r->all->config;
	struct record_trace *t = &r->trace;
	struct told told = {.parents = 0};
	if (!conf->traces.endpoint || !r->record)
		return;
	/* Of all members that may come, 32 of up to 513 bytes are not thrown away for their length alone. */
	buf_init(&told.state, (size_t)TRACE_STATE_MEMBERS * 514);
	exchange_each_header(r->exchange, look, &told);
	t->remote = told.parents == 1 && trace_parent_read(told.parent, &t->at);
	if (t->remote) {
		memcpy(t->parent, t->at.span, sizeof(t->parent));
		t->state = state_of(&told);
	}
	t->on = new_id(t->at.span, sizeof(t->at.span)) &&
		(t->remote || new_id(t->at.trace, sizeof(t->at.trace)));
	if (!t->remote)
		t->at.sampled = trace_is_sampled(t->at.trace, conf->traces.ratio);
	buf_free(&told.state);
	r->record->trace = *t;
	r->record->trace.state = NULL; /* the request's, until it is over */
}

void tracing_names(struct request *r, bool routed, const char *operation)
{
	if (!r->record)
		return;
	r->record->routed = routed;
	r->record->operation = operation;
}

bool tracing_header(const struct request *r, enum tracing_tag tag, unsigned number,
	char text[TRACE_PARENT_BYTES], struct proto_header *out)
{
	if (!r->trace.on)
		return false;
	struct trace_context within = r->trace.at;
	trace_span_within(&r->trace.at, (char)tag, number, within.span);
	trace_parent_write(&within, text);
	*out = (struct proto_header){SLICE("traceparent"), slice_str(text)};
	return true;
}

size_t tracing_headers(struct request *r, struct proto_header out[2])
{
	const struct steps *s = request_steps(r);
	if (!tracing_header(r, TRACING_CALL, s ? s->call : 0, r->traceparent, &out[0]))
		return 0;
	if (!r->trace.state)
		return 1;
	out[1] = (struct proto_header){SLICE("tracestate"), slice_str(r->trace.state)};
	return 2;
}

bool tracing_sets(const struct request *r, struct slice name)
{
	return r->trace.on &&
	       (slice_ieq(name, SLICE("traceparent")) || slice_ieq(name, SLICE("tracestate")));
}
