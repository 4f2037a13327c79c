/* bench: its options, the ticket, and the order of things. */
#include "supervisor/ctl/bench.h"

#include <getopt.h>
#include <sys/random.h>
#include <time.h>

#define SECONDS_DEFAULT 120
#define SECONDS_MIN 5
#define SECONDS_MAX 3000
#define TICKET_SPARE_S 15  /* of a ticket: for what tandemd decides */
#define RELOAD_SPARE_S 300 /* ... and for a reload, which ends when it ends */
#define START_CHARS 4.5	   /* of a token, before the first count */

static enum ctl_exit parse_options(struct bench_asked *a, struct ctl *ctl)
{
	enum { DEVICE = 256, SECONDS, RELOAD, JSON };
	static const struct option options[] = {
		{"device", required_argument, NULL, DEVICE},
		{"seconds", required_argument, NULL, SECONDS},
		{"reload", no_argument, NULL, RELOAD},
		{"json", no_argument, NULL, JSON},
		{"rundir", required_argument, NULL, 'R'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int opt;
	a->seconds = SECONDS_DEFAULT;
	optind = 0; /* begins anew, and takes options behind arguments, too */
	while ((opt = getopt_long(ctl->argc, ctl->argv, "R:hV", options, NULL)) != -1) {
		if (opt == DEVICE)
			a->device = optarg;
		else if (opt == SECONDS &&
			 !ctl_number(optarg, SECONDS_MIN, SECONDS_MAX, &a->seconds))
			return ctl_usage("--seconds wants %d to %d, not '%s'", SECONDS_MIN,
				SECONDS_MAX, optarg);
		else if (opt == RELOAD)
			a->reload = true;
		else if (opt == JSON)
			a->json = true;
		else if (opt != SECONDS && ctl_take(ctl, opt, optarg) != CTL_OK)
			return CTL_USAGE;
		if (ctl->told)
			return CTL_OK;
	}
	if (optind < ctl->argc)
		return ctl_usage("bench takes no argument '%s'; a device is named with --device",
			ctl->argv[optind]);
	if (a->device && strpbrk(a->device, " \t\n"))
		return ctl_usage("no device has a name with spaces");
	return CTL_OK;
}

/* --- what tandemd says --- */

/* An address to listen on as one to connect to. */
static void set_url(struct benching *b, const char *listen, bool tls)
{
	static const char *const any[] = {"0.0.0.0:", "[::]:"};
	static const char *const own[] = {"127.0.0.1:", "[::1]:"};
	for (size_t i = 0; i < sizeof(any) / sizeof(*any); i++)
		if (strncmp(listen, any[i], strlen(any[i])) == 0) {
			snprintf(b->url, sizeof(b->url), "%s://%s%s", tls ? "https" : "http",
				own[i], listen + strlen(any[i]));
			return;
		}
	snprintf(b->url, sizeof(b->url), "%s://%s", tls ? "https" : "http", listen);
}

static enum ctl_exit take_ticket(struct benching *b, struct buf *answer, struct buf *err)
{
	char request[160], listen[128];
	struct json_value root;
	long seconds = b->asked.seconds + TICKET_SPARE_S + (b->asked.reload ? RELOAD_SPARE_S : 0);
	if ((size_t)snprintf(request, sizeof(request), "bench %ld%s%s", seconds,
		    b->asked.device ? " " : "",
		    b->asked.device ? b->asked.device : "") >= sizeof(request))
		return ctl_usage("no device has so long a name");
	enum ctl_exit rc = ctl_ask(b->ctl->run_dir, request, CTL_TIMEOUT_MS, answer, &root, err);
	if (rc != CTL_OK)
		return rc;
	ctl_text(root, "ticket", b->ticket, sizeof(b->ticket));
	ctl_text(root, "device", b->device, sizeof(b->device));
	ctl_text(root, "model", b->shown_model, sizeof(b->shown_model));
	ctl_text(root, "listen", listen, sizeof(listen));
	json_string_decode(json_get(root, "model"), &b->model);
	b->window = ctl_int(root, "window");
	set_url(b, listen, json_is(json_get(root, "tls"), JSON_TRUE));
	return CTL_OK;
}

static struct json_value device_in(struct json_value status, const char *name)
{
	struct json_iter it = json_iter(json_get(status, "devices"));
	struct json_value device;
	while (json_array_next(&it, &device))
		if (json_string_is(json_get(device, "name"), name))
			return device;
	return (struct json_value){0};
}

static bool has_role(struct json_value device, const char *role)
{
	struct json_iter it = json_iter(json_get(device, "roles"));
	struct json_value v;
	while (json_array_next(&it, &v))
		if (json_string_is(v, role))
			return true;
	return false;
}

/* The learned rates, and what kind of device it is. */
static enum ctl_exit look(struct benching *b, double *reads, double *writes, struct buf *err)
{
	struct json_value status;
	struct buf answer;
	buf_init(&answer, CTL_ANSWER_BYTES);
	enum ctl_exit rc =
		ctl_ask(b->ctl->run_dir, "status", CTL_TIMEOUT_MS, &answer, &status, err);
	if (rc == CTL_OK) {
		struct json_value d = device_in(status, b->device);
		struct json_value backend = json_get(d, "backend");
		*reads = ctl_real(d, "prefill_tok_s");
		*writes = ctl_real(d, "decode_tok_s");
		b->main = has_role(d, "main");
		ctl_text(backend, "type", b->backend, sizeof(b->backend));
		b->backend_ours = json_is(json_get(backend, "pid"), JSON_NUMBER);
	}
	buf_free(&answer);
	return rc;
}

/* Whoever has a conversation in this device's cache may have to have it read again. */
static void warn_of_caches(struct benching *b)
{
	struct json_value root, session;
	struct buf answer, err;
	int warm = 0;
	buf_init(&answer, CTL_ANSWER_BYTES);
	buf_init(&err, 0);
	if (ctl_ask(b->ctl->run_dir, "sessions", CTL_TIMEOUT_MS, &answer, &root, &err) == CTL_OK) {
		struct json_iter it = json_iter(json_get(root, "sessions"));
		while (json_array_next(&it, &session))
			warm += json_string_is(json_get(session, "device"), b->device) &&
				ctl_int(session, "warm_tokens") > 0;
	}
	if (warm)
		bench_say("%d conversation%s in the cache of %s; what is read now may take %s "
			  "place there",
			warm, warm > 1 ? "s are" : " is", b->device, warm > 1 ? "their" : "its");
	buf_free(&answer);
	buf_free(&err);
}

/* --- the whole --- */

static enum ctl_exit measure(struct benching *b)
{
	warn_of_caches(b);
	enum bench_end end = bench_measure(b);
	b->deadline_ms += TICKET_SPARE_S * 1000 / 2; /* no device works for the rest */
	if (b->rows && b->main && end != BENCH_FAILED)
		bench_routes(b);
	if (b->asked.reload)
		bench_reload_measure(b);
	if (end == BENCH_FAILED)
		return CTL_FAILED;
	return b->rows ? CTL_OK : CTL_TIMED_OUT;
}

static enum ctl_exit run(struct benching *b, struct buf *err)
{
	struct buf answer;
	buf_init(&answer, CTL_ANSWER_BYTES);
	enum ctl_exit rc = take_ticket(b, &answer, err);
	buf_free(&answer);
	b->begun_ms = bench_now_ms();
	b->deadline_ms = b->begun_ms + b->asked.seconds * 1000;
	if (rc == CTL_OK)
		rc = look(b, &b->read_before, &b->write_before, err);
	if (rc == CTL_OK)
		rc = bench_http_begin(b);
	if (rc != CTL_OK)
		return rc;
	rc = measure(b);
	bench_http_end(b);
	if (look(b, &b->read_after, &b->write_after, err) != CTL_OK)
		buf_clear(err); /* it has ended meanwhile: what was measured is still so */
	if (b->asked.json)
		bench_print_json(b);
	else
		bench_print(b);
	return rc;
}

enum ctl_exit ctl_bench(struct ctl *ctl)
{
	struct benching b = {.ctl = ctl, .chars_a_token = START_CHARS};
	struct buf err;
	buf_init(&err, 0);
	buf_init(&b.model, CTL_ANSWER_BYTES);
	enum ctl_exit rc = parse_options(&b.asked, ctl);
	if (rc == CTL_OK && !ctl->told) {
		if (getrandom(&b.random, sizeof(b.random), 0) != (ssize_t)sizeof(b.random))
			b.random = (uint64_t)time(NULL);
		rc = run(&b, &err);
	}
	if (err.n)
		bench_say("%s", buf_cstr(&err));
	buf_free(&b.model);
	buf_free(&err);
	return rc;
}
