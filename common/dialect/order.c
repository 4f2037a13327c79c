#include "common/dialect/order.h"

#include "common/dialect/pieces.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define CALL_LOOKBACK 256 /* messages searched backwards for the call that a result answers */
#define FIRST_ROOM 16

void chat_order_fini(struct chat_order *o)
{
	free(o->messages);
	free(o->parts);
	for (size_t i = 0; i < o->kept_count; i++)
		buf_free(&o->kept[i]);
	free(o->kept);
	*o = (struct chat_order){0};
}

int order_refuse(struct dialect_error *e, const char *text)
{
	e->status = 400;
	snprintf(e->text, sizeof(e->text), "%s", text);
	return -EINVAL;
}

/* --- what was said in a way that no backend takes --- */

static const char *const sampler_names[SAMPLERS] = {
	[SAMPLE_TEMPERATURE] = "temperature",
	[SAMPLE_TOP_K] = "top_k",
	[SAMPLE_TOP_P] = "top_p",
	[SAMPLE_MIN_P] = "min_p",
	[SAMPLE_TYPICAL_P] = "typical_p",
	[SAMPLE_REPEAT_LAST_N] = "repeat_last_n",
	[SAMPLE_REPEAT_PENALTY] = "repeat_penalty",
	[SAMPLE_PRESENCE_PENALTY] = "presence_penalty",
	[SAMPLE_FREQUENCY_PENALTY] = "frequency_penalty",
	[SAMPLE_MIROSTAT] = "mirostat",
	[SAMPLE_MIROSTAT_TAU] = "mirostat_tau",
	[SAMPLE_MIROSTAT_ETA] = "mirostat_eta",
	[SAMPLE_SEED] = "seed",
	[SAMPLE_NUM_KEEP] = "num_keep",
};

static bool is_list_of_strings(struct json_value v)
{
	struct json_iter it = json_iter(v);
	struct json_value one;
	if (v.type != JSON_ARRAY)
		return false;
	while (json_array_next(&it, &one))
		if (one.type != JSON_STRING)
			return false;
	return true;
}

static int refuse(struct dialect_error *error, const char *name, const char *what)
{
	error->status = 400;
	snprintf(error->text, sizeof(error->text), "'%s' must be %s", name, what);
	return -EINVAL;
}

int order_check(const struct chat_order *o, struct dialect_error *error)
{
	for (size_t i = 0; i < SAMPLERS; i++)
		if (!is_absent(o->sampling[i]) && o->sampling[i].type != JSON_NUMBER)
			return refuse(error, sampler_names[i], "a number");
	if (!is_absent(o->stop) && o->stop.type != JSON_STRING && !is_list_of_strings(o->stop))
		return refuse(error, "stop", "a string or a list of strings");
	return 0;
}

/* --- lists --- */

/* A list whose room is the next power of two. */
static void *grown(void *list, size_t count, size_t size)
{
	if (count >= FIRST_ROOM ? count & (count - 1) : count)
		return list;
	return realloc(list, (count ? count * 2 : FIRST_ROOM) * size);
}

struct order_message *order_add_message(struct chat_order *o, enum chat_role role)
{
	struct order_message *list = grown(o->messages, o->count, sizeof(*list));
	if (!list)
		return NULL;
	o->messages = list;
	list[o->count] = (struct order_message){.role = role, .first = o->part_count};
	return &list[o->count++];
}

struct order_part *order_add_part(struct chat_order *o, enum order_part_kind kind)
{
	struct order_part *list = grown(o->parts, o->part_count, sizeof(*list));
	if (!list)
		return NULL;
	o->parts = list;
	list[o->part_count] = (struct order_part){.kind = kind};
	o->messages[o->count - 1].parts++;
	return &list[o->part_count++];
}

const struct order_part *order_next(const struct chat_order *o, const struct order_message *m,
	enum order_part_kind kind, size_t *at)
{
	while (*at < m->parts) {
		const struct order_part *p = &o->parts[m->first + (*at)++];
		if (p->kind == kind)
			return p;
	}
	return NULL;
}

struct json_value order_keep(struct chat_order *o, struct buf *b)
{
	struct json_value none = {.type = JSON_NONE}, v;
	struct buf *list = buf_error(b) ? NULL : grown(o->kept, o->kept_count, sizeof(*list));
	if (list)
		o->kept = list;
	if (!list || json_parse(buf_slice(b), JSON_MAX_DEPTH, &v, NULL)) {
		buf_free(b);
		return none;
	}
	list[o->kept_count++] = *b;
	*b = (struct buf){0};
	return v;
}

size_t order_parts(
	const struct chat_order *o, const struct order_message *m, enum order_part_kind kind)
{
	size_t n = 0;
	for (size_t at = 0; order_next(o, m, kind, &at);)
		n++;
	return n;
}

/* Escapes are valid where they go, so nothing is decoded. */
void order_put_joined(const struct chat_order *o, const struct order_message *m,
	enum order_part_kind kind, struct buf *out)
{
	const struct order_part *p;
	size_t at = 0;
	bool first = true;
	buf_add_char(out, '"');
	while ((p = order_next(o, m, kind, &at))) {
		if (!first)
			buf_add_str(out, "\\n");
		first = false;
		buf_add_slice(out, string_inner(p->value));
	}
	buf_add_char(out, '"');
}

static bool same_string(struct json_value a, struct json_value b)
{
	return a.type == JSON_STRING && b.type == JSON_STRING &&
	       slice_eq(string_inner(a), string_inner(b));
}

struct json_value order_called_name(const struct chat_order *o, size_t message)
{
	struct json_value id = o->messages[message].call_id;
	size_t oldest = message > CALL_LOOKBACK ? message - CALL_LOOKBACK : 0;
	for (size_t i = message; id.type == JSON_STRING && i-- > oldest;) {
		const struct order_part *call;
		for (size_t at = 0; (call = order_next(o, &o->messages[i], ORDER_CALL, &at));)
			if (same_string(call->id, id))
				return call->name;
	}
	return (struct json_value){.type = JSON_NONE};
}

bool order_answered(const struct chat_order *o, size_t message, size_t *asking, size_t *call)
{
	struct json_value name = o->messages[message].tool_name;
	const struct order_part *p;
	size_t i = message, nth = 0, at = 0;
	while (i > 0 && o->messages[i - 1].role == CHAT_TOOL && message - i < CALL_LOOKBACK) {
		i--;
		if (name.type != JSON_STRING || same_string(o->messages[i].tool_name, name))
			nth++;
	}
	if (i == 0)
		return false;
	for (size_t n = 0; (p = order_next(o, &o->messages[i - 1], ORDER_CALL, &at)); n++) {
		if (name.type == JSON_STRING && !same_string(p->name, name))
			continue;
		if (nth-- > 0)
			continue;
		*asking = i - 1;
		*call = n;
		return true;
	}
	return false;
}
