#include "tests/fake/engine.h"
#include "tests/fake/mem.h"

static void model_loaded(struct clock_task *task);

static uint64_t load_ns(const struct options *o)
{
	return (uint64_t)((double)o->load_ms * MS_NS / o->speed);
}

static void on_booted(struct clock_task *task)
{
	struct engine *e = (struct engine *)((char *)task - offsetof(struct engine, boot));

	e->ready = true;
}

struct model *engine_model(struct engine *e, struct slice name)
{
	static const struct slice latest = SLICE(":latest");

	if (name.n > latest.n &&
		slice_ieq((struct slice){name.p + name.n - latest.n, latest.n}, latest))
		name.n -= latest.n;
	for (struct model *m = e->models; m; m = m->next) {
		struct slice have = slice_str(m->name);

		if (have.n > latest.n &&
			slice_ieq((struct slice){have.p + have.n - latest.n, latest.n}, latest))
			have.n -= latest.n;
		if (m->listed && slice_ieq(have, name))
			return m;
	}
	return NULL;
}

struct model *engine_add_model(struct engine *e, struct slice name)
{
	const struct options *o = &e->fake->options;
	struct model *m = engine_model(e, name), **last = &e->models;

	if (m)
		return m;
	m = mem_zalloc(sizeof(*m));
	m->engine = e;
	m->name = slice_dup(name);
	m->listed = true;
	m->num_ctx = o->num_ctx;
	m->slot_count = o->slots;
	m->slots = mem_zalloc(m->slot_count * sizeof(*m->slots));
	for (unsigned i = 0; i < m->slot_count; i++)
		buf_init(&m->slots[i].kv, PROMPT_MAX * 2);
	m->queue_end = &m->queue;
	m->saved_end = &m->saved;
	m->load.run = model_loaded;
	while (*last)
		last = &(*last)->next;
	*last = m;
	return m;
}

struct engine *engine_create(struct fake *fake)
{
	struct engine *e = mem_zalloc(sizeof(*e));
	const struct options *o = &fake->options;

	e->fake = fake;
	for (size_t i = 0; i < o->model_count; i++)
		engine_add_model(e, slice_str(o->models[i]));
	for (struct model *m = e->models; m && o->type == TYPE_OPENAI; m = m->next)
		m->state = MODEL_READY;
	if (o->type == TYPE_LLAMA) {
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): there is one at least */
		e->models->state = MODEL_READY;
		e->boot.run = on_booted;
		e->ready = o->load_ms == 0;
		if (!e->ready)
			clock_at(&fake->clock, &e->boot, clock_now() + load_ns(o));
	}
	return e;
}

struct gen *gen_create(struct request *r, const struct gen_ops *ops)
{
	struct gen *g = mem_zalloc(sizeof(*g));

	g->r = r;
	g->ops = ops;
	g->max_tokens = -1;
	g->id_slot = -1;
	g->cache_prompt = g->thinks = g->shift = true;
	prompt_init(&g->prompt);
	buf_init(&g->text, SCRIPT_TEXT_MAX);
	buf_init(&g->thought, SCRIPT_TEXT_MAX);
	buf_init(&g->echo, SCRIPT_TEXT_MAX);
	return g;
}

void gen_free(struct gen *g)
{
	prompt_fini(&g->prompt);
	buf_free(&g->text);
	buf_free(&g->thought);
	buf_free(&g->echo);
	free(g);
}

static void forget(struct model *m)
{
	host_cache_clear(m);
	for (unsigned i = 0; i < m->slot_count; i++)
		buf_clear(&m->slots[i].kv);
}

void engine_forget(struct engine *e)
{
	for (struct model *m = e->models; m; m = m->next)
		forget(m);
}

void engine_go_on(struct engine *e, int64_t hang_after)
{
	for (struct model *m = e->models; m; m = m->next)
		for (unsigned i = 0; i < m->slot_count; i++)
			if (m->slots[i].gen)
				gen_go_on(m->slots[i].gen, hang_after);
}

static void unload(struct model *m)
{
	clock_cancel(&m->engine->fake->clock, &m->load);
	m->state = MODEL_UNLOADED;
	m->loader = NULL;
	forget(m);
}

static void model_loaded(struct clock_task *task)
{
	struct model *m = (struct model *)((char *)task - offsetof(struct model, load));

	m->state = MODEL_READY;
	m->loader = NULL;
	engine_pump(m);
}

/* True when m is ready for g; otherwise starts, or waits for, what makes it so. */
static bool ready_for(struct model *m, struct gen *g)
{
	struct engine *e = m->engine;
	/* Without a window asked for, the server's default counts as asked for. */
	unsigned window = g->num_ctx ? g->num_ctx : e->fake->options.num_ctx;
	bool fits = window == m->num_ctx && g->runner == m->runner;

	if (m->state == MODEL_LOADING)
		return false;
	if (m->state == MODEL_READY && fits)
		return true;
	if (m->active)
		return false; /* a reload waits for those at work */
	if (m->state == MODEL_READY)
		e->count.reloads++;
	e->count.loads++;
	forget(m);
	m->num_ctx = window;
	m->runner = g->runner;
	if (!e->fake->options.load_ms) {
		m->state = MODEL_READY;
		return true;
	}
	m->state = MODEL_LOADING;
	m->loader = g;
	clock_at(&e->fake->clock, &m->load, clock_now() + load_ns(&e->fake->options));
	return false;
}

/* llama-server's choice: the idle slot with the most similar prompt, else the least recently used
 * one; of those never used the last. */
static struct slot *choose_slot(struct model *m, struct gen *g)
{
	double f = m->engine->fake->options.chars_per_token;
	struct slice text = buf_slice(&g->prompt.text);
	struct slot *oldest = NULL, *alike = NULL;
	size_t best =
		(size_t)((double)prompt_tokens(text, f) * m->engine->fake->options.slot_similarity);

	if (g->id_slot >= 0) {
		struct slot *s = &m->slots[(unsigned)g->id_slot % m->slot_count];

		return s->gen ? NULL : s;
	}
	for (unsigned i = 0; i < m->slot_count; i++) {
		struct slot *s = &m->slots[i];
		size_t shared;

		if (s->gen)
			continue;
		if (!oldest || s->used <= oldest->used)
			oldest = s;
		if (!s->kv.n)
			continue;
		shared = prompt_shared(text, buf_slice(&s->kv), f);
		if (shared > best) {
			best = shared;
			alike = s;
		}
	}
	return alike ? alike : oldest;
}

static void attach(struct model *m, struct slot *s, struct gen *g)
{
	struct engine *e = m->engine;

	s->gen = g;
	s->used = ++m->uses;
	s->task = (int64_t)g->r->seq;
	/* A hybrid model goes back by checkpoints alone, which no file has. */
	if (s->restored && e->fake->options.hybrid)
		buf_clear(&s->kv);
	s->restored = false;
	g->slot = s;
	g->slot_id = (unsigned)(s - m->slots);
	m->active++;
	if (++e->count.active > e->count.active_max)
		e->count.active_max = e->count.active;
}

void engine_detach(struct gen *g)
{
	struct model *m = g->model;
	struct slot *s = g->slot;
	size_t kept;

	clock_cancel(&m->engine->fake->clock, &g->task);
	if (g->r)
		g->r->gen = NULL;
	if (!s)
		return;
	g->slot = NULL;
	s->gen = NULL;
	m->active--;
	m->engine->count.active--;
	kept = prompt_prefix(
		buf_slice(&g->prompt.text), g->processed, m->engine->fake->options.chars_per_token);
	buf_clear(&s->kv);
	buf_add(&s->kv, g->prompt.text.p, g->processed == g->prompt_n ? g->prompt.text.n : kept);
	if (g->processed == g->prompt_n && g->emitted && !g->unread) {
		if (!g->given) /* the next turn holds it as an assistant message */
			buf_add_str(&s->kv, "\377a");
		buf_add_slice(&s->kv, buf_slice(&g->text));
		answer_put_calls(g, &s->kv);
	}
	if (buf_error(&s->kv))
		buf_clear(&s->kv);
	if (g->unload_after && !m->active)
		unload(m);
}

static struct gen *dequeue(struct model *m)
{
	struct gen *g = m->queue;

	m->queue = g->next;
	if (!m->queue)
		m->queue_end = &m->queue;
	m->engine->count.waiting--;
	return g;
}

/* Nothing to generate: the load was all that was asked. */
static void finish_load(struct model *m, struct gen *g)
{
	g->load_ns = clock_now() - g->submitted;
	if (g->unload_after && !m->active)
		unload(m);
	g->r->gen = NULL;
	g->ops->finish(g);
	gen_free(g);
}

/* Gives the head of the queue what it waits for. False: it has to wait on. */
static bool serve(struct model *m, struct gen *g)
{
	struct slot *s;

	if (!(g->load_only && g->unload_after) && !ready_for(m, g))
		return false;
	if (g->load_only) {
		finish_load(m, dequeue(m));
		return true;
	}
	s = choose_slot(m, g);
	if (!s)
		return false;
	g->moved = host_cache_swap(m, s, g);
	attach(m, s, dequeue(m));
	gen_start(g);
	return true;
}

void engine_pump(struct model *m)
{
	if (m->pumping)
		return; /* a gen that ended at once: the loop below goes on with the next */
	m->pumping = true;
	while (m->queue && serve(m, m->queue))
		continue;
	m->pumping = false;
}

void engine_submit(struct gen *g)
{
	struct model *m = g->model;

	g->r->gen = g;
	g->submitted = clock_now();
	g->state = GEN_QUEUED;
	*m->queue_end = g;
	m->queue_end = &g->next;
	m->engine->count.waiting++;
	engine_pump(m);
}

void engine_leave(struct gen *g)
{
	struct model *m = g->model;

	engine_detach(g);
	gen_free(g);
	engine_pump(m);
}

void engine_cancel(struct gen *g)
{
	struct model *m = g->model;

	if (g->state == GEN_QUEUED) {
		struct gen **at = &m->queue;

		while (*at != g)
			at = &(*at)->next;
		*at = g->next;
		if (!*at)
			m->queue_end = at;
		m->engine->count.waiting--;
		if (m->loader == g) {
			m->engine->count.loads_aborted++;
			unload(m);
		}
	}
	if (g->state == GEN_PREFILL) {
		g->r->gen = NULL;
		g->r = NULL; /* nobody looks before the batch that is being computed is done */
		return;
	}
	engine_leave(g);
}
