#include "supervisor/ctl/ctl.h"

#include "common/config.h"
#include "common/config_suggest.h"
#include "common/proc.h"

#include <getopt.h>

static const struct ctl_command commands[] = {
	{"status", "", CTL_JSON, .help = "tandemd, its devices and requests", .run = ctl_status},
	{"top", "", CTL_ONCE, .help = "the same as a screen that is kept fresh", .run = ctl_top},
	{"events", "", CTL_JSON | CTL_COUNT,
		.help = "each step of workers and requests as it happens", .run = ctl_events},
	{"workers", "", CTL_JSON, .help = "processes, heartbeats, restarts", .run = ctl_list},
	{"jobs", "", CTL_JSON, .help = "work that runs or waits", .run = ctl_list},
	{"queues", "", CTL_JSON, .help = "what waits for each device", .run = ctl_list},
	{"backends", "", CTL_JSON, .help = "backends and what they serve", .run = ctl_list},
	{"devices", "", CTL_JSON, .help = "GPUs: memory, load, temperature", .run = ctl_list},
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
	{"init", "[options]", CTL_OWN, .help = "write a configuration that fits this machine",
		.run = ctl_init},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const char help_options[] =
	"\n"
	"Options\n"
	"  --json                       the answer as JSON\n"
	"  --timeout S                  wait no longer (default 300 s; 0: do not wait)\n"
	"  --backend                    restart: the backends that tandem started as well\n"
	"  --count N                    events: end after N of them\n"
	"  --once                       top: once, also on a terminal\n"
	"\n"
	"Options of init\n"
	"  -o, --output FILE            where to write (default tandem.conf; - is stdout)\n"
	"  --force                      overwrite FILE\n"
	"  --port N                     where clients connect (default 8512)\n"
	"  --run-dir DIR                the configuration's run_dir\n"
	"  --ollama URL                 look for Ollama there only; may be repeated\n"
	"                               (default: $OLLAMA_HOST, 127.0.0.1:11434 and :11435)\n"
	"  --no-ollama                  do not look for Ollama\n"
	"  --engine PATH                a llama-server to start where no Ollama answers\n"
	"  --engine-lib DIR             the folder of its libraries (LD_LIBRARY_PATH)\n"
	"  --engine-devices TEXT        what its --list-devices prints: GPUs found there are used\n"
	"  --model-file GGUF            the model that both roles use\n"
	"  --model-name NAME            the name that clients know it by (default: from the file)\n"
	"\n"
	"Everywhere\n"
	"  -R, --rundir RUNDIR          run folder of tandemd (default $TANDEM_RUN_DIR, "
	"/run/tandem,\n"
	"                               $XDG_RUNTIME_DIR/tandem)\n"
	"  -h, --help                   this text\n"
	"  -V, --version                the version\n"
	"\n"
	"Exit codes: 0 done, 1 failed, 2 wrong usage, 3 init needs an engine, 4 no tandemd is "
	"running,\n"
	"5 still under way when the time was over.\n";

static void help(void)
{
	static const struct {
		unsigned option;
		const char *text;
	} options[] = {{CTL_BACKEND, " [--backend]"}, {CTL_TIMEOUT, " [--timeout S]"},
		{CTL_COUNT, " [--count N]"}, {CTL_ONCE, " [--once]"}, {CTL_JSON, " [--json]"}};

	puts("Usage: tandemctl [-R RUNDIR] COMMAND [options]\n\nCommands");
	for (size_t i = 0; i < COMMANDS; i++) {
		const struct ctl_command *c = &commands[i];
		struct buf line;
		buf_init(&line, 0);
		buf_printf(&line, "%s%s%s", c->name, *c->arguments ? " " : "", c->arguments);
		for (size_t o = 0; o < sizeof(options) / sizeof(*options); o++)
			if (c->options & options[o].option)
				buf_add_str(&line, options[o].text);
		printf("  %-28s", buf_cstr(&line));
		if (line.n > 28)
			printf("\n%30s", "");
		printf(" %s\n", c->help);
		buf_free(&line);
	}
	fputs(help_options, stdout);
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

static enum ctl_exit run_command(struct ctl *ctl, int argc, char **argv)
{
	struct suggest near;

	suggest_init(&near, argv[0]);
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(argv[0], commands[i].name) == 0) {
			ctl->command = &commands[i];
			enum ctl_exit rc = ctl_parse(ctl, argc, argv);
			return rc == CTL_OK ? commands[i].run(ctl) : rc;
		}
		suggest_offer(&near, commands[i].name);
	}
	if (near.best)
		return ctl_usage("unknown command '%s', did you mean '%s'?", argv[0], near.best);
	return ctl_usage("unknown command '%s'", argv[0]);
}

int main(int argc, char **argv)
{
	proc_keep_std();
	static const struct option options[] = {
		{"rundir", required_argument, NULL, 'R'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	struct ctl ctl = {.timeout_s = -1, .count = -1};
	int c;

	while ((c = getopt_long(argc, argv, "+R:hV", options, NULL)) != -1) {
		switch (c) {
		case 'R':
			ctl.run_dir = optarg;
			break;
		case 'j':
			ctl.json = true;
			break;
		case 'h':
			help();
			return CTL_OK;
		case 'V':
			puts("tandemctl " TANDEM_VERSION);
			return CTL_OK;
		default:
			return CTL_USAGE; /* getopt said why */
		}
	}
	if (optind == argc)
		return ctl_usage("which command?");
	if (!ctl.run_dir)
		ctl.run_dir = ctl_default_run_dir();

	int first = optind;
	optind = 0; /* the commands parse their own options */
	enum ctl_exit rc = run_command(&ctl, argc - first, argv + first);
	if (fflush(stdout) != 0 && rc == CTL_OK) {
		perror("tandemctl: stdout");
		rc = CTL_FAILED;
	}
	return (int)rc;
}
