/*
 * After an answer: work for the next request, while nobody waits (routing.warm): an early freeze
 * (chat_freeze.c), or, after a one-shot prompt that was cut, its original: if a conversation follows, it
 * needs all of the text, and finds it there.
 */
#include "supervisor/requests/chat.h"

#include "supervisor/requests/chat_next.h"

#define BODY_MAX (16u << 20) /* larger bodies are not worth a copy */

static void read_original(struct chat *c)
{
	struct buf body, authorization;
	if (c->class == CLASS_IDLE || c->chain.count == 0 || c->body.n > BODY_MAX)
		return;
	buf_init(&body, (size_t)job_body_bytes_max(c->base.all->config));
	buf_init(&authorization, 0);
	buf_add_slice(&authorization, slice_str(request_authorization(&c->base)));
	struct warming_spec spec = chat_next_spec(c, "original of a cut prompt", &authorization);
	if (buf_add_slice(&body, buf_slice(&c->body)) == 0 && chat_next_follow(c, &c->view, &body))
		spec.behind = chat_next_tokens(c);
	spec.tokens = c->facts.tokens + spec.behind;
	if (!buf_error(&body))
		warming_start(c->device, &spec, &body, &c->chain);
	buf_free(&body);
	buf_free(&authorization);
}

static bool is_cut(const struct chat *c)
{
	return c->weighed.form == FORM_CUT && !c->plan.must_shrink;
}

static bool may_be_early(const struct chat *c)
{
	return chat_reads_early(c) && c->lane.state != LANE_LEFT && !c->overflowed &&
	       c->resume.counts.deaths == 0 && c->base.exchange && !c->base.all->ending;
}

void chat_early_ask(const struct chat *c, struct proto_job *message)
{
	bool wanted = is_cut(c) || (c->has_condense && !c->weighed.one_shot);
	if (!may_be_early(c) || !wanted)
		return;
	message->reply_bytes = c->base.all->config->limits.reply_bytes;
	for (size_t i = 0; i < c->view.count; i++) /* does its client send it back? */
		if (c->view.messages[i].role == CHAT_ASSISTANT && c->view.messages[i].thinking)
			message->reply_thinking = true;
}

void chat_early(struct chat *c)
{
	if (!may_be_early(c) || !warming_possible(c->device))
		return;
	if (is_cut(c))
		read_original(c);
	else if (c->put_off || chat_outgrows(c))
		chat_freeze(c);
}
