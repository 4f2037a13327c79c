/*
 * Clients that are too slow, by intent or not: without this each byte would renew the idle timeout.
 *
 *   head   from its first byte, empty lines before it included, to its last: head_ms
 *   body   in each window of body_ms in which it is the client that is waited for, at least
 *          body_rate bytes a second; 0: any rate
 *   rest   an answer that came before its request's end waits EARLY_MS for a rest that may be small
 *   end    a client that need not have all of an answer has exchange_end_within() for it
 *   TLS    a handshake has head_ms, as a head (tls.c)
 *   place  when all are taken, those that have been idle longest, for PLACE_MS at least, end
 */
#include "supervisor/front/internal.h"

#define EARLY_MS 1000
#define PLACE_MS 1000  /* idle for less, it may be about to ask */
#define PLACES_PART 16 /* of all places are freed at once */
#define STEP_MAX_MS 1000
#define STEP_MIN_MS 10

static void look_at_head(struct connection *c, uint64_t now)
{
	if (c->head_since_ms && now - c->head_since_ms >= c->front->head_ms)
		intake_refuse(c, 408, "the head of the request took longer than deadlines.head_ms");
}

/* Are we the ones who wait? Not while the supervisor has no room, nor while earlier requests of the
 * connection are answered. */
static bool waits_for_body(const struct connection *c)
{
	const struct exchange *x = c->current;
	return inlet_in_body(&c->inlet) && STAILQ_EMPTY(&c->inlet.heads) &&
	       !inlet_waiting(&c->inlet) && x && x->begun && !x->suspended && !x->queued;
}

static void look_at_body(struct connection *c, uint64_t now)
{
	const struct front *f = c->front;
	if (!waits_for_body(c)) {
		c->body_since_ms = 0;
		return;
	}
	if (c->body_since_ms && now - c->body_since_ms < f->body_ms)
		return;
	uint64_t came = c->inlet.body_bytes - c->body_at;
	if (c->body_since_ms && came * 1000 < (uint64_t)f->body_rate * f->body_ms) {
		intake_refuse(c, 408, "the body of the request came slower than limits.body_rate");
		return;
	}
	c->body_since_ms = now;
	c->body_at = c->inlet.body_bytes;
}

static void look_at_rest(struct connection *c, uint64_t now)
{
	struct exchange *x = c->current;
	if (!x || !x->begun || !x->ended || !x->answered || x->queued || x->body_over ||
		c->refused || c->inlet.state == INLET_REFUSED)
		return;
	if (x->ended_ms == 0)
		x->ended_ms = now;
	else if (now - x->ended_ms >= EARLY_MS)
		exchange_answer_now(x);
}

static void look_at_end(struct connection *c, uint64_t now)
{
	struct exchange *x = c->current;
	if (x && x->cut_ms && now >= x->cut_ms && !x->gone)
		exchange_cut(x);
}

/* All places are taken: of those who ask for nothing some have to go, or newcomers would wait for
 * idle_ms, and for ever where somebody takes each place anew. */
static void make_places(struct front *f, uint64_t now)
{
	struct connection *c;
	unsigned n = f->connections_max / PLACES_PART + 1;
	if (!front_is_full(f))
		return;
	TAILQ_FOREACH(c, &f->open, link) {
		if (n == 0)
			return;
		if (!front_is_idle(c) || now - c->idle_since_ms < PLACE_MS)
			continue;
		if (!c->hurried)
			front_hurry(c, PLACE_MS);
		n--;
	}
}

static void on_patience(uv_timer_t *t)
{
	struct front *f = t->data;
	struct connection *c;
	uint64_t now = uv_now(f->loop);
	bool more = tls_patience(f, now);
	if (TAILQ_EMPTY(&f->open) && !more)
		uv_timer_stop(t);
	TAILQ_FOREACH(c, &f->open, link) {
		look_at_head(c, now);
		look_at_body(c, now);
		look_at_rest(c, now);
		look_at_end(c, now);
	}
	make_places(f, now);
}

void patience_start(struct front *f)
{
	if (uv_is_active((uv_handle_t *)&f->patience))
		return;
	unsigned step = (f->head_ms < f->body_ms ? f->head_ms : f->body_ms) / 4;
	step = step > STEP_MAX_MS ? STEP_MAX_MS : step < STEP_MIN_MS ? STEP_MIN_MS : step;
	uv_timer_start(&f->patience, on_patience, step, step);
}
