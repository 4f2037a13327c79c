/* Looks at cards, and at how the devices on them are used. */
#include "supervisor/ctl/doctor.h"

#include <inttypes.h>
#include <string.h>

#define GIB (1024.0 * 1024 * 1024)
#define GPU_BYTES_LEAST (2LL << 30) /* a smaller one holds no model worth its while */
#define GPU_IDLE_MEMORY 0.05
#define GPU_IDLE_LOAD 5 /* percent */
/* Before so many requests nothing is said of who does nothing. */
#define REQUESTS_LEAST 50
#define NOTES_LEAST 20

static bool is_idle(const struct doctor_gpu *g)
{
	return !g->pinned && g->total >= GPU_BYTES_LEAST && g->used >= 0 &&
	       (double)g->used < GPU_IDLE_MEMORY * (double)g->total && g->load <= GPU_IDLE_LOAD;
}

enum doctor_look look_idle_gpu(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	size_t idle = 0;
	double bytes = 0;
	(void)d;
	if (!f->knows_gpus)
		return LOOK_UNKNOWN;
	for (size_t i = 0; i < f->gpus; i++) {
		const struct doctor_gpu *g = &f->gpu[i];
		if (!is_idle(g))
			continue;
		doctor_say(out,
			"GPU %" PRId64 " (%s) has %.1f GiB, of which %.1f are used, and does "
			"nothing.",
			g->index, g->name, (double)g->total / GIB, (double)g->used / GIB);
		idle++;
		bytes += (double)(g->total - g->used);
	}
	if (idle == 0 || idle == f->gpus) /* all: nothing runs on GPUs here, which others say */
		return LOOK_FINE;
	doctor_measure(out, "idle_gpus", (double)idle);
	doctor_measure(out, "free_bytes", bytes);
	doctor_advise(out,
		"A second device with a model of its own there (a small one with the role "
		"condense) "
		"answers titles, embeddings and completions, and writes notes while nobody waits: "
		"the main card's cache is then left alone.");
	return LOOK_FOUND;
}

enum doctor_look look_idle_device(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	if (!f->running || f->requests < REQUESTS_LEAST)
		return LOOK_UNKNOWN;
	if (d->done + d->failed > 0 || strcmp(d->state, "ready") != 0)
		return LOOK_FINE;
	doctor_say(out, "It has answered none of %" PRId64 " requests.", f->requests);
	doctor_measure(out, "requests", (double)f->requests);
	doctor_measure(out, "uptime_s", f->uptime_s);
	doctor_advise(out,
		"Give it what is small: an alias of models for titles and the like, embeddings, "
		"completions of code; clients that ask for %s by name get it.",
		d->model[0] ? d->model : "its model");
	return LOOK_FOUND;
}

/*
 * Clients wait for notes in the threshold mode. What the small device reads in all its slots while
 * they are written is at most slots x its rate; where the main one reads faster, having it read the
 * original is sooner, whatever writing costs on top.
 */
enum doctor_look look_small_slow(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	const struct doctor_device *main = doctor_main(f);
	if (d->main || !d->condense)
		return LOOK_FINE;
	if (!f->running || !main || d->prefill <= 0 || main->prefill <= 0 || d->slots <= 0)
		return LOOK_UNKNOWN;
	double small = d->prefill * (double)d->slots;
	if (strcmp(f->routing, "threshold") != 0 || small >= main->prefill)
		return LOOK_FINE;
	doctor_say(out,
		"Clients wait for its notes (routing.mode = \"threshold\"), but it reads %.0f "
		"tokens/s "
		"in all its slots and %s reads %.0f: the original is there sooner.",
		small, main->name, main->prefill);
	if (f->notes_mean_ms > 0)
		doctor_say(out, "A note took %.1f s.", f->notes_mean_ms / 1000);
	doctor_measure(out, "prefill_tok_s", d->prefill);
	doctor_measure(out, "slots", (double)d->slots);
	doctor_measure(out, "main_prefill_tok_s", main->prefill);
	doctor_measure(out, "notes_mean_ms", f->notes_mean_ms);
	doctor_advise(out, "routing.mode = \"adaptive\", the default: nobody waits for it, and it "
			   "writes while nobody asks.");
	return LOOK_FOUND;
}

enum doctor_look look_notes(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	(void)d;
	if (!f->running || !f->knows_sums)
		return LOOK_UNKNOWN;
	if (f->notes_models_off == 0 && (f->notes_written < NOTES_LEAST || f->notes_used > 0))
		return LOOK_FINE;
	if (f->notes_models_off > 0)
		doctor_say(out, "The small device's model was given up as a writer of notes: fewer "
				"than a quarter of its lines stood up against their source.");
	else
		doctor_say(out,
			"The small device has written %" PRId64
			" notes, and none was ever sent with a prompt.",
			f->notes_written);
	doctor_measure(out, "notes_written", (double)f->notes_written);
	doctor_measure(out, "notes_used", (double)f->notes_used);
	doctor_measure(out, "notes_mean_ms", f->notes_mean_ms);
	doctor_advise(out, "A better small model, or condense.idle_notes = false and the card for "
			   "something else: titles, embeddings, completions.");
	return LOOK_FOUND;
}
