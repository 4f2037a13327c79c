#include "supervisor/tell/prometheus.h"

#include "common/base/json.h"

#include <inttypes.h>
#include <stdio.h>

struct prometheus {
	struct field_writer base;
	const struct field *family;		    /* under way; NULL: none */
	struct buf labels;			    /* of the sample under way: `a="1",b="2"` */
	const struct histogram_scale *bounds_scale; /* that `bounds` were made of, ... */
	double bounds_by;			    /* ... and in which unit; 0: none */
	char bounds[HISTOGRAM_BUCKETS][24];
};

/* --- texts --- */

static void add_escaped(struct buf *b, struct slice text)
{
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];
		if (c == '\n') {
			buf_add_str(b, "\\n");
			continue;
		}
		if (c == '\\' || c == '"')
			buf_add_char(b, '\\');
		buf_add_char(b, c);
	}
}

static const char *type_name(const struct field *value)
{
	if (value->type == FIELD_HISTOGRAM)
		return "histogram";
	return value->kind == FIELD_COUNT ? "counter" : "gauge";
}

static void begin_family(struct buf *b, const struct field *f, const struct field *value)
{
	buf_add_str(b, "# HELP ");
	buf_add_str(b, f->name);
	buf_add_char(b, ' ');
	buf_add_str(b, f->help ? f->help : f->name);
	buf_add_str(b, "\n# TYPE ");
	buf_add_str(b, f->name);
	buf_add_char(b, ' ');
	buf_add_str(b, type_name(value));
	buf_add_char(b, '\n');
}

static double divisor(const char *unit)
{
	static const struct {
		const char *unit;
		double by;
	} all[] = {{"us", 1e6}, {"ms", 1e3}, {"percent", 100}};
	for (size_t i = 0; unit && i < sizeof(all) / sizeof(*all); i++)
		if (strcmp(unit, all[i].unit) == 0)
			return all[i].by;
	return 1;
}

/* --- samples --- */

/* name, suffix and labels; the value and the end of the line follow. */
static void begin_sample(const struct prometheus *p, const char *suffix)
{
	struct buf *b = p->base.out;
	buf_add_str(b, p->family->name);
	buf_add_str(b, suffix);
	if (p->labels.n > 0) {
		buf_add_char(b, '{');
		buf_add_slice(b, buf_slice(&p->labels));
		buf_add_char(b, '}');
	}
	buf_add_char(b, ' ');
}

static void put_whole(const struct prometheus *p, const char *suffix, int64_t number)
{
	begin_sample(p, suffix);
	json_put_int(p->base.out, number);
	buf_add_char(p->base.out, '\n');
}

static void put_real(const struct prometheus *p, const char *suffix, double value)
{
	begin_sample(p, suffix);
	buf_printf(p->base.out, "%.12g\n", value);
}

/* The texts of the bounds: a family's histograms have the same ones. */
static void make_bounds(struct prometheus *p, const struct histogram *h, double by)
{
	if (p->bounds_by == by && p->bounds_scale == h->scale)
		return;
	p->bounds_by = by;
	p->bounds_scale = h->scale;
	for (unsigned i = 0; i < histogram_bounds(h); i++)
		snprintf(p->bounds[i], sizeof(p->bounds[i]), "%.10g",
			(double)histogram_bound(h, i) / by);
}

/* Thousands of lines that differ in two numbers: what they share is made once. */
static void put_bucket(
	const struct prometheus *p, struct slice head, const char *bound, uint64_t count)
{
	struct buf *b = p->base.out;
	buf_add_slice(b, head);
	buf_add_str(b, bound);
	buf_add(b, "\"} ", 3);
	json_put_int(b, (int64_t)count);
	buf_add_char(b, '\n');
}

static void put_histogram(struct prometheus *p, const struct histogram *h, double by)
{
	struct buf head;
	uint64_t below = 0;
	buf_init(&head, 0);
	make_bounds(p, h, by);
	buf_add_str(&head, p->family->name);
	buf_add_str(&head, "_bucket{");
	buf_add_slice(&head, buf_slice(&p->labels));
	buf_add_str(&head, p->labels.n ? ",le=\"" : "le=\"");
	if (buf_error(&head))
		p->base.out->error = buf_error(&head);
	for (unsigned i = 0; i < histogram_bounds(h); i++) {
		below += h->count[i];
		put_bucket(p, buf_slice(&head), p->bounds[i], below);
	}
	put_bucket(p, buf_slice(&head), "+Inf", h->total);
	buf_free(&head);
	put_real(p, "_sum", (double)h->sum / by);
	put_whole(p, "_count", (int64_t)h->total);
}

static void put_value(struct prometheus *p, const struct field *f, const struct field_value *v)
{
	double by = divisor(f->unit);
	switch (v->type) {
	case FIELD_HISTOGRAM:
		put_histogram(p, v->histogram, by);
		break;
	case FIELD_REAL:
		put_real(p, "", v->real / by);
		break;
	case FIELD_TRUTH:
		put_real(p, "", v->truth);
		break;
	default:
		if (by > 1)
			put_real(p, "", (double)v->number / by);
		else
			put_whole(p, "", v->number);
	}
}

/* --- the writer --- */

static void add_label(struct buf *labels, const char *name, struct slice text)
{
	if (labels->n)
		buf_add_char(labels, ',');
	buf_add_str(labels, name);
	buf_add_str(labels, "=\"");
	add_escaped(labels, text);
	buf_add_char(labels, '"');
}

static void on_open(struct field_writer *w, const struct field *f)
{
	struct prometheus *p = (struct prometheus *)w;
	buf_clear(&p->labels);
	if (!f)
		return; /* a sample begins */
	p->family = f;
	begin_family(w->out, f, &f->members->of[f->members->count - 1]);
}

static void on_close(struct field_writer *w, const struct field *f)
{
	if (f)
		((struct prometheus *)w)->family = NULL;
}

static void on_value(struct field_writer *w, const struct field *f, const struct field_value *v)
{
	struct prometheus *p = (struct prometheus *)w;
	if (v->type == FIELD_TEXT) {
		if (p->family && v->is == FIELD_SAID)
			add_label(&p->labels, f->name, v->text);
		return;
	}
	if (v->is != FIELD_SAID)
		return;
	if (p->family) {
		put_value(p, f, v);
		return;
	}
	p->family = f;
	buf_clear(&p->labels);
	begin_family(w->out, f, f);
	put_value(p, f, v);
	p->family = NULL;
}

void prometheus_document(const struct fields *fields, const void *of, struct buf *out)
{
	static const struct field_writer_ops ops = {on_open, on_close, on_value};
	struct prometheus p = {.base = {&ops, out}};
	buf_init(&p.labels, 0);
	fields_write(fields, of, &p.base);
	if (buf_error(&p.labels))
		out->error = buf_error(&p.labels);
	buf_free(&p.labels);
}
