#include "workers/backend/backend.h"

#include "common/base/log.h"
#include "workers/backend/launcher.h"
#include "workers/backend/slots.h"
#include "workers/http/http.h"
#include "workers/tasks/task.h"

#include <errno.h>
#include <stdlib.h>

/* What a probe found. */
enum finding {
	FOUND_READY,
	FOUND_LOADING,
	FOUND_REFUSED, /* nobody listens */
	FOUND_CLOSED,  /* somebody accepts and closes: a proxy before nobody */
	FOUND_SILENT,  /* no whole answer in time */
	FOUND_WRONG,   /* an answer, but not one of this kind of backend */
};

struct backend {
	struct worker *worker;
	const struct backend_ops *ops;
	struct launcher *launcher; /* NULL: no command */
	struct slots *slots;	   /* NULL: its conversations are not saved */
	bool restore_due;	   /* a fresh one: nothing restored yet */
	bool restoring, saving;
	char *url;   /* where it is; NULL before a start */
	int64_t pid; /* of the backend we started, 0: none */
	uint64_t pid_start;
	uv_timer_t next, boot;
	unsigned handles;
	bool closing;

	enum proto_backend_state state;
	struct backend_view view; /* the last whole one */
	struct buf told;	  /* the last STATE, as bytes, to see whether it changed */
	uint64_t models_told;	  /* hash of the last MODELS */
	bool ever_told;

	/* the probe under way */
	struct http_transfer *transfer;
	struct backend_view learning;
	struct buf body;
	unsigned step;
	int status;
	uint64_t number; /* of the last probe begun */
	bool probing, again;
	unsigned failures;
	bool boot_adopted;  /* the boot deadline is an adopted one's */
	int64_t boot_delay; /* > 0: started and not ready yet */
	struct backend_waiter *waiters;

	void (*stopped)(void *ctx);
	void *stopped_ctx;
};

static void probe_begin(struct backend *b);

/* --- telling the supervisor --- */

static void tell_state(struct backend *b, enum proto_backend_state state, struct slice detail)
{
	const char *model = b->worker->settings.model ? b->worker->settings.model : b->view.model;
	struct proto_record r = {.type = PROTO_STATE};
	r.u.state = (struct proto_state){
		.state = state,
		.detail = detail,
		.url = slice_str(b->url),
		.backend_pid = b->pid,
		.backend_start = b->pid ? b->pid_start : 0,
		.window = b->worker->settings.num_ctx > 0 && b->ops->api == BACKEND_OLLAMA
				  ? b->worker->settings.num_ctx
				  : b->view.window,
		.slots = b->view.slots,
		.model = slice_str(model),
	};
	struct buf now;
	buf_init(&now, 0);
	buf_printf(&now, "%d %lld %lld %lld %s %s ", (int)state, (long long)b->pid,
		(long long)r.u.state.window, (long long)b->view.slots, b->url ? b->url : "",
		model ? model : "");
	buf_add_slice(&now, detail);
	if (b->ever_told && !buf_error(&now) && slice_eq(buf_slice(&now), buf_slice(&b->told))) {
		buf_free(&now);
		return;
	}
	if (!b->ever_told || state != b->state)
		log_line(state == STATE_DOWN ? LOG_WARN : LOG_INFO, "backend_state",
			LOG_STR("state", proto_state_name(state)),
			LOG_STR("url", b->url ? b->url : ""), LOG_INT("window", r.u.state.window),
			LOG_SLICE("detail", detail), LOG_END);
	b->state = state;
	b->ever_told = true;
	buf_free(&b->told);
	b->told = now;
	b->worker->progress++;
	worker_put(b->worker, &r);
}

static void tell_models(struct backend *b)
{
	uint64_t hash = backend_view_hash(&b->view);
	if (hash == b->models_told)
		return;
	b->models_told = hash;
	backend_view_tell(&b->view, b->worker);
}

/* --- probing --- */

static void on_next(uv_timer_t *timer)
{
	probe_begin(timer->data);
}

static void look_again(struct backend *b, int64_t ms)
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

static void launch(struct backend *b)
{
	struct buf err;
	buf_init(&err, 0);
	b->boot_delay = BACKEND_BOOT_MS;
	if (launcher_start(b->launcher, &err)) {
		tell_state(b, STATE_DOWN, buf_slice(&err));
		worker_exit(b->worker, WORKER_EXIT_BOOT, buf_cstr(&err));
	}
	buf_free(&err);
}

static void on_restored(void *ctx)
{
	struct backend *b = ctx;
	b->restoring = false;
	look_again(b, 0); /* it may be gone by now */
}

/*
 * Without a configured model the first one found is it, and stays it while it is there: Ollama
 * lists what was changed last first, so that a pull would make another model the default.
 */
static void settle_model(struct backend *b)
{
	struct settings *s = &b->worker->settings;
	const char *model = b->view.model;
	if (s->model || !model || (s->settled && backend_same_model(s->settled, model)))
		return;
	char *copy = strdup(model);
	if (!copy)
		return; /* memory is out: the next probe tries again */
	log_line(LOG_INFO, "model_settled", LOG_STR("model", model),
		LOG_STR("gone", s->settled ? s->settled : ""),
		LOG_STR("hint", "no model is configured for this device"), LOG_END);
	free(s->settled);
	s->settled = copy;
}

static void become_ready(struct backend *b)
{
	backend_view_fini(&b->view);
	b->view = b->learning;
	b->learning = (struct backend_view){0};
	b->view.gpu_share = b->pid ? launcher_gpu_share(b->launcher) : -1;
	settle_model(b);
	b->failures = 0;
	if (b->boot_delay) {
		b->boot_delay = 0;
		uv_timer_stop(&b->boot);
		if (b->launcher)
			launcher_settled(b->launcher);
	}
	if (b->restoring)
		return;
	if (b->restore_due) {
		b->restore_due = false;
		b->restoring = slots_restore(b->slots, b->view.model_path, on_restored, b);
		if (b->restoring) {
			tell_state(b, STATE_LOADING, SLICE("its conversations are being restored"));
			return;
		}
	}
	bool no_gpu = b->pid && launcher_without_gpu(b->launcher);
	tell_state(b, STATE_READY,
		no_gpu ? SLICE("runs on the CPU: it found no GPU") : (struct slice){0});
	tell_models(b);
	look_again(b, BACKEND_READY_MS);
}

static void become_down(struct backend *b, enum finding f)
{
	struct buf why;
	buf_init(&why, 0);
	if (f == FOUND_REFUSED || f == FOUND_CLOSED)
		buf_printf(&why, "nothing answers at %s", b->url);
	else if (f == FOUND_SILENT)
		buf_printf(&why, "%s does not answer in time", b->url);
	else
		buf_printf(&why, "what answers at %s is not %s", b->url, b->ops->name);
	tell_state(b, STATE_DOWN, buf_slice(&why));
	look_again(b, BACKEND_DOWN_MS);
	if (f == FOUND_SILENT) /* who waits for a first byte would wait for ever */
		tasks_fail_silent(b->worker, buf_cstr(&why));
	buf_free(&why);
}

/*
 * Whether our own requests explain that it does not answer us: it has them, and something of their
 * answers came a while ago. Many requests to a server of few threads keep all of these; one that
 * has stopped sends nothing to anybody.
 */
static bool is_busy(const struct backend *b)
{
	const struct worker *w = b->worker;
	uint64_t silent = uv_now(w->loop) - http_last_byte_ms(w->http);
	return task_count(w->tasks) > 0 && silent < (uint64_t)w->settings.silent_ms;
}

static void conclude(struct backend *b, enum finding f)
{
	static const char *const found[] = {[FOUND_READY] = "ready",
		[FOUND_LOADING] = "loading",
		[FOUND_REFUSED] = "refused",
		[FOUND_CLOSED] = "closed",
		[FOUND_SILENT] = "silent",
		[FOUND_WRONG] = "wrong"};
	b->probing = false;
	log_line(LOG_DEBUG, "backend_probe", LOG_STR("found", found[f]), LOG_END);
	if (f != FOUND_READY)
		backend_view_fini(&b->learning);
	if (f == FOUND_READY) {
		become_ready(b);
	} else if (f == FOUND_LOADING) {
		b->failures = 0;
		tell_state(b, STATE_LOADING, SLICE("the model is being loaded"));
		look_again(b, BACKEND_LOADING_MS);
	} else if (b->boot_delay) { /* started, not up yet: the boot deadline ends this */
		look_again(b, b->boot_delay);
		b->boot_delay = b->boot_delay * 2 < BACKEND_LOADING_MS ? b->boot_delay * 2
								       : BACKEND_LOADING_MS;
	} else if (f == FOUND_REFUSED && b->launcher && !b->pid) {
		launch(b);
	} else if (f == FOUND_SILENT && b->state == STATE_READY && is_busy(b)) {
		look_again(b, BACKEND_DOWN_MS); /* our own requests keep it from answering */
	} else if (f != FOUND_REFUSED && f != FOUND_CLOSED && b->state == STATE_READY &&
		   ++b->failures < BACKEND_SILENT_PROBES) {
		look_again(b, BACKEND_DOWN_MS);
	} else {
		become_down(b, f);
	}
	wake_waiters(b);
	if (b->again && !b->closing)
		probe_begin(b);
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

static void on_done(void *ctx, enum http_result result)
{
	struct backend *b = ctx;
	b->transfer = NULL;
	if (result == HTTP_REFUSED)
		return conclude(b, FOUND_REFUSED);
	if (result == HTTP_CUT && b->step == 0 && b->status == 0 && !b->pid)
		return conclude(b, FOUND_CLOSED);
	if (result != HTTP_OK)
		return conclude(b, result == HTTP_GARBAGE ? FOUND_WRONG : FOUND_SILENT);
	struct slice body = buf_error(&b->body) ? (struct slice){0} : buf_slice(&b->body);
	switch (b->ops->learn(&b->worker->settings, &b->learning, b->step, b->status, body)) {
	case PROBE_LOADING:
		return conclude(b, FOUND_LOADING);
	case PROBE_WRONG:
		return conclude(b, FOUND_WRONG);
	case PROBE_OK:
		break;
	}
	if (!b->ops->steps[++b->step])
		return conclude(b, FOUND_READY);
	probe_step(b);
}

static const struct http_events probe_events = {.head = on_head, .body = on_body, .done = on_done};

static void probe_step(struct backend *b)
{
	struct http_request r = {
		.method = "GET",
		.target = slice_str(b->ops->steps[b->step]),
		.total_ms = BACKEND_PROBE_MS,
	};
	buf_clear(&b->body);
	b->status = 0;
	if (http_start(b->worker->http, &r, &probe_events, b, &b->transfer))
		conclude(b, FOUND_SILENT);
}

static void probe_begin(struct backend *b)
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
		look_again(b, 0);
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
		look_again(b, 0);
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

/* --- the backend we start --- */

static void on_boot_deadline(uv_timer_t *timer)
{
	struct backend *b = timer->data;
	if (launcher_adopted(b->launcher)) { /* it may be stopped, or hang: a fresh one instead */
		uv_timer_start(timer, on_boot_deadline, LAUNCHER_STOP_MS, 0);
		launcher_replace(b->launcher);
		return;
	}
	struct buf why;
	buf_init(&why, 0);
	buf_printf(&why, "%s was not ready after %lld ms", b->worker->settings.command[0],
		(long long)b->worker->settings.boot_ms);
	launcher_tail(b->launcher, &why);
	tell_state(b, STATE_DOWN, buf_slice(&why));
	worker_exit(b->worker, WORKER_EXIT_BOOT, "the backend was not ready by its deadline");
	buf_free(&why);
}

static int set_url(struct backend *b, const char *url)
{
	char *copy = strdup(url);
	int rc = copy ? http_set_base(b->worker->http, url) : -ENOMEM;
	if (rc) {
		free(copy);
		return rc;
	}
	free(b->url);
	b->url = copy;
	return 0;
}

static void on_running(void *ctx, const char *url, int64_t pid, uint64_t start)
{
	struct backend *b = ctx;
	if (set_url(b, url)) {
		worker_exit(b->worker, WORKER_EXIT_MEMORY, "out of memory");
		return;
	}
	b->pid = pid;
	b->pid_start = start;
	b->boot_delay = BACKEND_BOOT_MS;
	bool adopted = launcher_adopted(b->launcher);
	tell_state(b, STATE_STARTING, adopted ? SLICE("adopted") : SLICE("started"));
	if (b->boot_adopted && !adopted) /* it has taken the place of an adopted one */
		uv_timer_stop(&b->boot);
	b->boot_adopted = adopted;
	b->restore_due = b->slots && !adopted;
	if (!uv_is_active((uv_handle_t *)&b->boot))
		uv_timer_start(
			&b->boot, on_boot_deadline, (uint64_t)b->worker->settings.boot_ms, 0);
	look_again(b, BACKEND_BOOT_MS);
}

static void on_exited(void *ctx, struct slice why)
{
	struct backend *b = ctx;
	bool booting = b->boot_delay > 0;
	b->pid = 0;
	tell_state(b, STATE_DOWN, why);
	worker_exit(b->worker, booting ? WORKER_EXIT_BOOT : WORKER_EXIT_BACKEND,
		"the backend has exited");
}

/* --- life --- */

int backend_create(struct worker *w, struct backend **out)
{
	struct backend *b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->worker = w;
	b->ops = w->settings.type == BACKEND_TYPE_OLLAMA ? &ollama_ops : &llama_server_ops;
	b->state = STATE_STARTING;
	buf_init(&b->told, 0);
	buf_init(&b->body, BACKEND_PROBE_BYTES);
	b->slots = slots_create(w);
	static const struct launcher_events events = {.running = on_running, .exited = on_exited};
	const struct launcher_options options = {.settings = &w->settings,
		.device = w->device,
		.lifeline_fd = w->family_fd,
		.slots_dir = slots_argument(b->slots)};
	if (w->settings.command && launcher_create(w->loop, &options, &events, b, &b->launcher)) {
		slots_destroy(b->slots);
		free(b);
		return -ENOMEM;
	}
	uv_timer_init(w->loop, &b->next);
	uv_timer_init(w->loop, &b->boot);
	b->next.data = b->boot.data = b;
	b->handles = 2;
	*out = b;
	return 0;
}

void backend_start(struct backend *b)
{
	const struct settings *s = &b->worker->settings;
	if (b->launcher && s->adopt_url) {
		b->boot_delay = BACKEND_BOOT_MS;
		int rc = launcher_adopt(b->launcher, s->adopt_pid, s->adopt_start, s->adopt_url);
		if (rc == 0)
			return;
		b->boot_delay = 0;
		log_line(LOG_WARN, "backend_not_adopted", LOG_INT("backend_pid", s->adopt_pid),
			LOG_STR("error", strerror(-rc)), LOG_END);
	}
	if (!s->url) {
		launch(b);
		return;
	}
	if (set_url(b, b->worker->settings.url)) {
		tell_state(b, STATE_DOWN,
			SLICE("the backend's url is not one: http://host:port[/prefix]"));
		worker_exit(b->worker, WORKER_EXIT_ACK, "bad url");
		return;
	}
	tell_state(b, STATE_STARTING, (struct slice){0});
	probe_begin(b);
}

static void on_launcher_stopped(void *ctx)
{
	struct backend *b = ctx;
	b->pid = 0;
	b->stopped(b->stopped_ctx);
}

static void on_saved(void *ctx)
{
	struct backend *b = ctx;
	b->saving = false;
	launcher_stop(b->launcher, on_launcher_stopped);
}

void backend_hurry(struct backend *b)
{
	if (!b->saving)
		return;
	slots_cancel(b->slots);
	on_saved(b);
}

void backend_stop(struct backend *b, enum backend_end how, void (*stopped)(void *ctx), void *ctx)
{
	b->closing = true;
	uv_timer_stop(&b->next);
	uv_timer_stop(&b->boot);
	http_cancel(b->transfer);
	b->transfer = NULL;
	b->stopped = stopped;
	b->stopped_ctx = ctx;
	slots_cancel(b->slots);
	if (how == BACKEND_SAVE && b->slots && b->pid && b->state == STATE_READY)
		b->saving = slots_save(b->slots, b->view.model_path, b->view.slots, on_saved, b);
	if (b->saving)
		return;
	if (!b->launcher || (how == BACKEND_LEAVE && launcher_leave(b->launcher)))
		stopped(ctx);
	else
		launcher_stop(b->launcher, on_launcher_stopped);
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct backend *b = handle->data;
	if (--b->handles == 0)
		free(b);
}

void backend_destroy(struct backend *b)
{
	if (!b)
		return;
	b->closing = true;
	http_cancel(b->transfer);
	slots_destroy(b->slots);
	b->slots = NULL;
	launcher_destroy(b->launcher);
	backend_view_fini(&b->view);
	backend_view_fini(&b->learning);
	buf_free(&b->body);
	buf_free(&b->told);
	free(b->url);
	b->url = NULL;
	uv_close((uv_handle_t *)&b->next, on_handle_closed);
	uv_close((uv_handle_t *)&b->boot, on_handle_closed);
}

const struct backend_ops *backend_kind(const struct backend *b)
{
	return b->ops;
}

bool backend_has_our_folder(const struct backend *b)
{
	return slots_are_kept(&b->worker->settings);
}

const struct backend_view *backend_view(const struct backend *b)
{
	return &b->view;
}
