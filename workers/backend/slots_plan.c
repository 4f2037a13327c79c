/* Which slots are saved, and what is restored where. */
#include "workers/backend/slots_private.h"

#include "common/base/hash.h"
#include "common/base/json.h"

#include <stdlib.h>
#include <sys/statvfs.h>

/* An answer's last token, or two of speculation, are counted and not in the slot. */
#define TOLERANCE 8
#define HOUR_MS 3600000

/* --- what GET /slots says --- */

unsigned slots_look(struct slice answer, struct slots_seen seen[SLOTS_MAX])
{
	struct json_value root, slot;
	unsigned n = 0;
	if (json_parse(answer, JSON_MAX_DEPTH, &root, NULL) || !json_is(root, JSON_ARRAY))
		return 0;
	for (struct json_iter it = json_iter(root); json_array_next(&it, &slot); n++) {
		int64_t id = -1;
		struct slots_seen s = {-1, -1, false};
		if (n == SLOTS_MAX || !json_to_int(json_get(slot, "id"), &id) || id != n)
			return 0;
		if (!json_to_int(json_get(slot, "n_prompt_tokens"), &s.tokens))
			s.tokens = -1;
		if (!json_to_int(json_get(slot, "id_task"), &s.task))
			s.task = -1;
		if (!json_to_bool(json_get(slot, "is_processing"), &s.busy))
			s.busy = false;
		seen[n] = s;
	}
	return n;
}

int slots_match(const struct slots_seen *seen, unsigned count, const bool *taken, int64_t tokens)
{
	int best = -1;
	int64_t least = TOLERANCE + 1;
	for (unsigned i = 0; i < count; i++) {
		int64_t off = llabs(seen[i].tokens - tokens);
		if (taken[i] || seen[i].busy || seen[i].tokens < 0 || off >= least)
			continue;
		best = (int)i;
		least = off;
	}
	return tokens < 0 ? -1 : best;
}

int slots_oldest(const struct slots_seen *seen, unsigned count)
{
	int oldest = -1;
	for (unsigned i = 0; i < count; i++)
		if (!seen[i].busy && (oldest < 0 || seen[i].task <= seen[oldest].task))
			oldest = (int)i;
	return oldest;
}

/* --- saving --- */

static void add(struct slots *s, unsigned slot, uint64_t id)
{
	s->steps[s->step_count++] = (struct slots_step){slot, id};
}

/* A server of one slot has the newest in it, even where it tells no counts. */
static int slot_of(const struct slots *s, size_t chat, const bool *taken)
{
	const struct slots_chat *c = &s->chats[chat];
	bool counts = s->seen_count && s->seen[0].tokens >= 0 && c->tokens >= 0;
	if (s->count == 1 && !counts)
		return c->tokens >= 0 && chat == 0 && !(s->seen_count && s->seen[0].busy) ? 0 : -1;
	return slots_match(s->seen, s->seen_count, taken, c->tokens);
}

static bool has_room(const struct slots *s, int64_t bytes)
{
	struct statvfs fs;
	return statvfs(s->kept.dir, &fs) == 0 &&
	       (double)fs.f_bavail * (double)fs.f_frsize > 2 * (double)bytes;
}

/* The hour's share of writing is used up: a disk has an end, too. */
static bool is_spent(struct slots *s, int64_t bytes)
{
	uint64_t now = uv_now(s->worker->loop);
	if (now - s->hour_ms >= HOUR_MS) {
		s->hour_ms = now;
		s->hour_bytes = 0;
	}
	return s->hour_bytes + bytes > s->worker->settings.kv_bytes * SLOTS_HOURLY;
}

/* What it would take is known from the last save; the first one shows it. */
static bool is_worth(struct slots *s, const struct slots_chat *c)
{
	int64_t bytes = (int64_t)((double)c->tokens * s->bytes_per_token);
	if (c->tokens >= 0 && c->tokens < SLOTS_LEAST_TOKENS)
		return false;
	if (bytes > s->kept.most || is_spent(s, bytes) || !has_room(s, bytes))
		return false;
	return s->bytes_per_ms <= 0 || (double)bytes / s->bytes_per_ms < SLOTS_STALL_MS;
}

/* There is a file that holds nearly all of it. */
static bool can_wait(const struct slots *s, const struct slots_chat *c)
{
	const struct kept_file *f = kept_find(&s->kept, c->id);
	return !s->patient && f && (double)c->tokens < (double)f->tokens * SLOTS_GROWN;
}

static void plan_chats(struct slots *s, bool *taken)
{
	for (size_t i = 0; i < s->chat_count; i++) {
		struct slots_chat *c = &s->chats[i];
		int slot = slot_of(s, i, taken);
		if (slot < 0) {
			c->unsaved = false; /* no slot has it any more */
			continue;
		}
		taken[slot] = true;
		if (!c->unsaved || (s->op == OP_SAVE_IDLE && can_wait(s, c)))
			continue;
		if (s->op == OP_SAVE_ALL || is_worth(s, c))
			add(s, (unsigned)slot, c->id);
		else
			c->unsaved = false; /* with its next turn it may be again */
	}
}

/* What of an end's slots nobody knows the conversation of. */
static void plan_others(struct slots *s, const bool *taken)
{
	for (unsigned i = 0; i < s->count; i++)
		if (!taken[i] && !(s->seen_count && s->seen[i].tokens == 0))
			add(s, i, hash_mix(s->model ^ hash_mix(i + 1)) | 1);
}

/* --- restoring --- */

static void plan_start(struct slots *s)
{
	for (size_t i = 0; i < s->kept.count && s->step_count < s->count; i++)
		if (s->kept.files[i].model == s->model)
			add(s, s->step_count, s->kept.files[i].id);
}

static void plan_one(struct slots *s)
{
	uint64_t id = s->waiters ? s->waiters->conversation : 0;
	const struct kept_file *f = kept_find(&s->kept, id);
	int slot = s->count == 1 ? 0 : slots_oldest(s->seen, s->seen_count);
	if (!f || f->model != s->model || slot < 0)
		return;
	add(s, (unsigned)slot, id);
}

void slots_plan(struct slots *s)
{
	bool taken[SLOTS_MAX] = {false};
	switch (s->op) {
	case OP_SAVE_ALL:
		plan_chats(s, taken);
		plan_others(s, taken);
		break;
	case OP_SAVE_IDLE:
		plan_chats(s, taken);
		break;
	case OP_RESTORE_START:
		plan_start(s);
		break;
	case OP_RESTORE_ONE:
		plan_one(s);
		break;
	case OP_NONE:
		break;
	}
}
