/* Looks at windows, and at models that are loaded anew. */
#include "supervisor/ctl/doctor.h"

#include <inttypes.h>
#include <string.h>

/* So many prompts shortened for want of room, and such a share of all: less is what tandem is for. */
#define CUTS_LEAST 3
#define CUTS_SHARE 0.1
/* So many loads beyond the first, and such a share of the jobs. */
#define LOADS_LEAST 3
#define LOADS_SHARE 0.02
#define LOADS_SERIOUS 0.2

static const struct doctor_device *main_of(const struct doctor_facts *f)
{
	for (size_t i = 0; i < f->devices; i++)
		if (f->device[i].main)
			return &f->device[i];
	return NULL;
}

enum doctor_look look_window_cuts(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	d = main_of(f);
	if (!f->knows_sums || !d || f->chats + f->too_long == 0)
		return LOOK_UNKNOWN;
	bool often = f->shortened_to_fit >= CUTS_LEAST &&
		     (double)f->shortened_to_fit >= CUTS_SHARE * (double)f->chats;
	if (!often && f->too_long == 0)
		return LOOK_FINE;
	if (f->too_long > 0)
		out->severity = DOCTOR_WARNING;
	doctor_say(out,
		"The window of %" PRId64 " tokens did not hold %" PRId64 " of %" PRId64
		" prompts whole, and %" PRId64 " not even shortened; the largest had about %" PRId64
		" tokens.",
		d->window, f->shortened_to_fit, f->chats + f->too_long, f->too_long,
		f->largest_prompt);
	doctor_measure(out, "window_tokens", (double)d->window);
	doctor_measure(out, "shortened", (double)f->shortened_to_fit);
	doctor_measure(out, "refused", (double)f->too_long);
	doctor_measure(out, "chats", (double)(f->chats + f->too_long));
	doctor_measure(out, "largest_prompt_tokens", (double)f->largest_prompt);
	doctor_advise(out,
		"What is shortened loses detail. Raise %s of %s as far as its memory goes: "
		"tandemctl devices shows what is left while a long prompt is answered.",
		strcmp(d->type, "ollama") == 0 ? "num_ctx (or num_ctx_max)" : "the window (-c)",
		d->name);
	return LOOK_FOUND;
}

enum doctor_look look_window_other(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	if (!f->running || strcmp(d->type, "ollama") != 0 || d->loaded_window < 0 ||
		d->window <= 0 || d->done == 0)
		return LOOK_UNKNOWN;
	if (d->loaded_window >= d->window || d->client_num_ctx)
		return LOOK_FINE;
	doctor_say(out,
		"%s is loaded with a window of %" PRId64 " tokens, and tandem asks for %" PRId64
		": somebody beside tandem has asked for another one.",
		d->model, d->loaded_window, d->window);
	doctor_measure(out, "loaded_window_tokens", (double)d->loaded_window);
	doctor_measure(out, "window_tokens", (double)d->window);
	doctor_advise(out,
		"The next request loads it anew, and its cache is lost. Have every client ask "
		"tandem, and start Ollama with OLLAMA_CONTEXT_LENGTH=%" PRId64 ".",
		d->window);
	return LOOK_FOUND;
}

static void advise_on_loads(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	if (d->client_num_ctx)
		doctor_advise(out, "client_num_ctx is on, so that each client's own window loads "
				   "the model anew: turn it off.");
	else if (f->other_windows > 0)
		doctor_advise(out, "Clients ask for other windows; tandem keeps to its own, but "
				   "whoever asks Ollama past tandem does not.");
	doctor_advise(out,
		strcmp(d->type, "ollama") == 0
			? "OLLAMA_KEEP_ALIVE=-1 keeps a model loaded while nobody asks; one model "
			  "for each card keeps it from making room for another."
			: "A model that is unloaded while nobody asks is loaded anew for the next "
			  "request: have its server keep it.");
}

enum doctor_look look_reloads(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	int64_t again = d->loads - 1; /* the first one had to be */
	if (!f->running)
		return LOOK_UNKNOWN;
	if (again < LOADS_LEAST || (double)again < LOADS_SHARE * (double)d->done)
		return LOOK_FINE;
	double mean = (double)d->load_ms / (double)d->loads;
	if ((double)again >= LOADS_SERIOUS * (double)d->done)
		out->severity = DOCTOR_SERIOUS;
	out->lost_s = mean * (double)again / 1000;
	doctor_say(out,
		"%" PRId64 " of %" PRId64
		" answers waited for the model to be loaded, %.1f s each, "
		"%.0f s in all; what was cached of their conversations was lost as well.",
		d->loads, d->done, mean / 1000, (double)d->load_ms / 1000);
	doctor_measure(out, "loads", (double)d->loads);
	doctor_measure(out, "answers", (double)d->done);
	doctor_measure(out, "load_mean_ms", mean);
	doctor_measure(out, "load_sum_ms", (double)d->load_ms);
	doctor_measure(out, "other_windows_asked_for", (double)f->other_windows);
	advise_on_loads(f, d, out);
	return LOOK_FOUND;
}
