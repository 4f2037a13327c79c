#include "supervisor/stats.h"

#include "common/json.h"
#include "common/log.h"
#include "supervisor/job.h"
#include "supervisor/worker.h"

#include <stdio.h>
#include <unistd.h>

/* --- the document --- */

static void put_string(struct buf *b, const char *key, const char *value)
{
	json_put_key(b, key);
	if (value && *value)
		json_put_string(b, slice_str(value));
	else
		buf_add_str(b, "null");
}

static void put_int(struct buf *b, const char *key, int64_t value)
{
	json_put_key(b, key);
	json_put_int(b, value);
}

static void put_real(struct buf *b, const char *key, double value)
{
	json_put_key(b, key);
	buf_printf(b, "%.1f", value);
}

static void put_backend(struct buf *b, const struct device *d)
{
	json_put_key(b, "backend");
	buf_add_char(b, '{');
	put_string(b, "type", backend_type_name(d->conf->backend.type));
	const struct worker_backend *now = device_backend(d);
	put_string(b, "url", now->url[0] ? now->url : d->conf->backend.url);
	json_put_key(b, "pid");
	if (now->pid > 0)
		json_put_int(b, now->pid);
	else
		buf_add_str(b, "null");
	put_string(b, "model", device_model(d));
	put_string(b, "state", proto_state_name(now->state));
	put_string(b, "detail", now->detail);
	put_int(b, "window", device_window(d));
	put_int(b, "models", (int64_t)d->model_count);
	buf_add_char(b, '}');
}

static void put_queue(struct buf *b, const struct device *d)
{
	json_put_key(b, "queue");
	buf_add_char(b, '{');
	for (int c = 0; c < JOB_CLASSES; c++)
		put_int(b, job_class_name((enum job_class)c), d->queue.class[c].waiting);
	buf_add_char(b, '}');
}

/* The whole queue: what waits, of how many clients (each device's counted by itself), how long. */
static void put_queues(struct buf *b, const struct supervisor *s)
{
	unsigned clients = 0;
	uint64_t oldest = 0;
	for (size_t i = 0; i < s->device_count; i++) {
		uint64_t ms = jobs_oldest_ms(s->devices[i]);
		clients += queue_clients(&s->devices[i]->queue);
		oldest = ms > oldest ? ms : oldest;
	}
	json_put_key(b, "queue");
	buf_add_char(b, '{');
	put_int(b, "waiting", s->queued);
	put_int(b, "clients", clients);
	put_int(b, "oldest_ms", (int64_t)oldest);
	buf_add_char(b, '}');
}

static void put_device(struct buf *b, const struct device *d)
{
	buf_add_char(b, '{');
	put_string(b, "name", d->conf->name);
	json_put_key(b, "roles");
	buf_add_char(b, '[');
	if (d->conf->roles & ROLE_MAIN)
		buf_add_str(b, "\"main\"");
	if (d->conf->roles & ROLE_CONDENSE)
		buf_add_str(b, d->conf->roles & ROLE_MAIN ? ",\"condense\"" : "\"condense\"");
	buf_add_char(b, ']');
	put_string(b, "state", worker_state_name(d->state));
	json_put_key(b, "pid");
	if (d->current->pid > 0)
		json_put_int(b, d->current->pid);
	else
		buf_add_str(b, "null");
	put_int(b, "generation", (int64_t)d->current->generation);
	put_int(b, "restarts", (int64_t)d->restarts);
	put_string(b, "last_exit", d->last_exit);
	put_backend(b, d);
	put_int(b, "slots", device_slots(d));
	put_int(b, "inflight", d->inflight);
	put_int(b, "waiting", jobs_waiting(d));
	put_queue(b, d);
	buf_printf(b, ",\"jobs\":{\"done\":%llu,\"failed\":%llu,\"preempted\":%llu}",
		(unsigned long long)d->jobs_done, (unsigned long long)d->jobs_failed,
		(unsigned long long)d->jobs_preempted);
	put_real(b, "prefill_tok_s", d->prefill_tok_s);
	put_real(b, "decode_tok_s", d->decode_tok_s);
	buf_add_char(b, '}');
}

void stats_status(const struct supervisor *s, struct buf *b)
{
	const struct counters *c = &s->count;
	unsigned connections = 0, exchanges = 0;
	if (s->front)
		front_counts(s->front, &connections, &exchanges);
	buf_add_char(b, '{');
	put_string(b, "version", TANDEM_VERSION);
	put_int(b, "pid", getpid());
	put_real(b, "uptime_s", (double)(now_ms() - s->started_ms) / 1000.0);
	put_string(b, "listen", s->front ? front_address(s->front) : NULL);
	json_put_key(b, "devices");
	buf_add_char(b, '[');
	for (size_t i = 0; i < s->device_count; i++) {
		if (i)
			buf_add_char(b, ',');
		put_device(b, s->devices[i]);
	}
	buf_add_char(b, ']');
	buf_printf(b,
		",\"requests\":{\"active\":%u,\"total\":%llu,\"failed\":%llu,\"cancelled\":%llu,"
		"\"fallbacks\":%llu,\"passed\":%llu,\"coalesced\":%llu,"
		"\"by_strategy\":{\"A\":%llu,\"B\":%llu,\"C\":%llu}}",
		s->active, (unsigned long long)c->requests, (unsigned long long)c->failed,
		(unsigned long long)c->cancelled, (unsigned long long)c->fallbacks,
		(unsigned long long)c->passed, (unsigned long long)c->coalesced,
		(unsigned long long)c->by_strategy[0], (unsigned long long)c->by_strategy[1],
		(unsigned long long)c->by_strategy[2]);
	put_queues(b, s);
	buf_printf(b, ",\"connections\":%u,\"held_bytes\":%zu}", connections, s->held_bytes);
}

/* --- the socket --- */

static void answer(void *ctx, struct slice request, struct buf *out)
{
	while (request.n && (request.p[request.n - 1] == '\n' || request.p[request.n - 1] == '\0' ||
				    request.p[request.n - 1] == ' '))
		request.n--;
	if (slice_eq(request, SLICE("status"))) {
		stats_status(ctx, out);
		return;
	}
	buf_add_str(out, "{\"error\":\"unknown request; known: status\"}");
}

int stats_start(struct supervisor *s, struct rep **out)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/stats.ipc", s->run_dir);
	int rc = rep_start(s->loop, path, answer, s, out);
	if (rc)
		log_line(LOG_ERROR, "stats_socket", LOG_STR("path", path),
			LOG_STR("error", strerror(-rc)), LOG_END);
	return rc;
}
