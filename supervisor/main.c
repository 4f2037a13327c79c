/*
 * tandemd: the supervisor.
 *
 * Map of the files:
 *   main.c            arguments, start
 *   supervisor.h      the state all modules share
 *   life.c            signals, drain, retirement, stop: a table
 *   upgrade.c         the old side of an upgrade (a table); successor.c the new side;
 *                     handover.c talk.c what goes between; elders.c older ones that still finish
 *   governor.c        Ollama's windows; window.c how large (pure)
 *   service.c         what the service manager is told; notify.c how; listener.c sockets from it
 *   rundir*.c         run folder: whose it is, lock, stale sockets, names; looked after while we
 * run doors.c           the front doors: one, or more after a successor that died http/ the front
 * door: HTTP connections as exchanges request.c         one client request: identity, routing to
 * its kind chat*.c           a chat request: table, condensing stage, answer plan.c            A, B
 * or C: a pure function pass.c probes.c   everything else: streamed through, or answered at once
 *   client.c          who asks, and how urgent it is: pure functions
 *   coalesce.c        retries of a request under way get its answer
 *   queue.c           who is next: classes, and fairness between clients
 *   job.c             work for a device: slots, body and answer credit; job_wait.c its waiting
 *   adopt*.c          backends that outlive their workers: lifeline, state files, reaping
 *   device.c          what is known of a device; worker.c spawn.c its worker's life
 *   stats*.c nvml.c   documents that tell of it all; histogram.c report.c what they are made of
 *   commands.c        what can be asked and ordered; control.c operation.c the orders
 *   sp.c rep.c pub.c  the sockets stats.ipc and events.ipc; events.c what goes out on the second
 *   ctl/              tandemctl, a program of its own
 */
#include "common/base/log.h"
#include "common/base/log_loop.h"
#include "common/base/log_out.h"
#include "common/base/proc.h"
#include "supervisor/devices/governor.h"
#include "supervisor/life/listener.h"
#include "supervisor/requests/request.h"
#include "supervisor/tell/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LAST_WORK_MS 1000 /* at the end: for what a thread is still at */
#define FDS_OF_START 24
#define FDS_OF_DEVICE 8
#define CONFIG_DEFAULT_PATH "/etc/tandem/tandem.conf"

/* Descriptors of our own: to start at all, for comfort, and those of a worker's links. */
#define FDS_LEAST 64
#define FDS_OWN 192
#define FDS_A_DEVICE 24

enum { EXIT_START = 1, EXIT_CONFIG = 2, EXIT_ANOTHER = 3 };

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

/*
 * A connection costs one descriptor; the shell's soft limit of 1024 is less than limits.connections
 * allows. Where the hard limit is lower, fewer connections are taken, and what we need ourselves is
 * kept; where even that is not there, we do not start. 0 or -EMFILE.
 */
static int raise_fd_limit(struct supervisor *s, struct buf *err)
{
	const struct config *c = &s->config;
	struct rlimit l;
	rlim_t least = FDS_LEAST + FDS_A_DEVICE * (rlim_t)c->device_count;
	rlim_t own = FDS_OWN + FDS_A_DEVICE * (rlim_t)c->device_count;
	rlim_t want = (rlim_t)c->limits.connections + own;
	s->connections_max = (unsigned)c->limits.connections;
	if (getrlimit(RLIMIT_NOFILE, &l) || l.rlim_cur >= want)
		return 0;
	rlim_t before = l.rlim_cur;
	l.rlim_cur = l.rlim_max == RLIM_INFINITY || l.rlim_max >= want ? want : l.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &l))
		l.rlim_cur = before;
	if (l.rlim_cur >= want)
		return 0;
	if (l.rlim_cur < least) {
		buf_printf(err,
			"too few file descriptors: %llu may be open (ulimit -n), %llu are needed, "
			"%llu for limits.connections = %d",
			(unsigned long long)l.rlim_cur, (unsigned long long)least,
			(unsigned long long)want, (int)c->limits.connections);
		return -EMFILE;
	}
	rlim_t room = l.rlim_cur >= 2 * own ? l.rlim_cur - own : (l.rlim_cur - least) / 2 + 1;
	if ((rlim_t)c->limits.connections > room)
		s->connections_max = (unsigned)room;
	log_line(LOG_WARN, "fd_limit", LOG_INT("limit", l.rlim_cur), LOG_INT("needed", want),
		LOG_INT("connections", s->connections_max),
		LOG_STR("hint", "raise ulimit -n (LimitNOFILE) or lower limits.connections"),
		LOG_END);
	return 0;
}

/*
 * Descriptors for the loop, its sockets and the workers' links, so that nothing of the start meets
 * their end half way. 0, or -errno with words: the libraries below would crash, or say nothing.
 */
static int check_descriptors(const struct config *c, struct buf *err)
{
	int fds[FDS_OF_START + FDS_OF_DEVICE * CONFIG_DEVICES_MAX], rc = 0;
	size_t want = FDS_OF_START + FDS_OF_DEVICE * c->device_count, n = 0;
	struct rlimit l = {0};
	while (n < want && rc == 0) {
		fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		rc = fds[n] < 0 ? -errno : 0;
		n += rc == 0;
	}
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	if (rc == 0)
		return 0;
	getrlimit(RLIMIT_NOFILE, &l);
	buf_printf(err,
		"%s: of %zu descriptors that a start needs %zu can be had (the limit is %llu: "
		"ulimit "
		"-n, LimitNOFILE=)",
		strerror(-rc), want, n, (unsigned long long)l.rlim_cur);
	return rc;
}

/* The path that we were started by, so that an upgrade finds what stands there by then: also where
 * it is a link. */
static int find_program(struct supervisor *s)
{
	size_t room = sizeof(s->program);
	const char *name = s->argv[0];
	ssize_t n = 0;
	if (!strchr(name, '/'))
		n = readlink("/proc/self/exe", s->program, room - 1);
	else if (name[0] != '/')
		n = getcwd(s->program, room) ? (ssize_t)strlen(s->program) : -1;
	if (n < 0)
		return -errno;
	s->program[n] = '\0';
	if (!strchr(name, '/'))
		return 0;
	int length = snprintf(s->program + n, room - (size_t)n, "%s%s", n ? "/" : "", name);
	return (size_t)length < room - (size_t)n ? 0 : -ENAMETOOLONG;
}

/* What a predecessor handed over, the run folder, the programs. 0 or an exit code. */
static int prepare(struct supervisor *s, struct buf *err)
{
	int rc = find_worker(s);
	if (rc == 0)
		rc = find_program(s);
	if (rc) {
		buf_printf(err, "%s: %s", s->worker_path, strerror(-rc));
		return EXIT_START;
	}
	if (s->successor.waiting)
		rc = rundir_join(&s->rundir, s->run_dir, s->successor.handover.lock_fd, err);
	else
		rc = rundir_open(&s->rundir, s->run_dir, err);
	if (rc)
		return rc == -EBUSY ? EXIT_ANOTHER : EXIT_START;
	return 0;
}

/* The sockets that others know; a successor's come later. 0 or -errno. */
static int open_doors(struct supervisor *s, struct buf *err)
{
	int rc = stats_start(s);
	if (rc) {
		buf_printf(err, "stats socket in %s: %s", s->run_dir, strerror(-rc));
		return rc;
	}
	if (s->successor.waiting)
		return 0;
	int given = listener_given(&s->config, &s->notify, &s->service.given);
	s->service.stored = given >= 0;
	rc = supervisor_open_front(s, given, err);
	if (rc == 0)
		rundir_take(&s->rundir);
	return rc;
}

/* Ours, or that of the tandemd before us; the one after us gets it too. 0 or -errno. */
static int take_lifeline(struct supervisor *s, struct buf *err)
{
	struct handover *h = &s->successor.handover;
	int rc = adopt_start(
		s, handover_take_extra(h, "lifeline"), handover_take_extra(h, "lifeline-read"));
	if (rc) {
		buf_printf(err, "cannot make the lifeline of the workers: %s", strerror(-rc));
		return rc;
	}
	upgrade_offer(s, "lifeline", s->adopt.write_fd);
	upgrade_offer(s, "lifeline-read", s->adopt.read_fd);
	return 0;
}

static int start_devices(struct supervisor *s, struct buf *err)
{
	for (size_t i = 0; i < s->config.device_count; i++) {
		struct device *d = device_create(s, &s->config.devices[i]);
		if (!d) {
			buf_printf(err, "out of memory for device %s", s->config.devices[i].name);
			return -ENOMEM;
		}
		s->devices[s->device_count++] = d;
	}
	for (size_t i = 0; i < s->device_count; i++)
		worker_start(s->devices[i]->current);
	return 0;
}

static int serve(struct supervisor *s, struct buf *err)
{
	int rc = open_doors(s, err);
	if (rc)
		return rc;
	rc = start_devices(s, err);
	if (rc)
		goto out;
	life_hear(s);
	if (!s->successor.waiting) {
		supervisor_in_charge(s);
	} else {
		s->service.given = s->successor.handover.given;
		s->service.stored = true; /* by the predecessor */
		rc = successor_start(s);
		if (rc)
			buf_printf(err, "cannot speak to the old tandemd: %s", strerror(-rc));
		if (rc)
			life_end(s);
		else
			successor_look(s);
	}
	uv_run(s->loop, UV_RUN_DEFAULT);
out:
	doors_stop(s);
	for (size_t i = 0; i < s->device_count; i++) {
		device_keep_rates(s->devices[i], true);
		device_destroy(s->devices[i]);
	}
	for (size_t i = 0; i < s->removed_count; i++)
		device_destroy(s->removed[i]);
	return rc;
}

static void on_late(uv_timer_t *t)
{
	*(bool *)t->data = true;
}

static void on_late_closed(uv_handle_t *h)
{
	(void)h;
}

/* Lets every handle close. False: a thread still works on something of which nobody wants to know
 * any more, a very long prompt for example. */
static bool run_out(uv_loop_t *loop)
{
	static uv_timer_t timer;
	static bool late;
	timer.data = &late;
	uv_timer_init(loop, &timer);
	uv_timer_start(&timer, on_late, LAST_WORK_MS, 0);
	uv_unref((uv_handle_t *)&timer);
	/* the last request's end stops it once more */
	while (!late && uv_run(loop, UV_RUN_ONCE))
		;
	if (late)
		return false;
	uv_close((uv_handle_t *)&timer, on_late_closed);
	uv_run(loop, UV_RUN_DEFAULT);
	return true;
}

static void remember_window(void *ctx, uint64_t beginning, double window)
{
	layout_cache_set_window(ctx, beginning, window);
}

static int run(struct supervisor *s, struct buf *err)
{
	TAILQ_INIT(&s->requests);
	TAILQ_INIT(&s->chats);
	TAILQ_INIT(&s->elders.list);
	uv_random(NULL, NULL, s->client_secret, sizeof(s->client_secret), 0, NULL);
	s->rundir.lock_fd = -1;
	signal(SIGPIPE, SIG_IGN);
	log_loop_start(s->loop);
	s->notify.quiet = s->successor.waiting;
	notify_init(&s->notify, s->loop);
	int code = prepare(s, err);
	bool begun = code == 0;
	life_init(s);
	service_init(s);
	upgrade_init(s);
	rundir_watch_init(s);
	s->started_ms = now_ms();
	s->tokens = tokens_create();
	s->governor = governor_create(s);
	if (code == 0) {
		const char *state = s->config.state_dir ? s->config.state_dir : s->run_dir;
		s->keep = keep_start(s->loop, state, (size_t)s->config.limits.state_bytes);
	}
	s->layouts = layout_cache_create((size_t)s->config.limits.layout_bytes);
	if (s->keep && s->layouts)
		keep_windows(s->keep, remember_window, s->layouts);
	if (s->keep && s->tokens)
		keep_teach(s->keep, s->tokens);
	if (code == 0 && (take_lifeline(s, err) || !s->tokens || !s->governor || !s->layouts ||
				 serve(s, err)))
		code = EXIT_START;
	if (code) {
		if (err->n == 0)
			buf_add_str(err, "out of memory");
		fprintf(stderr, "tandemd: %s\n", buf_cstr(err));
		successor_failed(s, buf_cstr(err));
	}
	governor_stop(s->governor);
	stats_stop(s);
	for (size_t i = 0; s->keep && s->tokens && tokens_model(s->tokens, i).n; i++)
		keep_tokens(s->keep, s->tokens, tokens_model(s->tokens, i));
	if (s->keep)
		keep_stop(s->keep);
	adopt_stop(s);
	successor_fini(s);
	upgrade_fini(s);
	rundir_watch_fini(s);
	elders_fini(s);
	service_fini(s);
	life_fini(s);
	notify_fini(&s->notify);
	log_loop_stop();
	if (!run_out(s->loop)) {
		rundir_close(&s->rundir);
		log_line(LOG_INFO, "stopped", LOG_INT("rc", code),
			LOG_STR("left", "work on a thread"), LOG_END);
		_exit(code); /* exit() would wait for the pool's threads */
	}
	uv_loop_close(s->loop);
	keep_destroy(s->keep);
	tokens_destroy(s->tokens);
	governor_destroy(s->governor);
	layout_cache_destroy(s->layouts);
	rundir_close(&s->rundir);
	if (begun)
		log_line(LOG_INFO, "stopped", LOG_INT("rc", code), LOG_END);
	return code;
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
	s.config_path = path;
	s.run_dir = run_dir ? run_dir : s.config.run_dir;
	s.argv = argv;
	int rc = EXIT_START;
	if (raise_fd_limit(&s, &err) || check_descriptors(&s.config, &err) ||
		!(s.loop = uv_default_loop()))
		fprintf(stderr, "tandemd: %s\n",
			err.n ? buf_cstr(&err) : "cannot make an event loop");
	else if (successor_read(&s, &err))
		fprintf(stderr, "tandemd: %s\n", buf_cstr(&err));
	else
		rc = run(&s, &err);
	buf_free(&err);
	config_free(&s.config);
	return rc;
}
