/* Looks at how an engine works: on which cards, with which attention, cache and guesses. */
#include "supervisor/ctl/doctor.h"

#include <inttypes.h>
#include <string.h>

#define GIB (1024.0 * 1024 * 1024)
#define UNEQUAL 1.25	   /* of two cards, the larger one's memory of the other's */
#define MODEL_FITS 0.9	   /* of a card's memory */
#define MODEL_OVERHEAD 1.2 /* of its weights, where no more is known: cache and buffers */

static bool cards_are_unequal(const struct doctor_facts *f, const struct doctor_gpu **largest)
{
	int64_t least = INT64_MAX;
	*largest = NULL;
	for (size_t i = 0; i < f->gpus; i++) {
		if (!*largest || f->gpu[i].total > (*largest)->total)
			*largest = &f->gpu[i];
		least = f->gpu[i].total < least ? f->gpu[i].total : least;
	}
	return *largest && (double)(*largest)->total > UNEQUAL * (double)least;
}

enum doctor_look look_split(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	const struct doctor_gpu *largest;
	double need = d->model_bytes > 0 ? (double)d->model_bytes
					 : MODEL_OVERHEAD * (double)d->weight_bytes;
	if (d->gpus < 0 || (d->gpus > 1 && (f->gpus < 2 || d->weight_bytes <= 0)))
		return LOOK_UNKNOWN;
	if (d->gpus < 2 || !cards_are_unequal(f, &largest) ||
		need > MODEL_FITS * (double)largest->total)
		return LOOK_FINE;
	doctor_say(out,
		"Its layers lie on %" PRId64
		" unequal GPUs, which work one after the other for each "
		"token, so that the slower one sets the pace; %s alone has room for it (%.1f of "
		"%.1f GiB).",
		d->gpus, largest->name, need / GIB, (double)largest->total / GIB);
	if (d->decode > 0)
		doctor_say(out, "It writes %.1f tokens/s.", d->decode);
	doctor_measure(out, "gpus", (double)d->gpus);
	doctor_measure(out, "needed_bytes", need);
	doctor_measure(out, "largest_gpu_bytes", (double)largest->total);
	doctor_measure(out, "prefill_tok_s", d->prefill);
	doctor_measure(out, "decode_tok_s", d->decode);
	doctor_advise(out,
		"pin = \"%" PRId64 "\" keeps it on that card; the other one is then free for a "
		"small model of its own.",
		largest->index);
	return LOOK_FOUND;
}

static bool is_narrow(const char *type)
{
	return type[0] == 'q' || strncmp(type, "iq", 2) == 0;
}

enum doctor_look look_flash_attention(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	(void)f;
	if (d->flash < 0)
		return LOOK_UNKNOWN;
	if (d->flash > 0)
		return LOOK_FINE;
	doctor_say(out, "It works without flash attention: a long prompt is read more slowly the "
			"longer it is, and takes more memory.");
	if (is_narrow(d->cache_type))
		doctor_say(out, "Its cache of %s saves less without it.", d->cache_type);
	if (d->prefill > 0)
		doctor_say(out, "It reads %.0f tokens/s.", d->prefill);
	doctor_measure(out, "prefill_tok_s", d->prefill);
	doctor_measure(out, "window_tokens", (double)d->window);
	doctor_advise(out, "%s; where the build says that the card cannot, a build for this card.",
		strcmp(d->type, "ollama") == 0 ? "OLLAMA_FLASH_ATTENTION=1 (or unset)"
					       : "-fa on (or auto, the default)");
	return LOOK_FOUND;
}

enum doctor_look look_cache_type(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	if (!d->cache_type[0])
		return LOOK_UNKNOWN;
	bool cuts = d->main && doctor_window_is_short(f);
	if (is_narrow(d->cache_type) || (!cuts && !doctor_is_short_of_memory(d)))
		return LOOK_FINE;
	doctor_say(out, "Its cache holds each token as %s, and %s.", d->cache_type,
		cuts ? "its window does not hold the prompts" : "its memory does not hold it");
	doctor_measure(out, "window_tokens", (double)d->window);
	doctor_measure(out, "gpu_percent", (double)d->gpu_percent);
	doctor_advise(out,
		"%s halves it: twice the window in the same memory, at little cost in quality.",
		strcmp(d->type, "ollama") == 0 ? "OLLAMA_KV_CACHE_TYPE=q8_0"
					       : "-ctk q8_0 -ctv q8_0 (with flash attention)");
	return LOOK_FOUND;
}

/* Another device's model of the same family: "qwen2.5-coder:0.5b" of "qwen2.5-coder:7b". */
static const char *draft_for(const struct doctor_facts *f, const struct doctor_device *d)
{
	size_t family = strcspn(d->model, ":");
	for (size_t i = 0; family && i < f->devices; i++) {
		const struct doctor_device *other = &f->device[i];
		if (other != d && strcspn(other->model, ":") == family &&
			strncasecmp(other->model, d->model, family) == 0 &&
			strcasecmp(other->model, d->model) != 0)
			return other->model;
	}
	return NULL;
}

enum doctor_look look_speculation(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	if (d->speculation < 0 || (d->speculation == 0 && d->decode <= 0))
		return LOOK_UNKNOWN;
	if (d->speculation > 0 || !d->main)
		return LOOK_FINE;
	doctor_say(out,
		"It writes %.1f tokens/s and guesses nothing ahead, though its build can: what an "
		"agent writes is to a great part what stands in the prompt.",
		d->decode);
	doctor_measure(out, "decode_tok_s", d->decode);
	doctor_advise(out, "--spec-type ngram-simple costs no memory; compare the tokens/s of "
			   "tandemctl status --json before and after with your own work.");
	const char *draft = draft_for(f, d);
	if (draft)
		doctor_advise(out,
			"%s is of the same family: as a draft model (-md) it guesses "
			"better, where the memory holds both.",
			draft);
	return LOOK_FOUND;
}
