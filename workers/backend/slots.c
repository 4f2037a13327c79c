/* Life, and what others ask for: the folder, the model, saving and restoring, who waits. */
#include "workers/backend/slots_private.h"

#include "common/base/hash.h"
#include "common/base/log.h"
#include "workers/http/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

/* --- what is asked of it --- */

void slots_ready(struct slots *s, const char *model_path, int64_t count)
{
	if (!s)
		return;
	uint64_t model = slots_key(model_path, s->worker->settings.command);
	s->count = count <= 0 ? 0 : count < SLOTS_MAX ? (unsigned)count : SLOTS_MAX;
	if (s->listed && model == s->model)
		return;
	s->model = model;
	s->path = hash_fnv_text(HASH_FNV_START, model_path);
	if (model == 0)
		return;
	if (!s->listed)
		kept_read(&s->kept);
	s->listed = true;
	unsigned changed = kept_sweep(&s->kept, s->model, s->path, s->worker->settings.kv_bytes > 0,
		time(NULL), NULL, NULL);
	if (changed)
		log_line(LOG_INFO, "slots_of_another_model", LOG_STR("dir", s->kept.dir),
			LOG_INT("slots", changed), LOG_END);
	slots_write_index(s);
	slots_tell(s, KEPT_LIST, NULL, -1);
	for (size_t i = 0; i < s->kept.count; i++)
		if (s->kept.files[i].model == s->model)
			slots_tell(s, KEPT_THERE, &s->kept.files[i], -1);
	if (kept_unused(&s->kept, model, time(NULL)) >= SLOTS_WRONG_MAX)
		slots_switch_off(s, SLOTS_UNUSED);
}

/* Also where saving while idle has ended: an end has more time. */
static bool can_bridge(const struct slots *s)
{
	return s->op == OP_NONE && s->model && s->count &&
	       kept_unused(&s->kept, s->model, time(NULL)) < SLOTS_WRONG_MAX;
}

bool slots_save(struct slots *s, slots_done_fn *done, void *ctx)
{
	if (!can_bridge(s))
		return false;
	return slots_begin(s, OP_SAVE_ALL, done, ctx);
}

bool slots_restore(struct slots *s, slots_done_fn *done, void *ctx)
{
	s->chat_count = 0; /* its slots are empty */
	s->fresh = true;
	if (!can_bridge(s))
		return false;
	kept_remove_strays(&s->kept);
	return slots_begin(s, OP_RESTORE_START, done, ctx);
}

/* Of a backend that others have used before us: what was used last may be in its slot still. */
static bool may_be_there(const struct slots *s, uint64_t conversation)
{
	return !s->fresh && s->chat_count == 0 && s->kept.count > 0 &&
	       s->kept.files[0].id == conversation;
}

bool slots_restore_for(struct slots *s, uint64_t conversation, struct slots_waiter *w)
{
	struct slots_waiter **end;
	if (!s || s->off || s->count == 0 || !kept_find(&s->kept, conversation) ||
		may_be_there(s, conversation))
		return false;
	*w = (struct slots_waiter){
		.conversation = conversation, .fn = w->fn, .ctx = w->ctx, .waiting = true};
	for (end = &s->waiters; *end; end = &(*end)->next)
		continue;
	*end = w;
	slots_start_waiting(s);
	return true;
}

void slots_forget(struct slots *s, struct slots_waiter *w)
{
	struct slots_waiter **link = s ? &s->waiters : NULL;
	while (link && *link && *link != w)
		link = &(*link)->next;
	if (!link || !*link)
		return;
	bool under_way = s->op == OP_RESTORE_ONE && *link == s->waiters;
	*link = w->next;
	w->waiting = false;
	if (!under_way)
		return;
	http_cancel(s->transfer); /* the server goes on with it; nobody waits */
	s->transfer = NULL;
	slots_let_go(s);
	slots_start_waiting(s);
}

/* --- life --- */

static const char *own_folder(char *const *command)
{
	for (char *const *arg = command; arg && *arg; arg++)
		if (strcmp(*arg, "--slot-save-path") == 0)
			return arg[1] ? arg[1] : "";
	return NULL;
}

bool slots_are_kept(const struct settings *x)
{
	return x->traits & TRAIT_SAVES_SLOTS && x->command && !own_folder(x->command);
}

static int open_folder(struct slots *s, const struct settings *x)
{
	const char *theirs = own_folder(x->command);
	char *dir = s->kept.dir;
	size_t room = sizeof(s->kept.dir);
	s->own_dir = !theirs;
	int n = theirs ? snprintf(dir, room, "%s", theirs)
		       : snprintf(dir, room, "%s/kv-%s", x->state_dir, s->worker->device);
	if (n <= 0 || (size_t)n >= room)
		return -ENAMETOOLONG;
	if (theirs)
		return 0;
	if (mkdir(x->state_dir, 0700) && errno != EEXIST)
		return -errno;
	/* llama-server writes what it saves for everybody to read: the folder keeps others out. */
	return (mkdir(dir, 0700) && errno != EEXIST) || chmod(dir, 0700) ? -errno : 0;
}

struct slots *slots_create(struct worker_self *w)
{
	const struct settings *x = &w->settings;
	if (!(x->traits & TRAIT_SAVES_SLOTS) || !x->command || !x->state_dir || x->kv_ms <= 0)
		return NULL;
	struct slots *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->worker = w;
	snprintf(s->kept.device, sizeof(s->kept.device), "%s", w->device);
	s->kept.most = x->kv_bytes > 0 ? x->kv_bytes : INT64_MAX;
	int rc = open_folder(s, x);
	if (rc == 0) {
		uv_timer_init(w->loop, &s->idle);
		s->idle.data = s;
		return s;
	}
	log_line(LOG_WARN, "slots_folder", LOG_STR("dir", s->kept.dir),
		LOG_STR("error", strerror(-rc)), LOG_END);
	free(s);
	return NULL;
}

const char *slots_argument(const struct slots *s)
{
	return s && s->own_dir ? s->kept.dir : NULL;
}

void slots_cancel(struct slots *s)
{
	if (!s)
		return;
	uv_timer_stop(&s->idle);
	while (s->waiters) /* their jobs have ended, or end now */
		slots_forget(s, s->waiters);
	if (s->op == OP_NONE)
		return;
	http_cancel(s->transfer);
	s->transfer = NULL;
	if (!s->looking && s->at < s->step_count && slots_saves(s))
		slots_remove_new(s);
	slots_write_index(s);
	slots_let_go(s);
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void slots_destroy(struct slots *s)
{
	if (!s)
		return;
	slots_cancel(s);
	uv_close((uv_handle_t *)&s->idle, on_closed);
}
