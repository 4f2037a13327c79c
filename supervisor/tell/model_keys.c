/* The keys that clients have: names, never the keys. */
#include "supervisor/tell/documents.h"

/* One key with what is known of who has it; NULL: it has not been used yet. */
struct row {
	const struct key *key;
	const struct caller *who;
};

enum { NAME, CLASS, LIMIT, ACTIVE, REQUESTS, REFUSED };

static void get_row(const void *of, const struct field *f, struct field_value *out)
{
	const struct row *r = of;
	switch (f->which) {
	case NAME:
		field_say_text(out, r->key->name);
		break;
	case CLASS:
		field_say_text(out, r->key->class);
		break;
	case LIMIT:
		field_say_int_if(out, r->key->requests > 0, r->key->requests);
		break;
	case ACTIVE:
		out->number = r->who ? r->who->active : 0;
		break;
	case REQUESTS:
		out->number = r->who ? (int64_t)r->who->requests : 0;
		break;
	case REFUSED:
		out->number = r->who ? (int64_t)r->who->refused : 0;
		break;
	}
}

static const struct field row[] = {
	{.name = "name", .type = FIELD_TEXT, .get = get_row, .which = NAME},
	{.name = "class", .type = FIELD_TEXT, .get = get_row, .which = CLASS},
	{.name = "limit", .type = FIELD_INT, .get = get_row, .which = LIMIT},
	{.name = "active", .type = FIELD_INT, .get = get_row, .which = ACTIVE},
	{.name = "requests",
		.type = FIELD_INT,
		.kind = FIELD_COUNT,
		.get = get_row,
		.which = REQUESTS},
	{.name = "refused",
		.type = FIELD_INT,
		.kind = FIELD_COUNT,
		.get = get_row,
		.which = REFUSED},
};
static const struct fields row_members = FIELDS(row);

static void each_key(const void *of, struct field_list *list)
{
	const struct requests *s = ((const struct tell *)of)->requests;
	const struct keys *keys = &s->config->access.keys;
	for (size_t i = 0; i < keys->count; i++) {
		struct row r = {&keys->of[i], callers_find(&s->callers, &keys->of[i])};
		field_item(list, &r);
	}
}

static void get_needed(const void *of, const struct field *f, struct field_value *out)
{
	(void)f;
	out->truth = config_has_keys(((const struct tell *)of)->requests->config);
}

static const struct field requests[] = {
	FIELD_COUNT_OF("unauthorized", struct requests, callers.unauthorized),
};
static const struct fields request_members = FIELDS(requests);

static const struct field keys[] = {
	FIELD_OWN("needed", FIELD_TRUTH, get_needed),
	FIELD_OBJECT_OF(NULL, &request_members, requests_of_tell),
	FIELD_LIST_OF("keys", &row_members, each_key),
};
const struct fields document_keys = FIELDS(keys);
