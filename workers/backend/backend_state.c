/* What a look at the backend means, and what the supervisor hears of it. */
#include "workers/backend/backend_private.h"

#include "common/base/log.h"
#include "workers/tasks/task.h"

#include <stdlib.h>

/* --- telling the supervisor --- */

void backend_tell(struct backend *b, enum proto_backend_state state, struct slice detail)
{
	const char *model = b->worker->settings.model ? b->worker->settings.model : b->view.model;
	struct proto_record r = {.type = PROTO_STATE};
	unsigned traits = backend_traits(b);
	r.u.state = (struct proto_state){
		.state = state,
		.detail = detail,
		.url = slice_str(b->url),
		.backend_pid = b->pid,
		.backend_start = b->pid ? b->pid_start : 0,
		.window = b->worker->settings.num_ctx > 0 && traits & TRAIT_TAKES_NUM_CTX
				  ? b->worker->settings.num_ctx
				  : b->view.window,
		.slots = b->view.slots,
		.model = slice_str(model),
		.traits = traits,
	};
	struct buf now;
	buf_init(&now, 0);
	buf_printf(&now, "%d %x %lld %lld %lld %s %s ", (int)state, traits, (long long)b->pid,
		(long long)r.u.state.window, (long long)b->view.slots, b->url ? b->url : "",
		model ? model : "");
	buf_add_slice(&now, detail);
	if (b->told.n && !buf_error(&now) && slice_eq(buf_slice(&now), buf_slice(&b->told))) {
		buf_free(&now);
		return;
	}
	if (b->told.n == 0 || state != b->state)
		log_line(state == STATE_DOWN ? LOG_WARN : LOG_INFO, "backend_state",
			LOG_STR("state", proto_state_name(state)),
			LOG_STR("url", b->url ? b->url : ""), LOG_INT("window", r.u.state.window),
			LOG_SLICE("detail", detail), LOG_END);
	b->state = state;
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

/* --- what was found --- */

static void on_restored(void *ctx)
{
	struct backend *b = ctx;
	b->conversations = CONVERSATIONS_IDLE;
	backend_look_again(b, 0); /* it may be gone by now */
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
	if (b->conversations == CONVERSATIONS_DUE)
		b->conversations = slots_restore(b->slots, b->view.model_path, on_restored, b)
					   ? CONVERSATIONS_RESTORING
					   : CONVERSATIONS_IDLE;
	if (b->conversations == CONVERSATIONS_RESTORING) {
		backend_tell(b, STATE_LOADING, SLICE("its conversations are being restored"));
		return;
	}
	bool no_gpu = b->pid && launcher_without_gpu(b->launcher);
	backend_tell(b, STATE_READY,
		no_gpu ? SLICE("runs on the CPU: it found no GPU") : (struct slice){0});
	tell_models(b);
	backend_look_again(b, BACKEND_READY_MS);
}

static void become_down(struct backend *b, enum finding f)
{
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
	const struct worker_self *w = b->worker;
	uint64_t silent = uv_now(w->loop) - http_last_byte_ms(w->http);
	return task_count(w->tasks) > 0 && silent < (uint64_t)w->settings.silent_ms;
}

/* Once is enough: nobody is there, or nobody for us. */
static bool is_certain(enum finding f)
{
	return f == FOUND_REFUSED || f == FOUND_CLOSED || f == FOUND_CLOSED_TO_US;
}

void backend_conclude(struct backend *b, enum finding f)
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
