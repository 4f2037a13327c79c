/* What the doctor found, as text and as JSON. */
#include "supervisor/ctl/ctl.h"
#include "supervisor/ctl/doctor.h"

#include <math.h>

#define INDENT 4

void doctor_wrap(struct slice text, size_t indent, size_t columns, struct buf *out)
{
	size_t room = columns > indent + 20 ? columns - indent : 20, used = 0;
	for (size_t at = 0; at < text.n;) {
		const char *space = memchr(text.p + at, ' ', text.n - at);
		size_t n = space ? (size_t)(space - text.p) - at : text.n - at;
		struct slice word = {text.p + at, n};
		size_t width = utf8_chars(word);
		at += n + 1;
		if (n == 0)
			continue;
		if (used && used + 1 + width > room) {
			buf_add_char(out, '\n');
			used = 0;
		}
		if (used)
			buf_add_char(out, ' ');
		else
			buf_printf(out, "%*s", (int)indent, "");
		used += width + (used > 0);
		buf_add_slice(out, word);
	}
	buf_add_char(out, '\n');
}

static void print_finding(const struct doctor_finding *one, size_t columns, FILE *to)
{
	struct buf text, advice;
	buf_init(&text, 0);
	buf_init(&advice, 0);
	buf_printf(&text, "\n%s: %s%s%s\n", doctor_severity_name(one->severity), one->check->id,
		one->device ? ", " : "", one->device ? one->device->name : "");
	doctor_wrap(buf_slice(&one->what), INDENT, columns, &text);
	buf_printf(&advice, "To do: %.*s", (int)one->advice.n, one->advice.p);
	doctor_wrap(buf_slice(&advice), INDENT, columns, &text);
	fwrite(text.p, 1, text.n, to);
	buf_free(&text);
	buf_free(&advice);
}

static void print_unknown(const struct doctor_report *r, size_t columns, FILE *to)
{
	struct buf line, wrapped;
	size_t unknown = 0;
	buf_init(&line, 0);
	buf_init(&wrapped, 0);
	buf_printf(&line, "Looked at %zu things.", doctor_check_count);
	for (size_t i = 0; i < doctor_check_count; i++)
		if (r->unknown[i])
			buf_printf(&line, "%s %s", unknown++ ? "," : " Nothing can be said yet of:",
				doctor_checks[i].id);
	if (unknown)
		buf_add_char(&line, '.');
	buf_add_char(&wrapped, '\n');
	doctor_wrap(buf_slice(&line), 0, columns, &wrapped);
	fwrite(wrapped.p, 1, wrapped.n, to);
	buf_free(&line);
	buf_free(&wrapped);
}

void doctor_print(
	const struct doctor_facts *f, const struct doctor_report *r, size_t columns, FILE *to)
{
	char up[32];
	if (f->running) {
		ctl_duration(f->uptime_s, up, sizeof(up));
		fprintf(to, "tandemd %s, up %s, listening on %s, %zu device%s\n", f->version, up,
			f->listen, f->devices, f->devices == 1 ? "" : "s");
	}
	for (size_t i = 0; i < r->count; i++)
		print_finding(&r->of[i], columns, to);
	if (r->count == 0)
		fputs("\nNothing was found that costs time or stands open.\n", to);
	print_unknown(r, columns, to);
}

/* --- JSON --- */

static void put_text(struct buf *out, const char *name, struct slice text)
{
	json_put_key(out, name);
	json_put_string(out, text);
}

/* Whole numbers as such; what is not known is null. */
static void put_number(struct buf *out, double value)
{
	if (!isfinite(value) || value < 0)
		buf_add_str(out, "null");
	else if (value < 1e15 && value == floor(value))
		buf_printf(out, "%.0f", value);
	else
		buf_printf(out, "%.3f", value);
}

static void put_finding(struct buf *out, const struct doctor_finding *one)
{
	buf_add_char(out, '{');
	put_text(out, "id", slice_str(one->check->id));
	put_text(out, "severity", slice_str(doctor_severity_name(one->severity)));
	json_put_key(out, "device");
	if (one->device)
		json_put_string(out, slice_str(one->device->name));
	else
		buf_add_str(out, "null");
	put_text(out, "what", buf_slice(&one->what));
	put_text(out, "advice", buf_slice(&one->advice));
	json_put_key(out, "lost_s");
	put_number(out, one->lost_s > 0 ? one->lost_s : -1);
	json_put_key(out, "measured");
	buf_add_char(out, '{');
	for (size_t i = 0; i < one->count; i++) {
		json_put_key(out, one->measured[i].name);
		put_number(out, one->measured[i].value);
	}
	buf_add_str(out, "}}");
}

static void put_ids(struct buf *out, const char *name, const bool *of)
{
	bool first = true;
	json_put_key(out, name);
	buf_add_char(out, '[');
	for (size_t i = 0; i < doctor_check_count; i++) {
		if (of && !of[i])
			continue;
		if (!first)
			buf_add_char(out, ',');
		first = false;
		json_put_string(out, slice_str(doctor_checks[i].id));
	}
	buf_add_char(out, ']');
}

void doctor_json(const struct doctor_facts *f, const struct doctor_report *r, const char *why,
	struct buf *out)
{
	buf_add_char(out, '{');
	json_put_key(out, "at_ms");
	json_put_int(out, f->at_ms);
	json_put_key(out, "running");
	buf_add_str(out, f->running ? "true" : "false");
	json_put_key(out, "why");
	if (why)
		json_put_string(out, slice_str(why));
	else
		buf_add_str(out, "null");
	put_text(out, "severity", slice_str(doctor_severity_name(doctor_worst(r))));
	json_put_key(out, "findings");
	buf_add_char(out, '[');
	for (size_t i = 0; i < r->count; i++) {
		if (i)
			buf_add_char(out, ',');
		put_finding(out, &r->of[i]);
	}
	buf_add_char(out, ']');
	put_ids(out, "looked_at", NULL);
	put_ids(out, "unknown", r->unknown);
	buf_add_char(out, '}');
}
