/* The lists: workers, jobs, queues, backends. */
#include "supervisor/job.h"
#include "supervisor/stats.h"
#include "supervisor/stats_put.h"
#include "supervisor/worker.h"

/* --- workers --- */

void stats_put_worker(struct buf *b, const struct worker *w)
{
	const struct report *r = &w->report;
	const struct device *d = w->device;
	bool lives = w->pid > 0, heard = lives && r->heard_ms > 0;
	uint64_t now = now_ms();
	put_string(b, "state", worker_state_name(w->state));
	put_int_if(b, "pid", lives, w->pid);
	put_int(b, "generation", (int64_t)w->generation);
	put_int_if(b, "uptime_ms", lives, (int64_t)(now - r->begun_ms));
	put_int(b, "restarts", (int64_t)d->restarts);
	put_string(b, "last_exit", d->last_exit);
	put_int_if(b, "heartbeat_ms", heard, (int64_t)(now - r->heard_ms));
}

static const char *part(const struct worker *w)
{
	if (w->device->removed)
		return "removed";
	return w == w->device->current ? "current" : w == w->device->next ? "next" : "old";
}

static void put_worker(struct buf *b, const struct worker *w)
{
	const struct report *r = &w->report;
	bool lives = w->pid > 0, heard = lives && r->heard_ms > 0;
	put_element(b);
	put_string(b, "device", w->device->conf->name);
	put_string(b, "part", part(w));
	stats_put_worker(b, w);
	put_int_if(b, "missed_heartbeats", lives, w->pings_missed);
	put_int_if(b, "progress", heard, (int64_t)r->progress);
	put_int_if(b, "active_jobs", heard, (int64_t)r->active);
	put_int_if(b, "jobs_done", heard, (int64_t)r->jobs_done);
	put_int_if(b, "jobs_failed", heard, (int64_t)r->jobs_failed);
	put_int_if(b, "bytes_in", heard, (int64_t)r->bytes_in);
	put_int_if(b, "bytes_out", heard, (int64_t)r->bytes_out);
	put_int_if(b, "rss_bytes", heard, (int64_t)r->rss_bytes);
	put_int_if(b, "link_backlog_bytes", w->channel != NULL,
		w->channel ? (int64_t)channel_backlog(w->channel) : 0);
	put_string(b, "detail", w->backend.detail);
	buf_add_char(b, '}');
}

static void put_workers(struct buf *b, struct device *const *devices, size_t n)
{
	const struct worker *w;
	for (size_t i = 0; i < n; i++)
		TAILQ_FOREACH(w, &devices[i]->workers, link)
	put_worker(b, w);
}

void stats_workers(const struct supervisor *s, struct buf *b)
{
	put_open(b, "workers", '[');
	put_workers(b, s->devices, s->device_count);
	put_workers(b, s->removed, s->removed_count);
	buf_add_char(b, ']');
}

/* --- jobs --- */

static void put_job(struct buf *b, const struct job *j)
{
	uint64_t now = now_ms();
	struct slice id = j->spec.message.request_id;
	put_element(b);
	put_int(b, "job", (int64_t)j->id);
	json_put_key(b, "request");
	if (id.n)
		json_put_string(b, id);
	else
		buf_add_str(b, "null"); /* cancelled: it waits for the worker's last word */
	put_string(b, "kind", proto_kind_name(j->spec.message.kind));
	put_string(b, "device", j->device->conf->name);
	put_string(b, "class", job_class_name(j->spec.class));
	put_string(b, "state", !j->events ? "cancelled" : j->running ? "running" : "waiting");
	put_int(b, "age_ms", (int64_t)(now - j->submitted_ms));
	put_int_if(b, "running_ms", j->running, (int64_t)(now - j->started_ms));
	put_int_if(b, "body_bytes", j->spec.message.body_bytes >= 0, j->spec.message.body_bytes);
	put_int(b, "answer_bytes", (int64_t)j->received);
	buf_add_char(b, '}');
}

void stats_jobs(const struct supervisor *s, struct buf *b)
{
	const struct job *j;
	struct queue_entry *e;
	put_open(b, "jobs", '[');
	for (size_t i = 0; i < s->device_count; i++) {
		TAILQ_FOREACH(j, &s->devices[i]->running, link)
		put_job(b, j);
		TAILQ_FOREACH(j, &s->devices[i]->passing, link)
		put_job(b, j);
		TAILQ_FOREACH(e, &s->devices[i]->queue.all, in_all)
		put_job(b, job_of_place(e));
	}
	buf_add_char(b, ']');
}

/* --- queues --- */

void stats_put_classes(struct buf *b, const struct device *d)
{
	put_open(b, "queue", '{');
	for (int c = 0; c < JOB_CLASSES; c++)
		put_int(b, job_class_name((enum job_class)c), d->queue.class[c].waiting);
	buf_add_char(b, '}');
}

/* What waits on all devices, of how many clients (each device's counted by itself), how long. */
void stats_put_queue(struct buf *b, const struct supervisor *s)
{
	unsigned clients = 0;
	uint64_t oldest = 0;
	for (size_t i = 0; i < s->device_count; i++) {
		uint64_t ms = jobs_oldest_ms(s->devices[i]);
		clients += queue_clients(&s->devices[i]->queue);
		oldest = ms > oldest ? ms : oldest;
	}
	put_int(b, "waiting", s->queued);
	put_int(b, "clients", clients);
	put_int(b, "oldest_ms", (int64_t)oldest);
}

void stats_queues(const struct supervisor *s, struct buf *b)
{
	stats_put_queue(b, s);
	put_int(b, "limit", s->config.limits.queue);
	put_int(b, "limit_per_client", s->config.limits.queue_per_client);
	put_open(b, "queues", '[');
	for (size_t i = 0; i < s->device_count; i++) {
		const struct device *d = s->devices[i];
		unsigned waiting = jobs_waiting(d);
		put_element(b);
		put_string(b, "device", d->conf->name);
		put_int(b, "waiting", waiting);
		stats_put_classes(b, d);
		put_int_if(b, "oldest_ms", waiting > 0, (int64_t)jobs_oldest_ms(d));
		put_int(b, "inflight", d->inflight);
		put_int(b, "slots", device_slots(d));
		buf_add_char(b, '}');
	}
	buf_add_char(b, ']');
}

/* --- backends --- */

void stats_put_backend(struct buf *b, const struct device *d)
{
	const struct worker_backend *now = device_backend(d);
	put_string(b, "type", backend_type_name(d->conf->backend.type));
	put_string(b, "url", now->url[0] ? now->url : d->conf->backend.url);
	put_int_if(b, "pid", now->pid > 0, now->pid);
	put_string(b, "model", device_model(d));
	put_string(b, "state", proto_state_name(now->state));
	put_string(b, "detail", now->detail);
	put_int(b, "window", device_window(d));
	put_int(b, "models", (int64_t)d->model_count);
}

void stats_backends(const struct supervisor *s, struct buf *b)
{
	put_open(b, "backends", '[');
	for (size_t i = 0; i < s->device_count; i++) {
		const struct device *d = s->devices[i];
		put_element(b);
		put_string(b, "device", d->conf->name);
		stats_put_backend(b, d);
		put_int(b, "reported_slots", device_backend(d)->slots);
		put_open(b, "model_list", '[');
		for (size_t m = 0; m < d->model_count; m++) {
			put_element(b);
			put_string(b, "name", d->models[m].name);
			put_int(b, "window", d->models[m].window);
			buf_add_char(b, '}');
		}
		buf_add_str(b, "]}");
	}
	buf_add_char(b, ']');
}
