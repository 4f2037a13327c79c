/* One slot saved or restored: what the server has said of it, and what becomes of its file. */
#include "workers/backend/slots_private.h"

#include "common/base/json.h"
#include "common/base/log.h"
#include "workers/http/http.h"

#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SLOTS_PATH_BYTES (KEPT_DIR_BYTES + KEPT_NAME_BYTES)

/* Written beside the one that is there, which is good until this one is. */
static void new_path(const struct slots *s, char out[SLOTS_PATH_BYTES + 4])
{
	kept_path(&s->kept, s->steps[s->at].id, out, SLOTS_PATH_BYTES);
	strcat(out, KEPT_NEW);
}

void slots_remove_new(const struct slots *s)
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
	struct kept_file f = {.id = slots_step(s)->id,
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
	const struct kept_file *kept = kept_find(&s->kept, slots_step(s)->id);
	struct kept_file f = kept ? *kept : (struct kept_file){.id = slots_step(s)->id};
	count_good(s, tokens, bytes);
	kept_used(&s->kept, f.id, time(NULL));
	slots_note(s, f.id, tokens, false);
	slots_tell(s, KEPT_RESTORED, &f, ms);
	if (slots_keeps(s))
		return;
	kept_remove(&s->kept, f.id);
	slots_gone(s, &f);
}

static void failed(struct slots *s)
{
	const struct kept_file gone = {.id = slots_step(s)->id};
	log_line(LOG_WARN, slots_saves(s) ? "slot_not_saved" : "slot_not_restored",
		LOG_INT("slot", slots_step(s)->slot), LOG_INT("status", s->status),
		LOG_SLICE("answer", s->answer.n > 1024 ? SLICE("too long") : buf_slice(&s->answer)),
		LOG_END);
	if (slots_saves(s)) {
		slots_remove_new(s);
	} else {
		kept_remove(&s->kept, gone.id);
		slots_gone(s, &gone);
	}
	if (s->op == OP_SAVE_IDLE)
		slots_switch_off(s, "the server cannot save");
}

void slots_learn(struct slots *s)
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
		slots_remove_new(s);
	else if (!ok || tokens <= 0 || (saving && !take_new(s, bytes)))
		failed(s);
	else if (saving)
		saved(s, tokens, bytes);
	else
		restored(s, tokens, bytes);
}

/* No time left, or the server is gone: the others fare no better. */
void slots_spoiled(struct slots *s, enum http_result result)
{
	const struct kept_file gone = {.id = slots_step(s)->id};
	log_line(LOG_WARN, slots_saves(s) ? "slot_not_saved" : "slot_not_restored",
		LOG_INT("slot", slots_step(s)->slot), LOG_STR("error", http_result_text(result)),
		LOG_END);
	if (slots_saves(s)) {
		slots_remove_new(s);
	} else { /* it may be what the server died of */
		kept_remove(&s->kept, gone.id);
		slots_gone(s, &gone);
		s->at++;
	}
	if (s->op == OP_SAVE_IDLE && result != HTTP_REFUSED && result != HTTP_CUT)
		slots_switch_off(s, "the server takes too long to save");
}
