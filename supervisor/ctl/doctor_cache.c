/* Looks at prefixes that are read again, and at who shares a slot. */
#include "supervisor/ctl/doctor.h"

#include <inttypes.h>
#include <string.h>

/* So many breaks, and so much lost by them: less is the noise of any client. */
#define BREAKS_LEAST 3
#define BREAKS_LOST_MS 2000
#define BREAKS_SERIOUS 0.2 /* of all that was waited for first bytes */
#define COLD_LEAST 2

static void advise_on_prefix(const struct doctor_facts *f, struct doctor_finding *out)
{
	const char *kind = f->worst_kind;
	if (strcmp(kind, "clock") == 0 || strcmp(kind, "counter") == 0)
		doctor_advise(out, "prefix.repair = \"volatile\" keeps such lines as they were and "
				   "tells the model their present value at the end.");
	else if (strcmp(kind, "tools") == 0)
		doctor_advise(out, "The client offers other tools from call to call: have it offer "
				   "all of them always.");
	else if (strcmp(kind, "dropped") == 0 || strcmp(kind, "edited") == 0)
		doctor_advise(out, "The client clears or rewrites what is old: give it the window "
				   "of the main device, so that it does that late, and leave "
				   "shortening to tandem.");
	doctor_advise(out, "tandemctl sessions says which conversation, message and byte.");
}

enum doctor_look look_prefix(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	(void)d;
	if (!f->knows_sums || f->chats == 0)
		return LOOK_UNKNOWN;
	if (f->broken < BREAKS_LEAST || f->lost_ms < BREAKS_LOST_MS)
		return LOOK_FINE;
	double share = f->first_byte_ms > 0 ? (double)f->lost_ms / f->first_byte_ms : 0;
	if (share >= BREAKS_SERIOUS)
		out->severity = DOCTOR_SERIOUS;
	out->lost_s = (double)f->lost_ms / 1000;
	doctor_say(out,
		"Clients changed the beginning of their prompts %" PRId64 " times, so that %" PRId64
		" tokens were read again: %.0f s, %.0f %% of all that was waited for first words.",
		f->broken, f->lost_tokens, out->lost_s, share * 100);
	if (f->worst_kind[0])
		doctor_say(out, "Most often (%" PRId64 " times): %s.", f->worst_kind_count,
			f->worst_kind);
	if (f->worst_lost > 0)
		doctor_say(out, "Worst: a conversation of %s, %" PRId64 " tokens.",
			f->worst_client[0] ? f->worst_client : "a client without a name",
			f->worst_lost);
	doctor_measure(out, "breaks", (double)f->broken);
	doctor_measure(out, "lost_tokens", (double)f->lost_tokens);
	doctor_measure(out, "lost_ms", (double)f->lost_ms);
	doctor_measure(out, "first_byte_sum_ms", f->first_byte_ms);
	advise_on_prefix(f, out);
	return LOOK_FOUND;
}

static void advise_on_slot(const struct doctor_device *d, struct doctor_finding *out)
{
	if (strcmp(d->type, "llama-server") == 0)
		doctor_advise(out, "Give the server a slot more (-np, with -c so much larger) or "
				   "host memory for prompts that left theirs (--cache-ram), and "
				   "set slots to match.");
	else if (strcmp(d->type, "ollama") == 0)
		doctor_advise(out,
			"OLLAMA_NUM_PARALLEL=%" PRId64 " and slots = %" PRId64
			" keep each its place, where the memory allows it.",
			d->slots + 1, d->slots + 1);
	doctor_advise(out, "Or let titles and the like go to the small device: an alias of models, "
			   "or the client's setting for a small model.");
}

enum doctor_look look_shared_slot(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	if (!f->knows_sessions || d->slots <= 0 || d->sessions == 0)
		return LOOK_UNKNOWN;
	if (d->sessions <= d->slots || d->cold < COLD_LEAST)
		return LOOK_FINE;
	out->lost_s = d->prefill > 0 ? (double)d->cold_tokens / d->prefill : 0;
	doctor_say(out,
		"%" PRId64 " conversations of the last %d minutes share %" PRId64
		" slot%s, and push each other out: %" PRId64 " of them, with %" PRId64
		" tokens, have to be read anew when they go on",
		d->sessions, DOCTOR_RECENT_MS / 60000, d->slots, d->slots == 1 ? "" : "s", d->cold,
		d->cold_tokens);
	if (out->lost_s > 0)
		doctor_say(out, "(%.0f s at the %.0f tokens/s measured).", out->lost_s, d->prefill);
	else
		buf_add_char(&out->what, '.');
	doctor_measure(out, "conversations", (double)d->sessions);
	doctor_measure(out, "slots", (double)d->slots);
	doctor_measure(out, "cold", (double)d->cold);
	doctor_measure(out, "cold_tokens", (double)d->cold_tokens);
	doctor_measure(out, "prefill_tok_s", d->prefill);
	advise_on_slot(d, out);
	return LOOK_FOUND;
}

enum doctor_look look_slots(
	const struct doctor_facts *f, const struct doctor_device *d, struct doctor_finding *out)
{
	(void)f;
	if (d->slots <= 0 || d->reported_slots <= 0)
		return LOOK_UNKNOWN;
	if (d->slots <= d->reported_slots)
		return LOOK_FINE;
	doctor_say(out,
		"tandem gives it %" PRId64 " requests at once, and its backend answers %" PRId64
		": the others wait there, where nobody sees them and none goes first.",
		d->slots, d->reported_slots);
	doctor_measure(out, "slots", (double)d->slots);
	doctor_measure(out, "reported_slots", (double)d->reported_slots);
	doctor_advise(out, "slots = %" PRId64 " for it, or so many of the server (%s).",
		d->reported_slots, strcmp(d->type, "ollama") == 0 ? "OLLAMA_NUM_PARALLEL" : "-np");
	return LOOK_FOUND;
}
