#include "workers/backend/backend_private.h"

#include "common/base/log.h"

#include <errno.h>
#include <stdlib.h>

/* --- the backend we start --- */

void backend_launch(struct backend *b)
{
	struct buf err;
	buf_init(&err, 0);
	b->boot_delay = BACKEND_BOOT_MS;
	if (launcher_start(b->launcher, &err)) {
		backend_tell(b, STATE_DOWN, buf_slice(&err));
		worker_exit(b->worker, WORKER_EXIT_BOOT, buf_cstr(&err));
	}
	buf_free(&err);
}

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
	backend_tell(b, STATE_DOWN, buf_slice(&why));
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
	backend_tell(b, STATE_STARTING, adopted ? SLICE("adopted") : SLICE("started"));
	if (b->boot_adopted && !adopted) /* it has taken the place of an adopted one */
		uv_timer_stop(&b->boot);
	b->boot_adopted = adopted;
	b->conversations = b->slots && !adopted ? CONVERSATIONS_DUE : CONVERSATIONS_IDLE;
	if (!uv_is_active((uv_handle_t *)&b->boot))
		uv_timer_start(
			&b->boot, on_boot_deadline, (uint64_t)b->worker->settings.boot_ms, 0);
	backend_look_again(b, BACKEND_BOOT_MS);
}

static void on_exited(void *ctx, struct slice why)
{
	struct backend *b = ctx;
	bool booting = b->boot_delay > 0;
	b->pid = 0;
	backend_tell(b, STATE_DOWN, why);
	worker_exit(b->worker, booting ? WORKER_EXIT_BOOT : WORKER_EXIT_BACKEND,
		"the backend has exited");
}

/* --- life --- */

int backend_create(struct worker_self *w, struct backend **out)
{
	struct backend *b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->worker = w;
	b->kind = backend_kind(w->settings.type);
	b->state = STATE_STARTING;
	b->speculation = -1;
	backend_view_init(&b->view);
	backend_view_init(&b->learning);
	buf_init(&b->told, 0);
	buf_init(&b->body, BACKEND_PROBE_BYTES);
	b->slots = slots_create(w);
	static const struct launcher_events events = {.running = on_running, .exited = on_exited};
	const struct launcher_options options = {.settings = &w->settings,
		.device = w->device,
		.lifeline_fd = w->family_fd,
		.kind = b->kind,
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
		backend_launch(b);
		return;
	}
	if (set_url(b, b->worker->settings.url)) {
		backend_tell(b, STATE_DOWN,
			SLICE("the backend's url is not one: http://host:port[/prefix]"));
		worker_exit(b->worker, WORKER_EXIT_ACK, "bad url");
		return;
	}
	backend_tell(b, STATE_STARTING, (struct slice){0});
	backend_probe(b);
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
	b->conversations = CONVERSATIONS_IDLE;
	launcher_stop(b->launcher, on_launcher_stopped);
}

void backend_hurry(struct backend *b)
{
	if (b->conversations != CONVERSATIONS_SAVING)
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
	if (how == BACKEND_SAVE && b->slots && b->pid && b->state == STATE_READY &&
		slots_save(b->slots, on_saved, b)) {
		b->conversations = CONVERSATIONS_SAVING;
		return;
	}
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

void backend_answered(
	struct backend *b, const struct proto_job *spec, const struct proto_usage *usage)
{
	if (b && b->slots)
		slots_answered(b->slots, spec, usage);
}

bool backend_restore(struct backend *b, uint64_t conversation, struct slots_waiter *w)
{
	return slots_restore_for(b->slots, conversation, w);
}

void backend_restore_forget(struct backend *b, struct slots_waiter *w)
{
	slots_forget(b->slots, w);
}

unsigned backend_traits(const struct backend *b)
{
	return backend_all_traits(b);
}

bool backend_has_our_folder(const struct backend *b)
{
	return slots_are_kept(&b->worker->settings);
}

const struct backend_view *backend_view(const struct backend *b)
{
	return &b->view;
}
