#include "supervisor/tell/field.h"

#include <math.h>

struct field_list {
	const struct field *field;
	struct field_writer *w;
	bool cut;
};

#define AT(type) ((const type *)(const void *)((const char *)of + f->which))

void field_get_u64(const void *of, const struct field *f, struct field_value *out)
{
	out->number = (int64_t)*AT(uint64_t);
}

void field_get_unsigned(const void *of, const struct field *f, struct field_value *out)
{
	out->number = *AT(unsigned);
}

void field_get_double(const void *of, const struct field *f, struct field_value *out)
{
	out->real = *AT(double);
}

void field_get_histogram(const void *of, const struct field *f, struct field_value *out)
{
	out->histogram = AT(struct histogram);
}

void field_get_chars(const void *of, const struct field *f, struct field_value *out)
{
	out->text = slice_str((const char *)of + f->which);
}

/* --- writing --- */

/* What is not there is unknown, whoever forgot to say so. */
static void say(struct field_writer *w, const struct field *f, struct field_value *v)
{
	if (v->is == FIELD_SAID && ((v->type == FIELD_TEXT && v->text.n == 0) ||
					   (v->type == FIELD_REAL && !isfinite(v->real))))
		v->is = FIELD_UNKNOWN;
	if (v->is != FIELD_LEFT_OUT)
		w->ops->value(w, f, v);
}

static void say_cut(struct field_writer *w)
{
	static const struct field reason = {.name = "reason", .type = FIELD_TEXT};
	struct field_value v = {.type = FIELD_TEXT};
	field_say_text(&v, "out of memory: some are left out");
	say(w, &reason, &v);
}

static void write_field(const struct field *f, const void *of, struct field_writer *w)
{
	struct field_value v = {.is = FIELD_SAID, .type = f->type};
	struct field_list list = {f, w, false};
	const void *inner = f->inner ? f->inner(of) : of;
	if (f->present && !f->present(of))
		return;
	switch (f->type) {
	case FIELD_OBJECT:
		if (!f->name) {
			fields_write(f->members, inner, w);
			return;
		}
		w->ops->open(w, f);
		fields_write(f->members, inner, w);
		w->ops->close(w, f);
		return;
	case FIELD_LIST:
		w->ops->open(w, f);
		f->each(of, &list);
		w->ops->close(w, f);
		if (list.cut)
			say_cut(w);
		return;
	default:
		f->get(of, f, &v);
		say(w, f, &v);
	}
}

void fields_write(const struct fields *fields, const void *of, struct field_writer *w)
{
	for (size_t i = 0; i < fields->count; i++)
		write_field(&fields->of[i], of, w);
}

void field_item(struct field_list *list, const void *thing)
{
	struct field_writer *w = list->w;
	w->ops->open(w, NULL);
	fields_write(list->field->members, thing, w);
	w->ops->close(w, NULL);
}

void field_item_text(struct field_list *list, const char *text)
{
	struct field_value v = {.type = FIELD_TEXT};
	field_say_text(&v, text);
	say(list->w, NULL, &v);
}

void field_list_cut(struct field_list *list)
{
	list->cut = true;
}

void field_item_int(struct field_list *list, int64_t number)
{
	struct field_value v = {.type = FIELD_INT, .number = number};
	say(list->w, NULL, &v);
}
