#include "supervisor/requests/weigh.h"

#include "common/tokens.h"
#include "supervisor/devices/keep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Of the room: below, no conversation has been frozen (layout.h: low, and high of what is left). */
#define NEAR 0.5
#define SYSTEM_CHARS_MAX 8000 /* a longer system prompt is an agent's */
#define MESSAGE_CHARS 24      /* what a template puts around one message */
#define IMAGE_CHARS (TOKENS_PER_IMAGE * 4)

/* --- what a prompt begins with --- */

int weigh_chain(const struct chat_request *r, struct slice model, struct prefix_chain *c)
{
	struct buf head;
	buf_init(&head, 0);
	buf_add_slice(&head, model);
	buf_add_char(&head, '\n');
	buf_add_slice(&head, r->tools.raw);
	int rc = buf_error(&head);
	prefix_chain_fini(c);
	if (rc == 0)
		rc = prefix_add(c, buf_slice(&head), MESSAGE_CHARS + (double)r->tools_bytes);
	buf_free(&head);
	for (size_t i = 0; i < r->count && rc == 0; i++) {
		const struct chat_message *m = &r->messages[i];
		rc = prefix_add(c, m->raw.raw,
			MESSAGE_CHARS + (double)m->chars + (double)m->images * IMAGE_CHARS);
	}
	if (rc)
		prefix_chain_fini(c); /* nothing is known then */
	return rc;
}

struct forecast weigh_forecast(
	const struct foresight *f, struct prefix_chain *chain, uint64_t tokens)
{
	prefix_scale(chain, (double)tokens);
	if (chain->count)
		return foresee(f, chain);
	struct forecast fc = {.match = {.fresh = (double)tokens}};
	fc.ms = predict_first_ms(&f->rates, 0, fc.match.fresh);
	return fc;
}

static void fill(struct choose_candidate *to, const struct forecast *fc, uint64_t tokens, bool fits)
{
	*to = (struct choose_candidate){.there = true,
		.fits = fits,
		.tokens = (double)tokens,
		.fresh = fmin(fc->match.fresh, (double)tokens), /* as it is told: of as many */
		.ms = fc->ms};
}

/* --- before anything is made --- */

/* Nothing of a conversation is cached yet, and it is not an agent's first request, which would be
 * sent again with every step: those have tools, or a system prompt that explains them. */
static bool is_one_shot(const struct chat_request *r)
{
	size_t texts = 0, system = 0;
	for (size_t i = 0; i < r->count; i++) {
		const struct chat_message *m = &r->messages[i];
		if (m->role == CHAT_ASSISTANT || m->role == CHAT_TOOL)
			return false;
		texts += m->role == CHAT_USER;
		system += m->role == CHAT_SYSTEM ? m->chars : 0;
	}
	return texts > 0 && system <= SYSTEM_CHARS_MAX && r->tools.raw.n <= 2;
}

static void decide(struct weighed *w, struct plan *plan)
{
	struct choice choice;
	choose(&w->ways, &choice);
	w->form = choice.form;
	plan->strategy = choice.strategy;
	snprintf(plan->reason, sizeof(plan->reason), "%s", choice.reason);
}

/* The backend has counted a prompt that this one goes on from: only what is new is an estimate. */
static void count(const struct forecast *fc, struct plan_facts *f)
{
	f->counted = (uint64_t)fc->match.counted;
	if (f->counted > 0)
		f->tokens = (uint64_t)ceil(fc->match.cached + fc->match.fresh);
}

void weigh_original(const struct weigh_facts *wf, struct prefix_chain *chain, struct weighed *w,
	struct plan *plan)
{
	struct plan_facts *f = wf->plan;
	struct forecast fc = weigh_forecast(wf->foresight, chain, f->tokens);
	count(&fc, f);
	*plan = (struct plan){
		.must_shrink = !plan_fits(f) || wf->overflowed, .room_tokens = plan_layout_room(f)};
	*w = (struct weighed){.one_shot = is_one_shot(wf->request),
		.ways = {.min_gain_ms = (double)wf->conf->routing.min_gain_ms,
			.min_gain = wf->conf->routing.min_gain,
			.a_max_tokens = f->a_max_tokens,
			.b_max_tokens = f->b_max_tokens,
			.queue_ms = wf->queue_ms}};
	fill(&w->ways.form[FORM_ORIGINAL], &fc, f->tokens, !plan->must_shrink);
	w->ways.making = plan->must_shrink;
	decide(w, plan);
	bool near = plan->room_tokens > 0 && (double)f->tokens > NEAR * (double)plan->room_tokens;
	plan->condense = plan->must_shrink ||
			 (f->tokens >= (uint64_t)f->a_max_tokens && (w->one_shot || near));
	if (w->one_shot)
		plan->keep_ratio =
			f->tokens <= (uint64_t)f->b_max_tokens ? f->keep_ratio_b : f->keep_ratio_c;
}

/* --- once the other form is made --- */

/* Was it frozen early, or is it what the device was sent last of this conversation? */
static bool is_on_layout(const struct weigh_facts *f, const struct weigh_other *o,
	const struct forecast *original, const struct forecast *layout)
{
	double of_original = 0, of_layout = 0;
	for (int age = 0; age < PREFIX_AGES; age++) {
		of_original = fmax(of_original, original->match.shared[age]);
		of_layout = fmax(of_layout, layout->match.shared[age]);
	}
	if (of_layout > of_original + PREFIX_LESSON_TOKENS)
		return true;
	for (size_t i = 0; i < f->request->count; i++)
		if (o->forced_count && bsearch(&o->chains[i], o->forced, o->forced_count,
					       sizeof(*o->forced), keep_by_chain))
			return true;
	return false;
}

void weigh_alone(struct weighed *w, struct plan *plan)
{
	if (!w->ways.making)
		return;
	w->ways.making = false;
	decide(w, plan);
}

void weigh_against(const struct weigh_facts *f, struct prefix_chain *chain,
	const struct weigh_other *o, struct weighed *w, struct plan *plan)
{
	enum choose_form form = w->one_shot ? FORM_CUT : FORM_LAYOUT;
	struct forecast original = weigh_forecast(f->foresight, chain, f->plan->tokens);
	struct forecast other = weigh_forecast(f->foresight, o->chain, o->tokens);
	struct plan_facts facts = *f->plan;
	facts.tokens = o->tokens;
	count(&other, &facts);
	int64_t room = plan->room_tokens;
	/* What had to be shorter was made for its room; the estimate of its tokens is another one. */
	bool fits =
		facts.counted > 0 ? plan_fits(&facts) : room <= 0 || o->tokens <= (uint64_t)room;
	fill(&w->ways.form[form], &other, o->tokens, fits || plan->must_shrink);
	w->ways.on_layout = form == FORM_LAYOUT && is_on_layout(f, o, &original, &other);
	w->ways.queue_ms = f->queue_ms;
	w->ways.making = false;
	decide(w, plan);
}
