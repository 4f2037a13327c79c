/* The lists: workers, jobs, queues, backends. */
#include "supervisor/devices/job.h"
#include "supervisor/devices/worker.h"
#include "supervisor/requests/chat.h"
#include "supervisor/tell/stats.h"
#include "supervisor/tell/stats_put.h"

#include <stdlib.h>

/* --- workers --- */

void stats_put_worker(struct buf *b, const struct worker *w)
{
	const struct report *r = &w->report;
	const struct device *d = w->device;
	bool lives = w->pid > 0, heard = lives && r->heard_ms > 0;
	uint64_t now = now_ms();
	put_string(
		b, "state", w == d->current ? device_state_name(d) : worker_state_name(w->state));
	put_int_if(b, "pid", lives, w->pid);
	put_int(b, "generation", (int64_t)w->generation);
	put_int_if(b, "uptime_ms", lives, (int64_t)(now - r->begun_ms));
	put_int(b, "restarts", (int64_t)d->restarts);
	put_string(b, "last_exit", d->last_exit);
	put_int_if(b, "heartbeat_ms", heard, (int64_t)(now - r->heard_ms));
}

static const char *part(const struct worker *w)
{
	if (w->device->succession == REMOVED)
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

void stats_workers(const struct tell *t, struct buf *b)
{
	put_open(b, "workers", '[');
	put_workers(b, t->devices->of, t->devices->count);
	put_workers(b, t->devices->removed, t->devices->removed_count);
	buf_add_char(b, ']');
}

/* --- jobs --- */

/* A job, or a chat that has none of its own: it is read, condensed, or waits for another's answer.
 */
struct row {
	const struct job *job;
	const struct chat *chat;
	struct slice request; /* empty: cancelled, it waits for the worker's last word */
};

struct rows {
	struct row *row;
	size_t count, room;
	bool short_of_memory;
};

static void put_job(struct buf *b, const struct row *r)
{
	const struct job *j = r->job;
	uint64_t now = now_ms();
	put_element(b);
	put_int(b, "job", (int64_t)j->id);
	json_put_key(b, "request");
	if (r->request.n)
		json_put_string(b, r->request);
	else
		buf_add_str(b, "null");
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

static void put_chat(struct buf *b, const struct row *r)
{
	static const char *const states[CHAT_STATES] = {
		"reading", "parsing", "condensing", "waiting", "answering", "joined", "over"};
	const struct chat *c = r->chat;
	bool planned = c->state > CHAT_PARSING && c->state != CHAT_JOINED;
	put_element(b);
	put_int_if(b, "job", false, 0);
	json_put_key(b, "request");
	json_put_string(b, r->request);
	put_string(b, "kind", proto_kind_name(JOB_CHAT));
	put_string(b, "device", planned && c->device ? c->device->conf->name : NULL);
	put_string(b, "class", planned ? job_class_name(c->class) : NULL);
	put_string(b, "state", states[c->state]);
	put_int(b, "age_ms", (int64_t)(now_ms() - c->base.begun_ms));
	put_int_if(b, "running_ms", false, 0);
	put_int(b, "body_bytes", (int64_t)c->body.n);
	put_int(b, "answer_bytes", (int64_t)c->bytes_out);
	buf_add_char(b, '}');
}

static void add_row(struct rows *rows, struct row r)
{
	if (rows->count == rows->room) {
		size_t room = rows->room ? rows->room * 2 : 64;
		struct row *grown = realloc(rows->row, room * sizeof(*grown));
		if (!grown) {
			rows->short_of_memory = true;
			return;
		}
		rows->row = grown;
		rows->room = room;
	}
	rows->row[rows->count++] = r;
}

static void add_job(struct rows *rows, const struct job *j)
{
	add_row(rows, (struct row){.job = j, .request = j->spec.message.request_id});
}

static void add_device(struct rows *rows, const struct device *d)
{
	const struct job *j;
	struct queue_entry *e;
	TAILQ_FOREACH(j, &d->running, link)
		add_job(rows, j);
	TAILQ_FOREACH(j, &d->passing, link)
		add_job(rows, j);
	TAILQ_FOREACH(e, &d->queue.all, in_all)
		add_job(rows, job_of_place(e));
}

/* Requests as they came (ids count up), each one's own line before those of its notes; at the end
 * what belongs to nobody any more. */
static int by_request(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	if (!x->request.n != !y->request.n)
		return x->request.n ? -1 : 1;
	if (x->request.n != y->request.n)
		return x->request.n < y->request.n ? -1 : 1;
	int order = x->request.n ? memcmp(x->request.p, y->request.p, x->request.n) : 0;
	bool note_x = x->job && x->job->spec.message.kind == JOB_NOTES,
	     note_y = y->job && y->job->spec.message.kind == JOB_NOTES;
	if (order || note_x != note_y)
		return order ? order : note_x - note_y;
	uint64_t id_x = x->job ? x->job->id : 0, id_y = y->job ? y->job->id : 0;
	return (id_x > id_y) - (id_x < id_y);
}

void stats_jobs(const struct tell *t, struct buf *b)
{
	struct rows rows = {0};
	const struct request *r;
	for (size_t i = 0; i < t->devices->count; i++)
		add_device(&rows, t->devices->of[i]);
	for (size_t i = 0; i < t->devices->removed_count; i++)
		add_device(&rows, t->devices->removed[i]);
	TAILQ_FOREACH(r, &t->requests->list, link) {
		const struct chat *c = chat_of_request(r);
		if (c && !c->answer && c->state != CHAT_OVER)
			add_row(&rows, (struct row){.chat = c, .request = slice_str(r->id)});
	}
	if (rows.count)
		qsort(rows.row, rows.count, sizeof(*rows.row), by_request);
	put_open(b, "jobs", '[');
	for (size_t i = 0; i < rows.count; i++) {
		if (rows.row[i].job)
			put_job(b, &rows.row[i]);
		else
			put_chat(b, &rows.row[i]);
	}
	buf_add_char(b, ']');
	if (rows.short_of_memory)
		put_string(b, "reason", "out of memory: some are left out");
	free(rows.row);
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
void stats_put_queue(struct buf *b, const struct tell *t)
{
	unsigned clients = 0;
	uint64_t oldest = 0;
	for (size_t i = 0; i < t->devices->count; i++) {
		uint64_t ms = jobs_oldest_ms(t->devices->of[i]);
		clients += queue_clients(&t->devices->of[i]->queue);
		oldest = ms > oldest ? ms : oldest;
	}
	put_int(b, "waiting", t->devices->queued);
	put_int(b, "clients", clients);
	put_int(b, "oldest_ms", (int64_t)oldest);
}

void stats_queues(const struct tell *t, struct buf *b)
{
	stats_put_queue(b, t);
	put_int(b, "limit", t->life->config->limits.queue);
	put_int(b, "limit_per_client", t->life->config->limits.queue_per_client);
	put_open(b, "queues", '[');
	for (size_t i = 0; i < t->devices->count; i++) {
		const struct device *d = t->devices->of[i];
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

void stats_backends(const struct tell *t, struct buf *b)
{
	put_open(b, "backends", '[');
	for (size_t i = 0; i < t->devices->count; i++) {
		const struct device *d = t->devices->of[i];
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
