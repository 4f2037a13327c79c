/* nng's own statistics: a tree whose names are nng's. */
#include "supervisor/tell/documents.h"

#include <nng/nng.h>
#include <string.h>

struct node {
	const struct tell *t;
	nng_stat *stat;
};

/* --- a node --- */

enum { NAME, VALUE, UNIT, DEVICE };

/* The device whose link an nng socket of that id is, or NULL. */
static const char *device_of_socket(const struct tell *t, uint64_t id)
{
	const struct worker *w;
	for (size_t i = 0; i < t->devices->count; i++)
		TAILQ_FOREACH(w, &t->devices->of[i]->workers, link)
			if (w->channel && channel_has_socket(w->channel, id))
				return t->devices->of[i]->conf->name;
	return NULL;
}

static void get_value(nng_stat *stat, struct field_value *out)
{
	switch (nng_stat_type(stat)) {
	case NNG_STAT_LEVEL:
	case NNG_STAT_COUNTER:
	case NNG_STAT_ID:
		out->type = FIELD_INT;
		out->number = (int64_t)nng_stat_value(stat);
		break;
	case NNG_STAT_STRING:
		field_say_text(out, nng_stat_string(stat));
		break;
	case NNG_STAT_BOOLEAN:
		out->type = FIELD_TRUTH;
		out->truth = nng_stat_bool(stat);
		break;
	default:
		out->is = FIELD_LEFT_OUT;
	}
}

static void get_unit(nng_stat *stat, struct field_value *out)
{
	static const char *const units[] = {NULL, "bytes", "messages", "ms", "events"};
	int unit = nng_stat_unit(stat);
	struct field_value value = {.is = FIELD_SAID};
	get_value(stat, &value);
	if (value.is == FIELD_SAID && unit > 0 && unit < (int)(sizeof(units) / sizeof(*units)))
		field_say_text(out, units[unit]);
	else
		out->is = FIELD_LEFT_OUT;
}

/* Of a socket of one of our links; unknown for another one, left out for what is no socket. */
static void get_device(const struct node *n, struct field_value *out)
{
	out->is = FIELD_LEFT_OUT;
	if (strcmp(nng_stat_name(n->stat), "socket") != 0)
		return;
	for (nng_stat *c = nng_stat_child(n->stat); c; c = nng_stat_next(c))
		if (nng_stat_type(c) == NNG_STAT_ID && strcmp(nng_stat_name(c), "id") == 0) {
			out->is = FIELD_SAID;
			field_say_text(out, device_of_socket(n->t, nng_stat_value(c)));
		}
}

static void get_node(const void *of, const struct field *f, struct field_value *out)
{
	const struct node *n = of;
	switch (f->which) {
	case NAME:
		field_say_text(out, nng_stat_name(n->stat));
		break;
	case VALUE:
		get_value(n->stat, out);
		break;
	case UNIT:
		get_unit(n->stat, out);
		break;
	case DEVICE:
		get_device(n, out);
		break;
	}
}

static bool has_children(const void *of)
{
	return nng_stat_child(((const struct node *)of)->stat) != NULL;
}

static void each_child(const void *of, struct field_list *list)
{
	const struct node *n = of;
	for (nng_stat *c = nng_stat_child(n->stat); c; c = nng_stat_next(c))
		field_item(list, &(struct node){n->t, c});
}

static const struct fields node_members;
static const struct field node[] = {
	{.name = "name", .type = FIELD_TEXT, .get = get_node, .which = NAME},
	{.name = "value", .type = FIELD_TEXT, .get = get_node, .which = VALUE},
	{.name = "unit", .type = FIELD_TEXT, .get = get_node, .which = UNIT},
	{.name = "device", .type = FIELD_TEXT, .get = get_node, .which = DEVICE},
	{.name = "children",
		.type = FIELD_LIST,
		.items = FIELD_OBJECT,
		.members = &node_members,
		.each = each_child,
		.present = has_children},
};
static const struct fields node_members = FIELDS(node);

/* --- the tree --- */

static void get_version(const void *of, const struct field *f, struct field_value *out)
{
	(void)of;
	(void)f;
	field_say_text(out, nng_version());
}

/* A snapshot for each of the two: they are taken one after the other, on one thread. */
static void get_reason(const void *of, const struct field *f, struct field_value *out)
{
	nng_stat *root = NULL;
	int rc = nng_stats_get(&root);
	(void)of;
	(void)f;
	field_say_text(out, rc ? nng_strerror(rc) : NULL);
	if (rc == 0)
		nng_stats_free(root);
}

static void each_top(const void *of, struct field_list *list)
{
	nng_stat *root = NULL;
	if (nng_stats_get(&root))
		return;
	for (nng_stat *top = nng_stat_child(root); top; top = nng_stat_next(top))
		field_item(list, &(struct node){of, top});
	nng_stats_free(root);
}

static const struct field nng[] = {
	FIELD_OWN("version", FIELD_TEXT, get_version),
	FIELD_OWN("reason", FIELD_TEXT, get_reason),
	FIELD_LIST_OF("stats", &node_members, each_top),
};
const struct fields document_nng = FIELDS(nng);
