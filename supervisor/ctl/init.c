#include "supervisor/ctl/init.h"

#include "supervisor/ctl/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <curl/curl.h>

#define SERVERS_MAX 4
#define MAIN_WINDOW 16384 /* where nothing is known: what a coding agent needs */
#define SMALL_WINDOW 4096

struct init {
	const char *output;
	bool force;
	bool no_ollama;
	long port;
	const char *run_dir;
	char urls[SERVERS_MAX][OLLAMA_URL_BYTES];
	size_t url_count;
	const char *engine, *engine_lib, *engine_devices, *model_file, *model_name;
	FILE *say; /* what was chosen and why: stdout, or stderr when the file goes there */
};

/* --- options --- */

static void add_url(struct init *in, const char *url)
{
	for (size_t i = 0; i < in->url_count; i++)
		if (strcmp(in->urls[i], url) == 0)
			return;
	if (in->url_count < SERVERS_MAX)
		snprintf(in->urls[in->url_count++], OLLAMA_URL_BYTES, "%s", url);
}

static void default_urls(struct init *in)
{
	const char *host = getenv("OLLAMA_HOST");
	char url[OLLAMA_URL_BYTES];

	if (host && *host && ollama_base_url(host, url, sizeof(url)))
		add_url(in, url);
	else if (host && *host)
		fprintf(in->say, "$OLLAMA_HOST is passed over: not http://host:port\n");
	add_url(in, "http://127.0.0.1:11434");
	add_url(in, "http://127.0.0.1:11435");
}

enum {
	OUTPUT = 'o',
	FORCE = 256,
	PORT,
	RUN_DIR,
	OLLAMA,
	NO_OLLAMA,
	ENGINE,
	LIB,
	DEVICES,
	FILE_,
	NAME
};

const struct option ctl_init_options[] = {
	{"output", required_argument, NULL, OUTPUT},
	{"force", no_argument, NULL, FORCE},
	{"port", required_argument, NULL, PORT},
	{"run-dir", required_argument, NULL, RUN_DIR},
	{"ollama", required_argument, NULL, OLLAMA},
	{"no-ollama", no_argument, NULL, NO_OLLAMA},
	{"engine", required_argument, NULL, ENGINE},
	{"engine-lib", required_argument, NULL, LIB},
	{"engine-devices", required_argument, NULL, DEVICES},
	{"model-file", required_argument, NULL, FILE_},
	{"model-name", required_argument, NULL, NAME},
	{"rundir", required_argument, NULL, 'R'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0},
};
_Static_assert(sizeof(ctl_init_options) / sizeof(ctl_init_options[0]) <= CTL_INIT_OPTIONS_MAX,
	"ctl_find_command()");

static enum ctl_exit parse_options(struct init *in, struct ctl *ctl)
{
	int argc = ctl->argc;
	char **argv = ctl->argv;
	char url[OLLAMA_URL_BYTES];
	int c;

	while ((c = getopt_long(argc, argv, "o:R:hV", ctl_init_options, NULL)) != -1) {
		switch (c) {
		case OUTPUT:
			in->output = optarg;
			break;
		case FORCE:
			in->force = true;
			break;
		case PORT:
			if (!ctl_number(optarg, 0, 65535, &in->port))
				return ctl_usage("--port wants 0 to 65535, not '%s'", optarg);
			break;
		case RUN_DIR:
			in->run_dir = optarg;
			break;
		case OLLAMA:
			if (!ollama_base_url(optarg, url, sizeof(url)))
				return ctl_usage(
					"--ollama wants http://host:port, not '%s'", optarg);
			if (in->url_count == SERVERS_MAX)
				return ctl_usage("--ollama: at most %d times", SERVERS_MAX);
			add_url(in, url);
			break;
		case NO_OLLAMA:
			in->no_ollama = true;
			break;
		case ENGINE:
			in->engine = optarg;
			break;
		case LIB:
			in->engine_lib = optarg;
			break;
		case DEVICES:
			in->engine_devices = optarg;
			break;
		case FILE_:
			in->model_file = optarg;
			break;
		case NAME:
			in->model_name = optarg;
			break;
		case 'R':
			in->run_dir = optarg;
			break;
		default:
			if (ctl_take(ctl, c, optarg) != CTL_OK)
				return CTL_USAGE;
			if (ctl->told)
				return CTL_OK;
		}
	}
	if (optind < argc)
		return ctl_usage("init takes no argument '%s'", argv[optind]);
	if (!in->engine != !in->model_file)
		return ctl_usage("--engine and --model-file go together");
	return CTL_OK;
}

/* --- Ollama --- */

/* The first two servers that answer with chat models; NULLs where there are fewer. */
static int find_ollamas(struct init *in, struct ollama *found[2])
{
	size_t n = 0;
	for (size_t i = 0; i < in->url_count && n < 2; i++) {
		struct ollama *o = calloc(1, sizeof(*o));
		if (!o)
			return -ENOMEM;
		snprintf(o->url, sizeof(o->url), "%s", in->urls[i]);
		int rc = ollama_ask(o);
		if (rc == 0)
			fprintf(in->say, "Ollama %s at %s: %zu model%s%s\n", o->version, o->url,
				o->count, o->count == 1 ? "" : "s",
				ollama_main_model(o) ? "" : ", none of them for chat");
		else
			fprintf(in->say, "%s: %s\n", o->url,
				rc == -EPROTO ? "answers, but not like Ollama" : "nobody answers");
		if (rc == 0 && ollama_main_model(o))
			found[n++] = o;
		else
			free(o);
	}
	return 0;
}

static int64_t window_of(const struct ollama_model *m, int64_t wanted)
{
	if (m->loaded)
		return m->loaded;
	return m->window > 0 && m->window < wanted ? m->window : wanted;
}

static void plan_ollama(struct init *in, struct conf_plan *plan, struct ollama *found[2])
{
	const struct ollama_model *m = ollama_main_model(found[0]);
	plan->main = (struct conf_ollama_device){found[0], m, window_of(m, MAIN_WINDOW)};
	fprintf(in->say, "main:     %s at %s, %" PRId64 " tokens (%s)\n", m->name, found[0]->url,
		plan->main.num_ctx, m->loaded ? "loaded right now" : "its largest chat model");
	if (!found[1]) {
		fprintf(in->say,
			"condense: no device; prompts go unchanged, and only those that do not fit "
			"are shortened, by selection alone.\n"
			"          For notes start a second Ollama on the smaller GPU (usually "
			"OLLAMA_HOST=127.0.0.1:11435) and run init again.\n");
		return;
	}
	m = ollama_small_model(found[1]);
	plan->condense = (struct conf_ollama_device){found[1], m, window_of(m, SMALL_WINDOW)};
	fprintf(in->say, "condense: %s at %s, %" PRId64 " tokens (its smallest chat model)\n",
		m->name, found[1]->url, plan->condense.num_ctx);
}

/* --- an engine of our own --- */

static const char *default_name(const char *file)
{
	static char name[128];
	const char *slash = strrchr(file, '/');
	snprintf(name, sizeof(name), "%s", slash ? slash + 1 : file);
	size_t n = strlen(name);
	if (n > 5 && strcmp(name + n - 5, ".gguf") == 0)
		name[n - 5] = '\0';
	return name;
}

/* Absolute, for tandemd may start elsewhere. NULL with the problem told. */
static const char *absolute(const char *path, int mode, char out[PATH_MAX])
{
	if (!realpath(path, out) || access(out, mode)) {
		fprintf(stderr, "tandemctl: %s: %s\n", path, strerror(errno));
		return NULL;
	}
	return out;
}

static enum ctl_exit plan_engine(struct init *in, struct conf_plan *plan)
{
	static char engine[PATH_MAX], lib[PATH_MAX], model[PATH_MAX];
	static struct engine_gpu gpus[ENGINE_GPUS_MAX];
	size_t n = engine_parse_gpus(in->engine_devices ? in->engine_devices : "", gpus);

	/* A bare name is looked up on PATH when it is started. */
	plan->engine = strchr(in->engine, '/') ? absolute(in->engine, X_OK, engine) : in->engine;
	plan->engine_lib = in->engine_lib ? absolute(in->engine_lib, R_OK | X_OK, lib) : NULL;
	plan->model_file = absolute(in->model_file, R_OK, model);
	if (!plan->engine || !plan->model_file || !plan->engine_lib != !in->engine_lib)
		return CTL_FAILED;
	plan->model_name = in->model_name ? in->model_name : default_name(plan->model_file);
	plan->gpu_main = n > 0 ? gpus[0].name : NULL;
	plan->gpu_condense = n > 1 ? gpus[1].name : NULL;
	plan->threads = engine_threads();

	const char *cpu = "the CPU";
	fprintf(in->say, "main:     %s by %s on %s, %d tokens\n", plan->model_name, plan->engine,
		n > 0 ? gpus[0].text : cpu, CONF_ENGINE_WINDOW);
	fprintf(in->say, "condense: the same model on %s, %d slots of %d tokens\n",
		n > 1 ? gpus[1].text : cpu, CONF_ENGINE_SLOTS,
		CONF_ENGINE_WINDOW / CONF_ENGINE_SLOTS);
	if (n < 2)
		fprintf(in->say, "          (%d threads on the CPU; %s)\n", plan->threads,
			n ? "the engine lists one GPU" : "the engine lists no GPU");
	return CTL_OK;
}

static enum ctl_exit no_engine(const struct init *in)
{
	fprintf(stderr,
		"tandemctl: no Ollama with a chat model%s, and no engine to start.\n"
		"Start Ollama and pull a model (`ollama pull qwen2.5-coder:7b`), or give a "
		"llama-server and a model:\n"
		"  tandemctl init --engine /path/to/llama-server --model-file "
		"/path/to/model.gguf\n",
		in->no_ollama ? " was looked for" : " answers");
	return CTL_NO_ENGINE;
}

/* --- all of it --- */

static enum ctl_exit write_plan(struct init *in, const struct conf_plan *plan)
{
	enum ctl_exit result = CTL_OK;
	struct buf text, err;

	buf_init(&text, 1 << 20);
	buf_init(&err, 0);
	if (conf_text(plan, &text)) {
		fprintf(stderr, "tandemctl: %s\n", strerror(-buf_error(&text)));
		result = CTL_FAILED;
	} else if (strcmp(in->output, "-") == 0) {
		fwrite(text.p, 1, text.n, stdout);
	} else if (conf_write(in->output, buf_slice(&text), in->force, &err)) {
		fprintf(stderr, "tandemctl: %s\n", buf_cstr(&err));
		result = CTL_FAILED;
	} else {
		fprintf(in->say, "wrote %s; start with: tandemd -c %s\n", in->output, in->output);
	}
	buf_free(&text);
	buf_free(&err);
	return result;
}

enum ctl_exit ctl_init(struct ctl *ctl)
{
	struct init in = {.output = "tandem.conf", .port = 8512, .run_dir = ctl->run_dir};
	struct ollama *found[2] = {NULL, NULL};
	enum ctl_exit rc = parse_options(&in, ctl);

	if (rc != CTL_OK || ctl->told)
		return rc;
	if (strcmp(in.output, "-") != 0 && !in.force && access(in.output, F_OK) == 0) {
		fprintf(stderr, "tandemctl: %s exists; --force overwrites it\n", in.output);
		return CTL_FAILED;
	}
	in.say = strcmp(in.output, "-") == 0 ? stderr : stdout;
	if (in.no_ollama)
		in.url_count = 0;
	else if (in.url_count == 0)
		default_urls(&in);

	curl_global_init(CURL_GLOBAL_DEFAULT);
	if (find_ollamas(&in, found) == 0) {
		struct conf_plan plan = {.run_dir = in.run_dir, .port = in.port};
		if (found[0])
			plan_ollama(&in, &plan, found);
		else if (in.engine)
			rc = plan_engine(&in, &plan);
		else
			rc = no_engine(&in);
		if (rc == CTL_OK)
			rc = write_plan(&in, &plan);
	} else {
		fprintf(stderr, "tandemctl: out of memory\n");
		rc = CTL_FAILED;
	}
	free(found[0]);
	free(found[1]);
	curl_global_cleanup();
	return rc;
}
