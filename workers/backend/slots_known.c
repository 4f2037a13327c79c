/* What is known of conversations in slots and in files, and who is told: the supervisor, the index, the log. */
#include "workers/backend/slots_private.h"

#include "common/base/log.h"

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

/* --- conversations in slots --- */

void slots_note(struct slots *s, uint64_t id, int64_t tokens, bool unsaved)
{
	size_t i = 0;
	while (i < s->chat_count && s->chats[i].id != id)
		i++;
	if (i == SLOTS_CHATS)
		i--; /* the oldest goes */
	if (i == s->chat_count)
		s->chat_count++;
	memmove(&s->chats[1], &s->chats[0], i * sizeof(s->chats[0]));
	s->chats[0] = (struct slots_chat){id, tokens, unsaved};
}

void slots_switch_off(struct slots *s, const char *why)
{
	if (s->off)
		return;
	s->off = true;
	uv_timer_stop(&s->idle);
	log_line(LOG_WARN, "slots_off", LOG_STR("why", why), LOG_STR("dir", s->kept.dir), LOG_END);
	slots_tell(s, KEPT_OFF, NULL, -1);
}

void slots_measure(struct slots *s, const struct kept_file *f, double ms)
{
	s->hour_bytes += f->bytes;
	s->bytes_per_token = (double)f->bytes / (double)f->tokens;
	if (ms > 0)
		s->bytes_per_ms = (double)f->bytes / ms;
	if (ms > SLOTS_STALL_MS && s->op == OP_SAVE_IDLE)
		slots_switch_off(s, "saving is slow");
}
