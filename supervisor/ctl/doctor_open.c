/* Looks at what is away, fails, or is open to the network. */
#include "supervisor/ctl/doctor.h"

#include <inttypes.h>
#include <string.h>

/* Fewer deaths or failed jobs than these say nothing. */
#define RESTARTS_LEAST 2
#define RESTARTS_EVERY_S 86400 /* less often is somebody at work */
#define BEGINS_S 300	       /* a model may take that long to be loaded at the start */
#define FAILURES_LEAST 5
#define FAILURES_SHARE 0.05

enum doctor_look look_away(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	if (!f->running)
		return LOOK_UNKNOWN;
	if (strcmp(d->state, "ready") == 0)
		return LOOK_FINE;
	const char *why = d->why[0] ? d->why : d->last_exit[0] ? d->last_exit : "no reason is told";
	bool begins = strcmp(d->backend_state, "starting") == 0 ||
		      strcmp(d->backend_state, "loading") == 0;
	if (d->main && (!begins || f->uptime_s > BEGINS_S))
		out->severity = DOCTOR_SERIOUS;
	doctor_say(out, "It is %s: %s.", d->state, why);
	doctor_measure(out, "waiting_jobs", (double)d->waiting);
	if (strcmp(d->state, "drained") == 0)
		doctor_advise(out, "It was taken out of use: tandemctl reset %s brings it back.",
			d->name);
	else if (d->started)
		doctor_advise(out,
			"tandemctl events and the log have its backend's own words; tandemctl "
			"reset %s starts it afresh.",
			d->name);
	else
		doctor_advise(out,
			"Start what should answer at %s; it is used again within seconds of its "
			"return.",
			d->url);
	return LOOK_FOUND;
}

enum doctor_look look_restarts(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	if (!f->running)
		return LOOK_UNKNOWN;
	if (d->restarts < RESTARTS_LEAST || f->uptime_s / (double)d->restarts > RESTARTS_EVERY_S)
		return LOOK_FINE;
	doctor_say(out,
		"Its worker, or the backend that it started, has ended %" PRId64
		" times without having been asked to; the last time: %s.",
		d->restarts, d->last_exit[0] ? d->last_exit : "no reason is told");
	doctor_measure(out, "restarts", (double)d->restarts);
	doctor_measure(out, "uptime_s", f->uptime_s);
	doctor_advise(out, "Each end costs the cache of its conversations, and a load. Too little "
			   "memory is the usual reason: look for ev=worker_exit and "
			   "ev=backend_exit in the log.");
	return LOOK_FOUND;
}

enum doctor_look look_failures(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	double all = (double)(d->done + d->failed);
	if (!f->running)
		return LOOK_UNKNOWN;
	if (d->failed < FAILURES_LEAST || (double)d->failed < FAILURES_SHARE * all)
		return LOOK_FINE;
	doctor_say(out, "%" PRId64 " of its %.0f jobs failed.", d->failed, all);
	doctor_measure(out, "jobs_failed", (double)d->failed);
	doctor_measure(out, "jobs", all);
	doctor_advise(out, "ev=job_fail in the log says why of each.");
	return LOOK_FOUND;
}

/* "127.0.0.1:8512", "[::1]:8512", "localhost:8512" */
static bool is_local(const char *listen)
{
	char address[DOCTOR_NAME_BYTES];
	const char *colon = strrchr(listen, ':');
	size_t n = colon ? (size_t)(colon - listen) : strlen(listen);
	if (listen[0] == '[' && n > 2)
		snprintf(address, sizeof(address), "%.*s", (int)n - 2, listen + 1);
	else
		snprintf(address, sizeof(address), "%.*s", (int)n, listen);
	return config_address_is_local(address);
}

enum doctor_look look_open_port(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	(void)d;
	if (!f->listen[0] || !f->knows_keys)
		return LOOK_UNKNOWN;
	if (is_local(f->listen) || f->needs_key)
		return LOOK_FINE;
	doctor_say(out,
		"tandem listens on %s and wants no key: whoever reaches that address uses your "
		"models.",
		f->listen);
	doctor_advise(out, "Make keys for those who may (tandemctl key add NAME, access.key_file, "
			   "tandemctl reload), or let it listen on 127.0.0.1.");
	return LOOK_FOUND;
}

enum doctor_look look_open_backend(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	(void)f;
	bool ollama = strcmp(d->type, "ollama") == 0;
	if (d->reach == REACH_UNKNOWN)
		return LOOK_UNKNOWN;
	if (d->reach == REACH_LOCAL || (d->has_key && !ollama))
		return LOOK_FINE;
	doctor_say(out,
		"What answers at %s listens for the whole network, %s: whoever reaches port %d of "
		"this machine uses it past tandem, its keys and its queue%s.",
		d->url, ollama ? "and an Ollama knows no keys" : "and tandem has no key for it",
		d->port, ollama ? ", and can delete its models" : "");
	doctor_measure(out, "port", d->port);
	doctor_advise(out,
		ollama ? "Start it with OLLAMA_HOST=127.0.0.1:%d, or close the port in the "
			 "firewall."
		       : "Let it listen on 127.0.0.1 (port %d), give it a key "
			 "(backend.key_file), or close the port in the firewall.",
		d->port);
	return LOOK_FOUND;
}
