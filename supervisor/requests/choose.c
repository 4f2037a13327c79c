#include "supervisor/requests/choose.h"

#include <stdio.h>
#include <string.h>

const char *choose_form_name(enum choose_form form)
{
	static const char *const names[FORMS] = {"original", "layout", "cut"};
	return names[form];
}

/* The candidate of least time among those that fit, the original aside; FORMS: there is none. */
static int best_other(const struct choose_facts *f)
{
	int best = FORMS;
	for (int i = FORM_LAYOUT; i < FORMS; i++)
		if (f->form[i].there && f->form[i].fits &&
			(best == FORMS || f->form[i].ms < f->form[best].ms))
			best = i;
	return best;
}

static enum choose_form shortest(const struct choose_facts *f)
{
	int best = FORM_ORIGINAL;
	for (int i = FORM_LAYOUT; i < FORMS; i++)
		if (f->form[i].there && f->form[i].tokens < f->form[best].tokens)
			best = i;
	return (enum choose_form)best;
}

/* "layout 1.24 s (3100 of 14200 tokens new)" */
static void tell(char reason[PLAN_REASON_BYTES], const struct choose_facts *f, int form)
{
	const struct choose_candidate *c = &f->form[form];
	size_t n = strlen(reason);
	snprintf(reason + n, PLAN_REASON_BYTES - n, "%s %.2f s (%.0f of %.0f tokens new)",
		choose_form_name((enum choose_form)form), c->ms / 1000, c->fresh, c->tokens);
}

static void add(char reason[PLAN_REASON_BYTES], const char *text)
{
	size_t n = strlen(reason);
	snprintf(reason + n, PLAN_REASON_BYTES - n, "%s", text);
}

static enum strategy strategy_of(const struct choose_facts *f, enum choose_form form)
{
	if (form == FORM_ORIGINAL)
		return STRATEGY_A;
	return f->form[FORM_ORIGINAL].tokens <= (double)f->b_max_tokens ? STRATEGY_B : STRATEGY_C;
}

static void settle(const struct choose_facts *f, struct choice *out, enum choose_form form)
{
	out->form = form;
	out->strategy = strategy_of(f, form);
	out->ms = f->form[form].ms + f->queue_ms;
}

/* The original fits: is another form worth it? */
static void weigh(const struct choose_facts *f, struct choice *out)
{
	const struct choose_candidate *original = &f->form[FORM_ORIGINAL];
	int other = best_other(f);
	bool stays = f->on_layout && f->form[FORM_LAYOUT].there && f->form[FORM_LAYOUT].fits;
	if (stays)
		other = FORM_LAYOUT;
	double saved = other == FORMS ? 0 : original->ms - f->form[other].ms;
	bool enough =
		other != FORMS && saved >= f->min_gain_ms && saved >= f->min_gain * original->ms;
	settle(f, out, stays || enough ? (enum choose_form)other : FORM_ORIGINAL);
	tell(out->reason, f, out->form);
	if (other == FORMS)
		return;
	add(out->reason, "; ");
	tell(out->reason, f, out->form == FORM_ORIGINAL ? other : FORM_ORIGINAL);
	add(out->reason, stays ? ": stays on the layout" : enough ? "" : ": saves too little");
}

void choose(const struct choose_facts *f, struct choice *out)
{
	const struct choose_candidate *original = &f->form[FORM_ORIGINAL];
	memset(out, 0, sizeof(*out));
	if (original->fits && original->tokens < (double)f->a_max_tokens) {
		settle(f, out, FORM_ORIGINAL);
		snprintf(out->reason, sizeof(out->reason),
			"%.0f tokens < a_max_tokens %lld: %.2f s", original->tokens,
			(long long)f->a_max_tokens, original->ms / 1000);
		return;
	}
	if (original->fits) {
		weigh(f, out);
		return;
	}
	int other = best_other(f);
	if (other == FORMS && f->making) {
		settle(f, out, FORM_LAYOUT);
		out->ms = original->ms + f->queue_ms;
		snprintf(out->reason, sizeof(out->reason),
			"original of %.0f tokens does not fit; it is being made shorter",
			original->tokens);
		return;
	}
	if (f->form[FORM_LAYOUT].there && f->form[FORM_LAYOUT].fits)
		other = FORM_LAYOUT; /* it will be there for the next turn, too */
	out->none_fits = other == FORMS;
	settle(f, out, out->none_fits ? shortest(f) : (enum choose_form)other);
	snprintf(out->reason, sizeof(out->reason), "original of %.0f tokens does not fit; ",
		original->tokens);
	if (out->none_fits)
		add(out->reason, "nor does anything shorter");
	else
		tell(out->reason, f, other);
}
