/* What a look writes down of what it found. */
#include "supervisor/ctl/doctor.h"

#include <stdarg.h>
#include <stdlib.h>

static void add(struct buf *out, const char *fmt, va_list args)
{
	char *text;
	if (vasprintf(&text, fmt, args) < 0)
		return;
	if (out->n)
		buf_add_char(out, ' ');
	buf_add_str(out, text);
	free(text);
}

void doctor_say(struct doctor_finding *f, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	add(&f->what, fmt, args);
	va_end(args);
}

void doctor_advise(struct doctor_finding *f, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	add(&f->advice, fmt, args);
	va_end(args);
}

void doctor_measure(struct doctor_finding *f, const char *name, double value)
{
	if (f->count == DOCTOR_MEASURED_MAX)
		return;
	f->measured[f->count].name = name;
	f->measured[f->count++].value = value;
}
