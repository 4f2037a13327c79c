#include "supervisor/requests/lane.h"

#include "supervisor/devices/job.h"
#include "supervisor/requests/notes_table.h"

/* --- who is there --- */

/* A condensing device lends a hand. */
static bool lends(const struct requests *s, const struct device *d)
{
	return s->config->small.condensers && notes_are_written_by(d->conf->roles);
}

static bool is_of_lane(const struct requests *s, const struct device *d)
{
	return (d->conf->roles & ROLE_SMALL) || lends(s, d);
}

bool lane_is_there(const struct requests *s)
{
	bool some = false;
	for (size_t i = 0; i < s->devices->count; i++)
		some = some || is_of_lane(s, s->devices->of[i]);
	return some && s->config->small.rule_count > 0;
}

static struct device *named(const struct requests *s, const char *use)
{
	return use ? device_find(s->devices, use) : NULL;
}

bool lane_stays(const struct requests *s, const struct config_small_rule *rule)
{
	const struct device *d = named(s, rule->use);
	if (d)
		return (d->conf->roles & ROLE_MAIN) && !(d->conf->roles & ROLE_SMALL);
	return rule->use && strcmp(rule->use, SMALL_ROLE) != 0;
}

/* --- who can --- */

static bool is_note(const struct job *j)
{
	return j->events && j->spec.class == CLASS_MAP;
}

/* A request of a client waits for what it writes, or will write. */
static bool writes_notes(const struct device *d)
{
	const struct queue_entry *e;
	const struct job *j;
	TAILQ_FOREACH(j, &d->running, link)
		if (is_note(j))
			return true;
	TAILQ_FOREACH(e, &d->queue.all, in_all)
		if (is_note(job_of_place((struct queue_entry *)e)))
			return true;
	return false;
}

const char *lane_absence(const struct device *d)
{
	if (d->state != WORKER_READY || device_hopeless(d))
		return "is not ready";
	if (!(d->conf->roles & ROLE_SMALL) && writes_notes(d))
		return "writes notes for a request";
	return NULL;
}

const char *lane_impatience(const struct requests *s, const struct job *j, int64_t wait_ms)
{
	const struct device *d = j->device;
	uint64_t answer_ms = (uint64_t)s->config->small.answer_ms, now = now_ms();
	if (j->running)
		return answer_ms && j->received == 0 && now - j->started_ms >= answer_ms
			       ? "does not answer"
			       : NULL;
	if (d->state != WORKER_READY || device_hopeless(d))
		return "is not ready any more";
	return now - j->submitted_ms >= (uint64_t)wait_ms ? "is busy" : NULL;
}

/* One whose role it is first, then the less busy one. */
static bool better(const struct device *a, const struct device *b)
{
	bool a_small = a->conf->roles & ROLE_SMALL, b_small = b->conf->roles & ROLE_SMALL;
	return a_small != b_small ? a_small : jobs_wait_ms(a) < jobs_wait_ms(b);
}

struct device *lane_find(const struct requests *s, const char *use, lane_fits_fn *fits,
	const void *ctx, const char **why)
{
	const struct device *only = named(s, use);
	struct device *best = NULL;
	*why = NULL;
	for (size_t i = 0; i < s->devices->count; i++) {
		struct device *d = s->devices->of[i];
		if (only ? d != only : !is_of_lane(s, d))
			continue;
		const char *not = lane_absence(d);
		if (!not )
			not = fits(ctx, d);
		if (not )
			*why = not ;
		else if (!best || better(d, best))
			best = d;
	}
	return best;
}
