/* What an upgrade does to others: the check and the successor as processes, the talk with it, our socket. */
#include "supervisor/life/upgrade.h"

#include "common/base/log.h"
#include "supervisor/life/life.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define ARGS_MAX 64

/* --- processes --- */

static void on_closed(uv_handle_t *h)
{
	free(h);
}

static void on_process_exit(uv_process_t *p, int64_t status, int signal)
{
	struct life *l = p->data;
	struct upgrade *u = &l->upgrade;
	u->exit_status = (int)status;
	u->exit_signal = signal;
	u->ended_pid = p->pid;
	u->process = NULL;
	u->pid = 0;
	uv_close((uv_handle_t *)p, on_closed);
	if (!u->words)
		upgrade_event(l, UPGRADE_ON_EXIT);
}

static void kill_process(struct life *l, int signal)
{
	if (l->upgrade.process)
		uv_process_kill(l->upgrade.process, signal);
}

/* argv: the program, then flag if there is one, then our own arguments. */
static int start(
	struct life *l, const char *flag, uv_stdio_container_t *stdio, size_t n, char **environment)
{
	char *args[ARGS_MAX];
	int count = 0;
	args[count++] = l->program;
	if (flag)
		args[count++] = (char *)flag;
	for (char **arg = l->argv + 1; *arg; arg++) {
		if (count == ARGS_MAX - 1)
			return -E2BIG;
		args[count++] = *arg;
	}
	args[count] = NULL;
	uv_process_options_t o = {.exit_cb = on_process_exit,
		.file = args[0],
		.args = args,
		.env = environment,
		.stdio = stdio,
		.stdio_count = (int)n};
	uv_process_t *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	int rc = uv_spawn(l->loop, p, &o);
	p->data = l;
	if (rc)
		uv_close((uv_handle_t *)p, on_closed);
	else {
		l->upgrade.process = p;
		l->upgrade.pid = p->pid;
	}
	return rc;
}

/* --- the check --- */

static void on_words_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
	static char thrown_away[256];
	struct life *l = h->data;
	size_t n = strlen(l->upgrade.said), room = sizeof(l->upgrade.said) - 1 - n;
	(void)hint;
	*b = room ? uv_buf_init(l->upgrade.said + n, (unsigned)room)
		  : uv_buf_init(thrown_away, sizeof(thrown_away));
}

static void words_close(struct upgrade *u)
{
	if (u->words)
		uv_close((uv_handle_t *)u->words, on_closed);
	u->words = NULL;
}

static void on_words(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
	struct life *l = stream->data;
	struct upgrade *u = &l->upgrade;
	for (ssize_t i = 0; i < n; i++) /* one line, and a C string */
		if (b->base[i] == '\n' || b->base[i] == '\0')
			b->base[i] = ' ';
	if (n >= 0)
		return;
	words_close(u);
	if (!u->process)
		upgrade_event(l, UPGRADE_ON_EXIT);
}

static int start_check(struct life *l)
{
	struct upgrade *u = &l->upgrade;
	u->words = calloc(1, sizeof(*u->words));
	if (!u->words)
		return -ENOMEM;
	uv_pipe_init(l->loop, u->words, 0);
	u->words->data = l;
	uv_stdio_container_t stdio[3] = {
		{.flags = UV_IGNORE},
		{.flags = UV_IGNORE},
		{.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
			.data.stream = (uv_stream_t *)u->words},
	};
	int rc = start(l, "-t", stdio, 3, NULL);
	if (rc == 0)
		rc = uv_read_start((uv_stream_t *)u->words, on_words_alloc, on_words);
	if (rc)
		words_close(u);
	return rc;
}

/* --- the successor --- */

static void on_line(void *ctx, const char *line)
{
	struct life *l = ctx;
	struct upgrade *u = &l->upgrade;
	if (strcmp(line, "ready") == 0) {
		upgrade_event(l, UPGRADE_ON_READY);
	} else if (strcmp(line, "elsewhere") == 0) {
		u->elsewhere = true;
	} else if (strcmp(line, "taken") == 0) {
		upgrade_event(l, UPGRADE_ON_TAKEN);
	} else if (strncmp(line, "waiting ", 8) == 0) {
		snprintf(u->said, sizeof(u->said), "%s", line + 8);
	} else if (strncmp(line, "failed ", 7) == 0) {
		if (u->state == UPGRADE_BOOTING || u->state == UPGRADE_TAKING)
			snprintf(u->why, sizeof(u->why), "the new tandemd: %s", line + 7);
		upgrade_event(l, UPGRADE_ON_FAILED);
	}
}

static void on_end(void *ctx)
{
	upgrade_event(ctx, UPGRADE_ON_FAILED);
}

void upgrade_offer(struct life *l, const char *name, int fd)
{
	struct upgrade *u = &l->upgrade;
	if (u->extra_count == HANDOVER_EXTRA_MAX)
		return;
	struct handover_extra *e = &u->extra[u->extra_count++];
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->fd = fd;
}

static void fill_handover(struct life *l, struct handover *h)
{
	struct upgrade *u = &l->upgrade;
	struct elder *e;
	h->listen_fd = front_listen_fd(l->front);
	h->lock_fd = l->rundir.lock_fd;
	h->given = l->service.given;
	h->operation = u->operation;
	TAILQ_FOREACH(e, &l->elders.list, link)
		if (h->old_count < HANDOVER_OLD_MAX) {
			h->old[h->old_count].pid = e->pid;
			h->old[h->old_count++].fd = e->fd;
		}
	memcpy(h->extra, u->extra, sizeof(u->extra));
	h->extra_count = u->extra_count;
	if (l->metrics_fd >= 0 && h->extra_count < HANDOVER_EXTRA_MAX)
		h->extra[h->extra_count++] =
			(struct handover_extra){.name = "metrics", .fd = l->metrics_fd};
	for (size_t i = 0; i < l->devices->count; i++)
		if ((l->devices->of[i]->conf->roles & ROLE_MAIN) &&
			l->devices->of[i]->state == WORKER_READY)
			snprintf(h->wait[h->wait_count++], CONFIG_NAME_BYTES, "%s",
				l->devices->of[i]->conf->name);
}

/* Our environment with what only the successor may see. The strings are borrowed. */
static char **make_environment(const struct buf *more)
{
	size_t n = 0;
	for (char **e = environ; *e; e++)
		n++;
	for (size_t i = 0; i < more->n; i++)
		n += more->p[i] == '\0';
	char **all = calloc(n + 1, sizeof(*all));
	if (!all)
		return NULL;
	n = 0;
	for (char **e = environ; *e; e++)
		all[n++] = *e;
	for (char *p = more->p; p < more->p + more->n; p += strlen(p) + 1)
		all[n++] = p;
	return all;
}

static int spawn_successor(struct life *l, struct handover *h)
{
	int fds[HANDOVER_FDS_MAX];
	uv_stdio_container_t stdio[HANDOVER_FDS_MAX] = {
		{.flags = UV_IGNORE},
		{.flags = UV_INHERIT_FD, .data.fd = 1},
		{.flags = UV_INHERIT_FD, .data.fd = 2},
	};
	struct buf more;
	buf_init(&more, 0);
	size_t n = handover_write(h, &more, fds);
	notify_environment(&l->notify, &more);
	for (size_t i = HANDOVER_FIRST_FD; i < n; i++) {
		stdio[i].flags = UV_INHERIT_FD;
		stdio[i].data.fd = fds[i];
	}
	char **environment = buf_error(&more) ? NULL : make_environment(&more);
	int rc = environment ? start(l, NULL, stdio, n, environment) : -ENOMEM;
	free(environment);
	buf_free(&more);
	return rc;
}

static int start_successor(struct life *l)
{
	static const struct talk_events events = {.line = on_line, .end = on_end};
	struct handover h = {0};
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	int self = pidfd_open(getpid(), 0), rc = self < 0 ? -errno : 0;
	if (rc == 0) {
		h.talk_fd = pair[1];
		h.old[0].pid = getpid();
		h.old[0].fd = self;
		h.old_count = 1;
		fill_handover(l, &h);
		rc = spawn_successor(l, &h);
		close(self);
	}
	close(pair[1]);
	if (rc == 0)
		return talk_open(l->loop, pair[0], &events, l, &l->upgrade.talk);
	close(pair[0]);
	return rc;
}

/* --- the rest --- */

static void say(struct life *l, const char *word)
{
	if (l->upgrade.talk)
		talk_say(l->upgrade.talk, "%s", word);
}

static void hang_up(struct life *l)
{
	words_close(&l->upgrade);
	talk_close(l->upgrade.talk);
	l->upgrade.talk = NULL;
}

static int keep_socket(struct life *l)
{
	return fcntl(front_listen_fd(l->front), F_DUPFD_CLOEXEC, 0);
}

/* A successor outlives us. */
static void let_go(struct life *l)
{
	if (l->upgrade.process)
		uv_close((uv_handle_t *)l->upgrade.process, on_closed);
	l->upgrade.process = NULL;
}

const struct upgrade_hands upgrade_hands = {.check = start_check,
	.boot = start_successor,
	.kill = kill_process,
	.say = say,
	.hang_up = hang_up,
	.let_go = let_go,
	.keep_socket = keep_socket,
	.open_again = doors_again,
	.in_charge = service_in_charge};
