#include "supervisor/requests/history.h"

#include "common/base/json.h"

#include <stdlib.h>

/* --- bounds --- */

static size_t bytes_of(const struct record *r)
{
	return sizeof(*r) + steps_bytes(&r->steps) + r->message_count * sizeof(*r->messages) +
	       (r->trace.state ? TRACE_STATE_BYTES : 0);
}

static void record_free(struct record *r)
{
	steps_fini(&r->steps);
	free(r->messages);
	free(r->trace.state);
	free(r);
}

static void forget(struct history *h, struct record *r)
{
	TAILQ_REMOVE(&h->past, r, link);
	h->count--;
	h->bytes -= bytes_of(r);
	record_free(r);
}

static void keep_bounds(struct history *h)
{
	while (h->count > h->most || (h->count && h->bytes > h->bytes_most))
		forget(h, TAILQ_LAST(&h->past, record_list));
}

void history_init(struct history *h)
{
	*h = (struct history){0};
	TAILQ_INIT(&h->running);
	TAILQ_INIT(&h->past);
}

void history_limit(struct history *h, size_t most, size_t bytes_most, size_t steps_most)
{
	h->most = most;
	h->bytes_most = bytes_most;
	h->steps_most = steps_most;
	keep_bounds(h);
}

void history_limit_messages(struct history *h, size_t most)
{
	h->messages_most = most;
}

void history_fini(struct history *h)
{
	struct record *r;
	history_limit(h, 0, 0, 0);
	while ((r = TAILQ_FIRST(&h->running))) {
		TAILQ_REMOVE(&h->running, r, link);
		record_free(r);
	}
}

/* --- a request's record --- */

struct record *history_begin(struct history *h, const char *id, uint64_t now, uint64_t now_at)
{
	struct record *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	record_text(r->id, sizeof(r->id), slice_str(id));
	r->begun_ms = now;
	r->begun_at_ms = now_at;
	steps_init(&r->steps, h->steps_most);
	r->message_most = h->messages_most;
	TAILQ_INSERT_HEAD(&h->running, r, link);
	return r;
}

static enum step_outcome how_open_steps_end(enum measure_outcome o)
{
	return o == MEASURE_CANCELLED			  ? STEP_CANCELLED
	       : o == MEASURE_DONE || o == MEASURE_JOINED ? STEP_DONE
							  : STEP_FAILED;
}

void history_end(struct history *h, struct record *r, const struct measure *m, uint64_t now)
{
	r->over = true;
	r->ended_ms = now;
	r->measure = *m;
	r->measure.device = NULL;
	record_text(r->device, sizeof(r->device), slice_str(m->device));
	steps_close(&r->steps, how_open_steps_end(m->outcome), now);
	steps_trim(&r->steps);
	if (h->ended)
		h->ended(h->ctx, r);
	TAILQ_REMOVE(&h->running, r, link);
	TAILQ_INSERT_HEAD(&h->past, r, link);
	h->count++;
	h->bytes += bytes_of(r);
	keep_bounds(h);
}

static struct record *find_in(struct record_list *list, const char *id)
{
	struct record *r;
	TAILQ_FOREACH(r, list, link)
		if (strcmp(r->id, id) == 0)
			return r;
	return NULL;
}

struct record *history_find(struct history *h, const char *id)
{
	struct record *r = find_in(&h->running, id);
	return r ? r : find_in(&h->past, id);
}

void history_late(struct history *h, const char *id, const struct step *it)
{
	struct record *r = history_find(h, id);
	if (!r)
		return;
	if (r->over && h->late)
		h->late(h->ctx, r, it);
	size_t before = bytes_of(r);
	steps_add(&r->steps, it);
	steps_trim(&r->steps);
	if (!r->over)
		return;
	h->bytes += bytes_of(r) - before;
	keep_bounds(h);
}

/* --- what is in it --- */

struct record_message *record_messages(struct record *r, size_t count, size_t *first)
{
	size_t n = count < r->message_most ? count : r->message_most;
	free(r->messages);
	r->messages = n ? calloc(n, sizeof(*r->messages)) : NULL;
	r->message_count = r->messages ? n : 0;
	r->messages_lost = *first = count - r->message_count;
	return r->messages;
}

void record_text(char *to, size_t size, struct slice text)
{
	size_t n = text.n < size - 1 ? text.n : size - 1;
	if (n)
		n = utf8_valid_prefix((struct slice){text.p, n});
	if (n)
		memcpy(to, text.p, n);
	to[n] = '\0';
}

const char *record_state(const struct record *r)
{
	return r->over ? measure_outcome_name(r->measure.outcome) : "running";
}

const char *record_way(const struct record *r)
{
	static const char *const names[MEASURE_WAYS] = {[MEASURE_A] = "A",
		[MEASURE_B] = "B",
		[MEASURE_C] = "C",
		[MEASURE_SMALL] = "small",
		[MEASURE_PASS] = "pass"};
	return r->over ? names[r->measure.way] : NULL;
}
