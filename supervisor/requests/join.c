#include "supervisor/requests/join.h"

#include "common/base/hash.h"
#include "common/base/log.h"

bool join_same_value(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Headers that change an answer or tell clients apart. Others (retry counters, traces) differ
 * between tries of one client. */
static bool same_headers(const struct exchange *a, const struct exchange *b)
{
	static const char *const more[] = {"Content-Type", "Content-Encoding", "Accept",
		"X-OpenWebUI-Chat-Id", "X-Tandem-Class", "X-Tandem-Route", NULL};
	for (size_t i = 0; client_headers[i]; i++)
		if (!join_same_value(exchange_header(a, client_headers[i]),
			    exchange_header(b, client_headers[i])))
			return false;
	for (size_t i = 0; more[i]; i++)
		if (!join_same_value(exchange_header(a, more[i]), exchange_header(b, more[i])))
			return false;
	return true;
}

/* Bytes that reading (or a repair) has changed by now are known by what they were. */
static bool same_body(const struct chat *c, const struct chat *lead)
{
	if (lead->asked_bytes)
		return lead->asked_bytes == c->body.n &&
		       lead->asked_hash ==
			       (c->asked_bytes ? c->asked_hash : hash_bytes(c->body.p, c->body.n));
	return slice_eq(buf_slice(&c->body), buf_slice(&lead->body));
}

static bool may_join(const struct chat *c, const struct chat *lead)
{
	const struct exchange *a = c->base.exchange, *b = lead->base.exchange;
	uint64_t age = now_ms() - lead->base.begun_ms;
	bool early = lead->state == CHAT_PARSING || lead->state == CHAT_CONDENSING ||
		     lead->state == CHAT_WAITING;
	return early && lead->bytes_out == 0 && lead->joined_count < JOIN_MAX &&
	       lead->base.client == c->base.client &&
	       age >= (uint64_t)c->base.all->config->limits.coalesce_after_ms &&
	       strcmp(exchange_target(a), exchange_target(b)) == 0 &&
	       slice_eq(client_host(exchange_peer(a)), client_host(exchange_peer(b))) &&
	       same_headers(a, b) && same_body(c, lead);
}

static void join(struct chat *c, struct chat *lead)
{
	struct requests *s = c->base.all;
	c->state = CHAT_JOINED;
	c->lead = lead;
	c->taken = lead->credited;
	memcpy(c->joined_to, lead->base.id, sizeof(c->joined_to));
	steps_enter(request_steps(&c->base), STEP_JOINED, NULL, now_ms());
	TAILQ_INSERT_TAIL(&lead->joined, c, member);
	lead->joined_count++;
	s->held_bytes -= c->held;
	c->held = 0;
	buf_free(&c->body);
	s->count.coalesced++;
	log_line(LOG_INFO, "joined", LOG_STR("req", c->base.id), LOG_STR("to", lead->base.id),
		LOG_INT("age_ms", now_ms() - lead->base.begun_ms), LOG_END);
}

bool join_try(struct chat *c)
{
	struct requests *s = c->base.all;
	struct chat *lead;
	if (!s->config->limits.coalesce)
		return false;
	TAILQ_FOREACH(lead, &s->chats, open)
		if (may_join(c, lead)) {
			join(c, lead);
			return true;
		}
	TAILQ_INSERT_TAIL(&s->chats, c, open);
	c->is_open = true;
	return false;
}
