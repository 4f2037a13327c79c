#include "supervisor/ctl/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

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

static const struct option all[] = {
	{"rundir", required_argument, NULL, 'R'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{"json", no_argument, NULL, CTL_JSON},
	{"timeout", required_argument, NULL, CTL_TIMEOUT},
	{"backend", no_argument, NULL, CTL_BACKEND},
	{"count", required_argument, NULL, CTL_COUNT},
	{"once", no_argument, NULL, CTL_ONCE},
};

#define ALL (sizeof(all) / sizeof(*all))
#define SHORT_OPTIONS "R:hV"

enum ctl_exit ctl_take(struct ctl *ctl, int option, const char *value)
{
	switch (option) {
	case 'R':
		ctl->run_dir = value;
		break;
	case 'h':
		ctl->help(ctl->command);
		ctl->told = true;
		break;
	case 'V':
		puts("tandemctl " TANDEM_VERSION);
		ctl->told = true;
		break;
	case CTL_JSON:
		ctl->json = true;
		break;
	case CTL_BACKEND:
		ctl->backend = true;
		break;
	case CTL_ONCE:
		ctl->once = true;
		break;
	case CTL_TIMEOUT:
		if (!ctl_number(value, 0, 86400, &ctl->timeout_s))
			return ctl_usage("--timeout wants seconds, 0 to 86400, not '%s'", value);
		break;
	case CTL_COUNT:
		if (!ctl_number(value, 1, 1000000000, &ctl->count))
			return ctl_usage("--count wants a number from 1, not '%s'", value);
		break;
	default:
		return CTL_USAGE; /* getopt said why */
	}
	return CTL_OK;
}

/* What may stand in front of any command; its own parser says what is wrong with them. */
int ctl_find_command(int argc, char **argv, const struct option *more)
{
	struct option any[ALL + CTL_INIT_OPTIONS_MAX + 1];
	size_t n = ALL;

	memcpy(any, all, sizeof(all));
	for (const struct option *o = more; o->name && n < ALL + CTL_INIT_OPTIONS_MAX; o++)
		any[n++] = *o;
	any[n] = (struct option){0};
	opterr = 0;
	while (getopt_long(argc, argv, "+o:" SHORT_OPTIONS, any, NULL) != -1)
		;
	int at = optind;
	opterr = 1;
	optind = 0; /* the next parser begins anew */
	return at;
}

static enum ctl_exit take_argument(struct ctl *ctl)
{
	const struct ctl_command *c = ctl->command;
	int argc = ctl->argc;
	if (!c)
		return CTL_OK;
	if (c->takes_argument && optind < argc)
		ctl->argument = ctl->argv[optind++];
	if (c->needs_argument && (!ctl->argument || optind < argc))
		return ctl_usage("%s wants one %s", c->name,
			strcmp(c->arguments, "FILE") == 0 ? "file" : c->arguments);
	if (optind < argc)
		return ctl_usage("%s takes no argument '%s'", c->name, ctl->argv[optind]);
	return CTL_OK;
}

enum ctl_exit ctl_parse(struct ctl *ctl, int argc, char **argv)
{
	const struct ctl_command *c = ctl->command;
	unsigned options = c ? c->options : ~(unsigned)CTL_OWN;
	struct option mine[ALL + 1];
	size_t n = 0;
	int option;

	ctl->argc = argc;
	ctl->argv = argv;
	if (options & CTL_OWN)
		return CTL_OK;
	for (size_t i = 0; i < ALL; i++)
		if (all[i].val >= 'A' || (options & (unsigned)all[i].val))
			mine[n++] = all[i];
	mine[n] = (struct option){0};
	while ((option = getopt_long(argc, argv, SHORT_OPTIONS, mine, NULL)) != -1) {
		enum ctl_exit rc = ctl_take(ctl, option, optarg);
		if (rc != CTL_OK || ctl->told)
			return rc;
	}
	return take_argument(ctl);
}
