/* The table of what is looked at, and looking. */
#include "supervisor/ctl/doctor.h"

#include <errno.h>
#include <stdlib.h>

/* Of two that are as bad and have cost as much, the first here is told first. */
const struct doctor_check doctor_checks[] = {
	{"away", DOCTOR_WARNING, true, look_away},
	{"open-port", DOCTOR_SERIOUS, false, look_open_port},
	{"open-backend", DOCTOR_SERIOUS, true, look_open_backend},
	{"cpu", DOCTOR_SERIOUS, true, look_cpu},
	{"window-spills", DOCTOR_SERIOUS, true, look_window_spills},
	{"window-other", DOCTOR_WARNING, true, look_window_other},
	{"reloads", DOCTOR_WARNING, true, look_reloads},
	{"prefix", DOCTOR_WARNING, false, look_prefix},
	{"shared-slot", DOCTOR_WARNING, true, look_shared_slot},
	{"models", DOCTOR_WARNING, true, look_models},
	{"split", DOCTOR_WARNING, true, look_split},
	{"flash-attention", DOCTOR_WARNING, true, look_flash_attention},
	{"slots", DOCTOR_WARNING, true, look_slots},
	{"small-slow", DOCTOR_WARNING, true, look_small_slow},
	{"restarts", DOCTOR_WARNING, true, look_restarts},
	{"failures", DOCTOR_WARNING, true, look_failures},
	{"window-cuts", DOCTOR_ADVICE, false, look_window_cuts},
	{"cache-type", DOCTOR_ADVICE, true, look_cache_type},
	{"keep-alive", DOCTOR_ADVICE, true, look_keep_alive},
	{"speculation", DOCTOR_ADVICE, true, look_speculation},
	{"notes", DOCTOR_ADVICE, false, look_notes},
	{"idle-gpu", DOCTOR_ADVICE, false, look_idle_gpu},
	{"idle-device", DOCTOR_ADVICE, true, look_idle_device},
};

const size_t doctor_check_count = sizeof(doctor_checks) / sizeof(doctor_checks[0]);

const char *doctor_severity_name(enum doctor_severity s)
{
	static const char *const names[] = {"fine", "advice", "warning", "serious"};
	return names[s];
}

/* --- looking --- */

static void finding_free(struct doctor_finding *f)
{
	buf_free(&f->what);
	buf_free(&f->advice);
}

static enum doctor_look look_at(const struct doctor_facts *f, const struct doctor_check *check,
	const struct doctor_device *d, struct doctor_report *r)
{
	struct doctor_finding *one = &r->of[r->count];
	*one = (struct doctor_finding){.check = check, .device = d, .severity = check->severity};
	buf_init(&one->what, 0);
	buf_init(&one->advice, 0);
	enum doctor_look l = check->look(f, d, one);
	if (l == LOOK_FOUND)
		r->count++;
	else
		finding_free(one);
	return l;
}

static int worst_first(const void *a, const void *b)
{
	const struct doctor_finding *x = a, *y = b;
	if (x->severity != y->severity)
		return x->severity > y->severity ? -1 : 1;
	if (x->lost_s > y->lost_s || x->lost_s < y->lost_s)
		return x->lost_s > y->lost_s ? -1 : 1;
	if (x->check != y->check)
		return x->check < y->check ? -1 : 1;
	return (x->device > y->device) - (x->device < y->device);
}

int doctor_look(const struct doctor_facts *f, struct doctor_report *out)
{
	size_t most = doctor_check_count * (f->devices + 1);
	*out = (struct doctor_report){.of = calloc(most, sizeof(*out->of)),
		.unknown = calloc(doctor_check_count, sizeof(*out->unknown))};
	if (!out->of || !out->unknown)
		return -ENOMEM;
	for (size_t i = 0; i < doctor_check_count; i++) {
		const struct doctor_check *c = &doctor_checks[i];
		size_t looks = c->of_device ? f->devices : 1, unknown = 0;
		for (size_t k = 0; k < looks; k++)
			unknown += look_at(f, c, c->of_device ? &f->device[k] : NULL, out) ==
				   LOOK_UNKNOWN;
		out->unknown[i] = unknown == looks;
	}
	qsort(out->of, out->count, sizeof(*out->of), worst_first);
	return 0;
}

void doctor_report_free(struct doctor_report *r)
{
	for (size_t i = 0; i < r->count; i++)
		finding_free(&r->of[i]);
	free(r->of);
	free(r->unknown);
	*r = (struct doctor_report){0};
}

enum doctor_severity doctor_worst(const struct doctor_report *r)
{
	return r->count ? r->of[0].severity : DOCTOR_NONE;
}
