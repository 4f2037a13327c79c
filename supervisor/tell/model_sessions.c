/* Conversations: what is known of each, and the sums of what the guardian of the prefix has seen. */
#include "supervisor/requests/guardian.h"
#include "supervisor/tell/documents.h"

#include <math.h>

/* Without memory for it nothing is known. */
static const struct guardian *guardian_of(const struct tell *t)
{
	static const struct guardian none;
	return t->requests->guardian ? t->requests->guardian : &none;
}

struct session {
	const struct conversation *of;
	const struct device *device; /* that answered last; NULL: none, or it is gone */
	double warm;		     /* tokens */
	enum prefix_age age;
	uint64_t idle_ms;
};

/* --- one --- */

enum {
	CLIENT,
	ADDRESS,
	MODEL,
	DEVICE,
	IDLE,
	MESSAGES,
	TOKENS,
	CACHED,
	OUTPUT,
	WARM,
	PLACE,
	LAST,
	LAST_MESSAGE,
	LAST_BYTE,
	LAST_REPAIRED
};

static void get_prompt(const struct session *s, size_t which, struct field_value *out)
{
	static const char *const places[PREFIX_AGES] = {"newest", "slot", "evicted"};
	const struct conversation *c = s->of;
	switch (which) {
	case TOKENS:
		field_say_int_if(out, c->tokens >= 0, c->tokens);
		break;
	case CACHED:
		field_say_int_if(out, c->cached >= 0, c->cached);
		break;
	case OUTPUT:
		field_say_int_if(out, c->output >= 0, c->output);
		break;
	case WARM:
		out->number = (int64_t)s->warm;
		break;
	case PLACE:
		field_say_text(out, s->warm > 0 ? places[s->age] : NULL);
		break;
	}
}

static void get_last(const struct conversation *c, size_t which, struct field_value *out)
{
	bool any = c->breaks + c->repairs > 0;
	switch (which) {
	case LAST:
		field_say_text(out, any ? guard_kind_name(c->last.kind) : NULL);
		break;
	case LAST_MESSAGE:
		field_say_int_if(out, any && c->last.of_message, (int64_t)c->last.message);
		break;
	case LAST_BYTE:
		field_say_int_if(out, any && c->last.of_message, (int64_t)c->last.byte);
		break;
	case LAST_REPAIRED:
		out->is = any ? FIELD_SAID : FIELD_UNKNOWN;
		out->truth = c->last_repaired;
		break;
	}
}

static void get_session(const void *of, const struct field *f, struct field_value *out)
{
	const struct session *s = of;
	const struct conversation *c = s->of;
	switch (f->which) {
	case MODEL:
		field_say_text(out, c->model_name);
		break;
	case CLIENT:
		field_say_text(out, c->agent);
		break;
	case ADDRESS:
		field_say_text(out, c->host);
		break;
	case DEVICE:
		field_say_text(out, s->device ? s->device->conf->name : NULL);
		break;
	case IDLE:
		out->number = (int64_t)s->idle_ms;
		break;
	case MESSAGES:
		out->number = (int64_t)c->prompt.count;
		break;
	default:
		if (f->which >= LAST)
			get_last(c, f->which, out);
		else
			get_prompt(s, f->which, out);
	}
}

static const void *conversation_of(const void *of)
{
	return ((const struct session *)of)->of;
}

static void get_level(const void *of, const struct field *f, struct field_value *out)
{
	out->number = (int64_t)((const struct conversation *)of)->level[f->which];
}

#define OF(name_, type_, unit_, which_)                                                            \
	{                                                                                          \
		.name = (name_), .type = (type_), .unit = (unit_), .get = get_session,             \
		.which = (which_)                                                                  \
	}
#define LEVEL(name_, which_)                                                                       \
	{                                                                                          \
		.name = (name_), .type = FIELD_INT, .unit = "tokens", .get = get_level,            \
		.which = (which_)                                                                  \
	}
#define COUNTED(name_, member_) FIELD_COUNT_OF(name_, struct conversation, member_)

static const struct field own[] = {
	COUNTED("session", id),
	COUNTED("turns", turns),
	COUNTED("breaks", breaks),
	COUNTED("repairs", repairs),
	COUNTED("lost_tokens", lost_tokens),
	LEVEL("fixed_tokens", LAYOUT_FIXED),
	LEVEL("l0_tokens", LAYOUT_L0),
	LEVEL("l1_tokens", LAYOUT_L1),
	LEVEL("digest_tokens", LAYOUT_L2),
	LEVEL("cut_tokens", LAYOUT_CUT),
};
static const struct fields own_members = FIELDS(own);

static const struct field session[] = {
	FIELD_OBJECT_OF(NULL, &own_members, conversation_of),
	OF("client", FIELD_TEXT, NULL, CLIENT),
	OF("address", FIELD_TEXT, NULL, ADDRESS),
	OF("model", FIELD_TEXT, NULL, MODEL),
	OF("device", FIELD_TEXT, NULL, DEVICE),
	OF("idle_ms", FIELD_INT, "ms", IDLE),
	OF("messages", FIELD_INT, NULL, MESSAGES),
	OF("tokens", FIELD_INT, "tokens", TOKENS),
	OF("cached_tokens", FIELD_INT, "tokens", CACHED),
	OF("output_tokens", FIELD_INT, "tokens", OUTPUT),
	OF("warm_tokens", FIELD_INT, "tokens", WARM),
	OF("place", FIELD_TEXT, NULL, PLACE),
	OF("last_change", FIELD_TEXT, NULL, LAST),
	OF("last_message", FIELD_INT, NULL, LAST_MESSAGE),
	OF("last_byte", FIELD_INT, NULL, LAST_BYTE),
	OF("last_repaired", FIELD_TRUTH, NULL, LAST_REPAIRED),
};
static const struct fields session_members = FIELDS(session);

/* --- the list, newest first --- */

static struct session look(const struct tell *t, const struct conversation *c)
{
	struct session s = {.of = c, .idle_ms = now_ms() - c->last_ms};
	for (size_t i = 0; c->device[0] && i < t->devices->count; i++)
		if (t->devices->of[i]->number == c->device_number)
			s.device = t->devices->of[i];
	if (s.device && s.device->foresight.map)
		s.warm = prefix_held(s.device->foresight.map, c->chain, &s.age);
	return s;
}

static void each_session(const void *of, struct field_list *list)
{
	const struct tell *t = of;
	const struct conversation *c;
	TAILQ_FOREACH(c, &guardian_of(t)->list, link) {
		struct session s = look(t, c);
		field_item(list, &s);
	}
}

static const struct field sessions[] = {FIELD_LIST_OF("sessions", &session_members, each_session)};
const struct fields document_sessions = FIELDS(sessions);

/* --- sums --- */

struct kind_counts {
	enum guard_kind kind;
	uint64_t broken, repaired;
};

static void get_kind(const void *of, const struct field *f, struct field_value *out)
{
	(void)f;
	field_say_text(out, guard_kind_name(((const struct kind_counts *)of)->kind));
}

static void each_kind(const void *of, struct field_list *list)
{
	const struct guardian_counts *n = of;
	for (int k = GUARD_FIRST_BREAK; k < GUARD_KINDS; k++) {
		struct kind_counts row = {(enum guard_kind)k, n->broken[k], n->repaired[k]};
		field_item(list, &row);
	}
}

static const struct field kind[] = {
	FIELD_OWN("kind", FIELD_TEXT, get_kind),
	FIELD_COUNT_OF("broken", struct kind_counts, broken),
	FIELD_COUNT_OF("repaired", struct kind_counts, repaired),
};
static const struct fields kind_members = FIELDS(kind);

static const void *counts_of(const void *of)
{
	return &guardian_of(of)->counts;
}

static const struct field counts[] = {
	FIELD_COUNT_OF("prefix_new", struct guardian_counts, seen[GUARD_NEW]),
	FIELD_COUNT_OF("prefix_kept", struct guardian_counts, seen[GUARD_KEPT]),
	FIELD_COUNT_OF("prefix_branched", struct guardian_counts, seen[GUARD_BRANCHED]),
	FIELD_COUNT_OF("prefix_compacted", struct guardian_counts, seen[GUARD_COMPACTED]),
	FIELD_COUNT_OF("prefix_broken", struct guardian_counts, seen[GUARD_FIRST_BREAK]),
	FIELD_COUNT_OF("prefix_lost_tokens", struct guardian_counts, lost_tokens),
	FIELD_COUNT_OF("prefix_lost_ms", struct guardian_counts, lost_ms),
	FIELD_COUNT_OF("prefix_saved_tokens", struct guardian_counts, saved_tokens),
	FIELD_LIST_OF("prefix_kinds", &kind_members, each_kind),
};
static const struct fields count_members = FIELDS(counts);

static const struct field group[] = {FIELD_OBJECT_OF(NULL, &count_members, counts_of)};
const struct fields prefix_sum_members = FIELDS(group);
