/*
 * logs: the newest events, which tandemd keeps (limits.recent_event_bytes), of one request or all;
 * with -f also what comes after, until the request is over or somebody ends it.
 */
#include "supervisor/ctl/ctl.h"

#include "common/base/now.h"

#include <getopt.h>
#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <time.h>

#define LINES_DEFAULT 200 /* of all requests, before what comes */
#define QUEUE_MESSAGES 8192
#define REST_MS 300 /* what other processes still say of a request that is over */

struct following {
	struct ctl *ctl;
	const char *request; /* NULL: all */
	long lines;	     /* of those that are kept, at most; -1: not given */
	bool follow, colour;
	int64_t last_seq; /* of those that are kept, which come once more over the socket */
	char last_time[40];
	bool over;	   /* the request is */
	uint64_t until_ms; /* what is still said of it is taken until then; 0: not begun */
	size_t shown;
};

static enum ctl_exit parse_options(struct following *f)
{
	static const struct option options[] = {
		{"follow", no_argument, NULL, 'f'},
		{"lines", required_argument, NULL, 'n'},
		{"json", no_argument, NULL, CTL_JSON},
		{"rundir", required_argument, NULL, 'R'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	struct ctl *ctl = f->ctl;
	int opt;
	optind = 0; /* begins anew, and takes options behind arguments, too */
	while ((opt = getopt_long(ctl->argc, ctl->argv, "fn:R:hV", options, NULL)) != -1) {
		if (opt == 'f')
			f->follow = true;
		else if (opt == 'n' && !ctl_number(optarg, 0, 1000000, &f->lines))
			return ctl_usage("--lines wants a number, not '%s'", optarg);
		else if (opt != 'n' && ctl_take(ctl, opt, optarg) != CTL_OK)
			return CTL_USAGE;
		if (ctl->told)
			return CTL_OK;
	}
	if (optind < ctl->argc)
		f->request = ctl->argv[optind++];
	if (optind < ctl->argc)
		return ctl_usage("logs takes one request, not '%s' too", ctl->argv[optind]);
	return CTL_OK;
}

/* --- one event --- */

static bool ends_request(struct json_value root)
{
	static const char *const ends[] = {"request_done", "request_failed", "client_gone"};
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		if (json_string_is(json_get(root, "event"), ends[i]))
			return true;
	return false;
}

/* False: nobody reads any more. */
static bool show(struct following *f, struct json_value root)
{
	if (f->request && !json_string_is(json_get(root, "req"), f->request))
		return true;
	if (f->ctl->json)
		printf("%.*s\n", (int)root.raw.n, root.raw.p);
	else
		ctl_event_print(root, f->colour, stdout);
	f->over = f->over || (f->request && ends_request(root));
	f->shown++;
	return fflush(stdout) == 0;
}

/* --- those that are kept --- */

static size_t count(struct json_value events)
{
	struct json_iter it = json_iter(events);
	struct json_value e;
	size_t n = 0;
	while (json_array_next(&it, &e))
		n++;
	return n;
}

static void show_kept(struct following *f, struct json_value events)
{
	struct json_iter it = json_iter(events);
	struct json_value e;
	long most = f->lines >= 0 ? f->lines : f->request ? -1 : LINES_DEFAULT;
	size_t n = count(events), skip = most >= 0 && n > (size_t)most ? n - (size_t)most : 0;
	for (size_t i = 0; json_array_next(&it, &e); i++) {
		f->last_seq = ctl_int(e, "seq");
		ctl_text(e, "time", f->last_time, sizeof(f->last_time));
		if (i >= skip && !show(f, e))
			return;
	}
}

static enum ctl_exit ask_kept(struct following *f, struct buf *err)
{
	char question[160];
	struct json_value root;
	struct buf answer;
	if ((size_t)snprintf(question, sizeof(question), "recent%s%s", f->request ? " " : "",
		    f->request ? f->request : "") >= sizeof(question))
		return ctl_usage("no request has so long an id");
	buf_init(&answer, CTL_ANSWER_BYTES);
	enum ctl_exit rc = ctl_ask(f->ctl->run_dir, question, CTL_TIMEOUT_MS, &answer, &root, err);
	if (rc == CTL_OK)
		show_kept(f, json_get(root, "events"));
	buf_free(&answer);
	return rc;
}

/* --- those that come --- */

/* A request that is over, or that tandemd knows nothing of (any more), has no end to wait for. */
static bool goes_on(struct following *f)
{
	char question[CTL_REQUEST_BYTES];
	struct json_value root;
	struct buf answer, err;
	buf_init(&answer, CTL_ANSWER_BYTES);
	buf_init(&err, 0);
	snprintf(question, sizeof(question), "request %s", f->request);
	enum ctl_exit rc = ctl_ask(f->ctl->run_dir, question, CTL_TIMEOUT_MS, &answer, &root, &err);
	bool on = rc == CTL_OK && json_string_is(json_get(root, "state"), "running");
	buf_free(&err);
	buf_free(&answer);
	return on;
}

/* A tandemd that was started anew counts from the beginning. */
static bool is_new(struct following *f, struct json_value root)
{
	int64_t seq;
	char time[sizeof(f->last_time)];
	if (!f->last_seq || !json_to_int(json_get(root, "seq"), &seq))
		return true;
	ctl_text(root, "time", time, sizeof(time));
	if (seq <= f->last_seq && strcmp(time, f->last_time) <= 0)
		return false;
	f->last_seq = 0; /* from here on all are new */
	return true;
}

/* Others' events come over the same socket: the rest has an end of its own. False: it is over. */
static bool wait_for_rest(struct following *f, nng_socket sub)
{
	uint64_t now = now_ms();
	if (f->until_ms == 0)
		f->until_ms = now + REST_MS;
	if (now >= f->until_ms)
		return false;
	nng_socket_set_ms(sub, NNG_OPT_RECVTIMEO, (nng_duration)(f->until_ms - now));
	return true;
}

static int take(struct following *f, nng_socket sub)
{
	char *bytes;
	size_t n;
	struct json_value root;
	if (f->over && !wait_for_rest(f, sub))
		return NNG_ETIMEDOUT;
	int rc = nng_recv(sub, &bytes, &n, NNG_FLAG_ALLOC);
	if (rc)
		return rc;
	struct slice text = {bytes, n};
	if (json_parse(text, JSON_MAX_DEPTH, &root, NULL) == 0 && is_new(f, root) && !show(f, root))
		rc = NNG_ECLOSED;
	nng_free(bytes, n);
	return rc;
}

static int subscribe(nng_socket *sub, const char *url)
{
	int rc = nng_sub0_open(sub);
	if (rc)
		return rc;
	if ((rc = nng_socket_set(*sub, NNG_OPT_SUB_SUBSCRIBE, "", 0)) == 0 &&
		(rc = nng_socket_set_int(*sub, NNG_OPT_RECVBUF, QUEUE_MESSAGES)) == 0 &&
		(rc = nng_dial(*sub, url, NULL, 0)) == 0)
		return 0;
	nng_close(*sub);
	return rc;
}

/* Listens before it asks for what is kept, so that nothing falls between. */
static enum ctl_exit follow(struct following *f, struct buf *err)
{
	char url[256];
	nng_socket sub;
	enum ctl_exit rc = ctl_url(f->ctl->run_dir, "events", url, err);
	if (rc != CTL_OK)
		return rc;
	int failed = subscribe(&sub, url);
	if (failed)
		return ctl_nng_error(failed, f->ctl->run_dir, url, CTL_TIMEOUT_MS, err);
	rc = ask_kept(f, err);
	if (rc == CTL_OK && f->request)
		f->over = f->over || !goes_on(f);
	while (rc == CTL_OK && failed == 0)
		failed = take(f, sub);
	nng_close(sub);
	bool ended = (failed == NNG_ETIMEDOUT && f->over) || failed == NNG_ECLOSED;
	if (rc == CTL_OK && !ended)
		rc = ctl_nng_error(failed, f->ctl->run_dir, url, CTL_TIMEOUT_MS, err);
	return rc;
}

enum ctl_exit ctl_logs(struct ctl *ctl)
{
	struct following f = {.ctl = ctl, .lines = -1};
	struct buf err;
	buf_init(&err, 0);
	enum ctl_exit rc = parse_options(&f);
	if (rc == CTL_OK && !ctl->told) {
		f.colour = ctl_colour(stdout);
		rc = f.follow ? follow(&f, &err) : ask_kept(&f, &err);
		if (rc == CTL_OK && f.request && !f.shown && f.lines != 0) {
			buf_printf(&err, "nothing is kept of a request %s", f.request);
			rc = CTL_FAILED;
		}
	}
	if (err.n)
		fprintf(stderr, "tandemctl: %s\n", buf_cstr(&err));
	buf_free(&err);
	return rc;
}
