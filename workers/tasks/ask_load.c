/* Models that calls load: which, and what becomes of a load whose call is cancelled (ask.h). */
#include "workers/tasks/ask_private.h"

#include "common/base/hash.h"
#include "common/base/log.h"

static struct ask *ask_of(struct task *t)
{
	return (struct ask *)t;
}

static uint64_t hash_value(uint64_t h, struct json_value v)
{
	return hash_fnv(hash_fnv(h, v.raw.p, v.raw.n), "\xff", 1);
}

/* 0, "0", "0s": unload after the answer. */
static bool is_zero(struct json_value v)
{
	size_t at = v.type == JSON_STRING ? 1 : 0;
	return v.raw.n > at && v.raw.p[at] == '0';
}

void ask_prepare(struct ask *a)
{
	struct json_value root, key, value, keep_alive = {0};
	if (!a->call.loads)
		return;
	root = json_object_in(ask_body(a));
	for (struct json_iter it = json_iter(root); json_object_next(&it, &key, &value);) {
		if (json_string_is(key, "model"))
			a->model = value;
		else if (json_string_is(key, "options"))
			a->options = value;
		else if (json_string_is(key, "shift"))
			a->shift = value;
		else if (json_string_is(key, "keep_alive"))
			keep_alive = value;
	}
	uint64_t h =
		hash_value(hash_value(hash_value(HASH_FNV_START, a->model), a->options), a->shift);
	a->load_key = is_zero(keep_alive) ? 0 : h;
}

static void load_ignore_head(void *ctx, int status)
{
	(void)ctx, (void)status;
}

static void load_ignore_body(void *ctx, struct slice bytes)
{
	(void)ctx, (void)bytes;
}

static void load_done(void *ctx, enum http_result result)
{
	struct ask *a = ctx;
	a->load = NULL;
	log_line(LOG_DEBUG, "job_load_over", LOG_SLICE("req", a->task.spec.request_id),
		LOG_INT("job", a->task.id), LOG_STR("result", http_result_text(result)), LOG_END);
	task_release(&a->task);
}

static const struct http_events load_events = {
	.head = load_ignore_head, .body = load_ignore_body, .done = load_done};

/* Nothing but what decides about a reload: keep_alive is left out, 0 would unload. */
static int load_body(const struct ask *a, struct buf *out)
{
	buf_add_char(out, '{');
	json_put_key(out, "model");
	buf_add_slice(out, a->model.raw);
	if (a->options.type != JSON_NONE) {
		json_put_key(out, "options");
		buf_add_slice(out, a->options.raw);
	}
	if (a->shift.type != JSON_NONE) {
		json_put_key(out, "shift");
		buf_add_slice(out, a->shift.raw);
	}
	json_put_key(out, "messages");
	buf_add_str(out, "[],\"stream\":false}");
	return buf_error(out);
}

/*
 * The last answer came from this very model with these very options, not long ago, and nothing
 * else was asked since.
 */
static bool is_warm(const struct ask *a)
{
	const struct worker_self *w = a->task.worker;
	return a->load_key && a->load_key == w->warm_key &&
	       uv_now(w->loop) - w->warm_ms < ASK_WARM_MS;
}

bool ask_linger(struct task *t)
{
	struct ask *a = ask_of(t);
	if (!a->call.loads || t->first_ns || a->status || a->model.type != JSON_STRING ||
		is_warm(a))
		return false;
	struct buf body;
	buf_init(&body, 0);
	int rc = load_body(a, &body);
	if (rc == 0) {
		/*
		 * the body must live as long as the request: in place of the answer's, which
		 * nobody reads now
		 */
		buf_free(&a->refusal);
		a->refusal = body;
		static const struct proto_header json = {
			SLICE("Content-Type"), SLICE("application/json")};
		struct http_request r = {
			.method = "POST",
			.target = SLICE("/api/chat"),
			.headers = &json,
			.header_count = 1,
			.body = buf_slice(&a->refusal),
			.again = true,
			.total_ms = ASK_LINGER_MS,
		};
		rc = http_start(t->worker->http, &r, &load_events, a, &a->load);
	} else {
		buf_free(&body);
	}
	return rc == 0;
}
