/*
 * explain: what would be done with a request that stands in a file, without a running tandemd. The
 * decisions are the server's own functions (decide.h, condense.h, backend.h); what only a running
 * server knows is taken at its start: nothing learned, nothing cached, every device ready.
 */
#include "supervisor/ctl/ctl.h"

#include "common/dialect/backend.h"
#include "supervisor/explain.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>

#define BODY_BYTES_MAX (256u << 20)
#define WINDOW_MOST (1L << 30)

struct asked {
	const char *conf, *dialect, *file;
	long window;
	bool json, sent;
};

struct work {
	struct asked asked;
	struct config conf;
	struct buf body, sent;
	enum dialect dialect;
	struct chat_request request;
	const struct config_device *main, *small;
	enum backend_type backend;
	struct plan_facts facts;
	struct plan plan;
	struct condense condense;
	struct explanation explanation;
};

static enum ctl_exit say(const char *fmt, const char *text)
{
	fputs("tandemctl: ", stderr);
	fprintf(stderr, fmt, text);
	fputc('\n', stderr);
	return CTL_FAILED;
}

static enum ctl_exit parse_options(struct asked *a, struct ctl *ctl)
{
	enum { WINDOW = 256, DIALECT, JSON, SENT };
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"window", required_argument, NULL, WINDOW},
		{"dialect", required_argument, NULL, DIALECT},
		{"json", no_argument, NULL, JSON},
		{"sent", no_argument, NULL, SENT},
		{"rundir", required_argument, NULL, 'R'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int argc = ctl->argc, opt;
	char **argv = ctl->argv;
	optind = 1;
	while ((opt = getopt_long(argc, argv, "c:R:hV", options, NULL)) != -1) {
		if (opt == 'c')
			a->conf = optarg;
		else if (opt == WINDOW && !ctl_number(optarg, 1, WINDOW_MOST, &a->window))
			return ctl_usage("--window takes a number of tokens, not '%s'", optarg);
		else if (opt == DIALECT)
			a->dialect = optarg;
		else if (opt == JSON)
			a->json = true;
		else if (opt == SENT)
			a->sent = true;
		else if (opt != WINDOW && ctl_take(ctl, opt, optarg) != CTL_OK)
			return CTL_USAGE;
		if (ctl->told)
			return CTL_OK;
	}
	if (a->dialect && strcmp(a->dialect, "ollama") != 0 && strcmp(a->dialect, "openai") != 0)
		return ctl_usage("--dialect is ollama or openai, not '%s'", a->dialect);
	if (a->json && a->sent)
		return ctl_usage("--json and --sent exclude each other");
	if (optind + 1 != argc)
		return ctl_usage("explain takes one file, or - for stdin");
	a->file = argv[optind];
	return CTL_OK;
}

static enum ctl_exit read_body(struct work *w)
{
	bool from_stdin = strcmp(w->asked.file, "-") == 0;
	FILE *f = from_stdin ? stdin : fopen(w->asked.file, "rb");
	char piece[65536];
	size_t n;
	if (!f)
		return say("%s: cannot be read", w->asked.file);
	while ((n = fread(piece, 1, sizeof(piece), f)) > 0 && buf_add(&w->body, piece, n) == 0)
		;
	bool bad = ferror(f);
	if (!from_stdin)
		fclose(f);
	if (bad)
		return say("%s: cannot be read", w->asked.file);
	if (buf_error(&w->body))
		return say("%s: too large", w->asked.file);
	return CTL_OK;
}

/* What only Ollama's requests have tells the dialect where nobody says it. */
static enum dialect dialect_of(const struct work *w)
{
	static const char *const ollamas[] = {"options", "keep_alive", "format", "think"};
	struct json_value root = {0};
	json_parse(buf_slice(&w->body), JSON_MAX_DEPTH, &root, NULL); /* an error comes later */
	bool prompt = !json_is(json_get(root, "prompt"), JSON_NONE);
	bool ollama = prompt;
	for (size_t i = 0; i < sizeof(ollamas) / sizeof(*ollamas); i++)
		ollama = ollama || !json_is(json_get(root, ollamas[i]), JSON_NONE);
	if (w->asked.dialect)
		ollama = strcmp(w->asked.dialect, "ollama") == 0;
	return !ollama	? DIALECT_OPENAI_CHAT
	       : prompt ? DIALECT_OLLAMA_GENERATE
			: DIALECT_OLLAMA_CHAT;
}

static enum ctl_exit read_conf(struct work *w)
{
	struct buf err;
	buf_init(&err, 0);
	int rc = w->asked.conf ? config_load(w->asked.conf, &w->conf, &err)
			       : config_defaults(&w->conf);
	if (rc)
		say("%s", err.n ? buf_cstr(&err) : strerror(-rc));
	buf_free(&err);
	if (rc)
		return CTL_FAILED;
	for (size_t i = 0; i < w->conf.device_count; i++) {
		const struct config_device *d = &w->conf.devices[i];
		if ((d->roles & ROLE_MAIN) && !w->main)
			w->main = d;
		if ((d->roles & ROLE_CONDENSE) && !w->small)
			w->small = d;
	}
	w->backend = w->main			     ? w->main->backend.type
		     : dialect_is_ollama(w->dialect) ? BACKEND_TYPE_OLLAMA
						     : BACKEND_TYPE_LLAMA_SERVER;
	return CTL_OK;
}

static struct plan_device device(const struct config_device *d, int64_t window)
{
	return (struct plan_device){
		.present = true, .ready = true, .window = window, .slots = d ? d->slots : 1};
}

/* As the server does it: chat.c, chat_condense.c. */
static int decide(struct work *w)
{
	const struct chat_request *r = &w->request;
	double tokens = token_census_start(&r->census);
	int64_t num_ctx = w->main ? w->main->num_ctx : 0;
	if (w->asked.window > 0)
		num_ctx = w->asked.window;
	decide_facts(&w->facts, &w->conf, r, tokens < 1 ? 1 : (uint64_t)tokens + 1, true);
	w->facts.main = device(w->main, num_ctx);
	if (w->small)
		w->facts.small = device(w->small, w->small->num_ctx);
	plan_decide(&w->facts, &w->plan);
	w->explanation = (struct explanation){.request = r,
		.facts = &w->facts,
		.plan = &w->plan,
		.device = w->main ? w->main->name : "main",
		.backend = backend_type_name(w->backend),
		.num_ctx = w->backend == BACKEND_TYPE_OLLAMA ? num_ctx : 0};
	if (!w->plan.condense) {
		w->explanation.outcome = decide_plain(&w->facts, &w->plan, r->is_load, w->backend);
		return 0;
	}
	struct condense_facts f = decide_condense(&w->conf, &w->facts, &w->plan, r, tokens, false);
	int rc = condense_init(&w->condense, r);
	if (rc)
		return rc;
	condense_options(&w->condense, &f, NULL);
	enum condense_result result = condense_prepare(&w->condense);
	w->explanation.outcome = decide_laid_out(result, w->backend);
	if (result == CONDENSE_NOTHING)
		w->plan.strategy = STRATEGY_A; /* as the server says it */
	w->explanation.condense = &w->condense;
	return 0;
}

/* The body that the main device's backend gets; notes of a small device are not known here. */
static int build_sent(struct work *w, struct dialect_error *error)
{
	struct buf rewritten;
	struct chat_request again;
	struct backend_call call;
	enum backend_api api =
		w->backend == BACKEND_TYPE_OLLAMA ? BACKEND_OLLAMA : BACKEND_LLAMA_SERVER;
	buf_init(&rewritten, 0);
	int rc = 0;
	if (w->explanation.outcome == DECIDE_CONDENSED) {
		if (condense_assemble(&w->condense, NULL, 0, &rewritten) != CONDENSE_OK)
			rc = -ENOMEM;
	} else {
		rc = buf_add_slice(&rewritten, buf_slice(&w->body));
	}
	if (rc == 0)
		rc = chat_request_parse(w->dialect, buf_slice(&rewritten), &again, error);
	if (rc == 0) {
		rc = backend_call_build(
			api, &again, w->explanation.num_ctx, &call, &w->sent, error);
		if (rc == 0 && call.raw && w->sent.n == 0)
			rc = buf_add_slice(&w->sent, buf_slice(&rewritten));
		chat_request_fini(&again);
	}
	buf_free(&rewritten);
	return rc;
}

static enum ctl_exit answer(struct work *w)
{
	struct dialect_error error = {0};
	struct buf out;
	buf_init(&out, 0);
	int rc = decide(w);
	if (rc == 0 && w->asked.sent) {
		if (w->explanation.outcome == DECIDE_OVERFLOW)
			return say("%s", "nothing is sent: the prompt is longer than the window");
		rc = build_sent(w, &error);
	} else if (rc == 0) {
		rc = w->asked.json ? explain_json(&w->explanation, &out)
				   : explain_text(&w->explanation, &out);
	}
	const struct buf *b = w->asked.sent ? &w->sent : &out;
	if (rc == 0 && (fwrite(b->p, 1, b->n, stdout) != b->n || fflush(stdout)))
		rc = -errno;
	buf_free(&out);
	if (rc)
		return say("%s", error.text[0] ? error.text : strerror(-rc));
	return CTL_OK;
}

enum ctl_exit ctl_explain(struct ctl *ctl)
{
	struct work *w = calloc(1, sizeof(*w));
	struct dialect_error error = {0};
	if (!w)
		return say("%s", "out of memory");
	buf_init(&w->body, BODY_BYTES_MAX);
	buf_init(&w->sent, 0);
	bool parsed = false, configured = false;
	enum ctl_exit rc = parse_options(&w->asked, ctl);
	bool told = ctl->told; /* the help, or the version */
	if (rc == CTL_OK && !told)
		rc = read_body(w);
	if (rc == CTL_OK && !told) {
		w->dialect = dialect_of(w);
		rc = read_conf(w);
		configured = rc == CTL_OK;
	}
	if (rc == CTL_OK && !told) {
		parsed = chat_request_take(w->dialect, &w->body, &w->request, &error) == 0;
		rc = parsed ? answer(w) : say("%s", error.text[0] ? error.text : "out of memory");
	}
	condense_fini(&w->condense);
	if (parsed)
		chat_request_fini(&w->request);
	if (configured)
		config_free(&w->conf);
	buf_free(&w->body);
	buf_free(&w->sent);
	free(w);
	return rc;
}
