#include "supervisor/requests/audience.h"

#define SWAP(type, a, b)                                                                           \
	do {                                                                                       \
		type swapped = (a);                                                                \
		(a) = (b);                                                                         \
		(b) = swapped;                                                                     \
	} while (0)

void audience_init(struct chat *c)
{
	TAILQ_INIT(&c->joined);
}

void audience_mirror(struct chat *c)
{
	const struct chat *lead = c->lead;
	if (!lead || (lead->state == CHAT_PARSING && lead->working))
		return; /* what the thread pool works on is not ours to read */
	c->plan = lead->plan;
	c->facts = lead->facts;
	c->sent_tokens = lead->sent_tokens;
	c->asked = lead->asked;
	c->too_long = lead->too_long;
	memcpy(c->note, lead->note, sizeof(c->note));
	c->device = lead->device;
	c->parsed = lead->parsed;
	c->view.stream = lead->view.stream;
	c->bytes_out = lead->bytes_out;
	memcpy(c->tail, lead->tail, sizeof(c->tail));
}

/* --- credit --- */

static void give_credit(struct chat *lead)
{
	uint64_t least = lead->taken;
	const struct chat *m;
	if (!lead->answer || lead->state != CHAT_ANSWERING)
		return;
	TAILQ_FOREACH(m, &lead->joined, member)
		least = m->taken < least ? m->taken : least;
	if (least <= lead->credited)
		return;
	size_t n = (size_t)(least - lead->credited);
	lead->credited = least;
	job_credit(lead->answer, n);
}

void audience_submitted(struct chat *c)
{
	struct chat *m;
	c->taken = c->credited = 0;
	TAILQ_FOREACH(m, &c->joined, member)
		m->taken = 0;
}

size_t audience_backlog(const struct chat *c)
{
	size_t most = exchange_backlog(c->base.exchange);
	const struct chat *m;
	TAILQ_FOREACH(m, &c->joined, member) {
		size_t n = exchange_backlog(m->base.exchange);
		most = n > most ? n : most;
	}
	return most;
}

void audience_sent(struct chat *c, size_t n)
{
	struct chat *lead = c->lead ? c->lead : c;
	if (!lead->answer || lead->state != CHAT_ANSWERING)
		return;
	c->taken += n;
	give_credit(lead);
}

/* --- leaving --- */

/* Each record goes with its client: what c is at is the heir's from now on. */
static void swap_records(struct chat *c, struct chat *heir)
{
	struct steps *left = request_steps(&c->base), *s = request_steps(&heir->base);
	const struct step *at = steps_at(left, left ? left->stage : STEP_NONE);
	steps_call(s);
	if (at)
		steps_enter(s, at->kind, at->device, now_ms());
	for (size_t i = 0; i < c->note_count; i++) {
		struct chat_note *n = &c->notes[i];
		at = steps_at(left, n->job ? n->step : STEP_NONE);
		n->step = at ? steps_begin(s, at->kind, at->device, now_ms()) : STEP_NONE;
		if (at)
			steps_number(s, n->step, at->number);
	}
	steps_point(s, STEP_TAKEN, NULL, c->base.id, now_ms());
	SWAP(struct record *, c->base.record, heir->base.record);
	SWAP(struct record_trace, c->base.trace, heir->base.trace);
	/* A joined one was never planned. What is read again is planned again. */
	if (c->plan.reason[0] && !(c->state == CHAT_PARSING && c->working))
		chat_recorded(c);
}

void audience_give_place(struct chat *c, struct chat *heir)
{
	char id[REQUEST_ID_BYTES];
	struct chat *m;
	memcpy(id, c->joined_to, sizeof(id));
	memcpy(c->joined_to, heir->joined_to, sizeof(id));
	memcpy(heir->joined_to, id, sizeof(id));
	swap_records(c, heir);
	SWAP(struct exchange *, c->base.exchange, heir->base.exchange);
	exchange_set_context(c->base.exchange, c);
	exchange_set_context(heir->base.exchange, heir);
	memcpy(id, c->base.id, sizeof(id));
	memcpy(c->base.id, heir->base.id, sizeof(id));
	memcpy(heir->base.id, id, sizeof(id));
	TAILQ_FOREACH(m, &c->joined, member)
		if (m != heir)
			memcpy(m->joined_to, c->base.id, sizeof(id));
	/* begun_ms stays: it says since when c refers to its devices (devices_sweep()). */
	SWAP(struct chat_content, c->content, heir->content);
	SWAP(uint64_t, c->taken, heir->taken);
	SWAP(bool, c->head_sent, heir->head_sent);
	SWAP(enum measure_outcome, c->base.outcome, heir->base.outcome);
	uv_timer_start(&c->tick, c->tick.timer_cb, uv_timer_get_due_in(&heir->tick),
		(uint64_t)c->base.all->config->deadlines.heartbeat_ms);
}

void audience_leave(struct chat *c)
{
	struct chat *lead = c->lead;
	if (c->is_open)
		TAILQ_REMOVE(&c->base.all->chats, c, open);
	c->is_open = false;
	if (!lead)
		return;
	TAILQ_REMOVE(&lead->joined, c, member);
	lead->joined_count--;
	c->lead = NULL;
	give_credit(lead);
}
