/*
 * A worker's life: one table, states x events -> action. Every action is a few lines; a cell left
 * empty ignores the event.
 *
 *   STOPPED --start--> SPAWNING --hello--> LOADING <--not ready / ready--> READY
 *      ^                  any of these --exit--> BACKOFF --timer--> SPAWNING
 *      '----exit---- STOPPING <--stop-- any
 */
#include "supervisor/worker.h"

#include "common/log.h"
#include "supervisor/chat.h"
#include "supervisor/job.h"
#include "supervisor/spawn.h"
#include "supervisor/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WORKER_STOP_MS 10000 /* TERM to KILL: the worker itself gives its backend some seconds */
#define PINGS_MISSED_MAX 3

enum worker_event {
	EV_START,
	EV_HELLO,
	EV_READY,
	EV_NOT_READY,
	EV_EXIT,
	EV_TIMER,
	EV_GIVE_UP,
	EV_STOP,
	WORKER_EVENTS
};

static void worker_event(struct device *d, enum worker_event e);

const char *worker_state_name(enum worker_state s)
{
	static const char *const names[WORKER_STATES] = {
		"stopped", "spawning", "loading", "ready", "stopping", "back-off"};
	return names[s];
}

bool worker_gone(const struct device *d)
{
	return d->process == NULL;
}

static void enter(struct device *d, enum worker_state state)
{
	if (d->state == state)
		return;
	log_line(LOG_INFO, "worker_state", LOG_STR("device", d->conf->name),
		LOG_INT("generation", d->generation), LOG_STR("from", worker_state_name(d->state)),
		LOG_STR("to", worker_state_name(state)), LOG_INT("worker_pid", d->pid),
		LOG_STR("detail", d->backend.detail), LOG_END);
	if (d->state == WORKER_READY)
		d->not_ready_since_ms = now_ms();
	d->state = state;
	supervisor_devices_changed(d->sup);
}

static void on_timer(uv_timer_t *t)
{
	worker_event(t->data, EV_TIMER);
}

static void link_url(const struct device *d, char *out, size_t n, bool with_scheme)
{
	/* Our pid: during an upgrade two tandemds have sockets in the folder. */
	snprintf(out, n, "%s%s/w%x-%u-%llu.ipc", with_scheme ? "ipc://" : "", d->sup->run_dir,
		(unsigned)getpid(), d->number, (unsigned long long)d->generation);
}

/* --- what the link brings --- */

static void send_ack(struct device *d)
{
	const struct config *c = &d->sup->config;
	const struct config_device *conf = d->conf;
	struct proto_record r = {.type = PROTO_ACK};
	struct proto_ack *a = &r.u.ack;
	a->device = slice_str(conf->name);
	a->backend_type = (uint32_t)conf->backend.type;
	a->url = slice_str(conf->backend.url);
	for (char **arg = conf->backend.command; arg && *arg && a->command_count < PROTO_ARGS_MAX;
		arg++)
		a->command[a->command_count++] = slice_str(*arg);
	a->pin = slice_str(conf->pin);
	a->model = slice_str(conf->model);
	a->num_ctx = conf->num_ctx;
	a->slots = conf->slots;
	a->boot_ms = c->deadlines.worker_boot_ms;
	a->connect_ms = c->deadlines.backend_connect_ms;
	a->idle_ms = c->deadlines.backend_idle_ms;
	a->body_bytes = chat_sent_bytes_max(c);
	a->line_bytes = c->limits.line_bytes;
	a->result_bytes = c->condense.result_bytes;
	a->log_level = c->log.level;
	a->log_format = c->log.format;
	a->log_content = c->log.content;
	channel_put(d->channel, &r);
}

static void give_up(struct device *d, const char *why)
{
	log_line(LOG_ERROR, "worker_given_up", LOG_STR("device", d->conf->name),
		LOG_INT("generation", d->generation), LOG_INT("worker_pid", d->pid),
		LOG_STR("why", why), LOG_END);
	worker_event(d, EV_GIVE_UP);
}

static void on_hello(struct device *d, const struct proto_hello *h)
{
	uint64_t peer = channel_peer_pid(d->channel);
	if (h->pid != (uint32_t)d->pid || (peer && peer != (uint64_t)d->pid))
		give_up(d, "HELLO from another process");
	else if (!slice_eq(h->version, SLICE(TANDEM_VERSION)))
		give_up(d, "HELLO from another version of tandem-worker");
	else if (!slice_eq(h->device, slice_str(d->conf->name)))
		give_up(d, "HELLO for another device");
	else
		worker_event(d, EV_HELLO);
}

static void copy(char *to, size_t n, struct slice from)
{
	size_t len = from.n < n - 1 ? from.n : n - 1;
	if (len < from.n)
		while (len > 0 && ((unsigned char)from.p[len] & 0xC0) == 0x80)
			len--;
	if (len)
		memcpy(to, from.p, len);
	to[len] = '\0';
}

static void on_state(struct device *d, const struct proto_state *st)
{
	d->backend.state = st->state;
	copy(d->backend.detail, sizeof(d->backend.detail), st->detail);
	copy(d->backend.url, sizeof(d->backend.url), st->url);
	copy(d->backend.model, sizeof(d->backend.model), st->model);
	d->backend.pid = st->backend_pid;
	d->backend.window = st->window;
	d->backend.slots = st->slots;
	log_line(st->state == STATE_DOWN ? LOG_WARN : LOG_INFO, "backend_state",
		LOG_STR("device", d->conf->name), LOG_STR("state", proto_state_name(st->state)),
		LOG_STR("url", d->backend.url), LOG_INT("window", st->window),
		LOG_STR("detail", d->backend.detail), LOG_END);
	worker_event(d, st->state == STATE_READY ? EV_READY : EV_NOT_READY);
	supervisor_devices_changed(d->sup); /* the detail may be new */
}

static void on_record(void *ctx, const struct proto_record *r)
{
	struct device *d = ctx;
	if (d->state == WORKER_SPAWNING && r->type != PROTO_HELLO) {
		give_up(d, "spoke before HELLO");
		return;
	}
	switch (r->type) {
	case PROTO_HELLO:
		on_hello(d, &r->u.hello);
		break;
	case PROTO_STATE:
		on_state(d, &r->u.state);
		break;
	case PROTO_MODELS:
		device_models(d, &r->u.models);
		break;
	case PROTO_PONG:
		d->pong_seq = r->u.ping.seq;
		break;
	case PROTO_STATS:
		break;
	case PROTO_START:
	case PROTO_DELTA:
	case PROTO_END:
	case PROTO_FAIL:
	case PROTO_CREDIT:
		job_record(d, r);
		break;
	default:
		give_up(d, "sent a record that only a supervisor sends");
	}
}

static void on_peer(void *ctx, bool connected)
{
	/* Deaths are seen by the exit callback; a worker that only drops its link exits by itself.
	 */
	struct device *d = ctx;
	log_line(LOG_DEBUG, "worker_link", LOG_STR("device", d->conf->name),
		LOG_STR("peer", connected ? "up" : "gone"), LOG_END);
}

static void on_broken(void *ctx, int error, const char *what)
{
	(void)error;
	give_up(ctx, what);
}

static void on_ping(uv_timer_t *t)
{
	struct device *d = t->data;
	if (d->ping_seq && d->pong_seq != d->ping_seq && ++d->pings_missed >= PINGS_MISSED_MAX) {
		uv_timer_stop(t);
		give_up(d, "silent: missed its heartbeats");
		return;
	}
	if (d->pong_seq == d->ping_seq) {
		d->pings_missed = 0;
		d->ping_seq++;
	}
	struct proto_record r = {.type = PROTO_PING};
	r.u.ping.seq = d->ping_seq;
	channel_put(d->channel, &r);
}

/* --- process --- */

static void on_process_closed(uv_handle_t *h)
{
	struct device *d = h->data;
	free(h);
	supervisor_check_stopped(d->sup);
}

static void on_process_exit(uv_process_t *p, int64_t status, int signal)
{
	struct device *d = p->data;
	if (signal)
		snprintf(d->last_exit, sizeof(d->last_exit), "signal %d", signal);
	else
		snprintf(d->last_exit, sizeof(d->last_exit), "exit %lld", (long long)status);
	log_line(d->state == WORKER_STOPPING ? LOG_INFO : LOG_WARN, "worker_exit",
		LOG_STR("device", d->conf->name), LOG_INT("generation", d->generation),
		LOG_INT("worker_pid", d->pid), LOG_STR("exit", d->last_exit),
		LOG_STR("detail", d->backend.detail), LOG_END);
	/* What it said before it died still counts: an answer's END may be in the socket. The state
	 * changes first, so that the slot this frees gives no job to a dead worker. */
	worker_event(d, EV_EXIT);
	channel_drain(d->channel);
	char path[512];
	link_url(d, path, sizeof(path), false);
	channel_close(d->channel);
	d->channel = NULL;
	unlink(path);
	uv_timer_stop(&d->ping);
	d->process = NULL;
	d->pid = 0;
	d->backend.pid = 0;
	uv_close((uv_handle_t *)p, on_process_closed);
	jobs_lost(d);
}

static int spawn(struct device *d)
{
	static const struct channel_events events = {
		.record = on_record, .peer = on_peer, .broken = on_broken};
	char url[512], generation[24];
	d->generation++;
	link_url(d, url, sizeof(url), true);
	snprintf(generation, sizeof(generation), "%llu", (unsigned long long)d->generation);
	const char *args[] = {d->sup->worker_path, "--link", url, "--generation", generation,
		"--device", d->conf->name, NULL};

	struct channel_options o = {.generation = d->generation,
		.queue_bytes = (size_t)d->sup->config.limits.link_bytes};
	int rc = channel_listen(d->sup->loop, url, &o, &events, d, &d->channel);
	if (rc)
		return rc;
	d->process = calloc(1, sizeof(*d->process));
	rc = d->process ? spawn_worker(d->sup->loop, d->process, args, on_process_exit) : -ENOMEM;
	if (rc == 0) {
		d->process->data = d;
		d->pid = d->process->pid;
		return 0;
	}
	if (d->process) {
		/* libuv wants even a handle whose spawn failed to be closed; on_process_closed
		 * needs the device. */
		d->process->data = d;
		uv_close((uv_handle_t *)d->process, on_process_closed);
		d->process = NULL;
	}
	channel_close(d->channel);
	d->channel = NULL;
	return rc;
}

/* --- actions --- */

static void act_back_off(struct device *d)
{
	const struct config *c = &d->sup->config;
	uint64_t first = (uint64_t)c->backoff.first_ms, most = (uint64_t)c->backoff.max_ms;
	/* Ready for as long as the longest delay: this death has little to do with the last one. */
	bool healthy = d->ready_since_ms && now_ms() - d->ready_since_ms >= most;
	d->backoff_ms = d->backoff_ms == 0 || healthy ? first : d->backoff_ms * 2;
	if (d->backoff_ms > most)
		d->backoff_ms = most;
	d->ready_since_ms = 0;
	enter(d, WORKER_BACKOFF);
	uv_timer_start(&d->timer, on_timer, d->backoff_ms, 0);
}

static void act_spawn(struct device *d)
{
	d->ping_seq = d->pong_seq = 0;
	d->pings_missed = 0;
	d->backend.detail[0] = '\0';
	d->backend.state = STATE_STARTING;
	if (d->generation)
		d->restarts++;
	int rc = spawn(d);
	if (rc) {
		snprintf(d->last_exit, sizeof(d->last_exit), "not started: %s", uv_strerror(rc));
		log_line(LOG_ERROR, "worker_spawn", LOG_STR("device", d->conf->name),
			LOG_STR("error", uv_strerror(rc)), LOG_END);
		act_back_off(d);
		return;
	}
	enter(d, WORKER_SPAWNING);
	uv_timer_start(&d->timer, on_timer, (uint64_t)d->sup->config.deadlines.hello_ms, 0);
}

static void act_ack(struct device *d)
{
	uv_timer_stop(&d->timer);
	send_ack(d);
	enter(d, WORKER_LOADING);
	uint64_t period = (uint64_t)d->sup->config.deadlines.ping_ms;
	uv_timer_start(&d->ping, on_ping, period, period);
}

static void act_ready(struct device *d)
{
	if (d->state != WORKER_READY)
		d->ready_since_ms = now_ms();
	enter(d, WORKER_READY);
	jobs_kick(d);
}

static void act_unready(struct device *d)
{
	enter(d, WORKER_LOADING);
	jobs_unready(d);
}

static void act_kill(struct device *d)
{
	uv_timer_stop(&d->timer);
	uv_timer_stop(&d->ping);
	if (d->state != WORKER_STOPPING)
		enter(d, WORKER_LOADING); /* takes no new work while it dies */
	if (d->process)
		uv_process_kill(d->process, SIGKILL);
}

static void act_hello_late(struct device *d)
{
	log_line(LOG_ERROR, "worker_given_up", LOG_STR("device", d->conf->name),
		LOG_INT("worker_pid", d->pid), LOG_STR("why", "no HELLO within hello_ms"), LOG_END);
	act_kill(d);
}

static void act_stop(struct device *d)
{
	enter(d, WORKER_STOPPING);
	uv_timer_stop(&d->ping);
	uv_process_kill(d->process, SIGTERM);
	uv_timer_start(&d->timer, on_timer, WORKER_STOP_MS, 0);
}

static void act_stopped(struct device *d)
{
	uv_timer_stop(&d->timer);
	enter(d, WORKER_STOPPED);
}

typedef void action_fn(struct device *d);

static action_fn *const actions[WORKER_STATES][WORKER_EVENTS] = {
	[WORKER_STOPPED] = {[EV_START] = act_spawn},
	[WORKER_SPAWNING] = {[EV_HELLO] = act_ack,
		[EV_EXIT] = act_back_off,
		[EV_TIMER] = act_hello_late,
		[EV_GIVE_UP] = act_kill,
		[EV_STOP] = act_stop},
	[WORKER_LOADING] = {[EV_READY] = act_ready,
		[EV_EXIT] = act_back_off,
		[EV_GIVE_UP] = act_kill,
		[EV_STOP] = act_stop},
	[WORKER_READY] = {[EV_READY] = act_ready,
		[EV_NOT_READY] = act_unready,
		[EV_EXIT] = act_back_off,
		[EV_GIVE_UP] = act_kill,
		[EV_STOP] = act_stop},
	[WORKER_STOPPING] =
		{[EV_EXIT] = act_stopped, [EV_TIMER] = act_kill, [EV_GIVE_UP] = act_kill},
	[WORKER_BACKOFF] =
		{[EV_TIMER] = act_spawn, [EV_START] = act_spawn, [EV_STOP] = act_stopped},
};

static void worker_event(struct device *d, enum worker_event e)
{
	action_fn *act = actions[d->state][e];
	if (act)
		act(d);
}

void worker_start(struct device *d)
{
	worker_event(d, EV_START);
}

void worker_stop(struct device *d)
{
	worker_event(d, EV_STOP);
}
