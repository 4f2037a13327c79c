#include "supervisor/requests/coalesce.h"

#include "common/base/log.h"

#define SWAP(type, a, b)                                                                           \
	do {                                                                                       \
		type swapped = (a);                                                                \
		(a) = (b);                                                                         \
		(b) = swapped;                                                                     \
	} while (0)

/* --- joining --- */

void coalesce_init(struct chat *c)
{
	TAILQ_INIT(&c->joined);
}

bool coalesce_same_value(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Headers that change an answer or tell clients apart. Others (retry counters, traces) differ
 * between tries of one client. */
static bool same_headers(const struct exchange *a, const struct exchange *b)
{
	static const char *const more[] = {"Content-Type", "Content-Encoding", "Accept",
		"X-OpenWebUI-Chat-Id", "X-Tandem-Class", NULL};
	for (size_t i = 0; client_headers[i]; i++)
		if (!coalesce_same_value(exchange_header(a, client_headers[i]),
			    exchange_header(b, client_headers[i])))
			return false;
	for (size_t i = 0; more[i]; i++)
		if (!coalesce_same_value(exchange_header(a, more[i]), exchange_header(b, more[i])))
			return false;
	return true;
}

static bool may_join(const struct chat *c, const struct chat *lead)
{
	const struct exchange *a = c->base.exchange, *b = lead->base.exchange;
	uint64_t age = now_ms() - lead->base.begun_ms;
	bool early = lead->state == CHAT_PARSING || lead->state == CHAT_CONDENSING ||
		     lead->state == CHAT_WAITING;
	return early && lead->bytes_out == 0 && lead->joined_count < COALESCE_MAX &&
	       lead->base.client == c->base.client && lead->body.n == c->body.n &&
	       age >= (uint64_t)c->base.all->config->limits.coalesce_after_ms &&
	       strcmp(exchange_target(a), exchange_target(b)) == 0 &&
	       slice_eq(client_host(exchange_peer(a)), client_host(exchange_peer(b))) &&
	       same_headers(a, b) && slice_eq(buf_slice(&c->body), buf_slice(&lead->body));
}

static void join(struct chat *c, struct chat *lead)
{
	struct requests *s = c->base.all;
	c->state = CHAT_JOINED;
	c->lead = lead;
	c->taken = lead->credited;
	memcpy(c->joined_to, lead->base.id, sizeof(c->joined_to));
	TAILQ_INSERT_TAIL(&lead->joined, c, member);
	lead->joined_count++;
	s->held_bytes -= c->held;
	c->held = 0;
	buf_free(&c->body);
	s->count.coalesced++;
	log_line(LOG_INFO, "joined", LOG_STR("req", c->base.id), LOG_STR("to", lead->base.id),
		LOG_INT("age_ms", now_ms() - lead->base.begun_ms), LOG_END);
}

bool coalesce_join(struct chat *c)
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

/* --- the answer --- */

void coalesce_mirror(struct chat *c)
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

void coalesce_head(struct chat *c, int status, const char *content_type, int64_t body_bytes)
{
	struct chat *m;
	TAILQ_FOREACH(m, &c->joined, member) {
		if (m->head_sent)
			continue;
		coalesce_mirror(m);
		chat_answer_head(m, status, content_type, body_bytes);
	}
}

void coalesce_error(struct chat *c, int status, struct slice message, struct slice body,
	struct slice content_type, int retry_after_s)
{
	struct chat *m;
	while ((m = TAILQ_FIRST(&c->joined))) {
		coalesce_mirror(m);
		chat_answer_error(m, status, message, body, content_type, retry_after_s);
	}
}

void coalesce_end(struct chat *c)
{
	struct chat *m;
	while ((m = TAILQ_FIRST(&c->joined))) {
		exchange_end(m->base.exchange);
		log_line(LOG_INFO, "request_done", LOG_STR("req", m->base.id),
			LOG_STR("joined", m->joined_to), LOG_INT("bytes_out", c->bytes_out),
			LOG_INT("ms", now_ms() - m->base.begun_ms), LOG_END);
		chat_finish(m);
	}
}

static void break_off(struct chat *m)
{
	m->base.all->count.failed++;
	log_line(LOG_ERROR, "answer_overrun", LOG_STR("req", m->base.id), LOG_END);
	exchange_abort(m->base.exchange);
	chat_finish(m);
}

int coalesce_write(struct chat *c, struct slice bytes)
{
	struct chat *next;
	for (struct chat *m = TAILQ_FIRST(&c->joined); m; m = next) {
		next = TAILQ_NEXT(m, member);
		if (exchange_write(m->base.exchange, bytes.p, bytes.n))
			break_off(m);
	}
	return exchange_write(c->base.exchange, bytes.p, bytes.n);
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

void coalesce_submitted(struct chat *c)
{
	struct chat *m;
	c->taken = c->credited = 0;
	TAILQ_FOREACH(m, &c->joined, member)
		m->taken = 0;
}

size_t coalesce_backlog(const struct chat *c)
{
	size_t most = exchange_backlog(c->base.exchange);
	const struct chat *m;
	TAILQ_FOREACH(m, &c->joined, member) {
		size_t n = exchange_backlog(m->base.exchange);
		most = n > most ? n : most;
	}
	return most;
}

void coalesce_sent(struct chat *c, size_t n)
{
	struct chat *lead = c->lead ? c->lead : c;
	if (!lead->answer || lead->state != CHAT_ANSWERING)
		return;
	c->taken += n;
	give_credit(lead);
}

/* --- leaving --- */

bool coalesce_hand_over(struct chat *c)
{
	struct chat *heir = TAILQ_FIRST(&c->joined);
	if (!heir)
		return false;
	char id[REQUEST_ID_BYTES];
	SWAP(struct exchange *, c->base.exchange, heir->base.exchange);
	exchange_set_context(c->base.exchange, c);
	exchange_set_context(heir->base.exchange, heir);
	memcpy(id, c->base.id, sizeof(id));
	memcpy(c->base.id, heir->base.id, sizeof(id));
	memcpy(heir->base.id, id, sizeof(id));
	memcpy(c->joined_to, heir->joined_to, sizeof(id));
	/* begun_ms stays: it says since when c refers to its devices (devices_sweep()). */
	SWAP(uint64_t, c->taken, heir->taken);
	SWAP(bool, c->head_sent, heir->head_sent);
	uv_timer_start(&c->tick, c->tick.timer_cb, uv_timer_get_due_in(&heir->tick),
		(uint64_t)c->base.all->config->deadlines.heartbeat_ms);
	chat_answer_readdress(c);
	log_line(LOG_INFO, "taken_over", LOG_STR("req", c->base.id), LOG_STR("from", id), LOG_END);
	chat_finish(heir);
	return true;
}

void coalesce_leave(struct chat *c)
{
	struct requests *s = c->base.all;
	struct chat *lead = c->lead, *m;
	if (c->is_open)
		TAILQ_REMOVE(&s->chats, c, open);
	c->is_open = false;
	while ((m = TAILQ_FIRST(&c->joined)))
		break_off(m);
	if (!lead)
		return;
	TAILQ_REMOVE(&lead->joined, c, member);
	lead->joined_count--;
	c->lead = NULL;
	give_credit(lead);
}
