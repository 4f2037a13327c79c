/* The aliases of models, and what answers for them now. */
#include "supervisor/requests/aliases.h"
#include "supervisor/tell/documents.h"

enum { MATCH, USE, DEVICE, MODEL };

static void get_alias(const void *of, const struct field *f, struct field_value *out)
{
	const struct alias *a = of;
	switch (f->which) {
	case MATCH:
		field_say_text(out, a->entry->match);
		break;
	case USE:
		field_say_text(out, a->entry->use);
		break;
	case DEVICE:
		field_say_text(out, a->device ? a->device->conf->name : NULL);
		break;
	case MODEL:
		field_say_text(out, a->model);
		break;
	}
}

static const struct field alias[] = {
	{.name = "match", .type = FIELD_TEXT, .get = get_alias, .which = MATCH},
	{.name = "use", .type = FIELD_TEXT, .get = get_alias, .which = USE},
	{.name = "device", .type = FIELD_TEXT, .get = get_alias, .which = DEVICE},
	{.name = "model", .type = FIELD_TEXT, .get = get_alias, .which = MODEL},
};
const struct fields alias_members = FIELDS(alias);

void each_alias(const void *tell, struct field_list *list)
{
	const struct requests *s = ((const struct tell *)tell)->requests;
	for (size_t i = 0; i < s->config->alias_count; i++) {
		struct alias a;
		alias_at(s, i, &a);
		if (!a.device)
			a.device = alias_serves(s, &a);
		field_item(list, &a);
	}
}
