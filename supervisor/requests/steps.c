#include "supervisor/requests/steps.h"

#include <stdio.h>
#include <stdlib.h>

#define ROOM_FIRST 8

const char *step_kind_name(enum step_kind k)
{
	static const char *const names[STEP_KINDS] = {[STEP_READ] = "read",
		[STEP_PARSE] = "parse",
		[STEP_JOINED] = "joined",
		[STEP_CONDENSE] = "condense",
		[STEP_QUEUE] = "queue",
		[STEP_PREFILL] = "prefill",
		[STEP_DECODE] = "decode",
		[STEP_ANSWER] = "answer",
		[STEP_NOTES] = "notes",
		[STEP_HEARTBEAT] = "heartbeat",
		[STEP_FALLBACK] = "fallback",
		[STEP_OVERFLOW] = "overflow",
		[STEP_RETRY] = "retry",
		[STEP_RESUME] = "resume",
		[STEP_TAKEN] = "taken_over",
		[STEP_FREEZE] = "freeze",
		[STEP_WARM] = "warm",
		[STEP_IDLE_NOTES] = "idle_notes"};
	return names[k];
}

const char *step_outcome_name(enum step_outcome o)
{
	static const char *const names[STEP_OUTCOMES] = {"open", "done", "failed", "cancelled"};
	return names[o];
}

/* --- memory --- */

void steps_init(struct steps *s, size_t most)
{
	*s = (struct steps){.most = most, .stage = STEP_NONE};
}

void steps_fini(struct steps *s)
{
	free(s->of);
	steps_init(s, s->most);
}

static bool resize(struct steps *s, size_t room)
{
	struct step *of = realloc(s->of, room * sizeof(*of));
	if (!of)
		return false;
	s->of = of;
	s->room = room;
	return true;
}

static bool has_room(struct steps *s)
{
	size_t room = s->room ? s->room * 2 : ROOM_FIRST;
	if (s->count < s->room)
		return true;
	return s->count < s->most && resize(s, room < s->most ? room : s->most);
}

void steps_trim(struct steps *s)
{
	if (s->count && s->count < s->room)
		resize(s, s->count);
}

size_t steps_bytes(const struct steps *s)
{
	return s->room * sizeof(*s->of);
}

/* --- steps --- */

static int add(struct steps *s, const struct step *it)
{
	if (!s)
		return STEP_NONE;
	if (!has_room(s)) {
		s->lost++;
		return STEP_NONE;
	}
	s->of[s->count] = *it;
	return (int)s->count++;
}

int steps_begin(struct steps *s, enum step_kind kind, const char *device, uint64_t now)
{
	struct step it = {.kind = kind, .begun_ms = now, .tokens = -1, .cached = -1, .count = 1};
	snprintf(it.device, sizeof(it.device), "%s", device ? device : "");
	return add(s, &it);
}

void steps_add(struct steps *s, const struct step *it)
{
	add(s, it);
}

void steps_end(struct steps *s, int step, enum step_outcome how, const char *why, uint64_t now)
{
	if (!s || step < 0 || s->of[step].outcome != STEP_OPEN)
		return;
	struct step *it = &s->of[step];
	it->outcome = how;
	it->ended_ms = now;
	if (why)
		snprintf(it->why, sizeof(it->why), "%s", why);
}

void steps_point(
	struct steps *s, enum step_kind kind, const char *device, const char *why, uint64_t now)
{
	steps_end(s, steps_begin(s, kind, device, now), STEP_DONE, why, now);
}

void steps_call(struct steps *s)
{
	if (s)
		s->call++;
}

void steps_number(struct steps *s, int step, unsigned number)
{
	if (s && step >= 0)
		s->of[step].number = number;
}

void steps_enter(struct steps *s, enum step_kind kind, const char *device, uint64_t now)
{
	if (!s)
		return;
	steps_leave(s, STEP_DONE, NULL, now);
	s->stage = steps_begin(s, kind, device, now);
	steps_number(s, s->stage, s->call);
}

void steps_leave(struct steps *s, enum step_outcome how, const char *why, uint64_t now)
{
	if (!s)
		return;
	steps_end(s, s->stage, how, why, now);
	s->stage = STEP_NONE;
}

const struct step *steps_at(const struct steps *s, int step)
{
	return s && step >= 0 ? &s->of[step] : NULL;
}

struct step *steps_last(struct steps *s, enum step_kind kind)
{
	for (size_t i = s ? s->count : 0; i-- > 0;)
		if (s->of[i].kind == kind)
			return &s->of[i];
	return NULL;
}

void steps_again(struct steps *s, enum step_kind kind, uint64_t now)
{
	struct step *it = steps_last(s, kind);
	if (!it) {
		steps_point(s, kind, NULL, NULL, now);
		return;
	}
	it->count++;
	it->ended_ms = now;
}

void steps_close(struct steps *s, enum step_outcome how, uint64_t now)
{
	steps_leave(s, how, NULL, now);
	for (size_t i = 0; s && i < s->count; i++)
		steps_end(s, (int)i, how, NULL, now);
}
