/* Looks at models that are loaded anew, and why. */
#include "supervisor/ctl/doctor.h"

#include <inttypes.h>
#include <string.h>

/* So many loads beyond the first, and such a share of the jobs. */
#define LOADS_LEAST 3
#define LOADS_SHARE 0.02
#define LOADS_SERIOUS 0.2
#define KEEP_LEAST_S 3600 /* who is away for an hour may wait for a load */

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

enum doctor_look look_models(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	(void)f;
	if (d->models < 0)
		return LOOK_UNKNOWN;
	if (d->models < 2 || (!doctor_is_short_of_memory(d) && d->loads - 1 < LOADS_LEAST))
		return LOOK_FINE;
	doctor_say(out, "%" PRId64 " models are loaded at once and share its memory, %s.",
		d->models,
		doctor_is_short_of_memory(d) ? "which does not hold them"
					     : "and models were loaded anew");
	doctor_measure(out, "loaded_models", (double)d->models);
	doctor_measure(out, "gpu_percent", (double)d->gpu_percent);
	doctor_measure(out, "loads", (double)d->loads);
	doctor_advise(out, "One model for each card: let the small one run on the other card, have "
			   "clients ask for one name (aliases of models), or "
			   "OLLAMA_MAX_LOADED_MODELS=1.");
	return LOOK_FOUND;
}

enum doctor_look look_keep_alive(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	(void)f;
	if (d->keep_s < 0)
		return LOOK_UNKNOWN;
	if (d->keep_s >= KEEP_LEAST_S)
		return LOOK_FINE;
	doctor_say(out, "Its model is unloaded after %" PRId64 " minutes without a request",
		(d->keep_s + 59) / 60);
	if (d->loads > 0)
		doctor_say(out, "and a load takes %.1f s; what was cached is lost with it.",
			(double)d->load_ms / (double)d->loads / 1000);
	else
		doctor_say(out, "and what was cached is lost with it.");
	doctor_measure(out, "keep_s", (double)d->keep_s);
	doctor_measure(out, "loads", (double)d->loads);
	doctor_measure(
		out, "load_mean_ms", d->loads > 0 ? (double)d->load_ms / (double)d->loads : -1);
	doctor_advise(out, "Start Ollama with OLLAMA_KEEP_ALIVE=-1; a client that sends a "
			   "keep_alive of its own should leave it out.");
	return LOOK_FOUND;
}
