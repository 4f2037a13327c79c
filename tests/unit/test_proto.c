/*
 * The codec: what goes in comes out, for every record type and at every limit; what is broken is
 * refused, and nothing is allocated by a number that a peer made up.
 */
#include "proto/proto.h"
#include "proto/wire.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#define GENERATION UINT64_C(0xfedcba9876543210)

static const enum proto_type types[] = {
	PROTO_HELLO,
	PROTO_STATE,
	PROTO_MODELS,
	PROTO_START,
	PROTO_DELTA,
	PROTO_END,
	PROTO_FAIL,
	PROTO_PONG,
	PROTO_STATS,
	PROTO_BYE,
	PROTO_KEPT,
	PROTO_LOG,
	PROTO_ACK,
	PROTO_JOB,
	PROTO_BODY,
	PROTO_CANCEL,
	PROTO_PING,
	PROTO_DRAIN,
	PROTO_FORGET,
	PROTO_CREDIT,
};
#define TYPES (sizeof(types) / sizeof(types[0]))

/* --- samples --- */

enum fill { FILL_EMPTY, FILL_SMALL, FILL_LIMIT };

static char long_text[PROTO_PIECE_BYTES + 1];
static struct proto_model sample_models[PROTO_MODELS_MAX];
static struct proto_header sample_job_headers[PROTO_JOB_HEADERS_MAX];

static struct slice text(enum fill fill, const char *small)
{
	static const char odd[] = "\0\xff\xc3 bytes";
	if (fill == FILL_EMPTY)
		return (struct slice){0};
	return small ? slice_str(small) : (struct slice){odd, sizeof odd - 1};
}

/* The long one of a record; several of them would not fit a frame. */
static struct slice long_one(enum fill fill)
{
	return fill == FILL_LIMIT ? (struct slice){long_text, PROTO_PIECE_BYTES} : text(fill, NULL);
}

static int64_t number(enum fill fill, int64_t limit)
{
	return fill == FILL_EMPTY ? 0 : fill == FILL_SMALL ? 42 : limit;
}

static size_t sample_headers(enum fill fill, struct proto_header *headers, size_t most)
{
	size_t n = fill == FILL_EMPTY ? 0 : fill == FILL_SMALL ? 2 : most;
	for (size_t i = 0; i < n; i++)
		headers[i] = (struct proto_header){SLICE("Content-Type"), text(fill, NULL)};
	return n;
}

static void sample(struct proto_record *r, enum proto_type type, enum fill fill)
{
	bool on = fill != FILL_EMPTY;
	memset(r, 0, sizeof *r);
	r->type = type;
	switch (type) {
	case PROTO_HELLO:
		r->u.hello.pid = fill == FILL_LIMIT ? UINT32_MAX : 7;
		r->u.hello.device = text(fill, "gpu0");
		r->u.hello.version = long_one(fill);
		return;
	case PROTO_STATE:
		r->u.state.state = on ? STATE_DOWN : STATE_STARTING;
		r->u.state.detail = long_one(fill);
		r->u.state.url = text(fill, "http://127.0.0.1:11434");
		r->u.state.backend_pid = number(fill, INT64_MAX);
		r->u.state.backend_start = on ? UINT64_MAX : 0;
		r->u.state.window = number(fill, INT64_MIN);
		r->u.state.slots = number(fill, 1);
		r->u.state.model = text(fill, NULL);
		r->u.state.traits = on ? UINT32_MAX : 0;
		r->u.state.serving.model_bytes = number(fill, INT64_MAX);
		r->u.state.serving.weight_bytes = number(fill, -1);
		r->u.state.serving.gpu_bytes = number(fill, INT64_MAX);
		r->u.state.serving.gpu_percent = number(fill, -1);
		r->u.state.serving.gpus = number(fill, INT64_MAX);
		r->u.state.serving.models = number(fill, -1);
		r->u.state.serving.keep_s = number(fill, INT64_MAX);
		r->u.state.serving.own_window = number(fill, -1);
		r->u.state.serving.flash_attention = number(fill, INT64_MAX);
		r->u.state.serving.speculation = number(fill, -1);
		r->u.state.serving.cache_type = text(fill, "q8_0");
		return;
	case PROTO_MODELS:
		r->u.models.first = on;
		r->u.models.last = !on;
		r->u.models.count = fill == FILL_EMPTY	 ? 0
				    : fill == FILL_SMALL ? 2
							 : PROTO_MODELS_MAX;
		r->u.models.items = sample_models;
		for (size_t i = 0; i < r->u.models.count; i++)
			sample_models[i] = (struct proto_model){text(fill, "qwen"),
				number(fill, INT64_MAX), text(fill, "{}"), text(fill, NULL)};
		return;
	case PROTO_START:
		r->job = 1;
		r->u.start.status = number(fill, 999);
		r->u.start.header_count =
			sample_headers(fill, r->u.start.headers, PROTO_HEADERS_MAX);
		r->u.start.body_bytes = number(fill, -1);
		r->u.start.identity = text(fill, "\"id\":\"x\"");
		return;
	case PROTO_DELTA:
		r->job = on ? UINT64_MAX : 1;
		r->u.delta.bytes = long_one(fill);
		r->u.delta.whole = on;
		r->u.delta.opaque = on;
		r->u.delta.tokens = number(fill, INT64_MAX);
		r->u.delta.text = text(fill, "said");
		r->u.delta.source = number(fill, INT64_MAX);
		return;
	case PROTO_END:
		r->job = 3;
		r->u.end.usage = (struct proto_usage){number(fill, INT64_MAX),
			number(fill, INT64_MIN), number(fill, -1), on ? 1.5 : 0, on ? -1 : 0,
			fill == FILL_LIMIT ? 1e308 : 0};
		r->u.end.finish = text(fill, "stop");
		r->u.end.verdict = long_one(fill);
		r->u.end.backend_ms = on ? 0.1 : 0;
		r->u.end.notes_kept = number(fill, INT64_MAX);
		r->u.end.notes_refused = number(fill, 3);
		r->u.end.reply = long_one(fill);
		return;
	case PROTO_FAIL:
		r->job = 4;
		r->u.fail.cause = on ? FAIL_INTERNAL : FAIL_NONE;
		r->u.fail.status = number(fill, 999);
		r->u.fail.message = text(fill, "no");
		r->u.fail.body = long_one(fill);
		r->u.fail.content_type = text(fill, "application/json");
		r->u.fail.prompt_tokens = number(fill, 4833);
		r->u.fail.window_tokens = number(fill, INT64_MAX);
		return;
	case PROTO_PONG:
		r->u.ping.progress = (uint64_t)number(fill, -1);
		r->u.ping.active = (uint64_t)number(fill, 3);
		/* fall through */
	case PROTO_PING:
		r->u.ping.seq = (uint64_t)number(fill, -1);
		return;
	case PROTO_STATS:
		r->u.stats.jobs_done = (uint64_t)number(fill, -1);
		r->u.stats.jobs_failed = (uint64_t)number(fill, 1);
		r->u.stats.bytes_in = (uint64_t)number(fill, INT64_MIN);
		r->u.stats.bytes_out = (uint64_t)number(fill, 0xffffffff);
		r->u.stats.rss_bytes = (uint64_t)number(fill, 0x100000000);
		return;
	case PROTO_ACK:
		r->u.ack.device = text(fill, "gpu0");
		r->u.ack.backend_type = on ? UINT32_MAX : 0;
		r->u.ack.url = long_one(fill);
		r->u.ack.command_count = fill == FILL_EMPTY   ? 0
					 : fill == FILL_SMALL ? 3
							      : PROTO_ARGS_MAX;
		for (size_t i = 0; i < r->u.ack.command_count; i++)
			r->u.ack.command[i] = text(fill, i % 2 ? "-c" : NULL);
		r->u.ack.pin = text(fill, "1");
		r->u.ack.model = text(fill, "m");
		r->u.ack.num_ctx = number(fill, 1 << 20);
		r->u.ack.slots = number(fill, 128);
		r->u.ack.boot_ms = number(fill, 127);
		r->u.ack.connect_ms = number(fill, -128);
		r->u.ack.idle_ms = number(fill, -32769);
		r->u.ack.body_bytes = number(fill, 65536);
		r->u.ack.line_bytes = number(fill, INT32_MAX);
		r->u.ack.result_bytes = number(fill, INT32_MIN);
		r->u.ack.log_level = 3;
		r->u.ack.log_format = 1;
		r->u.ack.log_content = on;
		r->u.ack.adopt_pid = number(fill, INT32_MAX);
		r->u.ack.adopt_start = on ? UINT64_MAX : 0;
		r->u.ack.adopt_url = text(fill, "http://127.0.0.1:4");
		r->u.ack.settled = text(fill, "m:1b");
		r->u.ack.run_dir = text(fill, "/run/tandem");
		r->u.ack.state_dir = text(fill, "/var/lib/tandem");
		r->u.ack.backend_log_bytes = number(fill, 4 << 20);
		r->u.ack.kv_ms = number(fill, 30000);
		r->u.ack.log_buffer_bytes = number(fill, 262144);
		r->u.ack.first_ms = number(fill, 3600000);
		r->u.ack.silent_ms = number(fill, 120000);
		r->u.ack.kv_idle_ms = number(fill, 5000);
		r->u.ack.kv_bytes = number(fill, INT64_MAX);
		return;
	case PROTO_JOB:
		r->job = 9;
		r->u.job.kind = on ? JOB_PASS : JOB_CHAT;
		r->u.job.request_id = text(fill, "r-1");
		r->u.job.dialect = 2;
		r->u.job.stream = on;
		r->u.job.method = text(fill, "POST");
		r->u.job.path = long_one(fill);
		r->u.job.headers = sample_job_headers;
		r->u.job.header_count =
			sample_headers(fill, r->u.job.headers, PROTO_JOB_HEADERS_MAX);
		r->u.job.body_bytes = number(fill, -1);
		r->u.job.model = text(fill, "m");
		r->u.job.num_ctx = number(fill, INT64_MAX);
		r->u.job.max_tokens = number(fill, 160);
		r->u.job.timeout_ms = number(fill, 30000);
		r->u.job.resume = on;
		r->u.job.resume_bytes = number(fill, INT64_MAX);
		r->u.job.resume_tokens = number(fill, 7);
		r->u.job.identity = text(fill, NULL);
		r->u.job.strict = on;
		r->u.job.asked = text(fill, "claude-haiku-4-5");
		r->u.job.reply_bytes = number(fill, PROTO_REPLY_BYTES);
		r->u.job.reply_thinking = on;
		r->u.job.conversation = on ? UINT64_MAX : 0;
		r->u.job.kept = on ? 7 : 0;
		r->u.job.kept_tokens = number(fill, INT64_MAX);
		r->u.job.restore = on;
		r->u.job.stream_id = text(fill, "0123456789abcdef");
		r->u.job.replay = on;
		r->u.job.replay_bytes = number(fill, INT64_MAX);
		return;
	case PROTO_BODY:
		r->job = 10;
		r->u.body.bytes = long_one(fill);
		r->u.body.last = on;
		return;
	case PROTO_CANCEL:
		r->job = 11;
		return;
	case PROTO_BYE:
		return;
	case PROTO_KEPT:
		r->u.kept.what = on ? KEPT_OFF : KEPT_LIST;
		r->u.kept.conversation = on ? UINT64_MAX : 0;
		r->u.kept.tokens = number(fill, INT64_MAX);
		r->u.kept.bytes = number(fill, 1 << 20);
		r->u.kept.ms = on ? 1.5 : -1;
		return;
	case PROTO_LOG:
		r->u.log.level = on ? 3 : 0;
		r->u.log.event = text(fill, "job_start");
		r->u.log.field_count = fill == FILL_EMPTY   ? 0
				       : fill == FILL_SMALL ? 2
							    : PROTO_LOG_FIELDS_MAX;
		for (size_t i = 0; i < r->u.log.field_count; i++)
			r->u.log.fields[i] = (struct proto_log_field){text(fill, "req"),
				i % 2 ? PROTO_LOG_REAL : PROTO_LOG_TEXT, text(fill, NULL),
				number(fill, INT64_MIN), 2.5};
		return;
	case PROTO_DRAIN:
		r->u.drain.deadline_ms = number(fill, INT64_MAX);
		r->u.drain.keep_backend = on;
		return;
	case PROTO_FORGET:
		r->u.forget.conversation = text(fill, "0123456789abcdef");
		return;
	case PROTO_CREDIT:
		r->job = 12;
		r->u.credit.bytes = (uint64_t)number(fill, -1);
		return;
	}
	fail_msg("no sample of type %d", type);
}

/* --- comparison: by meaning, so that padding and unused parts of a record do not matter --- */

static void same_text(struct slice a, struct slice b)
{
	assert_true(slice_eq(a, b));
}

static void same_headers(
	const struct proto_header *a, size_t n, const struct proto_header *b, size_t m)
{
	assert_int_equal(n, m);
	for (size_t i = 0; i < n; i++) {
		same_text(a[i].name, b[i].name);
		same_text(a[i].value, b[i].value);
	}
}

#define SAME(m) assert_true(a->u.m == b->u.m)
#define SAME_TEXT(m) same_text(a->u.m, b->u.m)

static void same(const struct proto_record *a, const struct proto_record *b)
{
	assert_int_equal(a->type, b->type);
	assert_true(a->job == b->job);
	switch (a->type) {
	case PROTO_HELLO:
		SAME(hello.pid);
		SAME_TEXT(hello.device);
		SAME_TEXT(hello.version);
		return;
	case PROTO_STATE:
		SAME(state.state);
		SAME_TEXT(state.detail);
		SAME_TEXT(state.url);
		SAME(state.backend_pid);
		SAME(state.backend_start);
		SAME(state.window);
		SAME(state.slots);
		SAME_TEXT(state.model);
		SAME(state.traits);
		SAME(state.serving.model_bytes);
		SAME(state.serving.weight_bytes);
		SAME(state.serving.gpu_bytes);
		SAME(state.serving.gpu_percent);
		SAME(state.serving.gpus);
		SAME(state.serving.models);
		SAME(state.serving.keep_s);
		SAME(state.serving.own_window);
		SAME(state.serving.flash_attention);
		SAME(state.serving.speculation);
		SAME_TEXT(state.serving.cache_type);
		return;
	case PROTO_MODELS:
		SAME(models.first);
		SAME(models.last);
		SAME(models.count);
		for (size_t i = 0; i < a->u.models.count; i++) {
			SAME_TEXT(models.items[i].name);
			SAME(models.items[i].window);
			SAME_TEXT(models.items[i].ollama_json);
			SAME_TEXT(models.items[i].openai_json);
		}
		return;
	case PROTO_START:
		SAME(start.status);
		same_headers(a->u.start.headers, a->u.start.header_count, b->u.start.headers,
			b->u.start.header_count);
		SAME(start.body_bytes);
		SAME_TEXT(start.identity);
		return;
	case PROTO_DELTA:
		SAME_TEXT(delta.bytes);
		SAME(delta.whole);
		SAME(delta.opaque);
		SAME(delta.tokens);
		SAME_TEXT(delta.text);
		SAME(delta.source);
		return;
	case PROTO_END:
		SAME(end.usage.prompt_tokens);
		SAME(end.usage.cached_tokens);
		SAME(end.usage.output_tokens);
		SAME(end.usage.prompt_ms);
		SAME(end.usage.output_ms);
		SAME(end.usage.load_ms);
		SAME_TEXT(end.finish);
		SAME_TEXT(end.verdict);
		SAME(end.backend_ms);
		SAME(end.notes_kept);
		SAME(end.notes_refused);
		SAME_TEXT(end.reply);
		return;
	case PROTO_FAIL:
		SAME(fail.cause);
		SAME(fail.status);
		SAME_TEXT(fail.message);
		SAME_TEXT(fail.body);
		SAME_TEXT(fail.content_type);
		SAME(fail.prompt_tokens);
		SAME(fail.window_tokens);
		return;
	case PROTO_PONG:
		SAME(ping.progress);
		SAME(ping.active);
		/* fall through */
	case PROTO_PING:
		SAME(ping.seq);
		return;
	case PROTO_STATS:
		SAME(stats.jobs_done);
		SAME(stats.jobs_failed);
		SAME(stats.bytes_in);
		SAME(stats.bytes_out);
		SAME(stats.rss_bytes);
		return;
	case PROTO_ACK:
		SAME_TEXT(ack.device);
		SAME(ack.backend_type);
		SAME_TEXT(ack.url);
		SAME(ack.command_count);
		for (size_t i = 0; i < a->u.ack.command_count; i++)
			SAME_TEXT(ack.command[i]);
		SAME_TEXT(ack.pin);
		SAME_TEXT(ack.model);
		SAME(ack.num_ctx);
		SAME(ack.slots);
		SAME(ack.boot_ms);
		SAME(ack.connect_ms);
		SAME(ack.idle_ms);
		SAME(ack.body_bytes);
		SAME(ack.line_bytes);
		SAME(ack.result_bytes);
		SAME(ack.log_level);
		SAME(ack.log_format);
		SAME(ack.log_content);
		SAME(ack.adopt_pid);
		SAME(ack.adopt_start);
		SAME_TEXT(ack.adopt_url);
		SAME_TEXT(ack.settled);
		SAME_TEXT(ack.run_dir);
		SAME_TEXT(ack.state_dir);
		SAME(ack.backend_log_bytes);
		SAME(ack.kv_ms);
		SAME(ack.log_buffer_bytes);
		SAME(ack.first_ms);
		SAME(ack.silent_ms);
		SAME(ack.kv_idle_ms);
		SAME(ack.kv_bytes);
		return;
	case PROTO_JOB:
		SAME(job.kind);
		SAME_TEXT(job.request_id);
		SAME(job.dialect);
		SAME(job.stream);
		SAME_TEXT(job.method);
		SAME_TEXT(job.path);
		same_headers(a->u.job.headers, a->u.job.header_count, b->u.job.headers,
			b->u.job.header_count);
		SAME(job.body_bytes);
		SAME_TEXT(job.model);
		SAME(job.num_ctx);
		SAME(job.max_tokens);
		SAME(job.timeout_ms);
		SAME(job.resume);
		SAME(job.resume_bytes);
		SAME(job.resume_tokens);
		SAME_TEXT(job.identity);
		SAME(job.strict);
		SAME_TEXT(job.asked);
		SAME(job.reply_bytes);
		SAME(job.reply_thinking);
		SAME(job.conversation);
		SAME(job.kept);
		SAME(job.kept_tokens);
		SAME(job.restore);
		SAME_TEXT(job.stream_id);
		SAME(job.replay);
		SAME(job.replay_bytes);
		return;
	case PROTO_KEPT:
		SAME(kept.what);
		SAME(kept.conversation);
		SAME(kept.tokens);
		SAME(kept.bytes);
		SAME(kept.ms);
		return;
	case PROTO_BODY:
		SAME_TEXT(body.bytes);
		SAME(body.last);
		return;
	case PROTO_CANCEL:
	case PROTO_BYE:
		return;
	case PROTO_LOG:
		SAME(log.level);
		SAME_TEXT(log.event);
		SAME(log.field_count);
		for (size_t i = 0; i < a->u.log.field_count; i++) {
			SAME_TEXT(log.fields[i].key);
			SAME(log.fields[i].kind);
			SAME_TEXT(log.fields[i].text);
			SAME(log.fields[i].number);
			SAME(log.fields[i].real);
		}
		return;
	case PROTO_DRAIN:
		SAME(drain.deadline_ms);
		SAME(drain.keep_backend);
		return;
	case PROTO_FORGET:
		SAME_TEXT(forget.conversation);
		return;
	case PROTO_CREDIT:
		SAME(credit.bytes);
		return;
	}
	fail_msg("type %d is not compared", a->type);
}

/* --- fixture --- */

struct pair {
	struct proto_writer w;
	struct proto_reader *r;
};

static int set_up(void **state)
{
	struct pair *p = calloc(1, sizeof *p);
	if (!p)
		return -1;
	proto_writer_init(&p->w, GENERATION);
	p->r = proto_reader_create();
	memset(long_text, 'x', sizeof long_text);
	*state = p;
	return p->r ? 0 : -1;
}

static int tear_down(void **state)
{
	struct pair *p = *state;
	proto_writer_fini(&p->w);
	proto_reader_destroy(p->r);
	free(p);
	return 0;
}

/* Reads a frame to its end: records read, or the error. */
static int read_all(struct proto_reader *r, struct slice frame)
{
	struct proto_record out;
	uint64_t generation;
	int n = 0, rc = proto_reader_open(r, frame, &generation);
	while (!rc && (rc = proto_reader_next(r, &out)) > 0) {
		n++;
		rc = 0;
	}
	return rc < 0 ? rc : n;
}

/* Reads what must be refused. From a block of its own, so that ASan sees a read past its end. */
static void refused(struct proto_reader *r, const void *bytes, size_t n)
{
	char *copy = malloc(n ? n : 1);
	assert_non_null(copy);
	memcpy(copy, bytes, n);
	int rc = read_all(r, (struct slice){copy, n});
	free(copy);
	assert_int_equal(rc, -EPROTO);
	assert_string_not_equal(proto_reader_problem(r), "");
}

/* --- tests --- */

static void test_round_trip(void **state)
{
	struct pair *p = *state;
	for (size_t i = 0; i < TYPES; i++) {
		for (enum fill fill = FILL_EMPTY; fill <= FILL_LIMIT; fill++) {
			struct proto_record in, out;
			uint64_t generation;
			memset(&out, 0xa5, sizeof out); /* nothing may be taken for granted */
			sample(&in, types[i], fill);
			assert_int_equal(proto_put(&p->w, &in), 0);
			struct slice frame = proto_writer_frame(&p->w);
			assert_int_equal(proto_reader_open(p->r, frame, &generation), 0);
			assert_true(generation == GENERATION);
			assert_int_equal(proto_reader_next(p->r, &out), 1);
			same(&in, &out);
			assert_int_equal(proto_reader_next(p->r, &out), 0);
			assert_int_equal(proto_reader_next(p->r, &out), 0);
			proto_writer_reset(&p->w);
			assert_int_equal(proto_writer_frame(&p->w).n, 0);
		}
	}
}

static void test_many_records_in_a_frame(void **state)
{
	struct pair *p = *state;
	struct proto_record in, out;
	uint64_t generation;
	for (int i = 0; i < 100; i++) {
		sample(&in, types[(size_t)i % TYPES], FILL_SMALL);
		assert_int_equal(proto_put(&p->w, &in), 0);
		if (i % 7 == 0) /* looking at the frame does not end it */
			assert_int_equal(read_all(p->r, proto_writer_frame(&p->w)), i + 1);
	}
	assert_int_equal(proto_reader_open(p->r, proto_writer_frame(&p->w), &generation), 0);
	for (int i = 0; i < 100; i++) {
		sample(&in, types[(size_t)i % TYPES], FILL_SMALL);
		assert_int_equal(proto_reader_next(p->r, &out), 1);
		same(&in, &out);
	}
	assert_int_equal(proto_reader_next(p->r, &out), 0);
}

static void test_bytes_are_borrowed(void **state)
{
	struct pair *p = *state;
	struct proto_record in, out;
	uint64_t generation;
	sample(&in, PROTO_DELTA, FILL_LIMIT);
	assert_int_equal(proto_put(&p->w, &in), 0);
	struct slice frame = proto_writer_frame(&p->w);
	assert_int_equal(proto_reader_open(p->r, frame, &generation), 0);
	assert_int_equal(proto_reader_next(p->r, &out), 1);
	assert_in_range(
		(uintptr_t)out.u.delta.bytes.p, (uintptr_t)frame.p, (uintptr_t)(frame.p + frame.n));
}

static void test_encode_limits(void **state)
{
	struct pair *p = *state;
	static struct proto_record r;
	struct slice too_long = {long_text, sizeof long_text};

	sample(&r, PROTO_DELTA, FILL_SMALL);
	assert_int_equal(proto_put(&p->w, &r), 0);
	struct slice before = proto_writer_frame(&p->w);
	char *copy = slice_dup(before);
	assert_non_null(copy);
	size_t n = before.n;

#define REFUSED(type_, error, change)                                                              \
	do {                                                                                       \
		sample(&r, type_, FILL_SMALL);                                                     \
		change;                                                                            \
		assert_int_equal(proto_put(&p->w, &r), error);                                     \
		assert_int_equal(proto_writer_frame(&p->w).n, n);                                  \
		assert_memory_equal(proto_writer_frame(&p->w).p, copy, n);                         \
	} while (0)

	REFUSED(PROTO_DELTA, -E2BIG, r.u.delta.bytes = too_long);
	REFUSED(PROTO_BODY, -E2BIG, r.u.body.bytes = too_long);
	REFUSED(PROTO_HELLO, -E2BIG, r.u.hello.version = too_long);
	REFUSED(PROTO_ACK, -E2BIG, r.u.ack.command_count = PROTO_ARGS_MAX + 1);
	REFUSED(PROTO_ACK, -E2BIG, r.u.ack.command[1] = too_long);
	REFUSED(PROTO_JOB, -E2BIG, r.u.job.header_count = PROTO_JOB_HEADERS_MAX + 1);
	REFUSED(PROTO_START, -E2BIG, r.u.start.header_count = SIZE_MAX);
	REFUSED(PROTO_MODELS, -E2BIG, r.u.models.count = PROTO_MODELS_MAX + 1);
	REFUSED(PROTO_MODELS, -E2BIG, r.u.models.items[1].openai_json = too_long);
	REFUSED(PROTO_START, -EINVAL, r.u.start.status = 1000);
	REFUSED(PROTO_START, -EINVAL, r.u.start.body_bytes = -2);
	REFUSED(PROTO_STATE, -EINVAL, r.u.state.state = STATE_DOWN + 1);
	REFUSED(PROTO_FAIL, -EINVAL, r.u.fail.cause = FAIL_GONE + 1);
	REFUSED(PROTO_JOB, -EINVAL, r.u.job.kind = JOB_WARM + 1);
	REFUSED(PROTO_DELTA, -E2BIG, r.u.delta.text = too_long);
	REFUSED(PROTO_DELTA, -EINVAL, r.u.delta.tokens = -1);
	REFUSED(PROTO_JOB, -EINVAL, r.u.job.resume_bytes = -1);
	REFUSED(PROTO_JOB, -EINVAL, r.u.job.replay_bytes = -1);
	REFUSED(PROTO_JOB, -E2BIG,
		r.u.job.stream_id = ((struct slice){long_text, PROTO_CONVERSATION_BYTES + 1}));
	REFUSED(PROTO_DELTA, -EINVAL, r.u.delta.source = -1);
	REFUSED(PROTO_DELTA, -EINVAL, r.job = 0);
	REFUSED(PROTO_PING, -EINVAL, r.job = 1);
	REFUSED(PROTO_PING, -EINVAL, r.type = 0);
	REFUSED(PROTO_PING, -EINVAL, r.type = PROTO_KEPT + 1);
	REFUSED(PROTO_PING, -EINVAL, r.type = PROTO_LOG - 1);
	REFUSED(PROTO_LOG, -EINVAL, r.u.log.fields[0].kind = PROTO_LOG_REAL + 1);
	REFUSED(PROTO_LOG, -E2BIG, r.u.log.field_count = PROTO_LOG_FIELDS_MAX + 1);
	REFUSED(PROTO_PING, -EINVAL, r.type = PROTO_CREDIT + 1);
	free(copy);
	assert_int_equal(read_all(p->r, proto_writer_frame(&p->w)), 1);
}

static void test_frame_limit(void **state)
{
	struct pair *p = *state;
	struct proto_record r;
	int n = 0, rc;
	sample(&r, PROTO_DELTA, FILL_LIMIT);
	while ((rc = proto_put(&p->w, &r)) == 0)
		n++;
	assert_int_equal(rc, -E2BIG);
	assert_int_equal(n, PROTO_FRAME_MAX / (PROTO_PIECE_BYTES + 64));
	assert_int_equal(read_all(p->r, proto_writer_frame(&p->w)), n);
	/* What is small still fits, and the next frame is fresh. */
	sample(&r, PROTO_PING, FILL_SMALL);
	assert_int_equal(proto_put(&p->w, &r), 0);
	assert_int_equal(read_all(p->r, proto_writer_frame(&p->w)), n + 1);
	proto_writer_reset(&p->w);
	assert_int_equal(proto_put(&p->w, &r), 0);
	assert_int_equal(read_all(p->r, proto_writer_frame(&p->w)), 1);

	char *big = calloc(1, PROTO_FRAME_MAX + 1);
	assert_non_null(big);
	refused(p->r, big, PROTO_FRAME_MAX + 1);
	free(big);
}

static void test_not_finite_is_unknown(void **state)
{
	struct pair *p = *state;
	struct proto_record r, out;
	uint64_t generation;
	sample(&r, PROTO_END, FILL_SMALL);
	r.u.end.backend_ms = (double)NAN;
	r.u.end.usage.prompt_ms = (double)INFINITY;
	assert_int_equal(proto_put(&p->w, &r), 0);
	assert_int_equal(proto_reader_open(p->r, proto_writer_frame(&p->w), &generation), 0);
	assert_int_equal(proto_reader_next(p->r, &out), 1);
	assert_true(out.u.end.backend_ms == -1 && out.u.end.usage.prompt_ms == -1);
}

static void test_truncated_anywhere(void **state)
{
	struct pair *p = *state;
	for (size_t i = 0; i < TYPES; i++) {
		struct proto_record r;
		proto_writer_reset(&p->w);
		sample(&r, types[i], FILL_SMALL);
		assert_int_equal(proto_put(&p->w, &r), 0);
		struct slice frame = proto_writer_frame(&p->w);
		for (size_t n = 0; n < frame.n; n++)
			refused(p->r, frame.p, n);
	}
}

static void test_trailing_bytes(void **state)
{
	struct pair *p = *state;
	struct proto_record r;
	sample(&r, PROTO_PING, FILL_SMALL);
	assert_int_equal(proto_put(&p->w, &r), 0);
	struct slice frame = proto_writer_frame(&p->w);
	char bytes[64];
	memcpy(bytes, frame.p, frame.n);
	for (int last = 0; last < 256; last++) {
		bytes[frame.n] = (char)last;
		refused(p->r, bytes, frame.n + 1);
	}
}

static void test_wrong_forms(void **state)
{
	struct pair *p = *state;
	static const struct {
		const char *what, *problem;
		const char *bytes;
		size_t n;
	} cases[] = {
/* clang-format off */
#define CASE(what, problem, lit) {what, problem, lit, sizeof(lit) - 1}
		CASE("empty", "frame: cut short", ""),
		CASE("no array", "frame: not an array", "\x01"),
		CASE("no version", "frame: no version and generation", "\x90"),
		CASE("no generation", "frame: no version and generation", "\x91\x03"),
		CASE("version is text", "version: wrong type", "\x93\xa1\x31\x01\x93\x24\x00\x00"),
		CASE("version is negative", "version: wrong type", "\x92\xff\x01"),
		CASE("version is an array", "version: nested too deep", "\x93\x91\x01\x01\x93\x24\x00\x00"),
		CASE("generation is nil", "generation: a msgpack type that is not used here", "\x92\x03\xc0"),
		CASE("generation is negative", "generation: wrong type", "\x92\x03\xff"),
		CASE("generation is an array", "generation: nested too deep", "\x92\x03\x91\x01"),
		CASE("record is a number", "record: not an array of type, job and fields", "\x93\x03\x01\x01"),
		CASE("record is empty", "record: not an array of type, job and fields", "\x93\x03\x01\x90"),
		CASE("record without job", "record: not an array of type, job and fields", "\x93\x03\x01\x91\x24"),
		CASE("type is text", "record: type or job is no number", "\x93\x03\x01\x93\xa1\x24\x00\x00"),
		CASE("type is negative", "record: type or job is no number", "\x93\x03\x01\x93\xff\x00\x00"),
		CASE("type 0", "record: unknown type", "\x93\x03\x01\x93\x00\x00\x00"),
		CASE("type between", "record: unknown type", "\x93\x03\x01\x93\x0c\x00\x00"),
		CASE("type unknown", "record: unknown type", "\x93\x03\x01\x93\x41\x01\x00"),
		CASE("type of 64 bits", "record: unknown type", "\x93\x03\x01\x93\xcf\x01\x00\x00\x00\x00\x00\x00\x24\x00\x00"),
		CASE("job is text", "record: type or job is no number", "\x93\x03\x01\x93\x24\xa0\x00"),
		CASE("job is negative", "record: type or job is no number", "\x93\x03\x01\x93\x24\xff\x00"),
		CASE("job on a ping", "ping: job missing or out of place", "\x93\x03\x01\x93\x24\x01\x00"),
		CASE("no job on a cancel", "cancel: job missing or out of place", "\x93\x03\x01\x92\x23\x00"),
		CASE("a field too few", "ping: wrong number of fields", "\x93\x03\x01\x92\x24\x00"),
		CASE("a field too many", "ping: wrong number of fields", "\x93\x03\x01\x94\x24\x00\x00\x00"),
		CASE("seq is negative", "ping.seq: out of range", "\x93\x03\x01\x93\x24\x00\xff"),
		CASE("seq is text", "ping.seq: wrong type", "\x93\x03\x01\x93\x24\x00\xa0"),
		CASE("seq is float 32", "record: a msgpack type that is not used here", "\x93\x03\x01\x93\x24\x00\xca\x00\x00\x00\x00"),
		CASE("seq is float 64", "ping.seq: wrong type", "\x93\x03\x01\x93\x24\x00\xcb\x00\x00\x00\x00\x00\x00\x00\x00"),
		CASE("seq is a map", "record: a msgpack type that is not used here", "\x93\x03\x01\x93\x24\x00\x80"),
		CASE("seq is an extension", "record: a msgpack type that is not used here", "\x93\x03\x01\x93\x24\x00\xd4\x01\x00"),
		CASE("seq is reserved 0xc1", "record: a msgpack type that is not used here", "\x93\x03\x01\x93\x24\x00\xc1"),
		CASE("seq is an array", "ping.seq: wrong type", "\x93\x03\x01\x93\x24\x00\x90"),
		CASE("delta as text", "delta.bytes: wrong type", "\x93\x03\x01\x98\x05\x01\xa1x\xc2\xc2\x00\xa0\x00"),
		CASE("delta as number", "delta.bytes: wrong type", "\x93\x03\x01\x98\x05\x01\x01\xc2\xc2\x00\xa0\x00"),
		CASE("tokens are negative", "delta.tokens: out of range", "\x93\x03\x01\x98\x05\x01\xc4\x00\xc2\xc2\xff\xa0\x00"),
		CASE("hello's device as bytes", "hello.device: wrong type", "\x93\x03\x01\x95\x01\x00\x01\xc4\x01x\xa0"),
		CASE("pid of 33 bits", "hello.pid: out of range", "\x93\x03\x01\x95\x01\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xa0\xa0"),
		CASE("pid is negative", "hello.pid: out of range", "\x93\x03\x01\x95\x01\x00\xff\xa0\xa0"),
		CASE("body.last is 1", "body.last: wrong type", "\x93\x03\x01\x94\x22\x01\xc4\x00\x01"),
		CASE("status 1000", "start.status: out of range", "\x93\x03\x01\x96\x04\x01\xcd\x03\xe8\x90\x00\xa0"),
		CASE("status -1", "start.status: out of range", "\x93\x03\x01\x96\x04\x01\xff\x90\x00\xa0"),
		CASE("body_bytes -2", "start.body_bytes: out of range", "\x93\x03\x01\x96\x04\x01\x00\x90\xfe\xa0"),
		CASE("body_bytes past int64", "start.body_bytes: out of range", "\x93\x03\x01\x96\x04\x01\x00\x90\xcf\x80\x00\x00\x00\x00\x00\x00\x00\xa0"),
		CASE("headers as text", "start.headers: wrong type", "\x93\x03\x01\x96\x04\x01\x00\xa0\x00\xa0"),
		CASE("a header as text", "start.headers: wrong item", "\x93\x03\x01\x96\x04\x01\x00\x91\xa0\x00\xa0"),
		CASE("a header of one", "start.headers: wrong item", "\x93\x03\x01\x96\x04\x01\x00\x91\x91\xa0\x00\xa0"),
		CASE("a header of three", "start.headers: wrong item", "\x93\x03\x01\x96\x04\x01\x00\x91\x93\xa0\xa0\xa0\x00\xa0"),
		CASE("a header of numbers", "header.name: wrong type", "\x93\x03\x01\x96\x04\x01\x00\x91\x92\x01\x01\x00\xa0"),
		CASE("nested too deep", "record: nested too deep", "\x93\x03\x01\x96\x04\x01\x00\x91\x92\xa0\x90\x00\xa0"),
		CASE("state 4", "state.state: out of range", "\x93\x03\x01\xdc\x00\x16\x02\x00\x04\xa0\xa0\x00\x00\x00\x00\xa0\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xa0"),
		CASE("less than unknown", "state.serving.model_bytes: out of range", "\x93\x03\x01\xdc\x00\x16\x02\x00\x00\xa0\xa0\x00\x00\x00\x00\xa0\x00\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff\xa0"),
		CASE("the second record broken", "record: a msgpack type that is not used here", "\x94\x03\x01\x93\x24\x00\x00\x93\x24\x00\xc0"),
		/* clang-format on */
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		refused(p->r, cases[i].bytes, cases[i].n);
		if (strcmp(proto_reader_problem(p->r), cases[i].problem) != 0)
			fail_msg("%s: %s", cases[i].what, proto_reader_problem(p->r));
	}
	/* The same by hand and right. */
	assert_int_equal(read_all(p->r, SLICE("\x93\x03\x01\x93\x24\x00\x00")), 1);
	assert_int_equal(read_all(p->r, SLICE("\x92\x03\x01")), 0);
	assert_int_equal(
		read_all(p->r,
			SLICE("\x93\x03\x01\x96\x04\x01\xcd\x00\xc8\x91\x92\xa0\xa0\xff\xa0")),
		1);
}

static void test_other_version(void **state)
{
	struct pair *p = *state;
	uint64_t generation;
	/* Whatever follows may be of a kind that this version does not know. */
	assert_int_equal(proto_reader_open(p->r, SLICE("\x93\x04\x81\xa1x\x01\xc0"), &generation),
		-EPROTONOSUPPORT);
	assert_string_equal(proto_reader_problem(p->r), "version 4, not 3");
	assert_int_equal(
		proto_reader_open(p->r, SLICE("\x92\x00\x01"), &generation), -EPROTONOSUPPORT);
}

static void test_list_limits_on_decoding(void **state)
{
	struct pair *p = *state;
	static const struct {
		const char *start; /* up to the list */
		size_t start_n;
		size_t max;
		const char *item;
		size_t item_n;
		const char *end;
		size_t end_n;
	} cases[] = {
		{"\x93\x03\x01\x96\x04\x01\x00", 7, PROTO_HEADERS_MAX, "\x92\xa0\xa0", 3,
			"\x00\xa0", 2},
		{"\x93\x03\x01\x95\x03\x00\xc2\xc2", 8, PROTO_MODELS_MAX, "\x94\xa0\x00\xa0\xa0", 5,
			"", 0},
		{"\x93\x03\x01\xdc\x00\x22\x20\x00\xa0\x00\xa0\xa0\xa0", 13, PROTO_ARGS_MAX, "\xa0",
			1,
			"\xa0\xa0\xa0\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc2\x00\x00\xa0\xa0"
			"\xa0"
			"\x00\x00\x00\x00\x00\x00\x00",
			26},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		for (size_t n = cases[i].max; n <= cases[i].max + 1; n++) {
			struct buf b;
			buf_init(&b, 0);
			buf_add(&b, cases[i].start, cases[i].start_n);
			buf_add_char(&b, '\xdc');
			buf_add_char(&b, (char)(n >> 8));
			buf_add_char(&b, (char)n);
			for (size_t k = 0; k < n; k++)
				buf_add(&b, cases[i].item, cases[i].item_n);
			buf_add(&b, cases[i].end, cases[i].end_n);
			assert_int_equal(buf_error(&b), 0);
			if (i == 1) /* first and last precede the items: five fields */
				b.p[3] = '\x95';
			if (n > cases[i].max)
				refused(p->r, b.p, b.n);
			else
				assert_int_equal(read_all(p->r, buf_slice(&b)), 1);
			buf_free(&b);
		}
	}
}

static void test_long_text_on_decoding(void **state)
{
	struct pair *p = *state;
	for (size_t n = PROTO_PIECE_BYTES; n <= PROTO_PIECE_BYTES + 1; n++) {
		struct buf b;
		buf_init(&b, 0);
		buf_add(&b, "\x93\x03\x01\x98\x05\x01\xc6", 7);
		for (int shift = 24; shift >= 0; shift -= 8)
			buf_add_char(&b, (char)(n >> shift));
		buf_add(&b, long_text, n);
		buf_add(&b, "\xc3\xc2\x00\xa0\x00", 5);
		assert_int_equal(buf_error(&b), 0);
		if (n > PROTO_PIECE_BYTES)
			refused(p->r, b.p, b.n);
		else
			assert_int_equal(read_all(p->r, buf_slice(&b)), 1);
		buf_free(&b);
	}
}

static size_t peak_kib(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (size_t)u.ru_maxrss;
}

static void test_huge_counts_allocate_nothing(void **state)
{
	struct pair *p = *state;
	/* A number of elements or bytes that isn't there, at each depth; and one that is there, all
	 * of it in a record. */
	static const struct slice small[] = {
		SLICE("\xdd\x04\x00\x00\x00"),
		SLICE("\xdd\x04\x00\x00\x00\x01\x01"),
		SLICE("\x93\x03\x01\xdd\x04\x00\x00\x00\x01"),
		SLICE("\x93\x03\x01\x96\x04\x01\x00\xdd\x04\x00\x00\x00\x00\xa0"),
		SLICE("\x93\x03\x01\x96\x04\x01\x00\x91\xdd\xff\xff\xff\xff\x00\xa0"),
		SLICE("\x93\x03\x01\x93\x05\x01\xc6\xff\xff\xff\xff"),
		SLICE("\x93\x03\x01\x93\x05\x01\xdb\xff\xff\xff\xff"),
		SLICE("\x93\x03\x01\xdf\x04\x00\x00\x00"),
		SLICE("\x93\x03\x01\xc9\xff\xff\xff\xff\x00"),
	};
	struct buf many;
	buf_init(&many, PROTO_FRAME_MAX);
	buf_add(&many, "\x93\x03\x01\xdd\x00\x0f\xff\x00", 8);
	while (many.n < 8 + 0xfff00)
		buf_add_char(&many, 0);
	assert_int_equal(buf_error(&many), 0);
	char *nested = malloc(many.n); /* arrays in arrays in arrays, as many as fit */
	assert_non_null(nested);

	size_t before = peak_kib();
	for (size_t i = 0; i < sizeof small / sizeof small[0]; i++)
		refused(p->r, small[i].p, small[i].n);
	refused(p->r, many.p, many.n);
	memcpy(nested, "\x93\x03\x01\x93\x05\x01\xdd\x00\x0f\x00\x00", 11);
	memset(nested + 11, 0x90, many.n - 11);
	refused(p->r, nested, many.n);
	/* The copies in refused() are the only megabytes. */
	assert_in_range(peak_kib() - before, 0, 16 * 1024);
	free(nested);
	buf_free(&many);
}

static uint64_t random_next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static void test_random_mutations(void **state)
{
	struct pair *p = *state;
	uint64_t seed = 0x9e3779b97f4a7c15;
	size_t accepted = 0, refusals = 0;
	for (int i = 0; i < 20000; i++) {
		struct proto_record r;
		proto_writer_reset(&p->w);
		for (uint64_t n = 1 + random_next(&seed) % 3; n > 0; n--) {
			sample(&r, types[random_next(&seed) % TYPES],
				random_next(&seed) % 8 ? FILL_SMALL : FILL_EMPTY);
			assert_int_equal(proto_put(&p->w, &r), 0);
		}
		struct slice frame = proto_writer_frame(&p->w);
		size_t n = frame.n;
		char *copy = malloc(n);
		assert_non_null(copy);
		memcpy(copy, frame.p, n);
		for (uint64_t k = 1 + random_next(&seed) % 4; k > 0; k--) {
			uint64_t v = random_next(&seed);
			size_t at = (size_t)(v >> 8) % n;
			copy[at] = v & 64 ? (char)v : (char)(copy[at] ^ (1 << (v & 7)));
		}
		int rc = read_all(p->r, (struct slice){copy, n});
		if (rc >= 0)
			accepted++;
		else
			refusals++;
		assert_true(rc >= 0 || rc == -EPROTO || rc == -EPROTONOSUPPORT);
		free(copy);
	}
	print_message("  %zu read, %zu refused\n", accepted, refusals);
	assert_true(accepted > 100 && refusals > 10000);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(proto_type_name(PROTO_HELLO), "hello");
	assert_string_equal(proto_type_name(PROTO_CREDIT), "credit");
	assert_string_equal(proto_type_name(0), "unknown");
	assert_string_equal(proto_type_name(31), "unknown");
	assert_string_equal(proto_type_name(65), "unknown");
	for (size_t i = 0; i < TYPES; i++)
		assert_string_not_equal(proto_type_name(types[i]), "unknown");
	for (enum proto_cause c = FAIL_NONE; c <= FAIL_GONE; c++)
		assert_string_not_equal(proto_cause_name(c), "unknown");
	assert_string_equal(proto_cause_name(FAIL_GONE + 1), "unknown");
	assert_string_equal(proto_kind_name(JOB_NOTES), "notes");
	assert_string_equal(proto_kind_name(-1), "unknown");
	assert_string_equal(proto_state_name(STATE_DOWN), "down");
	assert_string_equal(proto_state_name(99), "unknown");
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_round_trip),
		T(test_many_records_in_a_frame),
		T(test_bytes_are_borrowed),
		T(test_encode_limits),
		T(test_frame_limit),
		T(test_not_finite_is_unknown),
		T(test_truncated_anywhere),
		T(test_trailing_bytes),
		T(test_wrong_forms),
		T(test_other_version),
		T(test_list_limits_on_decoding),
		T(test_long_text_on_decoding),
		T(test_huge_counts_allocate_nothing),
		T(test_random_mutations),
		T(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
