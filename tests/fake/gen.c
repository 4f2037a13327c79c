#include "tests/fake/engine.h"

#define BURST 64	     /* tokens said in one turn of the loop at an infinite rate */
#define BACKLOG (256u << 10) /* bytes a slow reader may leave waiting */

static const struct options *options_of(const struct gen *g)
{
	return &g->model->engine->fake->options;
}

static double seconds(double n, double d, double rate, double half)
{
	return rate > 0 ? n / rate * (half > 0 ? 1 + (d + n / 2) / half : 1) : 0;
}

/* Time n tokens take behind d others; at an infinite rate none passes, but a microsecond each is
 * reported. */
static uint64_t span_ns(size_t n, size_t d, double rate, double half)
{
	return (uint64_t)(seconds((double)n, (double)d, rate, half) * 1e9);
}

static uint64_t prefill_ns(const struct gen *g, size_t processed)
{
	const struct options *o = options_of(g);

	return span_ns(processed - g->cached_n, g->cached_n, o->prefill, o->depth_half);
}

static uint64_t decode_ns(const struct gen *g, size_t tokens)
{
	const struct options *o = options_of(g);

	return span_ns(tokens, g->prompt_n, o->decode, o->decode_half);
}

static void wait_until(struct gen *g, uint64_t due)
{
	clock_at(&g->model->engine->fake->clock, &g->task, due);
}

static void note_facts(struct gen *g)
{
	g->r->facts = (struct facts){(int64_t)g->prompt_n, (int64_t)g->cached_n,
		(int64_t)gen_new_tokens(g), g->slot_id, (int64_t)g->load_ns, g->r->facts.first,
		g->r->facts.late};
}

static void finish(struct gen *g)
{
	const struct options *o = &g->r->fake->options;
	struct model *m = g->model;

	g->prefill_ns =
		o->prefill > 0 ? prefill_ns(g, g->prompt_n) : (g->prompt_n - g->cached_n) * 1000;
	g->decode_ns = o->decode > 0 ? decode_ns(g, gen_new_tokens(g)) : gen_new_tokens(g) * 1000;
	if (!g->reason && g->r->script.tool_count && g->r->script.fault != FAULT_EMPTY)
		g->reason = REASON_TOOLS;
	note_facts(g);
	engine_detach(g);
	g->ops->finish(g);
	gen_free(g);
	engine_pump(m);
}

/* Breaks the stream where the script says so. True: g goes no further (and may be gone). */
static bool misbehave(struct gen *g)
{
	const struct script *s = &g->r->script;
	struct http_exchange *x = g->r->x;
	int64_t at = (int64_t)g->emitted;

	if (s->hang_after != at && s->cut_after != at && s->end_after != at &&
		s->error_after != at && s->garbage_after != at)
		return false;
	if (s->error_after == at) {
		g->ops->error(
			g, s->error.n ? buf_slice(&s->error) : SLICE("the model runner crashed"));
		return true;
	}
	if (!x->status)
		g->ops->begin(g);
	if (s->garbage_after == at) {
		http_data(x, SLICE("{\"this is\": not JSON\n\n"));
		return false;
	}
	if (s->hang_after == at) {
		http_flush(x);
		g->state = GEN_HUNG;
	} else if (s->cut_after == at) {
		http_cut(x);
	} else {
		http_end(x);
	}
	return true;
}

/* The first token, due then, is there: or all of them, where they come at once. Reading the request
 * is late, too. */
static void note_first(struct gen *g, uint64_t due)
{
	struct request *r = g->r;
	uint64_t now = clock_now(), late = now > due ? now - due : 0;
	uint64_t reading = g->submitted - r->started_ns, asked = r->script.delay_ms * MS_NS;

	if (r->facts.first >= 0)
		return;
	r->facts.first = (int64_t)(now - r->started_ns);
	r->facts.late = (int64_t)(late + (reading > asked ? reading - asked : 0));
}

static void decode(struct gen *g)
{
	const struct options *o = &g->r->fake->options;
	struct http_exchange *x = g->r->x;
	uint64_t start = g->started + prefill_ns(g, g->prompt_n);

	if (!g->stream && clock_now() < start + decode_ns(g, g->total - g->given)) {
		wait_until(g, start + decode_ns(g, g->total - g->given));
		return;
	}
	for (unsigned burst = 0;; burst++) {
		if (g->stream) {
			uint64_t due = start + decode_ns(g, gen_new_tokens(g) + 1);

			if (http_backlog(x) > BACKLOG) {
				g->blocked = true;
				http_flush(x);
				return;
			}
			if (g->emitted < g->total && due > clock_now()) {
				http_flush(x);
				wait_until(g, due);
				return;
			}
			if (burst == BURST) {
				http_flush(x);
				wait_until(g, clock_now());
				return;
			}
			if (misbehave(g))
				return;
		}
		note_first(g, g->stream && g->emitted < g->total
				      ? start + decode_ns(g, 1)
				      : start + decode_ns(g, g->total - g->given));
		if (g->emitted == g->total)
			break;
		answer_token(g);
		g->r->fake->engine->count.generated++;
		if (g->stream && o->decode > 0)
			http_flush(x); /* a token, a write */
	}
	finish(g);
}

static void prefill(struct gen *g)
{
	while (g->processed < g->prompt_n) {
		size_t batch = options_of(g)->batch;
		size_t next =
			g->processed + batch < g->prompt_n ? g->processed + batch : g->prompt_n;
		uint64_t due = g->started + prefill_ns(g, next);

		if (due > clock_now()) {
			wait_until(g, due);
			return;
		}
		g->model->engine->count.prefilled += next - g->processed;
		g->processed = next;
		if (!g->r) { /* cancelled meanwhile */
			engine_leave(g);
			return;
		}
		if (g->progress && g->stream) {
			g->ops->progress(g);
			http_flush(g->r->x);
		}
	}
	g->state = GEN_DECODE;
	decode(g);
}

static void on_task(struct clock_task *task)
{
	struct gen *g = (struct gen *)((char *)task - offsetof(struct gen, task));

	if (g->state == GEN_PREFILL)
		prefill(g);
	else
		decode(g);
}

void gen_resume(struct gen *g)
{
	if (!g->blocked)
		return;
	g->blocked = false;
	wait_until(g, clock_now());
}

void gen_go_on(struct gen *g, int64_t hang_after)
{
	if (g->state != GEN_HUNG)
		return;
	g->r->script.hang_after = hang_after;
	g->state = GEN_DECODE;
	wait_until(g, clock_now());
}

void gen_start(struct gen *g)
{
	const struct options *o = &g->r->fake->options;
	struct slice text = buf_slice(&g->prompt.text);
	/* Ollama may have cut the prompt to its window. */
	size_t given = g->given_bytes < text.n ? g->given_bytes : text.n;

	g->started = clock_now();
	g->load_ns = g->started - g->submitted;
	if (o->cache_rate > 0)
		g->started += span_ns(g->moved, 0, o->cache_rate, 0);
	/* What was generated before counts as the tokens that it was. */
	g->prompt_n = prompt_tokens((struct slice){text.p, text.n - given}, o->chars_per_token) +
		      g->given;
	g->cached_n = g->cache_prompt
			      ? prompt_shared(text, buf_slice(&g->slot->kv), o->chars_per_token)
			      : 0;
	if (g->cached_n >= g->prompt_n)
		g->cached_n = g->prompt_n
				      ? g->prompt_n - 1
				      : 0; /* the last token always runs: its logits are needed */
	g->r->fake->engine->count.cached += g->cached_n;
	g->processed = g->cached_n;
	g->task.run = on_task;
	g->state = GEN_PREFILL;
	answer_plan(g);
	note_facts(g);
	if (g->stream && o->early_headers) {
		g->ops->begin(g);
		http_flush(g->r->x);
	}
	if (g->progress && g->stream)
		g->ops->progress(g);
	prefill(g);
}
