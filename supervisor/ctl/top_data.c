/* What top shows, from the documents of the stats socket and the events. */
#include "supervisor/ctl/top.h"

#include <nng/nng.h>
#include <stdlib.h>
#include <time.h>

#define RATE_MIN_S 0.5 /* looks nearer than that tell no rate */
#define GIB (1024.0 * 1024 * 1024)

static const char *const documents[TOP_DOCUMENTS] = {
	"status", "counters", "devices", "jobs", "sessions"};

static double clock_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* -1: it is not there, or null. */
static double number(struct json_value row, const char *name)
{
	double v;
	return json_to_double(json_get(row, name), &v) ? v : -1;
}

/* --- devices, and the lines above --- */

static void read_kept(struct json_value kept, char *out, size_t size)
{
	char bytes[16];
	if (!json_is(json_get(kept, "on"), JSON_TRUE)) {
		snprintf(out, size, "-");
		return;
	}
	ctl_bytes(ctl_real(kept, "bytes"), bytes, sizeof(bytes));
	snprintf(out, size, "%lld, %s", (long long)ctl_int(kept, "conversations"), bytes);
}

static void read_device(struct json_value row, struct top_device *d)
{
	struct json_value backend = json_get(row, "backend");
	*d = (struct top_device){.slots = (long)ctl_int(row, "slots"),
		.inflight = (long)ctl_int(row, "inflight"),
		.waiting = (long)ctl_int(row, "waiting"),
		.restarts = (long)ctl_int(row, "restarts"),
		.read = ctl_real(row, "prefill_tok_s"),
		.write = ctl_real(row, "decode_tok_s"),
		.warming = ctl_int(json_get(row, "warming"), "running") > 0,
		.noting = ctl_int(json_get(row, "notes"), "running") > 0};
	read_kept(json_get(row, "kept"), d->kept, sizeof(d->kept));
	ctl_text(row, "name", d->name, sizeof(d->name));
	ctl_text(row, "state", d->state, sizeof(d->state));
	ctl_text(backend, "model", d->model, sizeof(d->model));
	ctl_text(backend, "detail", d->why, sizeof(d->why));
	if (strcmp(d->why, "-") == 0)
		ctl_text(row, "last_exit", d->why, sizeof(d->why));
}

static void read_devices(struct top *t, struct json_value status)
{
	struct json_iter it = json_iter(json_get(status, "devices"));
	struct json_value row;
	t->devices = 0;
	while (t->devices < TOP_DEVICES_MAX && json_array_next(&it, &row))
		read_device(row, &t->device[t->devices++]);
}

static void read_head(struct top *t, struct json_value status, struct json_value counters)
{
	char version[32], listen[80], uptime[32];
	struct json_value requests = json_get(status, "requests");
	double now = clock_s(), s = now - t->at_s;
	double chats = ctl_real(counters, "requests");
	ctl_text(status, "version", version, sizeof(version));
	ctl_text(status, "listen", listen, sizeof(listen));
	ctl_duration(ctl_real(status, "uptime_s"), uptime, sizeof(uptime));
	int n = snprintf(t->head, sizeof(t->head),
		"tandem %s, up %s, %s  %lld active, %lld waiting", version, uptime, listen,
		(long long)ctl_int(requests, "active"),
		(long long)ctl_int(json_get(status, "queue"), "waiting"));
	if (t->looked && s > RATE_MIN_S && n > 0 && (size_t)n < sizeof(t->head))
		snprintf(t->head + n, sizeof(t->head) - (size_t)n, ", %.1f chats/s",
			(chats - t->chats) / s);
	t->at_s = now;
	t->chats = chats;
}

static void read_sums(struct top *t, struct json_value status)
{
	struct json_value r = json_get(status, "requests"), by = json_get(r, "by_strategy");
	snprintf(t->sums, sizeof(t->sums),
		"requests: %lld (A %lld, B %lld, C %lld, small %lld), %lld fallbacks, %lld failed, "
		"%lld "
		"refused, %lld cancelled",
		(long long)ctl_int(r, "total"), (long long)ctl_int(by, "A"),
		(long long)ctl_int(by, "B"), (long long)ctl_int(by, "C"),
		(long long)ctl_int(by, "small"), (long long)ctl_int(r, "fallbacks"),
		(long long)ctl_int(r, "failed"), (long long)ctl_int(r, "refused"),
		(long long)ctl_int(r, "cancelled"));
}

/* "GPU 0: 87 %, 7.1 of 8.0 GiB, 63 C, 120 W" */
static void read_gpus(struct top *t, struct json_value root)
{
	struct json_iter it = json_iter(json_get(root, "gpus"));
	struct json_value gpu;
	size_t n = 0;
	t->gpus[0] = '\0';
	while (json_array_next(&it, &gpu) && n < sizeof(t->gpus) - 64)
		n += (size_t)snprintf(t->gpus + n, sizeof(t->gpus) - n,
			"%sGPU %lld: %.0f %%, %.1f of %.1f GiB, %.0f C", n ? "   " : "",
			(long long)ctl_int(gpu, "index"), ctl_real(gpu, "load_percent"),
			ctl_real(gpu, "memory_used_bytes") / GIB,
			ctl_real(gpu, "memory_total_bytes") / GIB, ctl_real(gpu, "temperature_c"));
}

/* --- requests --- */

static struct top_seen *seen_of(struct top *t, long job)
{
	for (size_t i = 0; i < t->seen_count; i++)
		if (t->seen[i].job == job)
			return &t->seen[i];
	return NULL;
}

/* Tokens a second since the look before; a look too near keeps what was known. */
static void read_rate(struct top *t, struct top_request *r, struct top_seen *now)
{
	const struct top_seen *before = seen_of(t, r->job);
	*now = (struct top_seen){.job = r->job, .tokens = r->tokens, .at_s = clock_s(), .rate = -1};
	if (before && r->tokens >= 0 && now->at_s - before->at_s < RATE_MIN_S)
		*now = *before;
	else if (before && before->tokens >= 0 && r->tokens >= before->tokens)
		now->rate = (r->tokens - before->tokens) / (now->at_s - before->at_s);
	r->rate = r->tokens > 0 ? now->rate : -1;
}

static void read_request(struct json_value row, struct top_request *r)
{
	*r = (struct top_request){.row = row,
		.job = (long)ctl_int(row, "job"),
		.age_ms = number(row, "age_ms"),
		.running_ms = number(row, "running_ms"),
		.predicted_ms = number(row, "predicted_ms"),
		.prompt = number(row, "prompt_tokens"),
		.tokens = number(row, "answer_tokens"),
		.bytes = number(row, "answer_bytes"),
		.rate = -1};
	ctl_text(row, "request", r->id, sizeof(r->id));
	ctl_text(row, "kind", r->kind, sizeof(r->kind));
	ctl_text(row, "class", r->class, sizeof(r->class));
	ctl_text(row, "state", r->state, sizeof(r->state));
	ctl_text(row, "device", r->device, sizeof(r->device));
	if (strcmp(r->state, "running") == 0 && r->bytes >= 0)
		snprintf(r->state, sizeof(r->state), "%s", r->bytes > 0 ? "writing" : "reading");
}

static void read_requests(struct top *t, struct json_value root)
{
	struct json_iter it = json_iter(json_get(root, "jobs"));
	struct json_value row;
	struct top_seen *seen = calloc(TOP_LIST_MAX, sizeof(*seen));
	size_t n = 0;
	while (seen && n < TOP_LIST_MAX && json_array_next(&it, &row)) {
		read_request(row, &t->request[n]);
		read_rate(t, &t->request[n], &seen[n]);
		n++;
	}
	t->count[TOP_REQUESTS] = n;
	free(t->seen);
	t->seen = seen;
	t->seen_count = n;
}

/* --- conversations --- */

static void read_session(struct json_value row, struct top_session *s)
{
	*s = (struct top_session){.row = row,
		.turns = number(row, "turns"),
		.idle_ms = number(row, "idle_ms"),
		.tokens = number(row, "tokens"),
		.warm = number(row, "warm_tokens"),
		.breaks = number(row, "breaks"),
		.repairs = number(row, "repairs")};
	ctl_text(row, "session", s->id, sizeof(s->id));
	ctl_text(row, "model", s->model, sizeof(s->model));
	ctl_text(row, "client", s->client, sizeof(s->client));
	ctl_text(row, "device", s->device, sizeof(s->device));
	ctl_text(row, "last_change", s->last, sizeof(s->last));
}

static void read_sessions(struct top *t, struct json_value root)
{
	struct json_iter it = json_iter(json_get(root, "sessions"));
	struct json_value row;
	size_t n = 0;
	while (n < TOP_LIST_MAX && json_array_next(&it, &row))
		read_session(row, &t->session[n++]);
	t->count[TOP_SESSIONS] = n;
}

/* --- order --- */

static int down(double a, double b)
{
	return (a < b) - (a > b);
}

static int by_age(const void *a, const void *b)
{
	return down(
		((const struct top_request *)a)->age_ms, ((const struct top_request *)b)->age_ms);
}

static int by_rate(const void *a, const void *b)
{
	return down(((const struct top_request *)a)->rate, ((const struct top_request *)b)->rate);
}

static int by_prompt(const void *a, const void *b)
{
	return down(
		((const struct top_request *)a)->prompt, ((const struct top_request *)b)->prompt);
}

static int by_use(const void *a, const void *b)
{
	return down(
		((const struct top_session *)b)->idle_ms, ((const struct top_session *)a)->idle_ms);
}

static int by_tokens(const void *a, const void *b)
{
	return down(
		((const struct top_session *)a)->tokens, ((const struct top_session *)b)->tokens);
}

static int by_warm(const void *a, const void *b)
{
	return down(((const struct top_session *)a)->warm, ((const struct top_session *)b)->warm);
}

static int by_breaks(const void *a, const void *b)
{
	return down(
		((const struct top_session *)a)->breaks, ((const struct top_session *)b)->breaks);
}

static const struct order {
	const char *name;
	int (*compare)(const void *a, const void *b);
} orders[TOP_FOCUSES][5] = {
	{{"age", by_age}, {"tokens/s", by_rate}, {"prompt", by_prompt}},
	{{"last use", by_use}, {"tokens", by_tokens}, {"warm", by_warm}, {"breaks", by_breaks}},
};

const char *top_sort_name(const struct top *t, enum top_focus f)
{
	return orders[f][t->sort[f]].name;
}

static void sort(struct top *t)
{
	qsort(t->request, t->count[TOP_REQUESTS], sizeof(*t->request),
		orders[TOP_REQUESTS][t->sort[TOP_REQUESTS]].compare);
	qsort(t->session, t->count[TOP_SESSIONS], sizeof(*t->session),
		orders[TOP_SESSIONS][t->sort[TOP_SESSIONS]].compare);
}

void top_sort_next(struct top *t, enum top_focus f)
{
	t->sort[f] = orders[f][t->sort[f] + 1].name ? t->sort[f] + 1 : 0;
	sort(t);
}

const char *top_id(const struct top *t, enum top_focus f, size_t i)
{
	if (i >= t->count[f])
		return "";
	return f == TOP_REQUESTS ? t->request[i].id : t->session[i].id;
}

/* --- all --- */

enum ctl_exit top_data_begin(struct top *t)
{
	for (size_t i = 0; i < TOP_DOCUMENTS; i++)
		buf_init(&t->document[i].bytes, CTL_ANSWER_BYTES);
	buf_init(&t->opened_row, CTL_ANSWER_BYTES);
	buf_init(&t->opened_log, CTL_ANSWER_BYTES);
	t->request = calloc(TOP_LIST_MAX, sizeof(*t->request));
	t->session = calloc(TOP_LIST_MAX, sizeof(*t->session));
	return t->request && t->session ? CTL_OK : CTL_FAILED;
}

void top_data_end(struct top *t)
{
	for (size_t i = 0; i < TOP_DOCUMENTS; i++)
		buf_free(&t->document[i].bytes);
	buf_free(&t->opened_row);
	buf_free(&t->opened_log);
	free(t->request);
	free(t->session);
	free(t->seen);
	if (t->sub)
		nng_close(*(nng_socket *)t->sub);
	free(t->sub);
	grid_free(&t->grid);
}

enum ctl_exit top_look(struct top *t, struct buf *err)
{
	struct top_document *d = t->document;
	enum ctl_exit rc = CTL_OK;
	for (size_t i = 0; i < TOP_DOCUMENTS && rc == CTL_OK; i++)
		rc = ctl_ask(t->ctl->run_dir, documents[i], CTL_TIMEOUT_MS, &d[i].bytes, &d[i].root,
			err);
	if (rc != CTL_OK)
		return rc;
	read_head(t, d[TOP_STATUS].root, d[TOP_COUNTERS].root);
	read_sums(t, d[TOP_STATUS].root);
	read_devices(t, d[TOP_STATUS].root);
	read_gpus(t, d[TOP_GPUS].root);
	read_requests(t, d[TOP_JOBS].root);
	read_sessions(t, d[TOP_TALKS].root);
	sort(t);
	t->looked = true;
	return CTL_OK;
}
