/* Requests under way and those that were, each with its steps (supervisor/requests/history.h). */
#include "supervisor/requests/request.h"
#include "supervisor/tell/documents.h"

/* --- a step --- */

/* Beside the request that it belongs to, whose beginning it is timed from. */
struct step_row {
	const struct record *of;
	const struct step *step;
};

enum { KIND, ON, START, LENGTH, HOW, WHY, STEP_TOKENS, STEP_CACHED, TIMES };

static void get_step(const void *of, const struct field *f, struct field_value *out)
{
	const struct step_row *row = of;
	const struct step *s = row->step;
	uint64_t end = s->outcome == STEP_OPEN ? now_ms() : s->ended_ms;
	switch (f->which) {
	case KIND:
		field_say_text(out, step_kind_name(s->kind));
		break;
	case ON:
		field_say_text(out, s->device);
		break;
	case START:
		out->number = (int64_t)(s->begun_ms - row->of->begun_ms);
		break;
	case LENGTH:
		out->number = (int64_t)(end - s->begun_ms);
		break;
	case HOW:
		field_say_text(out, step_outcome_name(s->outcome));
		break;
	case WHY:
		field_say_text(out, s->why);
		break;
	case STEP_TOKENS:
		field_say_int_if(out, s->tokens >= 0, s->tokens);
		break;
	case STEP_CACHED:
		field_say_int_if(out, s->cached >= 0, s->cached);
		break;
	case TIMES:
		out->number = s->count;
		break;
	}
}

#define STEP(name_, type_, unit_, which_)                                                          \
	{                                                                                          \
		.name = (name_), .type = (type_), .unit = (unit_), .get = get_step,                \
		.which = (which_)                                                                  \
	}

static const struct field step[] = {
	STEP("kind", FIELD_TEXT, NULL, KIND),
	STEP("device", FIELD_TEXT, NULL, ON),
	STEP("start_ms", FIELD_INT, "ms", START),
	STEP("ms", FIELD_INT, "ms", LENGTH),
	STEP("outcome", FIELD_TEXT, NULL, HOW),
	STEP("why", FIELD_TEXT, NULL, WHY),
	STEP("tokens", FIELD_INT, "tokens", STEP_TOKENS),
	STEP("cached_tokens", FIELD_INT, "tokens", STEP_CACHED),
	STEP("count", FIELD_INT, NULL, TIMES),
};
static const struct fields step_members = FIELDS(step);

static void each_step(const void *of, struct field_list *list)
{
	const struct record *r = of;
	for (size_t i = 0; i < r->steps.count; i++)
		field_item(list, &(struct step_row){r, &r->steps.of[i]});
}

/* --- a message --- */

enum { ROLE, LEVEL, BYTES_IN, BYTES_OUT, BECAUSE };

static void get_message(const void *of, const struct field *f, struct field_value *out)
{
	const struct record_message *m = of;
	switch (f->which) {
	case ROLE:
		field_say_text(out, m->role);
		break;
	case LEVEL:
		field_say_text(out, m->level);
		break;
	case BYTES_IN:
		out->number = (int64_t)m->bytes_in;
		break;
	case BYTES_OUT:
		out->number = (int64_t)m->bytes_out;
		break;
	case BECAUSE:
		field_say_text(out, m->reason);
		break;
	}
}

#define MESSAGE(name_, type_, unit_, which_)                                                       \
	{                                                                                          \
		.name = (name_), .type = (type_), .unit = (unit_), .get = get_message,             \
		.which = (which_)                                                                  \
	}

static const struct field message[] = {
	MESSAGE("role", FIELD_TEXT, NULL, ROLE),
	MESSAGE("level", FIELD_TEXT, NULL, LEVEL),
	MESSAGE("bytes_in", FIELD_INT, "bytes", BYTES_IN),
	MESSAGE("bytes_out", FIELD_INT, "bytes", BYTES_OUT),
	MESSAGE("reason", FIELD_TEXT, NULL, BECAUSE),
};
static const struct fields message_members = FIELDS(message);

static void each_message(const void *of, struct field_list *list)
{
	const struct record *r = of;
	for (size_t i = 0; i < r->message_count; i++)
		field_item(list, &r->messages[i]);
}

static void get_messages_lost(const void *of, const struct field *f, struct field_value *out)
{
	(void)f;
	out->number = (int64_t)((const struct record *)of)->messages_lost;
}

/* --- a request --- */

enum {
	ID,
	STATE,
	AT,
	METHOD,
	PATH,
	DIALECT,
	MODEL,
	KEY,
	WAY,
	DEVICE,
	REASON,
	STATUS,
	AGE,
	FIRST,
	QUEUED,
	IN,
	SENT,
	CACHED,
	OUT,
	STEPS,
	LOST,
	SESSION,
	PREFIX
};

static void get_words(const struct record *r, size_t which, struct field_value *out)
{
	switch (which) {
	case ID:
		field_say_text(out, r->id);
		break;
	case STATE:
		field_say_text(out, record_state(r));
		break;
	case METHOD:
		field_say_text(out, r->method);
		break;
	case PATH:
		field_say_text(out, r->path);
		break;
	case DIALECT:
		field_say_text(out, dialect_name(r->dialect));
		break;
	case MODEL:
		field_say_text(out, r->model);
		break;
	case KEY:
		field_say_text(out, r->key);
		break;
	case WAY:
		field_say_text(out, record_way(r));
		break;
	case DEVICE:
		field_say_text(out, r->device);
		break;
	case REASON:
		field_say_text(out, r->reason);
		break;
	case PREFIX:
		field_say_text(out, r->prefix);
		break;
	}
}

static void get_number(const struct record *r, size_t which, struct field_value *out)
{
	const struct measure *m = &r->measure;
	bool counted = r->over && m->outcome == MEASURE_DONE;
	switch (which) {
	case AT:
		out->number = (int64_t)r->begun_at_ms;
		break;
	case STATUS:
		field_say_int_if(out, r->status > 0, r->status);
		break;
	case AGE:
		out->number = (int64_t)((r->over ? r->ended_ms : now_ms()) - r->begun_ms);
		break;
	case FIRST:
		field_say_int_if(out, counted && m->first_ms >= 0, (int64_t)m->first_ms);
		break;
	case QUEUED:
		field_say_int_if(out, counted && m->queued_ms >= 0, (int64_t)m->queued_ms);
		break;
	case IN:
		field_say_int_if(out, r->over, (int64_t)m->tokens[MEASURE_IN]);
		break;
	case SENT:
		field_say_int_if(out, r->over, (int64_t)m->tokens[MEASURE_SENT]);
		break;
	case CACHED:
		field_say_int_if(out, counted, (int64_t)m->tokens[MEASURE_CACHED]);
		break;
	case OUT:
		field_say_int_if(out, counted, (int64_t)m->tokens[MEASURE_OUT]);
		break;
	case STEPS:
		out->number = (int64_t)r->steps.count;
		break;
	case LOST:
		out->number = (int64_t)r->steps.lost;
		break;
	case SESSION:
		field_say_int_if(out, r->conversation > 0, (int64_t)r->conversation);
		break;
	}
}

static void get_row(const void *of, const struct field *f, struct field_value *out)
{
	if (f->type == FIELD_TEXT)
		get_words(of, f->which, out);
	else
		get_number(of, f->which, out);
}

#define ROW(name_, type_, unit_, which_)                                                           \
	{                                                                                          \
		.name = (name_), .type = (type_), .unit = (unit_), .get = get_row,                 \
		.which = (which_)                                                                  \
	}

static const struct field row[] = {
	ROW("request", FIELD_TEXT, NULL, ID),
	ROW("state", FIELD_TEXT, NULL, STATE),
	{.name = "begun_at_ms",
		.type = FIELD_INT,
		.unit = "ms",
		.help = "since 1970",
		.get = get_row,
		.which = AT},
	ROW("method", FIELD_TEXT, NULL, METHOD),
	ROW("path", FIELD_TEXT, NULL, PATH),
	ROW("dialect", FIELD_TEXT, NULL, DIALECT),
	ROW("model", FIELD_TEXT, NULL, MODEL),
	ROW("key", FIELD_TEXT, NULL, KEY),
	ROW("strategy", FIELD_TEXT, NULL, WAY),
	ROW("device", FIELD_TEXT, NULL, DEVICE),
	ROW("reason", FIELD_TEXT, NULL, REASON),
	ROW("status", FIELD_INT, NULL, STATUS),
	ROW("ms", FIELD_INT, "ms", AGE),
	ROW("first_ms", FIELD_INT, "ms", FIRST),
	ROW("queued_ms", FIELD_INT, "ms", QUEUED),
	ROW("tokens_in", FIELD_INT, "tokens", IN),
	ROW("tokens_sent", FIELD_INT, "tokens", SENT),
	ROW("cached_tokens", FIELD_INT, "tokens", CACHED),
	ROW("output_tokens", FIELD_INT, "tokens", OUT),
	ROW("steps_count", FIELD_INT, NULL, STEPS),
	ROW("steps_lost", FIELD_INT, NULL, LOST),
	ROW("session", FIELD_INT, NULL, SESSION),
	ROW("prefix", FIELD_TEXT, NULL, PREFIX),
};
static const struct fields row_members = FIELDS(row);

/* --- the documents --- */

static const struct history *history_of(const void *of)
{
	return &((const struct requests_view *)of)->tell->requests->history;
}

static size_t tell_some(const struct record_list *from, size_t most, struct field_list *list)
{
	const struct record *r;
	TAILQ_FOREACH(r, from, link) {
		if (most == 0)
			break;
		field_item(list, r);
		most--;
	}
	return most;
}

/* Those under way first; each kind with the newest first. */
static void each_request(const void *of, struct field_list *list)
{
	const struct history *h = history_of(of);
	size_t most = ((const struct requests_view *)of)->most;
	tell_some(&h->past, tell_some(&h->running, most, list), list);
}

enum { KEPT, LIMIT, HELD, CONTENT_COUNT, CONTENT_HELD };

static void get_history(const void *of, const struct field *f, struct field_value *out)
{
	const struct history *h = history_of(of);
	const struct contents *c = &((const struct requests_view *)of)->tell->requests->contents;
	const size_t numbers[] = {[KEPT] = h->count,
		[LIMIT] = h->most,
		[HELD] = h->bytes,
		[CONTENT_COUNT] = c->count,
		[CONTENT_HELD] = c->bytes};
	out->number = (int64_t)numbers[f->which];
}

static const struct field requests[] = {
	{.name = "kept", .type = FIELD_INT, .get = get_history, .which = KEPT},
	{.name = "limit", .type = FIELD_INT, .get = get_history, .which = LIMIT},
	{.name = "held_bytes",
		.type = FIELD_INT,
		.unit = "bytes",
		.get = get_history,
		.which = HELD},
	{.name = "content_kept",
		.type = FIELD_INT,
		.help = "whose messages are kept for the page, or known to be too large",
		.get = get_history,
		.which = CONTENT_COUNT},
	{.name = "content_bytes",
		.type = FIELD_INT,
		.unit = "bytes",
		.get = get_history,
		.which = CONTENT_HELD},
	FIELD_LIST_OF("requests", &row_members, each_request),
};
const struct fields document_requests = FIELDS(requests);

static const struct field whole[] = {
	FIELD_OBJECT_OF(NULL, &row_members, NULL),
	FIELD_LIST_OF("steps", &step_members, each_step),
	FIELD_LIST_OF("messages", &message_members, each_message),
	FIELD_OWN("messages_lost", FIELD_INT, get_messages_lost),
};
static const struct fields whole_members = FIELDS(whole);

static const void *record_of(const void *of)
{
	return ((const struct requests_view *)of)->one;
}

static const struct field request[] = {FIELD_OBJECT_OF(NULL, &whole_members, record_of)};
const struct fields document_request = FIELDS(request);
