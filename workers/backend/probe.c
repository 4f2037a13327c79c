/*
 * One look at the backend: its kind's GETs, one after the other; what they mean; who waits for it.
 */
#include "workers/backend/backend_private.h"

#include "common/base/log.h"

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

/* --- what was found --- */

static void on_restored(void *ctx)
{
	struct backend *b = ctx;
	b->conversations = CONVERSATIONS_IDLE;
	backend_look_again(b, 0); /* it may be gone by now */
}

static void become_ready(struct backend *b)
{
	backend_learned(b);
	b->failures = 0;
	if (b->boot_delay) {
		b->boot_delay = 0;
		uv_timer_stop(&b->boot);
		if (b->launcher)
			launcher_settled(b->launcher);
	}
	slots_ready(b->slots, b->view.model_path, b->view.slots);
	if (b->conversations == CONVERSATIONS_DUE)
		b->conversations = slots_restore(b->slots, on_restored, b) ? CONVERSATIONS_RESTORING
									   : CONVERSATIONS_IDLE;
	if (b->conversations == CONVERSATIONS_RESTORING) {
		backend_tell(b, STATE_LOADING, SLICE("its conversations are being restored"));
		return;
	}
	bool no_gpu = b->pid && launcher_without_gpu(b->launcher);
	backend_tell(b, STATE_READY,
		no_gpu ? SLICE("runs on the CPU: it found no GPU") : (struct slice){0});
	backend_tell_models(b);
	backend_look_again(b, BACKEND_READY_MS);
}

static void become_down(struct backend *b, enum finding f)
{
	b->speculation = -1; /* another one may come */
	b->aside_told = false;
	struct buf why;
	buf_init(&why, 0);
	if (f == FOUND_REFUSED || f == FOUND_CLOSED)
		buf_printf(&why, "nothing answers at %s", b->url);
	else if (f == FOUND_SILENT)
		buf_printf(&why, "%s does not answer in time", b->url);
	else if (f == FOUND_BUSY)
		buf_printf(&why, "%s wants to be asked less often (status 429)", b->url);
	else if (f == FOUND_CLOSED_TO_US)
		buf_add_str(&why, b->why);
	else
		buf_printf(&why, "what answers at %s is not %s", b->url,
			backend_profile(b->worker->settings.type)->title);
	backend_tell(b, STATE_DOWN, buf_slice(&why));
	backend_look_again(b, BACKEND_DOWN_MS);
	if (f == FOUND_SILENT) /* who waits for a first byte would wait for ever */
		b->worker->backend_silent(b->worker, buf_cstr(&why));
	buf_free(&why);
}

/*
 * Whether our own requests explain that it does not answer us: it has them, and something of their
 * answers came a while ago. Many requests to a server of few threads keep all of these; one that
 * has stopped sends nothing to anybody.
 */
static bool is_busy(const struct backend *b)
{
	const struct worker_self *w = b->worker;
	uint64_t silent = uv_now(w->loop) - http_last_byte_ms(w->http);
	return w->open_tasks > 0 && silent < (uint64_t)w->settings.silent_ms;
}

/* Once is enough: nobody is there, or nobody for us. */
static bool is_certain(enum finding f)
{
	return f == FOUND_REFUSED || f == FOUND_CLOSED || f == FOUND_CLOSED_TO_US;
}

static void conclude(struct backend *b, enum finding f)
{
	static const char *const found[] = {[FOUND_READY] = "ready",
		[FOUND_LOADING] = "loading",
		[FOUND_REFUSED] = "refused",
		[FOUND_CLOSED] = "closed",
		[FOUND_SILENT] = "silent",
		[FOUND_WRONG] = "wrong",
		[FOUND_BUSY] = "busy",
		[FOUND_CLOSED_TO_US] = "closed to us"};
	log_line(LOG_DEBUG, "backend_probe", LOG_STR("found", found[f]), LOG_END);
	if (f != FOUND_READY)
		backend_view_fini(&b->learning);
	if (f == FOUND_READY) {
		become_ready(b);
	} else if (f == FOUND_LOADING) {
		b->failures = 0;
		backend_tell(b, STATE_LOADING, SLICE("the model is being loaded"));
		backend_look_again(b, BACKEND_LOADING_MS);
	} else if (b->boot_delay) { /* started, not up yet: the boot deadline ends this */
		backend_look_again(b, b->boot_delay);
		b->boot_delay = b->boot_delay * 2 < BACKEND_LOADING_MS ? b->boot_delay * 2
								       : BACKEND_LOADING_MS;
	} else if (f == FOUND_REFUSED && b->launcher && !b->pid) {
		backend_launch(b);
	} else if (f == FOUND_BUSY && b->state == STATE_READY) {
		backend_look_again(b, BACKEND_READY_MS);
	} else if (f == FOUND_SILENT && b->state == STATE_READY && is_busy(b)) {
		backend_look_again(
			b, BACKEND_DOWN_MS); /* our own requests keep it from answering */
	} else if (!is_certain(f) && b->state == STATE_READY &&
		   ++b->failures < BACKEND_SILENT_PROBES) {
		backend_look_again(b, BACKEND_DOWN_MS);
	} else {
		become_down(b, f);
	}
}

/* --- the look --- */

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
	conclude(b, f);
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

/* --- the question aside --- */

static void on_aside(void *ctx, enum http_result result)
{
	struct backend *b = ctx;
	b->transfer = NULL;
	if (result == HTTP_OK && !buf_error(&b->body)) {
		b->speculation = b->kind->learn_aside(b->status, buf_slice(&b->body));
		b->aside_told = true;
	}
	end(b, FOUND_READY);
}

static bool aside_is_due(const struct backend *b)
{
	return b->kind->aside && b->learning.guesses && !b->aside_told &&
	       b->worker->open_tasks == 0;
}

static void probe_aside(struct backend *b)
{
	static const struct http_events events = {
		.head = on_head, .body = on_body, .done = on_aside};
	struct http_request r = {
		.method = "GET", .target = slice_str(b->kind->aside), .total_ms = BACKEND_ASIDE_MS};
	buf_clear(&b->body);
	b->status = 0;
	if (http_start(b->worker->http, &r, &events, b, &b->transfer))
		end(b, FOUND_READY);
}

/* --- the steps --- */

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

static bool is_optional(const struct backend *b)
{
	return b->kind->optional & 1u << b->step;
}

static void go_on(struct backend *b)
{
	if (b->kind->steps[++b->step])
		probe_step(b);
	else if (aside_is_due(b))
		probe_aside(b);
	else
		end(b, FOUND_READY);
}

/* A path that it need not have, and that it leaves without an answer: what was known before stands. The next step
 * shows whether it answers at all. */
static bool is_left_open(const struct backend *b, enum http_result result)
{
	return is_optional(b) && result != HTTP_OK && result != HTTP_REFUSED && result != HTTP_TLS;
}

static void on_done(void *ctx, enum http_result result)
{
	struct backend *b = ctx;
	bool closed = !(is_optional(b) && result == HTTP_OK) && is_closed(b, result);
	b->transfer = NULL;
	if (closed)
		return end(b, FOUND_CLOSED_TO_US);
	if (is_left_open(b, result)) {
		b->learning.replays = b->view.replays;
		return go_on(b);
	}
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
	go_on(b);
}

static const struct http_events probe_events = {.head = on_head, .body = on_body, .done = on_done};

static void probe_step(struct backend *b)
{
	struct http_request r = {
		.method = "GET",
		.target = slice_str(b->kind->steps[b->step]),
		.total_ms = is_optional(b) ? BACKEND_ASIDE_MS : BACKEND_PROBE_MS,
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
