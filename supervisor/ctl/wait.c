#include "supervisor/ctl/ctl.h"

#include "common/config/config.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define POLL_MS 100
#define LINE_BYTES 768

/* What was last said about each device, so that only changes are shown. */
struct watch {
	char said[CONFIG_DEVICES_MAX][LINE_BYTES];
	bool asked; /* at least once */
};

struct view {
	bool all_ready;
	bool main_ready; /* at least one */
	bool settled;	 /* every device is ready or has failed for good */
};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool is_main(struct json_value device)
{
	struct json_iter it = json_iter(json_get(device, "roles"));
	struct json_value role;
	while (json_array_next(&it, &role))
		if (json_string_is(role, "main"))
			return true;
	return false;
}

/* Shows what changed and judges the whole. */
static struct view look(struct watch *w, struct json_value status)
{
	struct json_iter it = json_iter(json_get(status, "devices"));
	struct json_value device;
	struct view v = {.all_ready = true, .settled = true};
	size_t n = 0;

	for (; n < CONFIG_DEVICES_MAX && json_array_next(&it, &device); n++) {
		char name[CONFIG_NAME_BYTES], state[24], model[128], why[512], line[LINE_BYTES];
		struct json_value backend = json_get(device, "backend");
		bool ready = json_string_is(json_get(device, "state"), "ready");
		ctl_text(device, "name", name, sizeof(name));
		ctl_text(device, "state", state, sizeof(state));
		ctl_text(backend, "model", model, sizeof(model));
		ctl_text(backend, "detail", why, sizeof(why));
		if (!ready && strcmp(why, "-") == 0)
			ctl_text(device, "last_exit", why, sizeof(why));
		snprintf(line, sizeof(line), ready ? "%s: %s, %s" : "%s: %s (%s)", name, state,
			ready ? model : why);
		if (!ready && strcmp(why, "-") == 0)
			snprintf(line, sizeof(line), "%s: %s", name, state);
		if (strcmp(line, w->said[n]) != 0) {
			fprintf(stderr, "%s\n", line);
			snprintf(w->said[n], LINE_BYTES, "%s", line);
		}
		v.all_ready = v.all_ready && ready;
		v.main_ready = v.main_ready || (ready && is_main(device));
		v.settled = v.settled && (ready || strcmp(state, "failed") == 0);
	}
	return v;
}

static enum ctl_exit judge(struct view v, struct buf *err)
{
	if (!v.main_ready)
		buf_printf(err, "no main device is ready");
	else if (!v.all_ready)
		buf_printf(err, "a main device is ready; not every device is, see above");
	return v.main_ready ? CTL_OK : CTL_FAILED;
}

static enum ctl_exit wait_until(
	struct ctl *ctl, int64_t deadline, struct buf *answer, struct buf *err)
{
	struct watch watch = {0};
	struct json_value root;

	for (;; nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL)) {
		int64_t left = deadline - now_ms();
		int limit = left > CTL_TIMEOUT_MS ? CTL_TIMEOUT_MS
			    : left > POLL_MS	  ? (int)left
						  : POLL_MS;
		enum ctl_exit rc = ctl_ask(ctl->run_dir, "status", limit, answer, &root, err);
		bool late = now_ms() >= deadline;

		if (rc == CTL_OK) {
			struct view v = look(&watch, root);
			if (late || v.settled) {
				if (ctl->json)
					printf("%.*s\n", (int)root.raw.n, root.raw.p);
				return judge(v, err);
			}
		} else if (late || rc == CTL_USAGE) {
			return rc;
		} else if (!watch.asked) {
			fprintf(stderr, "waiting for tandemd at %s\n", ctl->run_dir);
		}
		watch.asked = true;
	}
}

enum ctl_exit ctl_wait_ready(struct ctl *ctl)
{
	struct buf answer, err;
	long seconds = ctl->timeout_s < 0 ? 300 : ctl->timeout_s;

	buf_init(&answer, CTL_ANSWER_BYTES);
	buf_init(&err, 0);
	enum ctl_exit rc = wait_until(ctl, now_ms() + seconds * 1000, &answer, &err);
	if (err.n)
		fprintf(stderr, "tandemctl: %s\n", buf_cstr(&err));
	buf_free(&answer);
	buf_free(&err);
	return rc;
}
