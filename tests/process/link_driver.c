/*
 * link-driver URL GENERATION: plays the supervisor's end of one worker's link, for tests.
 *
 * Listens on URL, reads commands as JSON lines from stdin, prints every record it gets as a JSON
 * line. Bodies go out as the worker's credit allows; answer bytes are credited back at once unless
 * the job says otherwise.
 *   {"do":"ack", "type":"ollama", "url":..., "command":[...], "pin":..., "model":..., "boot_ms":N,
 * ...}
 *   {"do":"job", "id":N, "kind":"chat|notes|pass|warm", "dialect":N, "method":..., "path":...,
 * "headers":[[name,value]...], "body":TEXT | "body_file":PATH | "body_bytes":N (that many bytes of
 * a pattern), "length":N (declared; -1 unknown), "timeout_ms":N, "max_tokens":N, "num_ctx":N,
 * "model":..., "credit":false (only by command), "quiet":true (count deltas only)}
 *   {"do":"cancel","id":N} {"do":"credit","id":N,"bytes":N} {"do":"ping","seq":N}
 * {"do":"drain","deadline_ms":N,"keep_backend":BOOL} {"do":"stay"} (does not hang up at BYE)
 * {"do":"close"} Exits at stdin's end.
 */
#include "common/base/json.h"
#include "proto/channel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define JOBS_MAX 4096

struct job {
	uint64_t id;
	bool used, quiet, credits, body_ended;
	FILE *file;
	struct buf text;      /* held body */
	uint64_t total, sent; /* body bytes */
	uint64_t credit;
	uint64_t got; /* answer bytes */
	uint64_t hash;
};

static uv_loop_t *loop;
static struct channel *channel;
static struct job jobs[JOBS_MAX];
static struct buf input;
static uv_pipe_t in_pipe;
static char in_bytes[65536];
static bool stays;

static struct job *job_of(uint64_t id)
{
	struct job *j = &jobs[id % JOBS_MAX];
	return j->used && j->id == id ? j : NULL;
}

/* --- output --- */

static void put_text(struct buf *b, const char *key, struct slice s)
{
	json_put_key(b, key);
	json_put_string(b, s);
}

static void put_int(struct buf *b, const char *key, int64_t v)
{
	json_put_key(b, key);
	json_put_int(b, v);
}

static void put_hex(struct buf *b, const char *key, struct slice s)
{
	static const char digits[] = "0123456789abcdef";
	json_put_key(b, key);
	buf_add_char(b, '"');
	for (size_t i = 0; i < s.n; i++) {
		buf_add_char(b, digits[(unsigned char)s.p[i] >> 4]);
		buf_add_char(b, digits[s.p[i] & 15]);
	}
	buf_add_char(b, '"');
}

static void print_line(struct buf *b)
{
	buf_add_str(b, "}\n");
	for (size_t at = 0; at < b->n;) {
		ssize_t n = write(STDOUT_FILENO, b->p + at, b->n - at);
		if (n < 0 && errno != EINTR)
			exit(1);
		at += n > 0 ? (size_t)n : 0;
	}
	buf_free(b);
}

static void begin_line(struct buf *b, const char *type, uint64_t job)
{
	buf_init(b, 0);
	buf_add_char(b, '{');
	put_text(b, "type", slice_str(type));
	put_int(b, "job", (int64_t)job);
	put_int(b, "us", (int64_t)(uv_hrtime() / 1000));
}

/* --- bodies --- */

static void pump(struct job *j)
{
	while (!j->body_ended) {
		static char piece[PROTO_PIECE_BYTES];
		uint64_t n = j->total - j->sent;
		if (n > sizeof(piece))
			n = sizeof(piece);
		if (n > j->credit)
			n = j->credit;
		if (n == 0 && j->sent < j->total)
			return;
		if (j->file)
			n = fread(piece, 1, (size_t)n, j->file);
		else if (j->text.p)
			memcpy(piece, j->text.p + j->sent, (size_t)n);
		else
			for (size_t i = 0; i < n; i++)
				piece[i] = (char)((j->sent + i) * 31 >> 3);
		j->sent += n;
		j->credit -= n;
		j->body_ended = j->sent >= j->total;
		struct proto_record r = {.type = PROTO_BODY, .job = j->id};
		r.u.body.bytes = (struct slice){piece, (size_t)n};
		r.u.body.last = j->body_ended;
		channel_put(channel, &r);
		if (channel_backlog(channel) > (4u << 20))
			channel_flush(channel);
	}
}

/* --- records --- */

static void on_delta(const struct proto_record *r)
{
	struct job *j = job_of(r->job);
	struct slice bytes = r->u.delta.bytes;
	if (j) {
		j->got += bytes.n;
		for (size_t i = 0; i < bytes.n; i++)
			j->hash = (j->hash ^ (unsigned char)bytes.p[i]) * 1099511628211u;
	}
	if (j && j->credits) {
		struct proto_record c = {.type = PROTO_CREDIT, .job = r->job};
		c.u.credit.bytes = bytes.n;
		channel_put(channel, &c);
	}
	if (j && j->quiet)
		return;
	struct buf b;
	begin_line(&b, "DELTA", r->job);
	put_hex(&b, "hex", bytes);
	print_line(&b);
}

static void put_models(struct buf *b, const struct proto_record *r)
{
	put_int(b, "first", r->u.models.first);
	put_int(b, "last", r->u.models.last);
	json_put_key(b, "items");
	buf_add_char(b, '[');
	for (size_t i = 0; i < r->u.models.count; i++) {
		const struct proto_model *m = &r->u.models.items[i];
		buf_add_str(b, i ? ",{" : "{");
		put_text(b, "name", m->name);
		put_int(b, "window", m->window);
		put_text(b, "ollama", m->ollama_json);
		put_text(b, "openai", m->openai_json);
		buf_add_char(b, '}');
	}
	buf_add_char(b, ']');
}

static void put_start(struct buf *b, const struct proto_record *r)
{
	put_int(b, "status", r->u.start.status);
	put_int(b, "body_bytes", r->u.start.body_bytes);
	json_put_key(b, "headers");
	buf_add_char(b, '[');
	for (size_t i = 0; i < r->u.start.header_count; i++) {
		buf_add_str(b, i ? ",[" : "[");
		json_put_string(b, r->u.start.headers[i].name);
		buf_add_char(b, ',');
		json_put_string(b, r->u.start.headers[i].value);
		buf_add_char(b, ']');
	}
	buf_add_char(b, ']');
}

static void put_totals(struct buf *b, uint64_t id)
{
	struct job *j = job_of(id);
	if (!j)
		return;
	put_int(b, "got", (int64_t)j->got);
	json_put_key(b, "hash");
	buf_printf(b, "\"%016llx\"", (unsigned long long)j->hash);
	put_int(b, "sent", (int64_t)j->sent);
	j->body_ended = true;
}

static void on_record(void *ctx, const struct proto_record *r)
{
	struct job *j = job_of(r->job);
	struct buf b;
	(void)ctx;
	if (r->type == PROTO_DELTA) {
		on_delta(r);
		return;
	}
	if (r->type == PROTO_CREDIT) {
		if (j) {
			j->credit += r->u.credit.bytes;
			pump(j);
		}
		return;
	}
	begin_line(&b, proto_type_name(r->type), r->job);
	switch (r->type) {
	case PROTO_HELLO:
		put_int(&b, "pid", r->u.hello.pid);
		put_text(&b, "device", r->u.hello.device);
		break;
	case PROTO_STATE:
		put_text(&b, "state", slice_str(proto_state_name(r->u.state.state)));
		put_text(&b, "detail", r->u.state.detail);
		put_text(&b, "url", r->u.state.url);
		put_int(&b, "pid", r->u.state.backend_pid);
		put_int(&b, "traits", r->u.state.traits);
		put_int(&b, "start", (int64_t)r->u.state.backend_start);
		put_int(&b, "window", r->u.state.window);
		put_int(&b, "slots", r->u.state.slots);
		put_text(&b, "model", r->u.state.model);
		put_int(&b, "model_bytes", r->u.state.serving.model_bytes);
		put_int(&b, "weight_bytes", r->u.state.serving.weight_bytes);
		put_int(&b, "gpu_bytes", r->u.state.serving.gpu_bytes);
		put_int(&b, "gpu_percent", r->u.state.serving.gpu_percent);
		put_int(&b, "gpus", r->u.state.serving.gpus);
		put_int(&b, "models", r->u.state.serving.models);
		put_int(&b, "keep_s", r->u.state.serving.keep_s);
		put_int(&b, "own_window", r->u.state.serving.own_window);
		put_int(&b, "flash_attention", r->u.state.serving.flash_attention);
		put_int(&b, "speculation", r->u.state.serving.speculation);
		put_text(&b, "cache_type", r->u.state.serving.cache_type);
		break;
	case PROTO_MODELS:
		put_models(&b, r);
		break;
	case PROTO_START:
		put_start(&b, r);
		break;
	case PROTO_END:
		put_text(&b, "finish", r->u.end.finish);
		put_text(&b, "verdict", r->u.end.verdict);
		put_int(&b, "notes_kept", r->u.end.notes_kept);
		put_int(&b, "notes_refused", r->u.end.notes_refused);
		put_text(&b, "reply", r->u.end.reply);
		put_int(&b, "prompt_tokens", r->u.end.usage.prompt_tokens);
		put_int(&b, "cached_tokens", r->u.end.usage.cached_tokens);
		put_int(&b, "output_tokens", r->u.end.usage.output_tokens);
		put_totals(&b, r->job);
		break;
	case PROTO_FAIL:
		put_text(&b, "cause", slice_str(proto_cause_name(r->u.fail.cause)));
		put_int(&b, "status", r->u.fail.status);
		put_text(&b, "message", r->u.fail.message);
		put_hex(&b, "body", r->u.fail.body);
		put_text(&b, "content_type", r->u.fail.content_type);
		put_totals(&b, r->job);
		break;
	case PROTO_PONG:
		put_int(&b, "seq", (int64_t)r->u.ping.seq);
		put_int(&b, "progress", (int64_t)r->u.ping.progress);
		put_int(&b, "active", (int64_t)r->u.ping.active);
		break;
	case PROTO_STATS:
		put_int(&b, "done", (int64_t)r->u.stats.jobs_done);
		put_int(&b, "failed", (int64_t)r->u.stats.jobs_failed);
		put_int(&b, "rss", (int64_t)r->u.stats.rss_bytes);
		put_int(&b, "bytes_in", (int64_t)r->u.stats.bytes_in);
		break;
	case PROTO_BYE:
		if (!stays)
			channel_hang_up(channel);
		break;
	default:
		break;
	}
	print_line(&b);
}

static void print_event(const char *type, const char *text)
{
	struct buf b;
	begin_line(&b, type, 0);
	put_text(&b, "text", slice_str(text));
	print_line(&b);
}

static void on_peer(void *ctx, bool connected)
{
	(void)ctx;
	print_event("peer", connected ? "connected" : "gone");
}

static void on_broken(void *ctx, int error, const char *what)
{
	(void)ctx, (void)error;
	print_event("broken", what);
}

/* --- commands --- */

static struct slice text_of(struct json_value o, const char *name)
{
	return slice_str(json_string_dup(
		json_get(o, name))); /* kept until exit: a test's process is short */
}

static int64_t int_of(struct json_value o, const char *name, int64_t otherwise)
{
	int64_t v;
	return json_to_int(json_get(o, name), &v) ? v : otherwise;
}

static bool bool_of(struct json_value o, const char *name, bool otherwise)
{
	bool v;
	return json_to_bool(json_get(o, name), &v) ? v : otherwise;
}

static void do_ack(struct json_value o)
{
	static struct proto_record r;
	struct json_value arg;
	r = (struct proto_record){.type = PROTO_ACK};
	struct proto_ack *a = &r.u.ack;
	a->device = text_of(o, "device");
	a->backend_type = json_string_is(json_get(o, "type"), "llama-server");
	a->url = text_of(o, "url");
	for (struct json_iter it = json_iter(json_get(o, "command")); json_array_next(&it, &arg);)
		a->command[a->command_count++] = slice_str(json_string_dup(arg));
	a->pin = text_of(o, "pin");
	a->model = text_of(o, "model");
	a->settled = text_of(o, "settled");
	a->num_ctx = int_of(o, "num_ctx", 0);
	a->slots = int_of(o, "slots", 1);
	a->boot_ms = int_of(o, "boot_ms", 20000);
	a->connect_ms = int_of(o, "connect_ms", 2000);
	a->idle_ms = int_of(o, "idle_ms", 20000);
	a->body_bytes = int_of(o, "body_bytes", 128 << 20);
	a->line_bytes = int_of(o, "line_bytes", 16 << 20);
	a->result_bytes = int_of(o, "result_bytes", 65536);
	a->log_level = (uint32_t)int_of(o, "log_level", 0);
	a->adopt_pid = int_of(o, "adopt_pid", 0);
	a->adopt_start = (uint64_t)int_of(o, "adopt_start", 0);
	a->adopt_url = text_of(o, "adopt_url");
	a->run_dir = text_of(o, "run_dir");
	a->state_dir = text_of(o, "state_dir");
	a->backend_log_bytes = int_of(o, "backend_log_bytes", 4 << 20);
	a->kv_ms = int_of(o, "kv_ms", 20000);
	channel_put(channel, &r);
}

static void job_body_init(struct job *j, struct json_value o)
{
	struct slice path = text_of(o, "body_file");
	buf_init(&j->text, 0);
	if (path.n) {
		j->file = fopen(path.p, "rb");
		if (!j->file)
			exit(1);
		fseek(j->file, 0, SEEK_END);
		j->total = (uint64_t)ftell(j->file);
		rewind(j->file);
	} else if (json_is(json_get(o, "body"), JSON_STRING)) {
		json_string_decode(json_get(o, "body"), &j->text);
		buf_reserve(&j->text, 1);
		j->total = j->text.n;
	} else {
		j->total = (uint64_t)int_of(o, "body_bytes", 0);
	}
}

static void do_job(struct json_value o)
{
	static struct proto_record r;
	struct json_value kind = json_get(o, "kind"), header, part;
	uint64_t id = (uint64_t)int_of(o, "id", 1);
	struct job *j = &jobs[id % JOBS_MAX];
	buf_free(&j->text);
	*j = (struct job){.id = id,
		.used = true,
		.credit = PROTO_WINDOW_BYTES,
		.hash = 14695981039346656037u};
	j->quiet = bool_of(o, "quiet", false);
	j->credits = bool_of(o, "credit", true);
	job_body_init(j, o);

	r = (struct proto_record){.type = PROTO_JOB, .job = id};
	struct proto_job *m = &r.u.job;
	m->kind = json_string_is(kind, "pass")	  ? JOB_PASS
		  : json_string_is(kind, "notes") ? JOB_NOTES
		  : json_string_is(kind, "warm")  ? JOB_WARM
						  : JOB_CHAT;
	m->request_id = text_of(o, "request_id");
	m->dialect = (uint32_t)int_of(o, "dialect", 0);
	m->stream = bool_of(o, "stream", true);
	m->method = text_of(o, "method");
	m->path = text_of(o, "path");
	m->headers = calloc(
		PROTO_JOB_HEADERS_MAX, sizeof(*m->headers)); /* the process's, as the texts */
	for (struct json_iter it = json_iter(json_get(o, "headers"));
		m->headers && m->header_count < PROTO_JOB_HEADERS_MAX &&
		json_array_next(&it, &header);) {
		struct json_iter pair = json_iter(header);
		struct proto_header *h = &m->headers[m->header_count++];
		json_array_next(&pair, &part);
		h->name = slice_str(json_string_dup(part));
		json_array_next(&pair, &part);
		h->value = slice_str(json_string_dup(part));
	}
	m->body_bytes = int_of(o, "length", (int64_t)j->total);
	m->model = text_of(o, "model");
	m->num_ctx = int_of(o, "num_ctx", 0);
	m->max_tokens = int_of(o, "max_tokens", 160);
	m->timeout_ms = int_of(o, "timeout_ms", 0);
	m->strict = bool_of(o, "strict", false);
	m->reply_bytes = int_of(o, "reply_bytes", 0);
	m->reply_thinking = bool_of(o, "reply_thinking", false);
	channel_put(channel, &r);
	if (j->total || m->kind != JOB_PASS)
		pump(j);
}

static void do_simple(struct json_value o, struct json_value what)
{
	struct proto_record r = {.job = (uint64_t)int_of(o, "id", 0)};
	if (json_string_is(what, "cancel")) {
		r.type = PROTO_CANCEL;
	} else if (json_string_is(what, "credit")) {
		r.type = PROTO_CREDIT;
		r.u.credit.bytes = (uint64_t)int_of(o, "bytes", 0);
	} else if (json_string_is(what, "ping")) {
		r.type = PROTO_PING;
		r.u.ping.seq = (uint64_t)int_of(o, "seq", 1);
	} else if (json_string_is(what, "drain")) {
		r.type = PROTO_DRAIN;
		r.u.drain.deadline_ms = int_of(o, "deadline_ms", 1000);
		r.u.drain.keep_backend = bool_of(o, "keep_backend", false);
	} else {
		print_event("error", "unknown command");
		return;
	}
	channel_put(channel, &r);
}

static void command(struct slice line)
{
	struct json_value o, what;
	if (json_parse(line, JSON_MAX_DEPTH, &o, NULL)) {
		print_event("error", "not JSON");
		return;
	}
	what = json_get(o, "do");
	if (json_string_is(what, "ack"))
		do_ack(o);
	else if (json_string_is(what, "job"))
		do_job(o);
	else if (json_string_is(what, "stay"))
		stays = true;
	else if (json_string_is(what, "close"))
		exit(0);
	else
		do_simple(o, what);
}

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
	(void)handle, (void)hint;
	*buf = uv_buf_init(in_bytes, sizeof(in_bytes));
}

static void on_input(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	(void)stream;
	if (n < 0)
		exit(0);
	buf_add(&input, buf->base, (size_t)n);
	char *nl;
	while (input.n && (nl = memchr(input.p, '\n', input.n))) {
		size_t len = (size_t)(nl - input.p);
		command((struct slice){input.p, len});
		buf_drop(&input, len + 1);
	}
}

int main(int argc, char **argv)
{
	static const struct channel_events events = {
		.record = on_record, .peer = on_peer, .broken = on_broken};
	if (argc != 3) {
		fprintf(stderr, "link-driver URL GENERATION\n");
		return 2;
	}
	struct channel_options options = {
		.generation = strtoull(argv[2], NULL, 10), .queue_bytes = 512u << 20};
	loop = uv_default_loop();
	buf_init(&input, 0);
	int rc = channel_listen(loop, argv[1], &options, &events, NULL, &channel);
	if (rc) {
		fprintf(stderr, "listen %s: %s\n", argv[1], strerror(-rc));
		return 1;
	}
	uv_pipe_init(loop, &in_pipe, 0);
	uv_pipe_open(&in_pipe, STDIN_FILENO);
	uv_read_start((uv_stream_t *)&in_pipe, on_alloc, on_input);
	print_event("listening", argv[1]);
	return uv_run(loop, UV_RUN_DEFAULT);
}
