/*
 * The condensing stage: selection on the thread pool, notes (chat_chunks.c), assembly.
 *
 * A failure here never reaches the client. Where the original request fits, it goes unchanged; a chunk
 * whose notes fail runs on the main device instead, where that is estimated sooner. Where the original
 * does not fit, the selection goes without these notes.
 */
#include "supervisor/requests/chat.h"
#include "supervisor/requests/chat_reply.h"

#include "common/base/log.h"

#include <stdio.h>
#include <stdlib.h>

/* --- the layout --- */

static void prepare_work(struct chat *c)
{
	c->prepared = condense_prepare(&c->condense);
}

void chat_condense_prepare(struct chat *c)
{
	const struct config *conf = c->base.all->config;
	struct condense_facts f = decide_condense(conf, &c->facts, &c->plan, &c->view,
		tokens_of(c->base.all->tokens, buf_slice(&c->model), &c->view.census),
		c->overflowed, c->adaptive);
	f.waits = chat_reads_early(c);
	f.without = c->put_off;
	f.explained = c->explain;
	condense_options(&c->condense, &f, c->base.all->layouts);
	c->condense.options.forced = c->forced;
	c->condense.options.forced_count = c->forced_count;
	if (c->put_off) { /* with its own window: which one it had is what its bytes depend on */
		double frozen = c->condense.options.window;
		condense_window(&c->condense, c->put_off_window);
		c->put_off_window = frozen;
	}
	chat_notes_offer(c);
	c->has_condense = true;
	c->state = CHAT_CONDENSING;
	steps_enter(request_steps(&c->base), STEP_CONDENSE, NULL, now_ms());
	chat_work(c, prepare_work, CHAT_PREPARED, false);
}

void chat_condense_overflowed(struct chat *c)
{
	c->overflowed = true;
	chat_overflow_told(c, "the backend counted more");
	c->weighed.ways.form[FORM_ORIGINAL].fits = false;
	c->plan.condense = c->plan.must_shrink = true;
	c->plan.notes = false;
	c->facts.counted = 0;
	c->facts.tokens = tokens_estimate(
		c->base.all->tokens, buf_slice(&c->model), &c->view.census); /* may know more now */
	double sent = tokens_of(c->base.all->tokens, buf_slice(&c->model), &c->sent_census);
	double counted = c->use_condensed ? (double)c->overflow_tokens : 0;
	c->plan.room_tokens = plan_room_after(&c->facts, sent, counted);
	c->use_rewritten = c->use_condensed = false;
	if (c->put_off)
		chat_adaptive_freeze(
			c); /* what was sent before does not fit: the frozen one it is */
	chat_fallback(
		c, "the backend counted more tokens than its window holds", "the layout alone");
	chat_condense_prepare(c);
}

/* The condensing stage says no: what then? */
static void refused(struct chat *c)
{
	if (c->adaptive)
		chat_adaptive_choose(c);
	switch (c->prepared) {
	case CONDENSE_NOTHING:
		/* Also where the plan's own count was over: it rounds up, and has a slack of its
		 * own. */
		c->plan.strategy = STRATEGY_A;
		if (!c->adaptive || c->plan.must_shrink)
			snprintf(c->note, sizeof(c->note), "nothing to condense: unchanged");
		break;
	case CONDENSE_NO_ROOM:
		if (decide_laid_out(c->prepared, device_traits(c->device)) == DECIDE_OVERFLOW) {
			chat_answer_overflow(c);
			return;
		}
		chat_fallback(c, "the parts that must stay are larger than the window", "original");
		break;
	default:
		chat_fallback(c, "selection failed", "original");
	}
	chat_event(c, CHAT_ORIGINAL);
}

/* What came of the layout, in the log. */
static void tell_layout(const struct chat *c, size_t chunks)
{
	const struct layout *l = &c->condense.layout;
	char levels[96];
	condense_summary(&c->condense, levels, sizeof(levels));
	log_line(LOG_INFO, "selected", LOG_STR("req", c->base.id), LOG_STR("messages", levels),
		LOG_INT("bytes_in", l->bytes_in), LOG_INT("bytes_out", l->bytes_out),
		LOG_INT("freezes", l->freezes), LOG_INT("froze_now", l->frozen_at == l->groups),
		LOG_INT("chunks", chunks), LOG_END);
}

void chat_condense_keep(struct chat *c)
{
	const struct layout *l = &c->condense.layout;
	if (c->base.all->devices->keep && l->frozen_at && l->frozen_at == l->groups)
		keep_window(c->base.all->devices->keep, condense_beginning(&c->condense),
			l->options.window);
}

/* A freeze was put off: the layout without it must be the one before, and no new one. */
static bool still_fits(const struct chat *c)
{
	const struct layout *l = &c->condense.layout;
	bool froze = l->frozen_at > 0 && l->frozen_at == l->groups;
	return !froze && (c->prepared == CONDENSE_OK || c->prepared == CONDENSE_NOTHING);
}

void chat_condense_notes(struct chat *c)
{
	if (c->put_off && !still_fits(c)) {
		chat_adaptive_freeze(c);
		chat_condense_prepare(c);
		return;
	}
	if (c->explain) {
		/* Its state stays ours: a request that was never sent teaches nobody. Notes are not
		 * asked for; by time they never are. */
		if ((c->adaptive || c->explain_body) && c->prepared == CONDENSE_OK)
			chat_condense_assemble(c);
		else
			chat_explain(c);
		return;
	}
	if (!c->put_off && chat_notes_decide(c)) {
		layout_cache_put(c->base.all->layouts, c->condense.made);
		c->condense.made = NULL;
	}
	chat_condense_keep(c);
	if (c->prepared != CONDENSE_OK) {
		refused(c);
		return;
	}
	size_t chunks = c->plan.notes ? condense_chunks(&c->condense) : 0;
	if (c->condense.tools.n)
		snprintf(c->note, sizeof(c->note),
			"tools on a diet: %zu of %zu bytes, %zu of them in full",
			c->condense.tools.n, c->view.tools.raw.n, c->condense.tools_full);
	c->sent_tokens = (uint64_t)condense_tokens(&c->condense);
	tell_layout(c, chunks);
	if (chunks == 0) {
		chat_event(c, CHAT_SETTLED);
		return;
	}
	chat_chunks_start(c, chunks);
}

/* --- assembly --- */

static void assemble_work(struct chat *c)
{
	size_t n = condense_chunks(&c->condense);
	struct slice *notes = n ? calloc(n, sizeof(*notes)) : NULL;
	for (size_t i = 0; notes && i < n && i < c->note_count; i++)
		notes[i] = buf_slice(&c->notes[i].text);
	buf_clear(&c->rewritten);
	c->assembled = n && !notes ? CONDENSE_FAILED
				   : condense_assemble(&c->condense, notes, 0, &c->rewritten);
	free(notes);
	if (c->assembled != CONDENSE_OK)
		return;
	/* What we send must be what any client could have sent. */
	struct chat_request view;
	struct dialect_error error;
	if (chat_request_parse(c->base.dialect, buf_slice(&c->rewritten), &view, &error)) {
		c->assembled = CONDENSE_FAILED;
		return;
	}
	c->sent_census = view.census;
	weigh_chain(&view, buf_slice(&c->model), &c->sent_chain);
	chat_request_fini(&view);
}

static void assembled(struct chat *c)
{
	assemble_work(c);
	if (c->assembled == CONDENSE_OK)
		c->use_rewritten = c->use_condensed = true;
}

void chat_condense_assemble(struct chat *c)
{
	chat_chunks_tell_unused(c);
	chat_work(c, assembled, CHAT_ASSEMBLED, false);
}
