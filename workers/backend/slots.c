/* One operation after the other: a look at the slots, then a request for each that is saved or restored. */
#include "workers/backend/slots_private.h"

#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "workers/http/http.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SLOTS_PATH_BYTES (KEPT_DIR_BYTES + KEPT_NAME_BYTES)

static const char *op_name(enum slots_op op)
{
	static const char *const names[] = {[OP_NONE] = "",
		[OP_SAVE_ALL] = "end",
		[OP_SAVE_IDLE] = "idle",
		[OP_RESTORE_START] = "start",
		[OP_RESTORE_ONE] = "request"};
	return names[op];
}

/* --- telling --- */

void slots_tell(struct slots *s, enum proto_kept what, const struct kept_file *f, double ms)
{
	struct proto_record r = {.type = PROTO_KEPT};
	r.u.kept.what = what;
	r.u.kept.ms = ms;
	if (f) {
		r.u.kept.conversation = f->id;
		r.u.kept.tokens = f->tokens;
		r.u.kept.bytes = f->bytes;
	}
	worker_put(s->worker, &r);
}

void slots_gone(void *ctx, const struct kept_file *f)
{
	slots_tell(ctx, KEPT_GONE, f, -1);
}

void slots_write_index(struct slots *s)
{
	int rc = kept_write(&s->kept);
	if (rc)
		log_line(LOG_WARN, "slots_index", LOG_STR("error", strerror(-rc)), LOG_END);
}

/* --- the operation --- */

static void wake(struct slots *s)
{
	struct slots_waiter *w = s->waiters;
	if (!w)
		return; /* it does not want it any more */
	s->waiters = w->next;
	w->waiting = false;
	w->restored = s->good > 0;
	w->fn(w->ctx);
}

static void let_go(struct slots *s)
{
	s->op = OP_NONE;
	s->looking = false;
	buf_free(&s->request);
	buf_free(&s->answer);
}

/* Files stay, for the next time. */
static bool keeps(const struct slots *s)
{
	return s->worker->settings.kv_bytes > 0;
}

static void conclude(struct slots *s)
{
	unsigned left_out = s->step_count - s->at;
	for (; !keeps(s) && !slots_saves(s) && s->at < s->step_count; s->at++)
		kept_remove(&s->kept, s->steps[s->at].id);
	slots_write_index(s);
	if (s->step_count)
		log_line(left_out && s->op != OP_SAVE_IDLE ? LOG_WARN : LOG_INFO,
			slots_saves(s) ? "slots_saved" : "slots_restored",
			LOG_STR("at", op_name(s->op)), LOG_INT("slots", s->good),
			LOG_INT("tokens", s->tokens), LOG_INT("bytes", s->bytes),
			LOG_INT("ms", uv_now(s->worker->loop) - s->begun_ms),
			LOG_INT("left_out", left_out), LOG_END);
	let_go(s);
}

static void start_waiting(struct slots *s)
{
	while (s->waiters && s->op == OP_NONE &&
		(s->off || !slots_begin(s, OP_RESTORE_ONE, NULL, NULL))) {
		s->good = 0;
		wake(s);
	}
}

static void finish(struct slots *s)
{
	enum slots_op op = s->op;
	if (s->beginning) {
		s->over = true; /* slots_begin() says so */
		return;
	}
	conclude(s);
	if (op == OP_RESTORE_ONE)
		wake(s);
	else if (s->done)
		s->done(s->ctx);
	slots_idle_next(s);
	start_waiting(s);
}

static void next(struct slots *s);

/* --- what the server says --- */

static struct slots_step *step(struct slots *s)
{
	return &s->steps[s->at];
}

/* Written beside the one that is there, which is good until this one is. */
static void new_path(const struct slots *s, char out[SLOTS_PATH_BYTES + 4])
{
	kept_path(&s->kept, s->steps[s->at].id, out, SLOTS_PATH_BYTES);
	strcat(out, KEPT_NEW);
}

static void remove_new(const struct slots *s)
{
	char path[SLOTS_PATH_BYTES + 4];
	new_path(s, path);
	unlink(path);
}

/* What it says that it wrote is there, and is for nobody else to read. */
static bool take_new(const struct slots *s, int64_t bytes)
{
	char from[SLOTS_PATH_BYTES + 4], to[SLOTS_PATH_BYTES];
	struct stat st;
	new_path(s, from);
	kept_path(&s->kept, s->steps[s->at].id, to, sizeof(to));
	if (chmod(from, 0600) == 0 && stat(from, &st) == 0 && S_ISREG(st.st_mode) &&
		st.st_size == bytes && rename(from, to) == 0)
		return true;
	unlink(from);
	return false;
}

static void count_good(struct slots *s, int64_t tokens, int64_t bytes)
{
	s->good++;
	s->tokens += tokens;
	s->bytes += bytes;
}

static void saved(struct slots *s, int64_t tokens, int64_t bytes)
{
	double ms = (double)(uv_hrtime() - s->step_ms) / 1e6;
	struct kept_file f = {.id = step(s)->id,
		.model = s->model,
		.path = s->path,
		.tokens = tokens,
		.bytes = bytes,
		.used_s = time(NULL)};
	count_good(s, tokens, bytes);
	kept_put(&s->kept, &f, slots_gone, s);
	if (kept_find(&s->kept, f.id))
		slots_tell(s, KEPT_SAVED, &f, ms);
	for (size_t i = 0; i < s->chat_count; i++)
		if (s->chats[i].id == f.id)
			s->chats[i].unsaved = false;
	slots_measure(s, &f, ms);
}

static void restored(struct slots *s, int64_t tokens, int64_t bytes)
{
	double ms = (double)(uv_hrtime() - s->step_ms) / 1e6;
	const struct kept_file *kept = kept_find(&s->kept, step(s)->id);
	struct kept_file f = kept ? *kept : (struct kept_file){.id = step(s)->id};
	count_good(s, tokens, bytes);
	kept_used(&s->kept, f.id, time(NULL));
	slots_note(s, f.id, tokens, false);
	slots_tell(s, KEPT_RESTORED, &f, ms);
	if (keeps(s))
		return;
	kept_remove(&s->kept, f.id);
	slots_gone(s, &f);
}

static void failed(struct slots *s)
{
	const struct kept_file gone = {.id = step(s)->id};
	log_line(LOG_WARN, slots_saves(s) ? "slot_not_saved" : "slot_not_restored",
		LOG_INT("slot", step(s)->slot), LOG_INT("status", s->status),
		LOG_SLICE("answer", s->answer.n > 1024 ? SLICE("too long") : buf_slice(&s->answer)),
		LOG_END);
	if (slots_saves(s)) {
		remove_new(s);
	} else {
		kept_remove(&s->kept, gone.id);
		slots_gone(s, &gone);
	}
	if (s->op == OP_SAVE_IDLE)
		slots_switch_off(s, "the server cannot save");
}

static void learn(struct slots *s)
{
	struct json_value root;
	int64_t tokens = 0, bytes = 0;
	bool saving = slots_saves(s);
	bool ok = s->status == 200 && !buf_error(&s->answer) &&
		  json_parse(buf_slice(&s->answer), JSON_MAX_DEPTH, &root, NULL) == 0 &&
		  json_to_int(json_get(root, saving ? "n_saved" : "n_restored"), &tokens);
	if (ok)
		json_to_int(json_get(root, saving ? "n_written" : "n_read"), &bytes);
	if (ok && tokens == 0 && saving) /* an empty slot */
		remove_new(s);
	else if (!ok || tokens <= 0 || (saving && !take_new(s, bytes)))
		failed(s);
	else if (saving)
		saved(s, tokens, bytes);
	else
		restored(s, tokens, bytes);
}

static void on_head(void *ctx, int status)
{
	struct slots *s = ctx;
	s->status = status;
}

static void on_body(void *ctx, struct slice bytes)
{
	struct slots *s = ctx;
	s->worker->progress++;
	buf_add_slice(&s->answer, bytes); /* over its cap: no JSON any more */
}

/* Files that are not what was written are no use. */
static void drop_damaged(struct slots *s)
{
	for (size_t i = 0; i < s->kept.count;) {
		struct kept_file f = s->kept.files[i];
		if (f.model != s->model || kept_is_whole(&s->kept, &f)) {
			i++;
			continue;
		}
		log_line(LOG_WARN, "slot_file_damaged", LOG_INT("bytes", f.bytes), LOG_END);
		kept_remove(&s->kept, f.id);
		slots_gone(s, &f);
	}
}

static void plan(struct slots *s)
{
	if (!slots_saves(s))
		drop_damaged(s);
	slots_plan(s);
}

static void looked(struct slots *s, enum http_result result)
{
	s->looking = false;
	if (result == HTTP_OK && s->status == 200 && !buf_error(&s->answer))
		s->seen_count = slots_look(buf_slice(&s->answer), s->seen);
	if (s->seen_count != s->count)
		s->seen_count = 0;
	plan(s);
	next(s);
}

/* No time left, or the server is gone: the others fare no better. */
static void spoiled(struct slots *s, enum http_result result)
{
	const struct kept_file gone = {.id = step(s)->id};
	log_line(LOG_WARN, slots_saves(s) ? "slot_not_saved" : "slot_not_restored",
		LOG_INT("slot", step(s)->slot), LOG_STR("error", http_result_text(result)),
		LOG_END);
	if (slots_saves(s)) {
		remove_new(s);
	} else { /* it may be what the server died of */
		kept_remove(&s->kept, gone.id);
		slots_gone(s, &gone);
		s->at++;
	}
	if (s->op == OP_SAVE_IDLE && result != HTTP_REFUSED && result != HTTP_CUT)
		slots_switch_off(s, "the server takes too long to save");
}

static void on_done(void *ctx, enum http_result result)
{
	struct slots *s = ctx;
	s->transfer = NULL;
	if (s->looking) {
		looked(s, result);
		return;
	}
	if (result != HTTP_OK) {
		spoiled(s, result);
		finish(s);
		return;
	}
	learn(s);
	s->at++;
	next(s);
}

/* --- asking it --- */

static void ask(struct slots *s, const char *method)
{
	static const struct http_events events = {
		.head = on_head, .body = on_body, .done = on_done};
	static const struct proto_header json = {SLICE("Content-Type"), SLICE("application/json")};
	uint64_t now = uv_now(s->worker->loop);
	s->status = 0;
	buf_clear(&s->answer);
	struct http_request r = {.method = method,
		.target = slice_str(s->target),
		.headers = &json,
		.header_count = s->request.n ? 1 : 0,
		.body = buf_slice(&s->request),
		.total_ms = (int64_t)(s->deadline_ms - now)};
	s->step_ms = uv_hrtime();
	if (buf_error(&s->request) || http_start(s->worker->http, &r, &events, s, &s->transfer))
		finish(s);
}

static void next(struct slots *s)
{
	char name[KEPT_NAME_BYTES];
	bool wanted = s->op != OP_SAVE_IDLE || (s->worker->open_tasks == 0 && !s->off);
	if (s->at >= s->step_count || uv_now(s->worker->loop) >= s->deadline_ms || !wanted) {
		finish(s);
		return;
	}
	kept_name(&s->kept, step(s)->id, name);
	snprintf(s->target, sizeof(s->target), "/slots/%u?action=%s", step(s)->slot,
		slots_saves(s) ? "save" : "restore");
	buf_clear(&s->request);
	buf_printf(&s->request, "{\"filename\":\"%s%s\"}", name, slots_saves(s) ? KEPT_NEW : "");
	ask(s, "POST");
}

static bool must_look(const struct slots *s)
{
	return slots_saves(s) || (s->op == OP_RESTORE_ONE && s->count > 1);
}

static void look(struct slots *s)
{
	s->looking = true;
	snprintf(s->target, sizeof(s->target), "/slots");
	ask(s, "GET");
}

bool slots_begin(struct slots *s, enum slots_op op, slots_done_fn *done, void *ctx)
{
	s->op = op;
	s->seen_count = s->step_count = s->at = s->good = 0;
	s->tokens = s->bytes = 0;
	s->begun_ms = uv_now(s->worker->loop);
	s->deadline_ms = s->begun_ms + (uint64_t)s->worker->settings.kv_ms;
	s->done = done;
	s->ctx = ctx;
	buf_init(&s->request, 256);
	buf_init(&s->answer, SLOTS_ANSWER_BYTES);
	s->beginning = true;
	s->over = false;
	if (must_look(s)) {
		look(s);
	} else {
		plan(s);
		next(s);
	}
	s->beginning = false;
	if (s->over)
		conclude(s);
	return !s->over;
}

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
	start_waiting(s);
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
	let_go(s);
	start_waiting(s);
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
		remove_new(s);
	slots_write_index(s);
	let_go(s);
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
