#include "supervisor/ctl/ctl.h"

#include "common/config.h"
#include "common/config_suggest.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char help[] =
	"Usage: tandemctl [-R RUNDIR] COMMAND [options]\n"
	"\n"
	"Commands\n"
	"  status [--json]              what tandemd, its devices and requests are doing\n"
	"  wait-ready [--timeout S]     wait until the devices are ready (default 300 s), show the "
	"progress\n"
	"  check FILE                   check a configuration, like `tandemd -t -c FILE`\n"
	"  init [options]               write a configuration that fits this machine\n"
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
	"running.\n";

static const struct {
	const char *name;
	enum ctl_exit (*run)(struct ctl *ctl, int argc, char **argv);
} commands[] = {
	{"status", ctl_status},
	{"wait-ready", ctl_wait_ready},
	{"check", ctl_check},
	{"init", ctl_init},
};

enum ctl_exit ctl_usage(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fputs("tandemctl: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputs("\nTry `tandemctl --help`.\n", stderr);
	va_end(ap);
	return CTL_USAGE;
}

bool ctl_number(const char *text, long lo, long hi, long *out)
{
	char *end;
	errno = 0;
	*out = strtol(text, &end, 10);
	return *text && !*end && !errno && *out >= lo && *out <= hi;
}

const char *ctl_default_run_dir(void)
{
	static char path[128];
	const char *named = getenv("TANDEM_RUN_DIR");
	const char *session = getenv("XDG_RUNTIME_DIR");

	if (named && *named)
		return named;
	if (geteuid() != 0 && access("/run/tandem", F_OK) != 0) {
		if (session && *session)
			snprintf(path, sizeof(path), "%s/tandem", session);
		else
			snprintf(path, sizeof(path), "/tmp/tandem-%u", (unsigned)geteuid());
		return path;
	}
	return "/run/tandem";
}

enum ctl_exit ctl_check(struct ctl *ctl, int argc, char **argv)
{
	struct config config;
	struct buf err;
	(void)ctl;

	if (argc != 2)
		return ctl_usage("check wants one file");
	buf_init(&err, 0);
	int rc = config_load(argv[1], &config, &err);
	if (rc == 0) {
		printf("%s is fine: %zu devices, %s:%d\n", argv[1], config.device_count,
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
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[0], commands[i].name) == 0)
			return commands[i].run(ctl, argc, argv);
		suggest_offer(&near, commands[i].name);
	}
	if (near.best)
		return ctl_usage("unknown command '%s', did you mean '%s'?", argv[0], near.best);
	return ctl_usage("unknown command '%s'", argv[0]);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"rundir", required_argument, NULL, 'R'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	struct ctl ctl = {0};
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
			fputs(help, stdout);
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
