#include "supervisor/requests/explain.h"

#include "common/base/json.h"

#include <inttypes.h>
#include <stdio.h>

static bool laid_out(const struct explanation *e)
{
	return e->condense && e->outcome == DECIDE_CONDENSED;
}

static double tokens_sent(const struct explanation *e)
{
	if (e->outcome == DECIDE_OVERFLOW || e->outcome == DECIDE_COMPACTED)
		return 0;
	if (!laid_out(e))
		return (double)e->facts->tokens;
	return e->weighed ? e->weighed->ways.form[e->weighed->form].tokens
			  : condense_tokens(e->condense);
}

static bool measured(const struct explanation *e)
{
	return e->rates->prefills > 0;
}

/* Milliseconds to the first token with nothing of them cached; < 0: no rate is known. */
static double cold_ms(const struct explanation *e, double tokens)
{
	return measured(e) ? predict_first_ms(e->rates, 0, tokens) : -1;
}

static void put_text(struct buf *out, const char *name, const char *text)
{
	json_put_key(out, name);
	json_put_string(out, slice_str(text));
}

static void put_number(struct buf *out, const char *name, double v)
{
	json_put_key(out, name);
	if (v < 0)
		buf_add_str(out, "null");
	else
		json_put_int(out, (int64_t)(v + 0.5));
}

/* Of a message that no layout has changed. */
static const char *plain_reason(const struct explanation *e)
{
	return e->outcome == DECIDE_OVERFLOW	      ? "refused"
	       : e->compaction && e->compaction->made ? "as the compaction leaves it"
						      : "as the client sent it";
}

static void put_message(const struct explanation *e, size_t i, struct buf *out)
{
	const struct chat_message *m = &e->request->messages[i];
	buf_add_str(out, i ? ",{" : "{");
	json_put_key(out, "index");
	json_put_int(out, (int64_t)i);
	put_text(out, "role", chat_role_name(m->role));
	if (laid_out(e)) {
		const struct layout_message *l = &e->condense->layout.messages[i];
		json_put_key(out, "group");
		json_put_int(out, l->group);
		put_text(out, "level", layout_level_name(l->level));
		put_number(out, "bytes_in", (double)l->bytes_in);
		put_number(out, "bytes_out", (double)l->bytes_out);
		put_number(out, "tokens_in", l->tokens_in);
		put_number(out, "tokens_out", l->tokens_out);
		put_text(out, "reason", l->reason ? l->reason : "");
	} else {
		put_text(out, "level", "L0");
		put_number(out, "bytes_in", (double)m->raw.raw.n);
		put_number(
			out, "bytes_out", e->outcome == DECIDE_OVERFLOW ? 0 : (double)m->raw.raw.n);
		put_text(out, "reason", plain_reason(e));
	}
	buf_add_char(out, '}');
}

static void put_bool(struct buf *out, const char *name, bool v)
{
	json_put_key(out, name);
	buf_add_str(out, v ? "true" : "false");
}

/* The forms that were weighed, with the times that decided where they come from measurements. */
static void put_weighed(const struct explanation *e, struct buf *out)
{
	const struct choose_facts *ways = &e->weighed->ways;
	const char *before = "";
	put_text(out, "form", choose_form_name(e->weighed->form));
	put_bool(out, "on_layout", ways->on_layout);
	put_number(out, "queue_ms", ways->queue_ms);
	json_put_key(out, "candidates");
	buf_add_char(out, '[');
	for (int i = 0; i < FORMS; i++) {
		const struct choose_candidate *c = &ways->form[i];
		if (!c->there)
			continue;
		buf_printf(out, "%s{", before);
		put_text(out, "form", choose_form_name((enum choose_form)i));
		put_bool(out, "fits", c->fits);
		put_number(out, "tokens", c->tokens);
		put_number(out, "new", c->fresh);
		put_number(out, "ms", measured(e) ? c->ms : -1);
		buf_add_char(out, '}');
		before = ",";
	}
	buf_add_char(out, ']');
}

static void put_compaction(const struct explain_compaction *c, struct buf *out)
{
	json_put_key(out, "compaction");
	buf_add_char(out, '{');
	put_bool(out, "made", c->made);
	put_text(out, "answer", !c->made ? "model" : c->whole ? "block" : "block, model");
	put_number(out, "threshold", c->trigger ? (double)c->trigger : -1);
	put_number(out, "tokens_before", (double)c->tokens);
	put_number(out, "tokens_after", c->made ? (double)c->after : -1);
	put_number(out, "messages_before", (double)c->messages);
	put_text(out, "why", c->made ? "" : c->why);
	buf_add_char(out, '}');
}

int explain_json(const struct explanation *e, struct buf *out)
{
	const struct plan_facts *f = e->facts;
	buf_add_char(out, '{');
	put_text(out, "outcome", decide_outcome_name(e->outcome));
	put_text(out, "strategy", strategy_name(e->plan->strategy));
	put_text(out, "reason", e->plan->reason);
	put_text(out, "device", e->device);
	put_text(out, "backend", e->backend);
	put_number(out, "window", (double)f->main.window);
	put_number(out, "num_ctx", (double)e->num_ctx);
	put_number(out, "room_tokens", (double)plan_room(f));
	put_number(out, "tokens_in", (double)f->tokens);
	put_number(out, "tokens_sent", tokens_sent(e));
	json_put_key(out, "predicted_ms");
	buf_add_char(out, '{');
	put_number(out, "original_cold", cold_ms(e, (double)f->tokens));
	put_number(out, "sent_cold", cold_ms(e, tokens_sent(e)));
	buf_add_char(out, '}');
	if (e->compaction)
		put_compaction(e->compaction, out);
	put_text(out, "rates", measured(e) ? "measured" : "assumed");
	bool small = e->plan->strategy == STRATEGY_SMALL;
	put_text(out, "decided_by", small ? "rules" : e->weighed ? "time" : "sizes");
	if (e->weighed)
		put_weighed(e, out);
	if (laid_out(e)) {
		char summary[128];
		condense_summary(e->condense, summary, sizeof(summary));
		put_text(out, "layout", summary);
		put_number(out, "freezes", e->condense->layout.freezes);
		put_number(out, "notes_wanted", (double)condense_chunks(e->condense));
		put_bool(out, "tools_diet", e->condense->tools.n > 0);
	}
	if (laid_out(e) && e->body.n) {
		json_put_key(out, "body");
		buf_add_slice(out, e->body);
	}
	json_put_key(out, "messages");
	buf_add_char(out, '[');
	for (size_t i = 0; i < e->request->count; i++)
		put_message(e, i, out);
	return buf_add_str(out, "]}\n");
}

/* Without a tandemd: nothing is known to be cached. */
static void tell_weighed(const struct explanation *e, struct buf *out)
{
	const struct choose_facts *ways = &e->weighed->ways;
	for (int i = 0; i < FORMS; i++) {
		const struct choose_candidate *c = &ways->form[i];
		if (!c->there)
			continue;
		buf_printf(out, "%c %-8s %7.0f tokens", i == (int)e->weighed->form ? '*' : ' ',
			choose_form_name((enum choose_form)i), c->tokens);
		if (measured(e))
			buf_printf(out, ", first token after %.2f s", c->ms / 1000);
		buf_printf(out, "%s\n", c->fits ? "" : "; does not fit");
	}
	if (!measured(e))
		buf_printf(out,
			"no rates of %s are known: decided as if it read %.0f tokens a second\n",
			e->device, PREDICT_START_TOK_S);
	buf_add_str(out,
		"nothing counts as cached; a running tandemd knows what is, and may find another "
		"form sooner\n");
}

static void tell_compaction(const struct explain_compaction *c, struct buf *out)
{
	char threshold[64] = "";
	if (c->trigger)
		snprintf(threshold, sizeof(threshold), ", from %" PRId64 " on", c->trigger);
	if (!c->made) {
		buf_printf(out, "no compaction of about %" PRIu64 " tokens%s: %s\n", c->tokens,
			threshold, c->why);
		return;
	}
	buf_printf(out,
		"compaction%s: about %" PRIu64 " tokens in %zu messages become %" PRIu64
		", in those below; %s\n",
		threshold, c->tokens, c->messages, c->after,
		c->whole ? "the block is the whole answer" : "the model answers to them");
}

int explain_text(const struct explanation *e, struct buf *out)
{
	const struct plan_facts *f = e->facts;
	double cold = cold_ms(e, tokens_sent(e));
	buf_printf(out, "%s, way %s: %s\n", decide_outcome_name(e->outcome),
		strategy_name(e->plan->strategy), e->plan->reason);
	buf_printf(out, "device %s (%s), window ", e->device, e->backend);
	if (f->main.window > 0)
		buf_printf(out, "%" PRId64 ", room for %" PRId64 " tokens\n", f->main.window,
			plan_room(f));
	else
		buf_add_str(out, "unknown\n");
	buf_printf(out, "about %" PRIu64 " tokens in, %.0f sent", f->tokens, tokens_sent(e));
	if (cold >= 0)
		buf_printf(out, "; read in %.1f s with nothing cached", cold / 1000);
	buf_add_char(out, '\n');
	if (e->compaction)
		tell_compaction(e->compaction, out);
	if (e->weighed)
		tell_weighed(e, out);
	if (laid_out(e) && condense_chunks(e->condense))
		buf_printf(out, "notes are asked for %zu pieces of text\n",
			condense_chunks(e->condense));
	if (laid_out(e) && e->condense->tools.n)
		buf_add_str(out, "tools are sent with shorter descriptions\n");
	buf_printf(out, "\n%5s %-9s %-5s %10s %10s  %s\n", "#", "ROLE", "LEVEL", "BYTES IN", "OUT",
		"WHY");
	for (size_t i = 0; i < e->request->count; i++) {
		const struct chat_message *m = &e->request->messages[i];
		const struct layout_message *l =
			laid_out(e) ? &e->condense->layout.messages[i] : NULL;
		size_t sent = e->outcome == DECIDE_OVERFLOW ? 0 : m->raw.raw.n;
		buf_printf(out, "%5zu %-9s %-5s %10zu %10zu  %s\n", i, chat_role_name(m->role),
			l ? layout_level_name(l->level) : "L0", l ? l->bytes_in : m->raw.raw.n,
			l ? l->bytes_out : sent,
			!l	    ? plain_reason(e)
			: l->reason ? l->reason
				    : "");
	}
	return buf_error(out);
}
