/* What a worker's link brings, and what it is told over it. */
#include "supervisor/devices/worker.h"

#include "common/base/log.h"
#include "supervisor/devices/devices.h"

#include <stdlib.h>

#define PINGS_MISSED_MAX 3
/* Beyond the silence that a worker itself allows a backend (deadlines.backend_idle_ms): jobs that
 * stand still for so many pings more say that the worker does, however well its pings are answered.
 */
#define STALL_GRACE_PINGS 15

/* --- to the worker --- */

void worker_send_ack(struct worker *w)
{
	const struct device *d = w->device;
	const struct config *c = d->all->config;
	const struct config_device *conf = d->conf;
	struct proto_record r = {.type = PROTO_ACK};
	struct proto_ack *a = &r.u.ack;
	a->device = slice_str(conf->name);
	a->backend_type = (uint32_t)conf->backend.type;
	a->url = slice_str(conf->backend.url);
	a->key_file = slice_str(conf->backend.key_file);
	a->ca_file = slice_str(conf->backend.ca_file);
	for (char **arg = conf->backend.command; arg && *arg && a->command_count < PROTO_ARGS_MAX;
		arg++)
		a->command[a->command_count++] = slice_str(*arg);
	a->pin = slice_str(conf->pin);
	a->model = slice_str(conf->model);
	a->settled = slice_str(conf->model ? NULL : d->settled);
	a->num_ctx = conf->num_ctx;
	a->slots = conf->slots;
	a->boot_ms = c->deadlines.worker_boot_ms;
	a->connect_ms = c->deadlines.backend_connect_ms;
	a->idle_ms = c->deadlines.backend_idle_ms;
	a->line_bytes = c->limits.line_bytes;
	a->result_bytes = c->condense.result_bytes;
	a->log_level = c->log.level;
	a->log_format = c->log.format;
	a->log_content = c->log.content;
	a->run_dir = slice_str(d->all->run_dir);
	a->state_dir = slice_str(c->state_dir ? c->state_dir : d->all->run_dir);
	a->backend_log_bytes = c->limits.backend_log_bytes;
	a->kv_ms = c->deadlines.kv_ms;
	a->kv_idle_ms = c->deadlines.kv_idle_ms;
	a->kv_bytes = c->state_dir ? c->limits.kv_bytes : 0; /* run_dir may be memory */
	a->log_buffer_bytes = c->log.buffer_bytes;
	a->first_ms = c->deadlines.backend_first_byte_ms;
	a->silent_ms = c->deadlines.backend_silent_ms;
	w->on->ack(w, a);
	channel_put(w->channel, &r);
}

void worker_send_drain(struct worker *w)
{
	struct proto_record r = {.type = PROTO_DRAIN};
	const struct devices *s = w->device->all;
	/* Of a tandemd that has retired: its streams are through. */
	r.u.drain.deadline_ms = s->keep_backends ? 0 : s->config->deadlines.drain_ms;
	r.u.drain.keep_backend = w->keep_backend;
	channel_put(w->channel, &r);
}

static void give_up(struct worker *w, enum worker_event e, const char *why)
{
	log_line(LOG_ERROR, "worker_given_up", LOG_STR("device", w->device->conf->name),
		LOG_INT("generation", w->generation), LOG_INT("worker_pid", w->pid),
		LOG_STR("why", why), LOG_END);
	worker_event(w, e);
}

static bool send_ping(struct worker *w)
{
	struct proto_record r = {.type = PROTO_PING};
	r.u.ping.seq = w->ping_seq;
	return channel_put(w->channel, &r) == 0;
}

static void on_ping(uv_timer_t *t)
{
	struct worker *w = t->data;
	const struct config *c = w->device->all->config;
	uint64_t stall = (uint64_t)c->deadlines.backend_idle_ms +
			 STALL_GRACE_PINGS * (uint64_t)c->deadlines.ping_ms;
	if (w->ping_seq && w->pong_seq != w->ping_seq && ++w->pings_missed >= PINGS_MISSED_MAX) {
		give_up(w, EV_SILENT, "silent: missed its heartbeats");
		return;
	}
	if (w->report.active > 0 && now_ms() - w->moved_ms > stall) {
		give_up(w, EV_SILENT, "stalled: its jobs make no progress");
		return;
	}
	if (w->pong_seq == w->ping_seq) {
		w->pings_missed = 0;
		w->ping_seq++;
	}
	send_ping(w);
}

void worker_ping_start(struct worker *w)
{
	uint64_t period = (uint64_t)w->device->all->config->deadlines.ping_ms;
	w->moved_ms = now_ms();
	uv_timer_start(&w->ping, on_ping, period, period);
}

/* --- its log --- */

/* A ping between those of the timer. One that is on its way to its end by itself is not asked: its
 * log is written when its process has gone. */
bool worker_flush(struct worker *w)
{
	bool talks = w->state == WORKER_LOADING || w->state == WORKER_READY ||
		     w->state == WORKER_DRAINING;
	if (!talks || !w->channel)
		return worker_flushing(w);
	w->ping_seq++;
	if (send_ping(w))
		w->flush_seq = w->ping_seq;
	return worker_flushing(w);
}

bool worker_flushing(struct worker *w)
{
	return worker_has_process(w) && w->flush_seq > w->pong_seq;
}

/* --- from the worker --- */

static void on_hello(struct worker *w, const struct proto_hello *h)
{
	uint64_t peer = channel_peer_pid(w->channel);
	if (h->pid != (uint32_t)w->pid || (peer && peer != (uint64_t)w->pid))
		give_up(w, EV_GIVE_UP, "HELLO from another process");
	else if (!slice_eq(h->version, SLICE(TANDEM_VERSION)))
		give_up(w, EV_GIVE_UP, "HELLO from another version of tandem-worker");
	else if (!slice_eq(h->device, slice_str(w->device->conf->name)))
		give_up(w, EV_GIVE_UP, "HELLO for another device");
	else
		worker_event(w, EV_HELLO);
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

static void on_state(struct worker *w, const struct proto_state *st)
{
	struct worker_backend *b = &w->backend;
	b->state = st->state;
	copy(b->detail, sizeof(b->detail), st->detail);
	copy(b->url, sizeof(b->url), st->url);
	copy(b->model, sizeof(b->model), st->model);
	if (st->model.n && !w->device->conf->model)
		copy(w->device->settled, sizeof(w->device->settled), st->model);
	b->pid = st->backend_pid;
	b->start = st->backend_start;
	b->window = st->window;
	b->slots = st->slots;
	b->traits = st->traits;
	if (st->state == STATE_READY) {
		w->device->traits = st->traits;
		w->device->traits_of = w->device->conf->backend.type;
	}
	foresight_puts_aside(&w->device->foresight, device_similarity(w->device));
	b->serving = st->serving;
	b->serving.cache_type = (struct slice){0};
	copy(b->cache_type, sizeof(b->cache_type), st->serving.cache_type);
	log_line(st->state == STATE_DOWN ? LOG_WARN : LOG_INFO, "backend_state",
		LOG_STR("device", w->device->conf->name), LOG_INT("generation", w->generation),
		LOG_STR("state", proto_state_name(st->state)), LOG_STR("url", b->url),
		LOG_INT("window", st->window), LOG_STR("detail", b->detail), LOG_END);
	w->on->learned(w);
	worker_event(w, st->state == STATE_READY ? EV_READY : EV_NOT_READY);
	devices_changed(w->device->all); /* the detail may be new */
}

static void on_pong(struct worker *w, const struct proto_record *r)
{
	w->pong_seq = r->u.ping.seq;
	w->pings_missed = 0; /* it lives, even where it was asked again meanwhile */
	if (w->report.progress != r->u.ping.progress || r->u.ping.active == 0)
		w->moved_ms = now_ms();
	report_take(&w->report, &w->device->sums, r, now_ms());
}

static void on_record(void *ctx, const struct proto_record *r)
{
	struct worker *w = ctx;
	if (w->state == WORKER_SPAWNING && r->type != PROTO_HELLO) {
		give_up(w, EV_GIVE_UP, "spoke before HELLO");
		return;
	}
	switch (r->type) {
	case PROTO_HELLO:
		on_hello(w, &r->u.hello);
		break;
	case PROTO_STATE:
		on_state(w, &r->u.state);
		break;
	case PROTO_PONG:
		on_pong(w, r);
		break;
	case PROTO_STATS:
		report_take(&w->report, &w->device->sums, r, now_ms());
		devices_flushed(w->device->all);
		break;
	case PROTO_MODELS:
	case PROTO_KEPT:
	case PROTO_START:
	case PROTO_DELTA:
	case PROTO_END:
	case PROTO_FAIL:
	case PROTO_CREDIT:
		w->on->record(w, r);
		break;
	case PROTO_LOG:
		worker_logged(w, r);
		break;
	case PROTO_BYE:
		channel_hang_up(w->channel);
		break;
	default:
		give_up(w, EV_GIVE_UP, "sent a record that only a supervisor sends");
	}
}

static void on_peer(void *ctx, bool connected)
{
	/* Deaths are seen by the exit callback; a worker that only drops its link exits by itself.
	 */
	struct worker *w = ctx;
	log_line(LOG_DEBUG, "worker_link", LOG_STR("device", w->device->conf->name),
		LOG_INT("generation", w->generation), LOG_STR("peer", connected ? "up" : "gone"),
		LOG_END);
}

static void on_broken(void *ctx, int error, const char *what)
{
	(void)error;
	give_up(ctx, EV_GIVE_UP, what);
}

static void on_room(void *ctx)
{
	struct worker *w = ctx;
	w->on->room(w);
}

const struct channel_events worker_link_events = {
	.record = on_record, .peer = on_peer, .broken = on_broken, .room = on_room};
