#include "supervisor/requests/measures.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MS(n) (UINT64_C(1000) * (n)) /* in us */
#define US_A_MS 1000.0

/* --- scales --- */

#define SCALE(bounds)                                                                              \
	{                                                                                          \
		(bounds), sizeof(bounds) / sizeof(*(bounds))                                       \
	}

static const uint64_t total_bounds[] = {MS(10), MS(20), MS(40), MS(80), MS(160), MS(320), MS(640),
	MS(1280), MS(2560), MS(5120), MS(10240), MS(20480), MS(40960), MS(81920), MS(163840),
	MS(327680), MS(655360)};
static const uint64_t first_bounds[] = {MS(1), MS(5), MS(10), MS(20), MS(40), MS(60), MS(80),
	MS(100), MS(250), MS(500), MS(750), MS(1000), MS(2500), MS(5000), MS(7500), MS(10000),
	MS(20000), MS(40000), MS(80000), MS(160000), MS(320000)};
static const uint64_t token_bounds[] = {MS(10), MS(25), MS(50), MS(75), MS(100), MS(150), MS(200),
	MS(300), MS(400), MS(500), MS(750), MS(1000), MS(2500)};
static const uint64_t usage_bounds[] = {
	1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864};
static const struct histogram_scale total_scale = SCALE(total_bounds),
				    first_scale = SCALE(first_bounds),
				    token_scale = SCALE(token_bounds),
				    usage_scale = SCALE(usage_bounds);

/* --- labels --- */

static const uint64_t size_bounds[] = {0, 1024, 4096, 16384, 65536, 262144};
static const char *const size_names[MEASURE_SIZES] = {
	"0", "1k", "4k", "16k", "64k", "256k", "more"};
_Static_assert(sizeof(size_bounds) / sizeof(*size_bounds) == MEASURE_SIZES - 1, "sizes");

static unsigned size_of(uint64_t tokens)
{
	unsigned i = 0;
	while (i < MEASURE_SIZES - 1 && tokens > size_bounds[i])
		i++;
	return i;
}

const char *measure_way_name(const struct measure_series *s)
{
	static const char *const names[MEASURE_WAYS] = {"A", "B", "C", "small", "pass", "none"};
	return s->other ? MEASURES_OTHER : names[s->way];
}

const char *measure_dialect_name(const struct measure_series *s)
{
	return s->other ? MEASURES_OTHER : dialect_name(s->dialect);
}

const char *measure_device_name(const struct measure_series *s)
{
	return s->other ? MEASURES_OTHER : s->device[0] ? s->device : "none";
}

const char *measure_size_name(const struct measure_series *s)
{
	return s->other ? MEASURES_OTHER : size_names[s->size];
}

const char *measure_outcome_name(enum measure_outcome o)
{
	static const char *const names[MEASURE_OUTCOMES] = {
		"done", "joined", "refused", "cancelled", "failed"};
	return names[o];
}

const char *measure_tokens_name(enum measure_tokens t)
{
	static const char *const names[MEASURE_TOKENS] = {"in", "sent", "cached", "out"};
	return names[t];
}

/* --- series --- */

int measures_init(struct measures *m, size_t most)
{
	*m = (struct measures){.most = most, .layout_tokens = {.scale = &usage_scale}};
	m->of = calloc(most, sizeof(struct measure_series *));
	return m->of ? 0 : -ENOMEM;
}

void measures_fini(struct measures *m)
{
	for (size_t i = 0; i < m->count; i++)
		free(m->of[i]);
	free(m->of);
	*m = (struct measures){.of = NULL};
}

static bool same(const struct measure_series *s, const struct measure_series *key)
{
	return !s->other && s->way == key->way && s->dialect == key->dialect &&
	       s->size == key->size && strcmp(s->device, key->device) == 0;
}

static struct measure_series *make(struct measures *m, const struct measure_series *key)
{
	struct measure_series *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	*s = *key;
	s->other = m->count == m->most - 1;
	s->total.scale = s->queued.scale = &total_scale;
	s->first.scale = &first_scale;
	s->token.scale = &token_scale;
	s->tokens_in.scale = s->tokens_out.scale = &usage_scale;
	return m->of[m->count++] = s;
}

static struct measure_series *find(struct measures *m, const struct measure *one)
{
	struct measure_series key = {
		.way = one->way, .dialect = one->dialect, .size = size_of(one->tokens[MEASURE_IN])};
	snprintf(key.device, sizeof(key.device), "%s", one->device ? one->device : "");
	for (size_t i = 0; i < m->count; i++)
		if (same(m->of[i], &key))
			return m->of[i];
	if (m->count < m->most)
		return make(m, &key);
	return m->most ? m->of[m->most - 1] : NULL;
}

/* --- adding --- */

static void add_ms(struct histogram *h, double ms)
{
	if (ms >= 0)
		histogram_add(h, (uint64_t)(ms * US_A_MS));
}

static void add_usage(struct measure_series *s, const struct measure *one)
{
	if (one->counted > 0)
		histogram_add(&s->tokens_in, (uint64_t)one->counted);
	if (one->tokens[MEASURE_OUT] > 0)
		histogram_add(&s->tokens_out, one->tokens[MEASURE_OUT]);
}

static void add_form(struct measures *m, const struct measure *one)
{
	m->overflows_condensed += one->overflow_condensed;
	m->overflows_refused += one->overflow_refused;
	if (!one->layout || one->way > MEASURE_C)
		return;
	m->layouts[one->way]++;
	histogram_add(&m->layout_tokens, one->tokens[MEASURE_SENT]);
}

void measures_add(struct measures *m, const struct measure *one)
{
	struct measure_series *s = find(m, one);
	add_form(m, one);
	if (!s) {
		m->lost++;
		return;
	}
	s->outcome[one->outcome]++;
	if (one->outcome == MEASURE_JOINED)
		return; /* the other one has told the rest */
	for (size_t i = 0; i < MEASURE_TOKENS; i++)
		s->tokens[i] += one->tokens[i];
	if (one->outcome != MEASURE_DONE)
		return;
	add_ms(&s->total, one->total_ms);
	add_ms(&s->first, one->first_ms);
	add_ms(&s->token, one->token_ms);
	add_ms(&s->queued, one->queued_ms);
	add_usage(s, one);
}
