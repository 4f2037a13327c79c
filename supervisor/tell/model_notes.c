/* Notes of idle time: what is held of them, and what became of them. */
#include "supervisor/requests/idle_notes.h"
#include "supervisor/tell/documents.h"

/* Without memory for them there are none. */
static const struct idle_notes *notes_of(const struct tell *t)
{
	static const struct idle_notes none;
	return t->requests->notes ? t->requests->notes : &none;
}

/* --- what is held --- */

enum { UNITS, DIGESTS, HELD, MODELS_OFF };

static void get_held(const void *of, const struct field *f, struct field_value *out)
{
	const struct idle_notes *n = notes_of(of);
	switch (f->which) {
	case UNITS:
		out->number = (int64_t)memo_count(n->table.notes);
		break;
	case DIGESTS:
		out->number = (int64_t)memo_count(n->table.digests);
		break;
	case HELD:
		out->number = (int64_t)(memo_bytes(n->table.notes) + memo_bytes(n->table.digests));
		break;
	case MODELS_OFF:
		out->number = notes_worth_off(&n->worth);
		break;
	}
}

static const struct field held[] = {
	{.name = "units", .type = FIELD_INT, .get = get_held, .which = UNITS},
	{.name = "digests", .type = FIELD_INT, .get = get_held, .which = DIGESTS},
	{.name = "held_bytes", .type = FIELD_INT, .unit = "bytes", .get = get_held, .which = HELD},
	{.name = "models_off", .type = FIELD_INT, .get = get_held, .which = MODELS_OFF},
};
const struct fields held_notes_members = FIELDS(held);

/* --- what became of them --- */

static const void *counts_of(const void *of)
{
	return &notes_of(of)->count;
}

static const struct field counts[] = {
	FIELD_COUNT_OF("notes_written", struct idle_notes_counts, written),
	FIELD_COUNT_OF("notes_kept", struct idle_notes_counts, kept),
	FIELD_COUNT_OF("notes_dropped", struct idle_notes_counts, dropped),
	FIELD_COUNT_OF("notes_used", struct idle_notes_counts, used),
	FIELD_COUNT_OF("notes_preempted", struct idle_notes_counts, preempted),
	FIELD_COUNT_OF("notes_failed", struct idle_notes_counts, failed),
	FIELD_BYTES_OF("notes_bytes", struct idle_notes_counts, bytes),
};
static const struct fields count_members = FIELDS(counts);

static const struct field group[] = {FIELD_OBJECT_OF(NULL, &count_members, counts_of)};
const struct fields note_count_members = FIELDS(group);
