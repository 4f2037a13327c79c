/*
 * What changes a running tandemd: restart, drain, reset, reload, upgrade; cancel.
 *
 * tandemd answers with the number of an operation, whose outcome is asked for until it is there.
 * In an upgrade the socket goes over to a new tandemd that has never heard of the operation: then
 * another pid means that it has succeeded.
 */
#include "supervisor/ctl/ctl.h"

#include <inttypes.h>
#include <time.h>

#define POLL_MS 50
#define WAIT_S 300 /* default of --timeout */

struct waiting {
	struct ctl *ctl;
	int64_t operation, pid; /* pid: of the tandemd that was asked */
	int64_t deadline;	/* ms */
	bool upgrade;
	struct buf answer, err;
	struct json_value root;
};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static enum ctl_exit ask(struct waiting *w, const char *request)
{
	return ctl_ask(w->ctl->run_dir, request, CTL_TIMEOUT_MS, &w->answer, &w->root, &w->err);
}

static void say(struct waiting *w, const char *state, const char *why, FILE *to)
{
	const struct ctl *ctl = w->ctl;
	if (ctl->json) {
		if (json_is(w->root, JSON_OBJECT))
			printf("%.*s\n", (int)w->root.raw.n, w->root.raw.p);
		return;
	}
	fprintf(to, "%s%s%s%s: %s%s%s\n", to == stderr ? "tandemctl: " : "", ctl->command->name,
		ctl->argument ? " " : "", ctl->argument ? ctl->argument : "", state,
		*why ? ": " : "", why);
}

/* The operation is unknown: true when that is because a new tandemd answers. */
static bool taken_over(struct waiting *w)
{
	return w->upgrade && ask(w, "status") == CTL_OK && ctl_int(w->root, "pid") != w->pid;
}

/* One look: true when *rc is the end. */
static bool look(struct waiting *w, enum ctl_exit *rc)
{
	char request[48], state[16], why[600];
	snprintf(request, sizeof(request), "operation %" PRId64, w->operation);
	w->root = (struct json_value){0};
	*rc = ask(w, request);
	if (*rc != CTL_OK) {
		if (taken_over(w)) {
			say(w, "done", "a new tandemd has taken over", stdout);
			*rc = CTL_OK;
			return true;
		}
		/* In the middle of an upgrade there may be nobody for a moment. */
		if (w->upgrade && now_ms() < w->deadline)
			return false;
		fprintf(stderr, "tandemctl: %s\n", buf_cstr(&w->err));
		return true;
	}
	ctl_text(w->root, "state", state, sizeof(state));
	ctl_text(w->root, "why", why, sizeof(why));
	if (strcmp(why, "-") == 0)
		why[0] = '\0';
	if (strcmp(state, "done") == 0) {
		say(w, state, why, stdout);
		return true;
	}
	if (strcmp(state, "failed") == 0) {
		say(w, state, why, stderr);
		*rc = CTL_FAILED;
		return true;
	}
	if (now_ms() < w->deadline)
		return false;
	say(w, "still under way", "", stderr);
	*rc = CTL_TIMED_OUT;
	return true;
}

static enum ctl_exit begin(struct waiting *w)
{
	const struct ctl *ctl = w->ctl;
	char request[160];
	enum ctl_exit rc = CTL_OK;

	if (w->upgrade && (rc = ask(w, "status")) == CTL_OK)
		w->pid = ctl_int(w->root, "pid");
	if (rc != CTL_OK)
		return rc;
	if ((size_t)snprintf(request, sizeof(request), "%s%s%s%s", ctl->command->name,
		    ctl->argument ? " " : "", ctl->argument ? ctl->argument : "",
		    ctl->backend ? " --backend" : "") >= sizeof(request)) {
		buf_printf(&w->err, "no device has so long a name");
		return CTL_USAGE;
	}
	rc = ask(w, request);
	if (rc == CTL_OK)
		w->operation = ctl_int(w->root, "operation");
	return rc;
}

enum ctl_exit ctl_operate(struct ctl *ctl)
{
	struct waiting w = {.ctl = ctl, .upgrade = strcmp(ctl->command->name, "upgrade") == 0};
	long seconds = ctl->timeout_s < 0 ? WAIT_S : ctl->timeout_s;

	buf_init(&w.answer, CTL_ANSWER_BYTES);
	buf_init(&w.err, 0);
	w.deadline = now_ms() + seconds * 1000;
	enum ctl_exit rc = begin(&w);
	if (rc != CTL_OK)
		fprintf(stderr, "tandemctl: %s\n", buf_cstr(&w.err));
	else
		while (!look(&w, &rc))
			nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
	buf_free(&w.answer);
	buf_free(&w.err);
	return rc;
}

static void print_cancelled(struct json_value root, void *ctx)
{
	char id[64];
	(void)ctx;
	ctl_text(root, "cancelled", id, sizeof(id));
	printf("%s: cancelled\n", id);
}

enum ctl_exit ctl_cancel(struct ctl *ctl)
{
	char request[160];
	if ((size_t)snprintf(request, sizeof(request), "cancel %s", ctl->argument) >=
		sizeof(request))
		return ctl_usage("no request has so long an id");
	return ctl_show(ctl, request, print_cancelled, NULL);
}
