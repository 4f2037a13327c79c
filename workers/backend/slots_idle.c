/* When conversations are saved, and whether that was of use. */
#include "workers/backend/slots_private.h"

#include "common/base/log.h"

#include <time.h>

#define USED_LEAST 0.5 /* of what was restored: a template may leave an answer's thinking out */

/* --- when --- */

static void wait_idle(struct slots *s, bool patient)
{
	uint64_t ms = (uint64_t)s->worker->settings.kv_idle_ms;
	if (s->off || s->worker->settings.kv_bytes <= 0)
		return;
	s->patient = patient;
	uv_timer_start(&s->idle, slots_on_idle, patient ? ms * SLOTS_PATIENCE : ms, 0);
}

static bool any_unsaved(const struct slots *s)
{
	for (size_t i = 0; i < s->chat_count; i++)
		if (s->chats[i].unsaved)
			return true;
	return false;
}

void slots_on_idle(uv_timer_t *timer)
{
	struct slots *s = timer->data;
	const struct worker_self *w = s->worker;
	if (w->phase != WORKER_SERVES || s->model == 0 || s->count == 0 || !any_unsaved(s))
		return;
	if (w->open_tasks > 0 || s->op != OP_NONE)
		wait_idle(s, s->patient);
	else
		slots_begin(s, OP_SAVE_IDLE, NULL, NULL);
}

void slots_idle_next(struct slots *s)
{
	if (any_unsaved(s) && s->worker->phase == WORKER_SERVES &&
		!uv_is_active((uv_handle_t *)&s->idle))
		wait_idle(s, true);
}

/* --- of what use --- */

static void judge(struct slots *s, const struct proto_job *spec, int64_t cached)
{
	bool used = (double)cached >= USED_LEAST * (double)spec->kept_tokens;
	log_line(used ? LOG_INFO : LOG_WARN, used ? "slots_used" : "slots_not_used",
		LOG_SLICE("req", spec->request_id), LOG_INT("expected", spec->kept_tokens),
		LOG_INT("cached", cached), LOG_END);
	struct kept_file gone = {.id = spec->kept};
	int64_t before = kept_unused(&s->kept, s->model, time(NULL));
	int64_t wrong = kept_judge(&s->kept, s->model, used, time(NULL));
	if (!used) {
		kept_remove(&s->kept, gone.id);
		slots_tell(s, KEPT_WRONG, &gone, -1);
	}
	if (wrong != before)
		slots_write_index(s);
	if (wrong >= SLOTS_WRONG_MAX)
		slots_switch_off(s, SLOTS_UNUSED);
}

void slots_answered(struct slots *s, const struct proto_job *spec, const struct proto_usage *usage)
{
	if (!s)
		return;
	if (usage && spec->kept && spec->kept_tokens > 0 && usage->cached_tokens >= 0)
		judge(s, spec, usage->cached_tokens);
	if (!spec->conversation)
		return;
	bool counted = usage && usage->prompt_tokens > 0 && usage->output_tokens >= 0;
	slots_note(s, spec->conversation,
		counted ? usage->prompt_tokens + usage->output_tokens : -1, true);
	wait_idle(s, false);
}
