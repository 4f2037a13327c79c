/*
 * tandemd: the supervisor.
 *
 * Map of the files:
 *   main.c            arguments, start, signals, stop
 *   supervisor.h      the state all modules share; stop.c: the way out
 *   rundir.c          run folder, lock, stale sockets
 *   http/             the front door: HTTP connections as exchanges
 *   request.c         one client request: identity, routing to its kind
 *   chat*.c           a chat request: table, condensing stage, answer
 *   plan.c            A, B or C: a pure function
 *   pass.c probes.c   everything else: streamed through, or answered at once
 *   job.c             work for a device: queue, slots, body and answer credit
 *   adopt*.c          backends that outlive their workers: lifeline, state files, reaping
 *   device.c          what is known of a device; worker.c spawn.c its worker's life
 *   stats*.c nvml.c   documents that tell of it all; histogram.c report.c what they are made of
 *   commands.c        what can be asked and ordered; control.c operation.c the orders
 *   sp.c rep.c pub.c  the sockets stats.ipc and events.ipc; events.c what goes out on the second
 *   ctl/              tandemctl, a program of its own
 */
#include "common/log.h"
#include "supervisor/control.h"
#include "supervisor/request.h"
#include "supervisor/restart.h"
#include "supervisor/rundir.h"
#include "supervisor/stats.h"

#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define CONFIG_DEFAULT_PATH "/etc/tandem/tandem.conf"

enum { EXIT_CONFIG = 2, EXIT_START = 1 };

static void usage(FILE *to)
{
	fprintf(to, "usage: tandemd [-c FILE] [-R RUNDIR] [-t] [-h] [-V]\n"
		    "  -c FILE    configuration (default " CONFIG_DEFAULT_PATH ")\n"
		    "  -t         check the configuration and exit\n"
		    "  -R RUNDIR  run folder instead of the configuration's run_dir\n"
		    "  -V         version\n");
}

/* --- signals --- */

static void on_hangup(uv_signal_t *h, int signum)
{
	struct supervisor *s = h->data;
	struct buf err;
	(void)signum;
	buf_init(&err, 0);
	if (control_reload(s, &err) == 0)
		log_line(LOG_WARN, "reload", LOG_STR("result", "refused"),
			LOG_STR("why", buf_cstr(&err)), LOG_END);
	buf_free(&err);
}

static void on_stop(uv_signal_t *h, int signum)
{
	supervisor_stop(h->data, signum);
}

/* --- start --- */

static int find_worker(struct supervisor *s)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0)
		return -errno;
	self[n] = '\0';
	int len =
		snprintf(s->worker_path, sizeof(s->worker_path), "%s/tandem-worker", dirname(self));
	if (len < 0 || (size_t)len >= sizeof(s->worker_path))
		return -ENAMETOOLONG;
	return access(s->worker_path, X_OK) ? -errno : 0;
}

/* A connection costs one descriptor; the shell's soft limit of 1024 is less than limits.connections
 * allows. */
static void raise_fd_limit(const struct config *c)
{
	struct rlimit l;
	rlim_t want = (rlim_t)c->limits.connections + 256;
	if (getrlimit(RLIMIT_NOFILE, &l) || l.rlim_cur >= want)
		return;
	l.rlim_cur = l.rlim_max == RLIM_INFINITY || l.rlim_max >= want ? want : l.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &l) || l.rlim_cur < want)
		log_line(LOG_WARN, "fd_limit", LOG_INT("limit", l.rlim_cur),
			LOG_INT("wanted", want), LOG_END);
}

static int start_front(struct supervisor *s)
{
	const struct config *c = &s->config;
	struct front_options o = {
		.address = c->listen.address,
		.port = c->listen.port,
		.connections = (unsigned)c->limits.connections,
		.header_bytes = (size_t)c->limits.header_bytes,
		/* Credit bounds what a worker sends; beside it stand heartbeats and an in-band
		   error. */
		.stream_bytes = (size_t)(c->limits.stream_bytes > PROTO_WINDOW_BYTES
						 ? c->limits.stream_bytes
						 : PROTO_WINDOW_BYTES) +
				65536,
		.idle_ms = (unsigned)c->limits.idle_ms,
		.listen_fd = -1,
	};
	s->loopback = strcmp(c->listen.address, "localhost") == 0 ||
		      strcmp(c->listen.address, "::1") == 0 ||
		      strncmp(c->listen.address, "127.", 4) == 0;
	struct buf err;
	buf_init(&err, 4096);
	int rc = front_start(s->loop, &o, &request_front_events, s, &s->front, &err);
	if (rc)
		fprintf(stderr, "tandemd: %s\n", buf_cstr(&err));
	buf_free(&err);
	return rc;
}

static int run(struct supervisor *s)
{
	struct rundir rundir;
	struct buf err;
	buf_init(&err, 4096);
	int rc = find_worker(s);
	if (rc) {
		fprintf(stderr, "tandemd: %s: %s\n", s->worker_path, strerror(-rc));
		return EXIT_START;
	}
	rc = rundir_open(&rundir, s->run_dir, &err);
	if (rc) {
		fprintf(stderr, "tandemd: %s\n", buf_cstr(&err));
		buf_free(&err);
		return EXIT_START;
	}
	raise_fd_limit(&s->config);
	signal(SIGPIPE, SIG_IGN);
	uv_timer_init(s->loop, &s->drain_timer);
	uv_signal_init(s->loop, &s->sigint);
	uv_signal_init(s->loop, &s->sigterm);
	uv_signal_init(s->loop, &s->sighup);
	s->drain_timer.data = s->sigint.data = s->sigterm.data = s->sighup.data = s;
	TAILQ_INIT(&s->requests);
	s->started_ms = now_ms();
	s->tokens = tokens_create();
	rc = adopt_start(s, -1, -1);
	if (rc == 0 && !s->tokens)
		rc = -ENOMEM;
	if (rc == 0)
		rc = stats_start(s);
	if (rc == 0)
		rc = start_front(s);
	if (rc == 0) {
		for (size_t i = 0; i < s->config.device_count; i++) {
			struct device *d = device_create(s, &s->config.devices[i]);
			if (!d)
				continue;
			s->devices[s->device_count++] = d;
			worker_start(d->current);
		}
		uv_signal_start(&s->sigint, on_stop, SIGINT);
		uv_signal_start(&s->sigterm, on_stop, SIGTERM);
		uv_signal_start(&s->sighup, on_hangup, SIGHUP);
		log_line(LOG_INFO, "listening", LOG_STR("address", front_address(s->front)),
			LOG_STR("run_dir", s->run_dir), LOG_INT("devices", s->device_count),
			LOG_END);
		uv_run(s->loop, UV_RUN_DEFAULT);
		front_stop(s->front);
		for (size_t i = 0; i < s->device_count; i++)
			device_destroy(s->devices[i]);
		for (size_t i = 0; i < s->removed_count; i++)
			device_destroy(s->removed[i]);
	}
	stats_stop(s);
	adopt_stop(s);
	uv_close((uv_handle_t *)&s->drain_timer, NULL);
	uv_close((uv_handle_t *)&s->sigint, NULL);
	uv_close((uv_handle_t *)&s->sigterm, NULL);
	uv_close((uv_handle_t *)&s->sighup, NULL);
	while (uv_run(s->loop, UV_RUN_DEFAULT))
		; /* lets every handle close, though the last request's end stops it once more */
	uv_loop_close(s->loop);
	tokens_destroy(s->tokens);
	rundir_close(&rundir);
	log_line(LOG_INFO, "stopped", LOG_INT("rc", rc), LOG_END);
	return rc ? EXIT_START : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static struct supervisor s;
	const char *path = CONFIG_DEFAULT_PATH, *run_dir = NULL;
	bool check = false;
	int opt;
	while ((opt = getopt(argc, argv, "c:R:thV")) != -1) {
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
	buf_free(&err);
	if (check) {
		printf("%s: configuration is good\n", path);
		config_free(&s.config);
		return EXIT_SUCCESS;
	}
	log_init("tandemd", NULL, s.config.log.level, s.config.log.format, s.config.log.content);
	s.config_path = path;
	s.run_dir = run_dir ? run_dir : s.config.run_dir;
	s.loop = uv_default_loop();
	int rc = run(&s);
	config_free(&s.config);
	return rc;
}
