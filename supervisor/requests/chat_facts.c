/* What a chat is planned from: the facts of request and devices, and how urgent it is. */
#include "supervisor/requests/chat.h"

#include "supervisor/devices/governor.h"
#include "supervisor/requests/small_ask.h"

static struct plan_device plan_device(const struct device *d, int64_t window)
{
	if (!d)
		return (struct plan_device){0};
	return (struct plan_device){.present = true,
		.ready = d->state == WORKER_READY,
		.window = window,
		.slots = device_slots(d),
		.prefill_tok_s = d->prefill_tok_s,
		.decode_tok_s = d->decode_tok_s};
}

/* Tokens of the window that this request wants, its answer included. */
static int64_t needed(const struct chat *c)
{
	int64_t output = c->view.max_output > 0 && c->view.max_output < PLAN_OUTPUT_RESERVE_TOKENS
				 ? c->view.max_output
				 : PLAN_OUTPUT_RESERVE_TOKENS;
	double tokens = (double)c->facts.tokens * PLAN_SLACK + (double)output;
	return tokens < (double)DECIDE_WINDOW_MAX ? (int64_t)tokens : DECIDE_WINDOW_MAX;
}

enum job_class chat_class(const struct chat *c)
{
	return client_class(&(struct client_facts){.wish = request_wish(&c->base),
		.user_agent = exchange_header(c->base.exchange, "User-Agent"),
		.tools = json_is(c->view.tools, JSON_ARRAY),
		.tokens = c->facts.tokens,
		.last = small_ask_last_text(&c->view)});
}

void chat_gather_facts(struct chat *c)
{
	const struct config *conf = c->base.all->config;
	struct plan_facts *f = &c->facts;
	bool to_main = c->device->conf->roles & ROLE_MAIN;
	c->small = to_main ? pick_role(c->base.all->devices, ROLE_CONDENSE) : NULL;
	f->tokens = tokens_estimate(c->base.all->tokens, buf_slice(&c->model), &c->view.census);
	if (!c->explain && !c->bench)
		governor_need(c->device, buf_slice(&c->model), needed(c), c->view.num_ctx);
	int64_t window = governor_window(c->device, buf_slice(&c->model));
	if (c->view.num_ctx > 0 && c->device->conf->client_num_ctx)
		window = chat_num_ctx(c, c->device);
	decide_facts(f, conf, &c->view, f->tokens, to_main);
	f->main = plan_device(c->device, window);
	f->small = plan_device(c->small, c->small ? device_window(c->small) : 0);
	c->class = chat_class(c);
}

bool chat_ask_way(struct chat *c)
{
	const char *way = exchange_header(c->base.exchange, "X-Tandem-Route");
	if (!way)
		return true;
	for (enum strategy s = STRATEGY_A; s <= STRATEGY_C; s++)
		if (slice_ieq(slice_str(way), slice_str(strategy_name(s)))) {
			plan_ask(&c->facts, s);
			return true;
		}
	return false;
}
