#include "supervisor/devices/window.h"

#include "common/base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define KV_ELEMENT_BYTES 2.0
#define LAYERS_MAX 10000
#define WINDOW_MOST (INT64_C(1) << 30)

static int64_t smaller(int64_t a, int64_t b)
{
	return a <= 0 ? b : b <= 0 || a < b ? a : b;
}

static void stay(const struct window_facts *f, struct window_step *out, const char *why)
{
	out->to = f->current;
	snprintf(out->reason, sizeof(out->reason), "%s", why);
}

/* The next doubling at or above what is wanted. */
static int64_t doubled(int64_t from, int64_t wanted, int64_t limit)
{
	int64_t step = from > 0 ? from : WINDOW_LEAST;
	while (step < wanted && step < limit)
		step *= 2;
	return step < limit ? step : limit;
}

static double cost(const struct window_facts *f, int64_t to)
{
	return (double)(to - f->current) * f->kv_bytes * f->slots * WINDOW_KV_MARGIN;
}

void window_decide(const struct window_facts *f, struct window_step *out)
{
	int64_t wanted = f->needed > f->wished ? f->needed : f->wished;
	int64_t limit = smaller(f->trained, f->most);
	if (limit <= 0 || limit > WINDOW_MOST)
		limit = WINDOW_MOST;
	if (wanted <= f->current) {
		stay(f, out, "large enough");
		return;
	}
	if (f->current >= limit) {
		stay(f, out,
			f->most > 0 && f->most == limit ? "num_ctx_max is reached"
							: "the model has no larger window");
		return;
	}
	bool figures = f->kv_bytes > 0 && f->free_bytes >= 0;
	int64_t said = f->most > f->wished ? f->most : f->wished;
	if (!figures && said <= f->current) {
		stay(f, out, "nothing is known of the GPU's memory or of the model's");
		return;
	}
	/* What a person named is taken as it is; what we need grows by doubling. */
	int64_t to = doubled(f->current, wanted, limit);
	if (!figures && to > said)
		to = said < limit ? said : limit;
	if (f->wished >= f->needed && f->wished < to)
		to = f->wished;
	while (to > f->current && ((figures && cost(f, to) + WINDOW_SPARE_BYTES > f->free_bytes) ||
					  (f->refused > 0 && to >= f->refused))) {
		int64_t less = f->current > 0 ? f->current : WINDOW_LEAST;
		while (less * 2 < to)
			less *= 2;
		to = less < to ? less : f->current;
	}
	if (to <= f->current) {
		if (f->refused > 0 && f->refused <= doubled(f->current, wanted, limit))
			stay(f, out, "a larger one could not be loaded");
		else
			stay(f, out, "the GPU's memory has no room for more");
		return;
	}
	out->to = to;
	if (figures)
		snprintf(out->reason, sizeof(out->reason),
			"%lld tokens wanted; %.0f MB more, %.0f MB free", (long long)wanted,
			cost(f, to) / 1e6, f->free_bytes / 1e6);
	else
		snprintf(out->reason, sizeof(out->reason), "%lld tokens wanted", (long long)wanted);
}

/* --- the model --- */

static double number(struct json_value info, const char *arch, const char *name)
{
	char key[160];
	double v;
	snprintf(key, sizeof(key), "%s.%s", arch, name);
	return json_to_double(json_get(info, key), &v) && v > 0 && v < 1e9 ? v : 0;
}

/* KV heads of all layers together: a number for each, or one for all. */
static double heads(struct json_value info, const char *arch, double layers)
{
	char key[160];
	double sum = 0, v;
	snprintf(key, sizeof(key), "%s.attention.head_count_kv", arch);
	struct json_value each = json_get(info, key), one;
	if (!json_is(each, JSON_ARRAY)) {
		v = number(info, arch, "attention.head_count_kv");
		return (v > 0 ? v : number(info, arch, "attention.head_count")) * layers;
	}
	struct json_iter it = json_iter(each);
	while (json_array_next(&it, &one))
		if (json_to_double(one, &v) && v > 0 && v < 1e6)
			sum += v;
	return sum;
}

void window_read_model(struct slice show, double *kv_bytes, int64_t *trained)
{
	struct json_value root;
	*kv_bytes = 0;
	*trained = 0;
	if (json_parse(show, JSON_MAX_DEPTH, &root, NULL))
		return;
	struct json_value info = json_get(root, "model_info");
	char *arch = json_string_dup(json_get(info, "general.architecture"));
	if (!arch || strlen(arch) > 64) {
		free(arch);
		return;
	}
	double layers = fmin(number(info, arch, "block_count"), LAYERS_MAX);
	double query = number(info, arch, "attention.head_count");
	double plain = query > 0 ? number(info, arch, "embedding_length") / query : 0;
	double key = number(info, arch, "attention.key_length");
	double value = number(info, arch, "attention.value_length");
	*kv_bytes = heads(info, arch, layers) *
		    ((key > 0 ? key : plain) + (value > 0 ? value : plain)) * KV_ELEMENT_BYTES;
	*trained = (int64_t)number(info, arch, "context_length");
	free(arch);
}
