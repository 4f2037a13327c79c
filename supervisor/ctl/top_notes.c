/* What went wrong last: events worth seeing, those that tandemd has kept and those that come. */
#include "supervisor/ctl/top.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <stdlib.h>

static bool is_worth_it(struct json_value event, bool *bad)
{
	char level[16], name[64];
	ctl_text(event, "level", level, sizeof(level));
	ctl_text(event, "event", name, sizeof(name));
	*bad = strcmp(level, "warn") == 0 || strcmp(level, "error") == 0;
	if (strncmp(name, "worker.", 7) == 0) /* tandemd says it, too */
		return false;
	return *bad || strcmp(name, "prefix") == 0 || strcmp(name, "resumed") == 0;
}

/* "fallback req=... cause=..." */
static void put_members(struct json_value event, struct top_note *note)
{
	static const char *const shown[] = {"req", "device", "kind", "cause", "status", "to", "why",
		"message", "detail", "last_exit", "tokens", "repaired", NULL};
	char text[128];
	ctl_text(event, "event", note->text, sizeof(note->text));
	for (size_t i = 0; shown[i]; i++) {
		size_t n = strlen(note->text);
		ctl_text(event, shown[i], text, sizeof(text));
		if (strcmp(text, "-") != 0)
			snprintf(note->text + n, sizeof(note->text) - n, " %s=%s", shown[i], text);
	}
	size_t whole = utf8_valid_prefix(slice_str(note->text));
	note->text[whole] = '\0';
}

static void take_event(struct top *t, struct json_value event)
{
	char time[40];
	bool bad;
	if (!is_worth_it(event, &bad))
		return;
	if (t->notes == TOP_NOTES_MAX)
		memmove(t->note, t->note + 1, --t->notes * sizeof(*t->note));
	struct top_note *note = &t->note[t->notes++];
	*note = (struct top_note){.bad = bad};
	ctl_text(event, "time", time, sizeof(time));
	const char *clock = strchr(time, 'T');
	snprintf(note->time, sizeof(note->time), "%.8s", clock ? clock + 1 : "");
	put_members(event, note);
}

void top_notes_kept(struct top *t)
{
	struct json_value root, event;
	struct buf answer, err;
	buf_init(&answer, CTL_ANSWER_BYTES);
	buf_init(&err, 0);
	if (ctl_ask(t->ctl->run_dir, "recent", CTL_TIMEOUT_MS, &answer, &root, &err) == CTL_OK) {
		struct json_iter it = json_iter(json_get(root, "events"));
		while (json_array_next(&it, &event))
			take_event(t, event);
	}
	buf_free(&answer);
	buf_free(&err);
}

static bool subscribe(nng_socket *sub, const char *url)
{
	if (nng_sub0_open(sub))
		return false;
	if (nng_socket_set(*sub, NNG_OPT_SUB_SUBSCRIBE, "", 0) == 0 &&
		nng_dial(*sub, url, NULL, NNG_FLAG_NONBLOCK) == 0)
		return true;
	nng_close(*sub);
	return false;
}

void top_listen(struct top *t)
{
	char url[256];
	struct buf err;
	nng_socket *sub = malloc(sizeof(*sub));
	if (!sub)
		return;
	buf_init(&err, 0);
	if (ctl_url(t->ctl->run_dir, "events", url, &err) == CTL_OK && subscribe(sub, url))
		t->sub = sub;
	else
		free(sub);
	buf_free(&err);
}

void top_notes_new(struct top *t)
{
	nng_socket *sub = t->sub;
	char *bytes;
	size_t n;
	struct json_value event;
	while (sub && nng_recv(*sub, &bytes, &n, NNG_FLAG_ALLOC | NNG_FLAG_NONBLOCK) == 0) {
		struct slice text = {bytes, n};
		if (json_parse(text, JSON_MAX_DEPTH, &event, NULL) == 0)
			take_event(t, event);
		nng_free(bytes, n);
	}
}
