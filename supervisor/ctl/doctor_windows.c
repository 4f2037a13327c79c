/* Looks at windows that are too small, or not the ones that were asked for. */
#include "supervisor/ctl/doctor.h"

#include <inttypes.h>
#include <string.h>

/* So many prompts shortened for want of room, and such a share of all: less is what tandem is for. */
#define CUTS_LEAST 3
#define CUTS_SHARE 0.1

bool doctor_window_is_short(const struct doctor_facts *f)
{
	bool often = f->shortened_to_fit >= CUTS_LEAST &&
		     (double)f->shortened_to_fit >= CUTS_SHARE * (double)f->chats;
	return often || f->too_long > 0;
}

static void advise_on_window(const struct doctor_device *d, struct doctor_finding *out)
{
	doctor_advise(out, "What is shortened loses detail.");
	if (d->own_window > 0 && d->window >= d->own_window)
		doctor_advise(out,
			"The model was made for no more than %" PRId64
			" tokens: only another one has a larger window.",
			d->own_window);
	else
		doctor_advise(out,
			"Raise %s of %s as far as its memory goes: tandemctl devices shows what "
			"is left while a long prompt is answered.",
			strcmp(d->type, "ollama") == 0 ? "num_ctx (or num_ctx_max)"
						       : "the window (-c)",
			d->name);
}

enum doctor_look look_window_cuts(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	d = doctor_main(f);
	if (!f->knows_sums || !d || f->chats + f->too_long == 0)
		return LOOK_UNKNOWN;
	if (!doctor_window_is_short(f))
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
	advise_on_window(d, out);
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
