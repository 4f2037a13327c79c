/*
 * explain: what would be done with a request that stands in a file, without a running tandemd: its
 * options, the files it reads, and what it prints. The decision is explain_decide.c's.
 */
#include "supervisor/ctl/ctl.h"
#include "supervisor/ctl/explaining.h"

#include "common/dialect/backend.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>

#define BODY_BYTES_MAX (256u << 20)
#define WINDOW_MOST (1L << 30)

static enum ctl_exit say(const char *fmt, const char *text)
{
	fputs("tandemctl: ", stderr);
	fprintf(stderr, fmt, text);
	fputc('\n', stderr);
	return CTL_FAILED;
}

static enum ctl_exit parse_options(struct explain_asked *a, struct ctl *ctl)
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
	optind = 0; /* begins anew, and takes options behind arguments, too */
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
		else if (opt == 'R')
			a->run_dir = optarg;
		else if (opt != WINDOW && ctl_take(ctl, opt, optarg) != CTL_OK)
			return CTL_USAGE;
		if (ctl->told)
			return CTL_OK;
	}
	if (a->dialect && strcmp(a->dialect, "ollama") != 0 && strcmp(a->dialect, "openai") != 0 &&
		strcmp(a->dialect, "anthropic") != 0 && strcmp(a->dialect, "responses") != 0)
		return ctl_usage("--dialect is ollama, openai, anthropic or responses, not '%s'",
			a->dialect);
	if (a->json && a->sent)
		return ctl_usage("--json and --sent exclude each other");
	if (optind + 1 != argc)
		return ctl_usage("explain takes one file, or - for stdin");
	a->file = argv[optind];
	return CTL_OK;
}

static enum ctl_exit read_body(struct explaining *w)
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

static bool has_any(struct json_value root, const char *const *names)
{
	for (size_t i = 0; names[i]; i++)
		if (!json_is(json_get(root, names[i]), JSON_NONE))
			return true;
	return false;
}

static bool is_anthropic(struct json_value root)
{
	static const char *const members[] = {
		"system", "stop_sequences", "thinking", "output_config", "compaction", NULL};
	struct json_value tool;
	struct json_iter it = json_iter(json_get(root, "tools"));
	return has_any(root, members) ||
	       json_is(json_get(root, "context_management"), JSON_OBJECT) ||
	       (json_array_next(&it, &tool) && !json_is(json_get(tool, "input_schema"), JSON_NONE));
}

/* What only one API's requests have tells the dialect where nobody says it. */
static enum dialect dialect_of(const struct explaining *w)
{
	static const char *const ollamas[] = {"options", "keep_alive", "format", "think", NULL};
	struct json_value root = {0};
	json_parse(buf_slice(&w->body), JSON_MAX_DEPTH, &root, NULL); /* an error comes later */
	bool prompt = !json_is(json_get(root, "prompt"), JSON_NONE);
	bool ollama = prompt || has_any(root, ollamas);
	bool responses = w->asked.dialect ? strcmp(w->asked.dialect, "responses") == 0
					  : !json_is(json_get(root, "input"), JSON_NONE);
	bool anthropic = w->asked.dialect ? strcmp(w->asked.dialect, "anthropic") == 0
					  : !ollama && is_anthropic(root);
	if (responses)
		return DIALECT_RESPONSES;
	if (anthropic)
		return DIALECT_ANTHROPIC;
	if (w->asked.dialect)
		ollama = strcmp(w->asked.dialect, "ollama") == 0;
	if (!ollama)
		return prompt ? DIALECT_OPENAI_TEXT : DIALECT_OPENAI_CHAT;
	return prompt ? DIALECT_OLLAMA_GENERATE : DIALECT_OLLAMA_CHAT;
}

static enum ctl_exit read_conf(struct explaining *w)
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
	w->backend = backend_profile(w->main			       ? w->main->backend.type
				     : dialect_has_num_ctx(w->dialect) ? BACKEND_TYPE_OLLAMA
								       : BACKEND_TYPE_LLAMA_SERVER);
	return CTL_OK;
}

/* The body that the main device's backend gets; notes of a small device are not known here. */
static int build_sent(struct explaining *w, struct dialect_error *error)
{
	struct buf rewritten;
	struct chat_request again;
	struct backend_call call;
	enum backend_api api = w->backend->api;
	buf_init(&rewritten, 0);
	int rc = 0;
	if (w->explanation.outcome == DECIDE_CONDENSED) {
		if (condense_assemble(&w->condense, NULL, 0, &rewritten) != CONDENSE_OK)
			rc = -ENOMEM;
	} else {
		rc = buf_add_slice(&rewritten, buf_slice(&w->body));
	}
	if (rc == 0 && w->lane && w->lane->model && json_is(w->request.model, JSON_STRING)) {
		struct slice name = w->request.model.raw; /* where it stands in the copy */
		name.p = rewritten.p + (name.p - w->body.p);
		rc = json_replace_string(&rewritten, name, slice_str(w->lane->model));
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

static enum ctl_exit answer(struct explaining *w)
{
	struct dialect_error error = {0};
	struct buf out;
	buf_init(&out, 0);
	int rc = explaining_read_block(w, &error);
	if (rc == 0)
		rc = explaining_learn(w);
	if (rc == 0)
		rc = explaining_decide(w, &error);
	if (rc == 0 && w->asked.sent) {
		if (w->explanation.outcome == DECIDE_COMPACTED)
			return say("%s", "nothing is sent: a compaction block is the whole answer");
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
	struct explaining *w = calloc(1, sizeof(*w));
	struct dialect_error error = {0};
	if (!w)
		return say("%s", "out of memory");
	buf_init(&w->body, BODY_BYTES_MAX);
	buf_init(&w->model, 4096);
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
	prefix_chain_fini(&w->chain);
	layout_cache_destroy(w->layouts);
	notes_offer_fini(&w->offer);
	notes_table_fini(&w->notes);
	tokens_destroy(w->tokens);
	keep_destroy(w->keep);
	if (parsed)
		chat_request_fini(&w->request);
	if (configured)
		config_free(&w->conf);
	buf_free(&w->body);
	buf_free(&w->model);
	buf_free(&w->sent);
	free(w);
	return rc;
}
