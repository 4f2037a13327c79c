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
	put_string(b, "url", d->backend.url[0] ? d->backend.url : d->conf->backend.url);
	json_put_key(b, "pid");
	if (d->backend.pid > 0)
		json_put_int(b, d->backend.pid);
	else
		buf_add_str(b, "null");
	put_string(b, "model", device_model(d));
	put_string(b, "state", proto_state_name(d->backend.state));
	put_string(b, "detail", d->backend.detail);
	put_int(b, "window", device_window(d));
	put_int(b, "models", (int64_t)d->model_count);
	buf_add_char(b, '}');
}

static unsigned waiting(const struct device *d)
{
	unsigned n = 0;
	const struct job *j;
	TAILQ_FOREACH(j, &d->waiting, link)
	n++;
	return n;
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
	if (d->pid > 0)
		json_put_int(b, d->pid);
	else
		buf_add_str(b, "null");
	put_int(b, "generation", (int64_t)d->generation);
	put_int(b, "restarts", (int64_t)d->restarts);
	put_string(b, "last_exit", d->last_exit);
	put_backend(b, d);
	put_int(b, "slots", device_slots(d));
	put_int(b, "inflight", d->inflight);
	put_int(b, "waiting", waiting(d));
	buf_printf(b, ",\"jobs\":{\"done\":%llu,\"failed\":%llu}", (unsigned long long)d->jobs_done,
		(unsigned long long)d->jobs_failed);
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
		"\"fallbacks\":%llu,\"passed\":%llu,\"resumed\":%llu,"
		"\"by_strategy\":{\"A\":%llu,\"B\":%llu,\"C\":%llu}}",
		s->active, (unsigned long long)c->requests, (unsigned long long)c->failed,
		(unsigned long long)c->cancelled, (unsigned long long)c->fallbacks,
		(unsigned long long)c->passed, (unsigned long long)c->resumed,
		(unsigned long long)c->by_strategy[0], (unsigned long long)c->by_strategy[1],
		(unsigned long long)c->by_strategy[2]);
	buf_printf(b, ",\"queue\":{\"waiting\":%u},\"connections\":%u,\"held_bytes\":%zu}",
		s->queued, connections, s->held_bytes);
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
