/* tandemd: the supervisor. Its arguments; the rest is tandemd.h's. */
#include "common/base/log.h"
#include "common/base/log_out.h"
#include "common/base/proc.h"
#include "supervisor/descriptors.h"
#include "supervisor/tandemd.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define CONFIG_DEFAULT_PATH "/etc/tandem/tandem.conf"

static void usage(FILE *to)
{
	fprintf(to, "usage: tandemd [-c FILE] [-R RUNDIR] [-t] [-h] [-V]\n"
		    "  -c, --config FILE    configuration (default " CONFIG_DEFAULT_PATH ")\n"
		    "  -t, --check          check the configuration and exit\n"
		    "  -R, --rundir RUNDIR  run folder instead of the configuration's run_dir\n"
		    "  -h, --help           this text\n"
		    "  -V, --version        version\n"
		    "exit codes: 0 stopped, 1 could not start, 2 arguments or configuration,\n"
		    "            3 another tandemd has the run folder\n");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"rundir", required_argument, NULL, 'R'},
		{"check", no_argument, NULL, 't'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	static struct supervisor s;
	const char *path = CONFIG_DEFAULT_PATH, *run_dir = NULL;
	bool check = false;
	int opt;
	proc_keep_std();
	while ((opt = getopt_long(argc, argv, "c:R:thV", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			path = optarg;
			break;
		case 'R':
			run_dir = optarg;
			break;
		case 't':
			check = true;
			break;
		case 'V':
			printf("tandemd %s\n", TANDEM_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return EXIT_CONFIG;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return EXIT_CONFIG;
	}
	struct buf err;
	buf_init(&err, 0);
	if (config_load(path, &s.config, &err)) {
		fprintf(stderr, "%s\n", buf_cstr(&err));
		buf_free(&err);
		return EXIT_CONFIG;
	}
	if (check) {
		int rc = rundir_check(run_dir ? run_dir : s.config.run_dir, &err);
		if (rc)
			fprintf(stderr, "%s: %s\n", path, buf_cstr(&err));
		else
			printf("%s: configuration is good\n", path);
		buf_free(&err);
		config_free(&s.config);
		return rc ? EXIT_CONFIG : EXIT_SUCCESS;
	}
	log_init("tandemd", NULL, s.config.log.level, s.config.log.format, s.config.log.content);
	log_out_size((size_t)s.config.log.buffer_bytes);
	s.life.config_path = path;
	s.life.run_dir = run_dir ? run_dir : s.config.run_dir;
	s.life.argv = argv;
	int rc = EXIT_START;
	if (descriptors_raise(&s.config, &s.life.connections_max, &err) ||
		descriptors_check(&s.config, &err) || !(s.loop = uv_default_loop()))
		fprintf(stderr, "tandemd: %s\n",
			err.n ? buf_cstr(&err) : "cannot make an event loop");
	else if (successor_read(&s.life, &err))
		fprintf(stderr, "tandemd: %s\n", buf_cstr(&err));
	else
		rc = tandemd_run(&s, &err);
	buf_free(&err);
	config_free(&s.config);
	return rc;
}
