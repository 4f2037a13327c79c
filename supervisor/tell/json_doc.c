#include "supervisor/tell/json_doc.h"

#include "common/base/json.h"

static void begin(struct field_writer *w, const struct field *f)
{
	struct buf *b = w->out;
	if (f)
		json_put_key(b, f->name);
	else if (b->n && b->p[b->n - 1] != '[')
		buf_add_char(b, ',');
}

static void on_open(struct field_writer *w, const struct field *f)
{
	begin(w, f);
	buf_add_char(w->out, f && f->type == FIELD_LIST ? '[' : '{');
}

static void on_close(struct field_writer *w, const struct field *f)
{
	buf_add_char(w->out, f && f->type == FIELD_LIST ? ']' : '}');
}

static void on_value(struct field_writer *w, const struct field *f, const struct field_value *v)
{
	struct buf *b = w->out;
	begin(w, f);
	if (v->is != FIELD_SAID) {
		buf_add_str(b, "null");
		return;
	}
	switch (v->type) {
	case FIELD_TEXT:
		json_put_string(b, v->text);
		break;
	case FIELD_INT:
		json_put_int(b, v->number);
		break;
	case FIELD_REAL:
		buf_printf(b, "%.1f", v->real);
		break;
	case FIELD_TRUTH:
		buf_add_str(b, v->truth ? "true" : "false");
		break;
	default:
		histogram_json_of(v->histogram, f && f->unit ? f->unit : "ms", b);
	}
}

void json_document(const struct fields *fields, const void *of, struct buf *out)
{
	static const struct field_writer_ops ops = {on_open, on_close, on_value};
	struct field_writer w = {&ops, out};
	fields_write(fields, of, &w);
}
