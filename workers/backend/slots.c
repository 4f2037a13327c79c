#include "workers/backend/slots.h"

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "workers/http/http.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOTS_DIR_BYTES 1200
#define SLOTS_PATH_BYTES (SLOTS_DIR_BYTES + 64)
#define SLOTS_NAME_BYTES 64
#define SLOTS_ANSWER_BYTES 4096

struct slots {
	struct worker_self *worker;
	char dir[SLOTS_DIR_BYTES];
	bool own_dir;

	/* the save or restore under way */
	bool saving, busy;
	uint64_t key;
	uint64_t begun_ms, deadline_ms; /* loop time */
	unsigned ids[SLOTS_MAX], count, at, good;
	int64_t tokens, bytes;
	struct buf index;
	struct http_transfer *transfer;
	struct buf request, answer;
	char target[48];
	int status;
	slots_done_fn *done;
	void *ctx;
};

/* --- files --- */

static void slot_name(const struct slots *s, unsigned id, char out[SLOTS_NAME_BYTES])
{
	snprintf(out, SLOTS_NAME_BYTES, "tandem-%.31s-%u.bin", s->worker->device, id);
}

static void index_path(const struct slots *s, char out[SLOTS_PATH_BYTES])
{
	snprintf(out, SLOTS_PATH_BYTES, "%s/tandem-%.31s.index", s->dir, s->worker->device);
}

static void remove_slot(const struct slots *s, unsigned id)
{
	char name[SLOTS_NAME_BYTES], path[SLOTS_PATH_BYTES];
	slot_name(s, id, name);
	snprintf(path, sizeof(path), "%s/%s", s->dir, name);
	unlink(path);
}

static void remove_index(const struct slots *s)
{
	char path[SLOTS_PATH_BYTES];
	index_path(s, path);
	unlink(path);
}

static int write_index(const struct slots *s)
{
	char path[SLOTS_PATH_BYTES];
	index_path(s, path);
	return buf_error(&s->index) ? -ENOMEM : file_replace(path, buf_slice(&s->index));
}

/* "tandem-slots 1", "key HEX", then "slot ID TOKENS" for each. */
int slots_parse(struct slice text, uint64_t key, unsigned ids[SLOTS_MAX])
{
	char copy[SLOTS_INDEX_BYTES + 1], *line, *rest = copy, *end;
	int count = 0;
	if (text.n == 0 || text.n > SLOTS_INDEX_BYTES)
		return -1;
	memcpy(copy, text.p, text.n);
	copy[text.n] = '\0';
	line = strsep(&rest, "\n");
	if (strcmp(line, "tandem-slots 1") != 0 || !(line = strsep(&rest, "\n")) ||
		strncmp(line, "key ", 4) != 0 || strtoull(line + 4, &end, 16) != key || *end ||
		end == line + 4)
		return -1;
	while ((line = strsep(&rest, "\n")) && *line && count < SLOTS_MAX) {
		unsigned long id =
			strncmp(line, "slot ", 5) == 0 ? strtoul(line + 5, &end, 10) : SLOTS_MAX;
		if (id >= SLOTS_MAX || end == line + 5 || *end != ' ')
			return -1;
		ids[count++] = (unsigned)id;
	}
	return count;
}

/* Takes the index away, whatever is in it. Count of slots, or -1. */
static int take_index(struct slots *s)
{
	char path[SLOTS_PATH_BYTES], text[SLOTS_INDEX_BYTES];
	index_path(s, path);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text));
	close(fd);
	unlink(path);
	return slots_parse((struct slice){text, n > 0 ? (size_t)n : 0}, s->key, s->ids);
}

/* --- one after the other --- */

static void next(struct slots *s);

static void finish(struct slots *s)
{
	uint64_t ms = uv_now(s->worker->loop) - s->begun_ms;
	if (s->saving && s->good) {
		int rc = write_index(s);
		if (rc)
			log_line(LOG_WARN, "slots_index", LOG_STR("error", strerror(-rc)), LOG_END);
	}
	for (unsigned i = s->at; i < s->count; i++)
		remove_slot(s, s->ids[i]);
	log_line(s->at < s->count ? LOG_WARN : LOG_INFO,
		s->saving ? "slots_saved" : "slots_restored", LOG_INT("slots", s->good),
		LOG_INT("tokens", s->tokens), LOG_INT("bytes", s->bytes), LOG_INT("ms", ms),
		LOG_INT("left_out", s->count - s->at), LOG_END);
	s->busy = false;
	buf_free(&s->index);
	buf_free(&s->request);
	buf_free(&s->answer);
	s->done(s->ctx);
}

static void learn(struct slots *s)
{
	struct json_value root;
	int64_t tokens = 0, bytes = 0;
	unsigned id = s->ids[s->at];
	bool ok = s->status == 200 && !buf_error(&s->answer) &&
		  json_parse(buf_slice(&s->answer), JSON_MAX_DEPTH, &root, NULL) == 0 &&
		  json_to_int(json_get(root, s->saving ? "n_saved" : "n_restored"), &tokens);
	if (ok && tokens > 0) {
		json_to_int(json_get(root, s->saving ? "n_written" : "n_read"), &bytes);
		s->good++;
		s->tokens += tokens;
		s->bytes += bytes;
		if (s->saving)
			buf_printf(&s->index, "slot %u %" PRId64 "\n", id, tokens);
	} else if (!ok) {
		log_line(LOG_WARN, s->saving ? "slot_not_saved" : "slot_not_restored",
			LOG_INT("slot", id), LOG_INT("status", s->status),
			LOG_SLICE("answer", buf_slice(&s->answer)), LOG_END);
	}
	if (!s->saving || !ok || tokens == 0)
		remove_slot(s, id);
}

static void on_head(void *ctx, int status)
{
	struct slots *s = ctx;
	s->status = status;
}

static void on_body(void *ctx, struct slice bytes)
{
	struct slots *s = ctx;
	buf_add_slice(&s->answer, bytes); /* over its cap: no JSON any more */
}

static void on_done(void *ctx, enum http_result result)
{
	struct slots *s = ctx;
	s->transfer = NULL;
	if (result !=
		HTTP_OK) { /* no time left, or the server is gone: the others fare no better */
		log_line(LOG_WARN, s->saving ? "slot_not_saved" : "slot_not_restored",
			LOG_INT("slot", s->ids[s->at]), LOG_STR("error", http_result_text(result)),
			LOG_END);
		finish(s);
		return;
	}
	learn(s);
	s->at++;
	next(s);
}

static void next(struct slots *s)
{
	static const struct http_events events = {
		.head = on_head, .body = on_body, .done = on_done};
	static const struct proto_header json = {SLICE("Content-Type"), SLICE("application/json")};
	uint64_t now = uv_now(s->worker->loop);
	char name[SLOTS_NAME_BYTES];
	if (s->at >= s->count || now >= s->deadline_ms) {
		finish(s);
		return;
	}
	slot_name(s, s->ids[s->at], name);
	snprintf(s->target, sizeof(s->target), "/slots/%u?action=%s", s->ids[s->at],
		s->saving ? "save" : "restore");
	buf_clear(&s->request);
	buf_clear(&s->answer);
	buf_printf(&s->request, "{\"filename\":\"%s\"}", name);
	s->status = 0;
	struct http_request r = {.method = "POST",
		.target = slice_str(s->target),
		.headers = &json,
		.header_count = 1,
		.body = buf_slice(&s->request),
		.total_ms = (int64_t)(s->deadline_ms - now)};
	if (buf_error(&s->request) || http_start(s->worker->http, &r, &events, s, &s->transfer))
		finish(s);
}

static void begin(struct slots *s, bool saving, unsigned count, slots_done_fn *done, void *ctx)
{
	s->saving = saving;
	s->busy = true;
	s->count = count;
	s->at = s->good = 0;
	s->tokens = s->bytes = 0;
	s->begun_ms = uv_now(s->worker->loop);
	s->deadline_ms = s->begun_ms + (uint64_t)s->worker->settings.kv_ms;
	s->done = done;
	s->ctx = ctx;
	buf_init(&s->index, SLOTS_INDEX_BYTES);
	buf_init(&s->request, 256);
	buf_init(&s->answer, SLOTS_ANSWER_BYTES);
	if (saving)
		buf_printf(&s->index, "tandem-slots 1\nkey %016" PRIx64 "\n", s->key);
}

bool slots_save(
	struct slots *s, const char *model_path, int64_t count, slots_done_fn *done, void *ctx)
{
	s->key = slots_key(model_path, s->worker->settings.command);
	if (s->busy || s->key == 0 || count <= 0)
		return false;
	remove_index(s);
	begin(s, true, count < SLOTS_MAX ? (unsigned)count : SLOTS_MAX, done, ctx);
	for (unsigned i = 0; i < s->count; i++)
		s->ids[i] = i;
	next(s);
	return true;
}

bool slots_restore(struct slots *s, const char *model_path, slots_done_fn *done, void *ctx)
{
	s->key = slots_key(model_path, s->worker->settings.command);
	int count = s->busy ? 0 : take_index(s);
	if (count < 0) {
		log_line(LOG_INFO, "slots_of_another_model", LOG_STR("dir", s->dir), LOG_END);
		for (unsigned id = 0; id < SLOTS_MAX; id++)
			remove_slot(s, id);
	}
	if (count <= 0)
		return false;
	begin(s, false, (unsigned)count, done, ctx);
	next(s);
	return true;
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

struct slots *slots_create(struct worker_self *w)
{
	const struct settings *x = &w->settings;
	if (!(x->traits & TRAIT_SAVES_SLOTS) || !x->command || !x->state_dir || x->kv_ms <= 0)
		return NULL;
	struct slots *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	const char *theirs = own_folder(x->command);
	s->worker = w;
	s->own_dir = !theirs;
	int n = theirs ? snprintf(s->dir, sizeof(s->dir), "%s", theirs)
		       : snprintf(s->dir, sizeof(s->dir), "%s/kv-%s", x->state_dir, w->device);
	int rc = n <= 0 || (size_t)n >= sizeof(s->dir) ? -ENAMETOOLONG : 0;
	if (rc == 0 && s->own_dir && mkdir(x->state_dir, 0700) && errno != EEXIST)
		rc = -errno;
	/* llama-server writes what it saves for everybody to read: the folder keeps others out. */
	if (rc == 0 && s->own_dir &&
		((mkdir(s->dir, 0700) && errno != EEXIST) || chmod(s->dir, 0700)))
		rc = -errno;
	if (rc == 0)
		return s;
	log_line(LOG_WARN, "slots_folder", LOG_STR("dir", s->dir), LOG_STR("error", strerror(-rc)),
		LOG_END);
	free(s);
	return NULL;
}

const char *slots_argument(const struct slots *s)
{
	return s && s->own_dir ? s->dir : NULL;
}

void slots_cancel(struct slots *s)
{
	if (!s || !s->busy)
		return;
	http_cancel(s->transfer);
	s->transfer = NULL;
	s->busy = false;
	for (unsigned i = 0; i < s->count; i++)
		remove_slot(s, s->ids[i]);
	buf_free(&s->index);
	buf_free(&s->request);
	buf_free(&s->answer);
}

void slots_destroy(struct slots *s)
{
	slots_cancel(s);
	free(s);
}
