#include "supervisor/ctl/ctl.h"

#include "common/base/proc.h"
#include "common/config/config.h"
#include "common/config/config_suggest.h"

static const struct ctl_command commands[] = {
	{"status", "", CTL_JSON, .help = "tandemd, its devices and requests", .run = ctl_status},
	{"top", "", CTL_ONCE, .help = "all of it at a glance, kept fresh; Enter opens a row",
		.run = ctl_top},
	{"events", "", CTL_JSON | CTL_COUNT,
		.help = "each step of workers and requests as it happens", .run = ctl_events},
	{"logs", "[-f] [REQUEST-ID]", CTL_OWN | CTL_LOGS,
		.help = "what happened, of one request or all; -f: and what comes",
		.run = ctl_logs},
	{"workers", "", CTL_JSON, .help = "processes, heartbeats, restarts", .run = ctl_list},
	{"jobs", "", CTL_JSON, .help = "work that runs or waits", .run = ctl_list},
	{"queues", "", CTL_JSON, .help = "what waits for each device", .run = ctl_list},
	{"sessions", "", CTL_JSON, .help = "conversations: tokens, what is warm, broken prefixes",
		.run = ctl_list},
	{"requests", "[COUNT]", CTL_JSON, .takes_argument = true,
		.help = "requests under way and the last ones, the newest first", .run = ctl_list},
	{"request", "REQUEST-ID", CTL_JSON, .needs_argument = true, .takes_argument = true,
		.help = "one of them, step by step", .run = ctl_request},
	{"backends", "", CTL_JSON, .help = "backends and what they serve", .run = ctl_list},
	{"devices", "", CTL_JSON, .help = "GPUs: memory, load, temperature", .run = ctl_list},
	{"keys", "", CTL_JSON, .help = "clients' keys by name, what they have under way",
		.run = ctl_list},
	{"stats", "", CTL_JSON, .help = "counters, and how long things took", .run = ctl_stats},
	{"restart", "[DEVICE|all]", CTL_JSON | CTL_TIMEOUT | CTL_BACKEND, .takes_argument = true,
		.help = "new workers without a pause; --backend: backends too", .run = ctl_operate},
	{"drain", "DEVICE", CTL_JSON | CTL_TIMEOUT, .needs_argument = true, .takes_argument = true,
		.help = "give a device no new work, wait for its last job", .run = ctl_operate},
	{"reset", "[DEVICE|all]", CTL_JSON | CTL_TIMEOUT, .takes_argument = true,
		.help = "start a failed or drained device afresh", .run = ctl_operate},
	{"reload", "", CTL_JSON | CTL_TIMEOUT, .help = "read the configuration again",
		.run = ctl_operate},
	{"upgrade", "", CTL_JSON | CTL_TIMEOUT, .help = "a new tandemd takes over, streams go on",
		.run = ctl_operate},
	{"cancel", "REQUEST-ID", CTL_JSON, .needs_argument = true, .takes_argument = true,
		.help = "end a client's request", .run = ctl_cancel},
	{"wait-ready", "", CTL_JSON | CTL_TIMEOUT,
		.help = "wait until the devices are ready, show the progress",
		.run = ctl_wait_ready},
	{"check", "FILE", 0, .needs_argument = true, .takes_argument = true,
		.help = "check a configuration, like `tandemd -t -c FILE`", .run = ctl_check},
	{"doctor", "[FILE]", CTL_JSON, .takes_argument = true,
		.help = "what costs time or stands open, and what to do", .run = ctl_doctor},
	{"explain", "[options] FILE|-", CTL_OWN | CTL_EXPLAIN,
		.help = "what would be done with a request, and why", .run = ctl_explain},
	{"bench", "[options]", CTL_OWN | CTL_BENCH,
		.help = "measure a device: rates by depth, first tokens, what routes cost",
		.run = ctl_bench},
	{"key", "add [options] NAME", CTL_OWN | CTL_KEY,
		.help = "make a key for a client; it is shown once", .run = ctl_key},
	{"init", "[options]", CTL_OWN | CTL_INIT,
		.help = "write a configuration that fits this machine", .run = ctl_init},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

#define EXPLAIN_OPTIONS                                                                            \
	"  -c, --config CONF            the configuration (default: the default values)\n"         \
	"  --window TOKENS              the main device's window\n"                                \
	"  --dialect NAME               of the request: ollama, openai, anthropic, responses\n"    \
	"                               (default: by its members)\n"                               \
	"  --json                       the answer as JSON\n"                                      \
	"  --sent                       the body that the main device would get, nothing else\n"

#define LOGS_OPTIONS                                                                               \
	"  -f, --follow                 what comes, too, until the request is over\n"              \
	"  -n, --lines N                of what is kept, at most (default 200, of a request "      \
	"all)\n"                                                                                   \
	"  --json                       each as JSON\n"

#define BENCH_OPTIONS                                                                              \
	"  --device DEVICE              which one (default: the first main one)\n"                 \
	"  --seconds S                  how long at most (default 120)\n"                          \
	"  --reload                     a reload, too: the model is loaded anew\n"                 \
	"  --json                       the answer as JSON\n"

#define KEY_OPTIONS                                                                                \
	"  -f, --file FILE              where its hash goes (default /etc/tandem/keys)\n"          \
	"  --requests N                 so many requests at once (default: no limit of its own)\n" \
	"  --class NAME                 interactive, agent or idle, whatever the client says\n"

#define INIT_OPTIONS                                                                               \
	"  -o, --output FILE            where to write (default tandem.conf; - is stdout)\n"       \
	"  --force                      overwrite FILE\n"                                          \
	"  --port N                     where clients connect (default 8512)\n"                    \
	"  --run-dir DIR                the configuration's run_dir\n"                             \
	"  --ollama URL                 look for Ollama there only; may be repeated\n"             \
	"                               (default: $OLLAMA_HOST, 127.0.0.1:11434 and :11435)\n"     \
	"  --no-ollama                  do not look for Ollama\n"                                  \
	"  --engine PATH                a llama-server to start where no Ollama answers\n"         \
	"  --engine-lib DIR             the folder of its libraries (LD_LIBRARY_PATH)\n"           \
	"  --engine-devices TEXT        what its --list-devices prints: GPUs found there are "     \
	"used\n"                                                                                   \
	"  --model-file GGUF            the model that both roles use\n"                           \
	"  --model-name NAME            the name that clients know it by (default: from the "      \
	"file)\n"

static const struct {
	unsigned option;
	const char *short_form, *text;
} option_help[] = {
	{CTL_BACKEND, " [--backend]",
		"  --backend                    restart: the backends that tandem started as "
		"well\n"},
	{CTL_TIMEOUT, " [--timeout S]",
		"  --timeout S                  wait no longer (default 300 s; 0: do not wait)\n"},
	{CTL_COUNT, " [--count N]", "  --count N                    events: end after N of them\n"},
	{CTL_ONCE, " [--once]", "  --once                       top: once, also on a terminal\n"},
	{CTL_JSON, " [--json]", "  --json                       the answer as JSON\n"},
	{CTL_EXPLAIN, "", EXPLAIN_OPTIONS},
	{CTL_LOGS, "", LOGS_OPTIONS},
	{CTL_BENCH, "", BENCH_OPTIONS},
	{CTL_KEY, "", KEY_OPTIONS},
	{CTL_INIT, "", INIT_OPTIONS},
};

#define OPTIONS (sizeof(option_help) / sizeof(option_help[0]))

static const char everywhere[] =
	"  -R, --rundir RUNDIR          run folder of tandemd (default $TANDEM_RUN_DIR, "
	"/run/tandem,\n"
	"                               $XDG_RUNTIME_DIR/tandem)\n"
	"  -h, --help                   this text\n"
	"  -V, --version                the version\n";

static void put_synopsis(const struct ctl_command *c, struct buf *line)
{
	buf_printf(line, "%s%s%s", c->name, *c->arguments ? " " : "", c->arguments);
	for (size_t o = 0; o < OPTIONS; o++)
		if (c->options & option_help[o].option)
			buf_add_str(line, option_help[o].short_form);
}

static void help(void)
{
	puts("Usage: tandemctl [-R RUNDIR] COMMAND [options]\n\nCommands");
	for (size_t i = 0; i < COMMANDS; i++) {
		const struct ctl_command *c = &commands[i];
		struct buf line;
		buf_init(&line, 0);
		put_synopsis(c, &line);
		printf("  %-28s", buf_cstr(&line));
		if (line.n > 28)
			printf("\n%30s", "");
		printf(" %s\n", c->help);
		buf_free(&line);
	}
	puts("  help [COMMAND]               this text, or what is said of one command\n\nOptions");
	for (size_t o = 0; o < OPTIONS; o++)
		printf("%s%s",
			option_help[o].option == CTL_INIT      ? "\nOptions of init\n"
			: option_help[o].option == CTL_EXPLAIN ? "\nOptions of explain\n"
			: option_help[o].option == CTL_LOGS    ? "\nOptions of logs\n"
			: option_help[o].option == CTL_BENCH   ? "\nOptions of bench\n"
			: option_help[o].option == CTL_KEY     ? "\nOptions of key\n"
							       : "",
			option_help[o].text);
	printf("\nEverywhere\n%s\n"
	       "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 init needs an engine, 4 no tandemd "
	       "is running,\n"
	       "5 still under way when the time was over, 6 doctor found something, 7 it is "
	       "serious.\n",
		everywhere);
}

static void help_of(const struct ctl_command *c)
{
	struct buf line;
	if (!c) {
		help();
		return;
	}
	buf_init(&line, 0);
	put_synopsis(c, &line);
	printf("Usage: tandemctl [-R RUNDIR] %s\n\n%s.\n\nOptions\n", buf_cstr(&line), c->help);
	buf_free(&line);
	for (size_t o = 0; o < OPTIONS; o++)
		if (c->options & option_help[o].option)
			fputs(option_help[o].text, stdout);
	fputs(everywhere, stdout);
}

enum ctl_exit ctl_check(struct ctl *ctl)
{
	struct config config;
	struct buf err;

	buf_init(&err, 0);
	int rc = config_load(ctl->argument, &config, &err);
	if (rc == 0) {
		printf("%s is fine: %zu devices, %s:%d\n", ctl->argument, config.device_count,
			config.listen.address, config.listen.port);
		config_free(&config);
	} else {
		fputs(err.n ? buf_cstr(&err) : "tandemctl: out of memory\n", stderr);
	}
	buf_free(&err);
	return rc ? CTL_FAILED : CTL_OK;
}

static const struct ctl_command *find_command(const char *name)
{
	struct suggest near;

	suggest_init(&near, name);
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
		suggest_offer(&near, commands[i].name);
	}
	suggest_offer(&near, "help");
	if (near.best)
		ctl_usage("unknown command '%s', did you mean '%s'?", name, near.best);
	else
		ctl_usage("unknown command '%s'", name);
	return NULL;
}

static enum ctl_exit run_help(int argc, char **argv)
{
	const struct ctl_command *c = NULL;
	int at = ctl_find_command(argc, argv, ctl_init_options);
	if (at + 1 < argc)
		return ctl_usage("help takes one command");
	if (at < argc && strcmp(argv[at], "help") != 0 && !(c = find_command(argv[at])))
		return CTL_USAGE;
	help_of(c);
	return CTL_OK;
}

static enum ctl_exit run_command(struct ctl *ctl, int argc, char **argv)
{
	if (strcmp(argv[0], "help") == 0)
		return run_help(argc, argv);
	ctl->command = find_command(argv[0]);
	if (!ctl->command)
		return CTL_USAGE;
	static char name[] = "tandemctl"; /* for getopt's words */
	argv[0] = name;
	enum ctl_exit rc = ctl_parse(ctl, argc, argv);
	return rc == CTL_OK && !ctl->told ? ctl->command->run(ctl) : rc;
}

/* Options may stand before the command as well as behind it: the command is moved in front of them,
 * and parses them all. Where there is none, it stays NULL. */
static char *take_command(int argc, char **argv)
{
	int at = ctl_find_command(argc, argv, ctl_init_options);
	if (at >= argc)
		return NULL;
	char *command = argv[at];
	memmove(argv + 2, argv + 1, (size_t)(at - 1) * sizeof(*argv));
	argv[1] = command;
	return command;
}

int main(int argc, char **argv)
{
	proc_keep_std();
	struct ctl ctl = {
		.timeout_s = -1, .count = -1, .run_dir = ctl_default_run_dir(), .help = help_of};
	enum ctl_exit rc = CTL_OK;

	if (take_command(argc, argv)) {
		rc = run_command(&ctl, argc - 1, argv + 1);
	} else {
		rc = ctl_parse(&ctl, argc, argv);
		if (rc == CTL_OK && !ctl.told)
			rc = ctl_usage("which command?");
	}
	if (fflush(stdout) != 0 && rc == CTL_OK) {
		perror("tandemctl: stdout");
		rc = CTL_FAILED;
	}
	return (int)rc;
}
