/* One look at the backend: its kind's GETs, one after the other; and who waits for it. */
#include "workers/backend/backend_private.h"

#include <errno.h>
#include <stdio.h>

static void on_next(uv_timer_t *timer)
{
	backend_probe(timer->data);
}

void backend_look_again(struct backend *b, int64_t ms)
{
	uv_timer_start(&b->next, on_next, (uint64_t)ms, 0);
}

static void wake_waiters(struct backend *b)
{
	struct backend_waiter **link = &b->waiters, *due = NULL;
	while (*link) {
		struct backend_waiter *w = *link;
		if (w->probe > b->number) {
			link = &w->next;
			continue;
		}
		*link = w->next;
		w->next = due;
		due = w;
	}
	while (due) {
		struct backend_waiter *w = due;
		due = w->next;
		w->waiting = false;
		w->fn(w->ctx);
	}
}

/* The probe is over; the state follows, then those who waited, then the next one if it is due. */
static void end(struct backend *b, enum finding f)
{
	b->probing = false;
	backend_conclude(b, f);
	wake_waiters(b);
	if (b->again && !b->closing)
		backend_probe(b);
}

static void on_head(void *ctx, int status)
{
	struct backend *b = ctx;
	b->status = status;
}

static void on_body(void *ctx, struct slice bytes)
{
	struct backend *b = ctx;
	buf_add_slice(&b->body, bytes); /* over its cap the text is cut, and then no JSON */
}

static void probe_step(struct backend *b);

/* What stands between us and the backend, whatever its kind. False: nothing. */
static bool is_closed(struct backend *b, enum http_result result)
{
	const struct settings *s = &b->worker->settings;
	if (result == HTTP_TLS)
		snprintf(b->why, sizeof(b->why), "no TLS with %s: %s", b->url,
			http_tls_problem(b->transfer));
	else if (result != HTTP_OK || (b->status != 401 && b->status != 403))
		return false;
	else if (s->key_file)
		snprintf(b->why, sizeof(b->why), "%s refuses the key of %s (status %d)", b->url,
			s->key_file, b->status);
	else
		snprintf(b->why, sizeof(b->why),
			"%s refuses us (status %d): it may want a key (backend.key_file)", b->url,
			b->status);
	return true;
}

static void on_done(void *ctx, enum http_result result)
{
	struct backend *b = ctx;
	bool closed = is_closed(b, result);
	b->transfer = NULL;
	if (closed)
		return end(b, FOUND_CLOSED_TO_US);
	if (result == HTTP_OK && b->status == 429)
		return end(b, FOUND_BUSY);
	if (result == HTTP_REFUSED)
		return end(b, FOUND_REFUSED);
	if (result == HTTP_CUT && b->step == 0 && b->status == 0 && !b->pid)
		return end(b, FOUND_CLOSED);
	if (result != HTTP_OK)
		return end(b, result == HTTP_GARBAGE ? FOUND_WRONG : FOUND_SILENT);
	struct slice body = buf_error(&b->body) ? (struct slice){0} : buf_slice(&b->body);
	switch (b->kind->learn(&b->worker->settings, &b->learning, b->step, b->status, body)) {
	case PROBE_LOADING:
		return end(b, FOUND_LOADING);
	case PROBE_WRONG:
		return end(b, FOUND_WRONG);
	case PROBE_OK:
		break;
	}
	if (!b->kind->steps[++b->step])
		return end(b, FOUND_READY);
	probe_step(b);
}

static const struct http_events probe_events = {.head = on_head, .body = on_body, .done = on_done};

static void probe_step(struct backend *b)
{
	struct http_request r = {
		.method = "GET",
		.target = slice_str(b->kind->steps[b->step]),
		.total_ms = BACKEND_PROBE_MS,
	};
	buf_clear(&b->body);
	b->status = 0;
	int rc = http_start(b->worker->http, &r, &probe_events, b, &b->transfer);
	if (rc == -ENOKEY)
		snprintf(b->why, sizeof(b->why), "%s", http_key_problem(b->worker->http));
	if (rc)
		end(b, rc == -ENOKEY ? FOUND_CLOSED_TO_US : FOUND_SILENT);
}

void backend_probe(struct backend *b)
{
	if (b->closing || !b->url)
		return;
	if (b->probing) {
		b->again = true;
		return;
	}
	uv_timer_stop(&b->next);
	b->probing = true;
	b->again = false;
	b->number++;
	b->step = 0;
	probe_step(b);
}

void backend_suspect(struct backend *b)
{
	/* from the next turn: the caller may stand in the middle of a transfer's end */
	if (!b->probing && b->state == STATE_READY)
		backend_look_again(b, 0);
}

bool backend_is_doubtful(const struct backend *b)
{
	return !b->pid && b->url && !b->closing;
}

bool backend_is_up(const struct backend *b)
{
	return b->state == STATE_READY;
}

void backend_refresh(struct backend *b, struct backend_waiter *waiter)
{
	waiter->probe = b->number + 1;
	waiter->waiting = true;
	waiter->next = b->waiters;
	b->waiters = waiter;
	if (b->probing)
		b->again = true;
	else
		backend_look_again(b, 0);
}

void backend_forget(struct backend *b, struct backend_waiter *waiter)
{
	for (struct backend_waiter **link = &b->waiters; *link; link = &(*link)->next) {
		if (*link == waiter) {
			*link = waiter->next;
			break;
		}
	}
	waiter->waiting = false;
}
