#include "supervisor/tell/describe.h"

#include "common/base/json.h"

static const char *const types[FIELD_TYPES] = {[FIELD_TEXT] = "text",
	[FIELD_INT] = "integer",
	[FIELD_REAL] = "real",
	[FIELD_TRUTH] = "boolean",
	[FIELD_HISTOGRAM] = "histogram",
	[FIELD_OBJECT] = "object",
	[FIELD_LIST] = "list"};

static void members(const struct fields *fields, struct buf *b);

static void field(const struct field *f, const struct fields *within, struct buf *b)
{
	if (!f->name) {
		members(f->members, b);
		return;
	}
	buf_add_str(b, b->n && b->p[b->n - 1] != '[' ? ",{" : "{");
	json_put_key(b, "name");
	json_put_string(b, slice_str(f->name));
	json_put_key(b, "type");
	json_put_string(b, slice_str(types[f->type]));
	if (f->type == FIELD_INT || f->type == FIELD_REAL || f->type == FIELD_HISTOGRAM) {
		json_put_key(b, "kind");
		buf_add_str(b, f->kind == FIELD_COUNT ? "\"count\"" : "\"state\"");
	}
	if (f->unit) {
		json_put_key(b, "unit");
		json_put_string(b, slice_str(f->unit));
	}
	if (f->type == FIELD_LIST) {
		json_put_key(b, "items");
		json_put_string(b, slice_str(types[f->items]));
	}
	if (f->members && f->members != within) {
		json_put_key(b, "fields");
		fields_describe(f->members, b);
	}
	buf_add_char(b, '}');
}

static void members(const struct fields *fields, struct buf *b)
{
	for (size_t i = 0; i < fields->count; i++)
		field(&fields->of[i], fields, b);
}

void fields_describe(const struct fields *fields, struct buf *out)
{
	buf_add_char(out, '[');
	members(fields, out);
	buf_add_char(out, ']');
}
