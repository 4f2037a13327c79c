#include "supervisor/devices/pick.h"

/* Ready, on its way, out of use: the less the better. */
static int distance(const struct device *d)
{
	return device_hopeless(d) ? 2 : d->state != WORKER_READY;
}

static bool less_busy(const struct device *a, const struct device *b)
{
	if (distance(a) != distance(b))
		return distance(a) < distance(b);
	return (uint64_t)a->inflight * (unsigned)device_slots(b) <
	       (uint64_t)b->inflight * (unsigned)device_slots(a);
}

struct device *pick_role(struct devices *s, enum device_role role)
{
	struct device *best = NULL;
	for (size_t i = 0; i < s->count; i++) {
		struct device *d = s->of[i];
		if ((d->conf->roles & role) && (!best || less_busy(d, best)))
			best = d;
	}
	return best;
}

/* Of two that serve the model: one in use, then a main device, then the less busy one. */
static bool preferred(const struct device *a, const struct device *b)
{
	bool a_main = a->conf->roles & ROLE_MAIN, b_main = b->conf->roles & ROLE_MAIN;
	if (device_hopeless(a) != device_hopeless(b))
		return device_hopeless(b);
	return a_main != b_main ? a_main : less_busy(a, b);
}

struct device *pick_model(struct devices *s, struct slice model)
{
	struct device *best = NULL;
	for (size_t i = 0; i < s->count; i++) {
		struct device *d = s->of[i];
		if (!device_serves(d, model))
			continue;
		if (!best || preferred(d, best))
			best = d;
	}
	return best ? best : pick_role(s, ROLE_MAIN);
}
