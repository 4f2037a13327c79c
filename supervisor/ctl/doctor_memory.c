/* Looks at what of a model is not on a GPU. */
#include "supervisor/ctl/doctor.h"

#include <inttypes.h>
#include <string.h>

#define GIB (1024.0 * 1024 * 1024)
#define WINDOW_STEP 1024
#define WINDOW_LEAST 2048 /* a smaller one is no advice */

const struct doctor_device *doctor_main(const struct doctor_facts *f)
{
	for (size_t i = 0; i < f->devices; i++)
		if (f->device[i].main)
			return &f->device[i];
	return NULL;
}

bool doctor_is_short_of_memory(const struct doctor_device *d)
{
	return d->gpu_percent >= 0 && d->gpu_percent < 100;
}

/* The weights are all on the GPU, or would be: what does not fit is the cache of the window. */
static bool window_spills(const struct doctor_device *d)
{
	return d->gpu_bytes > 0 && d->gpu_bytes < d->model_bytes && d->weight_bytes > 0 &&
	       d->weight_bytes <= d->gpu_bytes;
}

static void measure_memory(const struct doctor_device *d, struct doctor_finding *out)
{
	doctor_measure(out, "model_bytes", (double)d->model_bytes);
	doctor_measure(out, "weight_bytes", (double)d->weight_bytes);
	doctor_measure(out, "gpu_bytes", (double)d->gpu_bytes);
	doctor_measure(out, "gpu_percent", (double)d->gpu_percent);
	doctor_measure(out, "prefill_tok_s", d->prefill);
	doctor_measure(out, "decode_tok_s", d->decode);
}

static void say_rates(const struct doctor_device *d, struct doctor_finding *out)
{
	if (d->prefill > 0 && d->decode > 0)
		doctor_say(out, "It reads %.0f tokens/s and writes %.1f.", d->prefill, d->decode);
}

/* It says nothing of where its model is, but the GPUs that it is pinned to are all but empty. */
static bool gpus_are_empty(const struct doctor_device *d)
{
	return d->gpu_percent < 0 && d->weight_bytes > 0 && d->pinned_used >= 0 &&
	       d->pinned_used < d->weight_bytes / 2;
}

static void say_where(const struct doctor_device *d, struct doctor_finding *out)
{
	if (gpus_are_empty(d))
		doctor_say(out,
			"Its model has %.1f GiB, and on the GPU that it is pinned to %.1f GiB are "
			"used: it runs on the processor.",
			(double)d->weight_bytes / GIB, (double)d->pinned_used / GIB);
	else if (d->gpu_percent == 0)
		doctor_say(out, "Its model runs on the processor: nothing of it is on a GPU.");
	else
		doctor_say(out,
			"%" PRId64
			" %% of its model are on a GPU, the rest is on the processor and "
			"sets the pace.",
			d->gpu_percent);
}

static void advise_on_cpu(const struct doctor_device *d, struct doctor_finding *out)
{
	if (d->gpu_percent > 0)
		doctor_advise(out, "A smaller model, or a smaller quantisation of it, a smaller "
				   "window or a cache of 8 bits: all of it should fit the card.");
	else if (strcmp(d->type, "ollama") == 0)
		doctor_advise(out, "Ollama found no GPU, or no room on it: its log says which when "
				   "it starts (\"inference compute\").");
	else
		doctor_advise(out, "Compare with llama-server --list-devices: an NVIDIA card needs "
				   "its driver's Vulkan or a CUDA build, and -ngl must not be 0.");
}

enum doctor_look look_cpu(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	bool empty = gpus_are_empty(d);
	if (d->gpu_percent < 0 && (d->weight_bytes <= 0 || d->pinned_used < 0))
		return LOOK_UNKNOWN;
	if ((!doctor_is_short_of_memory(d) && !empty) || window_spills(d))
		return LOOK_FINE;
	/* Without a GPU there is no other way; a small model is put there on purpose, too. */
	if (!d->main || (!f->knows_gpus && d->gpu_percent == 0))
		out->severity = DOCTOR_WARNING;
	say_where(d, out);
	say_rates(d, out);
	measure_memory(d, out);
	if (empty)
		doctor_measure(out, "pinned_used_bytes", (double)d->pinned_used);
	advise_on_cpu(d, out);
	return LOOK_FOUND;
}

enum doctor_look look_window_spills(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	int64_t window = d->loaded_window > 0 ? d->loaded_window : d->window;
	(void)f;
	if (d->gpu_bytes < 0 || d->model_bytes <= 0 || d->weight_bytes <= 0)
		return LOOK_UNKNOWN;
	if (!window_spills(d) || window <= 0)
		return LOOK_FINE;
	double token = (double)(d->model_bytes - d->weight_bytes) / (double)window;
	int64_t fits = (int64_t)((double)(d->gpu_bytes - d->weight_bytes) / token) / WINDOW_STEP *
		       WINDOW_STEP;
	doctor_say(out,
		"The window of %" PRId64 " tokens takes %.1f GiB beside the model's %.1f, of which "
		"%.1f are not on the GPU: part of the model runs on the processor for it.",
		window, (double)(d->model_bytes - d->weight_bytes) / GIB,
		(double)d->weight_bytes / GIB, (double)(d->model_bytes - d->gpu_bytes) / GIB);
	say_rates(d, out);
	measure_memory(d, out);
	doctor_measure(out, "window_tokens", (double)window);
	doctor_measure(out, "fitting_window_tokens", (double)fits);
	if (fits >= WINDOW_LEAST)
		doctor_advise(out, "num_ctx = %" PRId64 " fits by this count.", fits);
	doctor_advise(out, "A cache of 8 bits (OLLAMA_KV_CACHE_TYPE=q8_0 with "
			   "OLLAMA_FLASH_ATTENTION=1) takes half of it.");
	return LOOK_FOUND;
}
