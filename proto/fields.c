#include "proto/wire.h"

#include <stddef.h>

/* The table reads and writes enums as uint32_t. */
_Static_assert(sizeof(enum proto_cause) == 4 && sizeof(enum proto_kind) == 4 &&
		       sizeof(enum proto_backend_state) == 4 && sizeof(enum proto_kept) == 4 &&
		       sizeof(enum proto_log_kind) == 4,
	"an enum is not 32 bits wide");

/* Compiles only when the member has that type: a field described wrongly would read past it. */
#define OFFSET(holder, member, type)                                                               \
	(offsetof(holder, member) + 0 * sizeof(_Generic(((holder *)0)->member, type : 0)))

#define FIELD(label, wire, holder, member, type, ...)                                              \
	{                                                                                          \
		.name = label, .kind = wire, .offset = OFFSET(holder, member, type), __VA_ARGS__   \
	}

/* Fields of a record; m is the path below its union. */
#define REC struct proto_record
#define TEXT(m) FIELD(#m, WIRE_TEXT, REC, u.m, struct slice, .max = PROTO_PIECE_BYTES)
#define NAME(m) FIELD(#m, WIRE_TEXT, REC, u.m, struct slice, .max = PROTO_CONVERSATION_BYTES)
#define BYTES(m) FIELD(#m, WIRE_BYTES, REC, u.m, struct slice, .max = PROTO_PIECE_BYTES)
#define BOOL(m) FIELD(#m, WIRE_BOOL, REC, u.m, bool)
#define U32(m) FIELD(#m, WIRE_U32, REC, u.m, uint32_t, .max = UINT32_MAX)
#define U64(m) FIELD(#m, WIRE_U64, REC, u.m, uint64_t)
#define I64(m) RANGE(m, INT64_MIN, INT64_MAX)
#define RANGE(m, lo, hi) FIELD(#m, WIRE_I64, REC, u.m, int64_t, .min = lo, .max = hi)
#define F64(m) FIELD(#m, WIRE_F64, REC, u.m, double)
#define ENUM(m, type, last) FIELD(#m, WIRE_U32, REC, u.m, type, .max = last)
#define LIST(m, shape)                                                                             \
	{                                                                                          \
		.name = #m, .kind = WIRE_LIST, .offset = offsetof(REC, u.m), .list = &(shape)      \
	}

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define HTTP_STATUS_MAX 999

static const struct wire_field header_fields[] = {
	FIELD("header.name", WIRE_TEXT, struct proto_header, name, struct slice,
		.max = PROTO_PIECE_BYTES),
	FIELD("header.value", WIRE_TEXT, struct proto_header, value, struct slice,
		.max = PROTO_PIECE_BYTES),
};
#define HEADERS(count_member)                                                                      \
	{                                                                                          \
		.max = PROTO_HEADERS_MAX, .count_offset = OFFSET(REC, u.count_member, size_t),     \
		.item_bytes = sizeof(struct proto_header), .field_count = COUNT(header_fields),    \
		.fields = header_fields,                                                           \
	}
static const struct wire_list start_headers = HEADERS(start.header_count);

static const struct wire_field job_header_fields[] = {
	FIELD("header.name", WIRE_TEXT, struct proto_header, name, struct slice,
		.max = PROTO_JOB_HEADER_BYTES),
	FIELD("header.value", WIRE_TEXT, struct proto_header, value, struct slice,
		.max = PROTO_JOB_HEADER_BYTES),
};
static const struct wire_list job_headers = {
	.max = PROTO_JOB_HEADERS_MAX,
	.count_offset = OFFSET(REC, u.job.header_count, size_t),
	.indirect = true,
	.item_bytes = sizeof(struct proto_header),
	.field_count = COUNT(job_header_fields),
	.fields = job_header_fields,
};

static const struct wire_field argument_field[] = {
	{.name = "ack.command item", .kind = WIRE_TEXT, .offset = 0, .max = PROTO_PIECE_BYTES},
};
static const struct wire_list ack_command = {
	.max = PROTO_ARGS_MAX,
	.count_offset = OFFSET(REC, u.ack.command_count, size_t),
	.item_bytes = sizeof(struct slice),
	.field_count = COUNT(argument_field),
	.fields = argument_field,
};

#define MODEL(label, wire, member, type, ...)                                                      \
	FIELD(label, wire, struct proto_model, member, type, __VA_ARGS__)
static const struct wire_field model_fields[] = {
	MODEL("model.name", WIRE_TEXT, name, struct slice, .max = PROTO_PIECE_BYTES),
	MODEL("model.window", WIRE_I64, window, int64_t, .min = INT64_MIN, .max = INT64_MAX),
	MODEL("model.ollama_json", WIRE_TEXT, ollama_json, struct slice, .max = PROTO_PIECE_BYTES),
	MODEL("model.openai_json", WIRE_TEXT, openai_json, struct slice, .max = PROTO_PIECE_BYTES),
};
static const struct wire_list models_items = {
	.max = PROTO_MODELS_MAX,
	.count_offset = OFFSET(REC, u.models.count, size_t),
	.indirect = true,
	.item_bytes = sizeof(struct proto_model),
	.field_count = COUNT(model_fields),
	.fields = model_fields,
};

static const struct wire_field hello[] = {
	U32(hello.pid),
	TEXT(hello.device),
	TEXT(hello.version),
};

static const struct wire_field state[] = {
	ENUM(state.state, enum proto_backend_state, STATE_DOWN),
	TEXT(state.detail),
	TEXT(state.url),
	I64(state.backend_pid),
	U64(state.backend_start),
	I64(state.window),
	I64(state.slots),
	TEXT(state.model),
	U32(state.traits),
	RANGE(state.serving.model_bytes, -1, INT64_MAX),
	RANGE(state.serving.weight_bytes, -1, INT64_MAX),
	RANGE(state.serving.gpu_bytes, -1, INT64_MAX),
	RANGE(state.serving.gpu_percent, -1, INT64_MAX),
	RANGE(state.serving.gpus, -1, INT64_MAX),
	RANGE(state.serving.models, -1, INT64_MAX),
	RANGE(state.serving.keep_s, -1, INT64_MAX),
	RANGE(state.serving.own_window, -1, INT64_MAX),
	RANGE(state.serving.flash_attention, -1, INT64_MAX),
	RANGE(state.serving.speculation, -1, INT64_MAX),
	TEXT(state.serving.cache_type),
};

static const struct wire_field models[] = {
	BOOL(models.first),
	BOOL(models.last),
	LIST(models.items, models_items),
};

static const struct wire_field start[] = {
	RANGE(start.status, 0, HTTP_STATUS_MAX),
	LIST(start.headers, start_headers),
	RANGE(start.body_bytes, -1, INT64_MAX),
	TEXT(start.identity),
};

static const struct wire_field delta[] = {
	BYTES(delta.bytes),
	BOOL(delta.whole),
	BOOL(delta.opaque),
	RANGE(delta.tokens, 0, INT64_MAX),
	TEXT(delta.text),
	RANGE(delta.source, 0, INT64_MAX),
};

static const struct wire_field end[] = {
	I64(end.usage.prompt_tokens),
	I64(end.usage.cached_tokens),
	I64(end.usage.output_tokens),
	F64(end.usage.prompt_ms),
	F64(end.usage.output_ms),
	F64(end.usage.load_ms),
	TEXT(end.finish),
	TEXT(end.verdict),
	F64(end.backend_ms),
	RANGE(end.notes_kept, 0, INT64_MAX),
	RANGE(end.notes_refused, 0, INT64_MAX),
	FIELD("end.reply", WIRE_TEXT, REC, u.end.reply, struct slice, .max = PROTO_REPLY_BYTES),
};

static const struct wire_field fail[] = {
	ENUM(fail.cause, enum proto_cause, FAIL_GONE),
	RANGE(fail.status, 0, HTTP_STATUS_MAX),
	TEXT(fail.message),
	BYTES(fail.body),
	TEXT(fail.content_type),
	I64(fail.prompt_tokens),
	I64(fail.window_tokens),
	RANGE(fail.retry_after_s, 0, INT64_MAX),
};

static const struct wire_field pong[] = {
	U64(ping.seq),
	U64(ping.progress),
	U64(ping.active),
};

static const struct wire_field stats[] = {
	U64(stats.jobs_done),
	U64(stats.jobs_failed),
	U64(stats.bytes_in),
	U64(stats.bytes_out),
	U64(stats.rss_bytes),
};

static const struct wire_field kept[] = {
	ENUM(kept.what, enum proto_kept, KEPT_OFF),
	U64(kept.conversation),
	RANGE(kept.tokens, 0, INT64_MAX),
	RANGE(kept.bytes, 0, INT64_MAX),
	F64(kept.ms),
};

#define LOGGED(label, wire, member, type, ...)                                                     \
	FIELD(label, wire, struct proto_log_field, member, type, __VA_ARGS__)
static const struct wire_field logged_fields[] = {
	LOGGED("log.key", WIRE_TEXT, key, struct slice, .max = PROTO_LOG_TEXT_BYTES),
	LOGGED("log.kind", WIRE_U32, kind, enum proto_log_kind, .max = PROTO_LOG_REAL),
	LOGGED("log.text", WIRE_TEXT, text, struct slice, .max = PROTO_LOG_TEXT_BYTES),
	LOGGED("log.number", WIRE_I64, number, int64_t, .min = INT64_MIN, .max = INT64_MAX),
	LOGGED("log.real", WIRE_F64, real, double),
};
static const struct wire_list log_items = {
	.max = PROTO_LOG_FIELDS_MAX,
	.count_offset = OFFSET(REC, u.log.field_count, size_t),
	.item_bytes = sizeof(struct proto_log_field),
	.field_count = COUNT(logged_fields),
	.fields = logged_fields,
};

static const struct wire_field logged[] = {
	U32(log.level),
	FIELD("log.event", WIRE_TEXT, REC, u.log.event, struct slice, .max = PROTO_LOG_TEXT_BYTES),
	LIST(log.fields, log_items),
};

static const struct wire_field ack[] = {
	TEXT(ack.device),
	U32(ack.backend_type),
	TEXT(ack.url),
	TEXT(ack.key_file),
	TEXT(ack.ca_file),
	LIST(ack.command, ack_command),
	TEXT(ack.pin),
	TEXT(ack.model),
	TEXT(ack.settled),
	I64(ack.num_ctx),
	I64(ack.slots),
	I64(ack.boot_ms),
	I64(ack.connect_ms),
	I64(ack.idle_ms),
	I64(ack.body_bytes),
	I64(ack.line_bytes),
	I64(ack.result_bytes),
	U32(ack.log_level),
	U32(ack.log_format),
	BOOL(ack.log_content),
	I64(ack.adopt_pid),
	U64(ack.adopt_start),
	TEXT(ack.adopt_url),
	TEXT(ack.run_dir),
	TEXT(ack.state_dir),
	I64(ack.backend_log_bytes),
	I64(ack.kv_ms),
	I64(ack.log_buffer_bytes),
	I64(ack.first_ms),
	I64(ack.silent_ms),
	I64(ack.kv_idle_ms),
	I64(ack.kv_bytes),
};

static const struct wire_field job[] = {
	ENUM(job.kind, enum proto_kind, JOB_WARM),
	TEXT(job.request_id),
	U32(job.dialect),
	BOOL(job.stream),
	TEXT(job.method),
	TEXT(job.path),
	LIST(job.headers, job_headers),
	RANGE(job.body_bytes, -1, INT64_MAX),
	TEXT(job.model),
	I64(job.num_ctx),
	I64(job.max_tokens),
	I64(job.timeout_ms),
	BOOL(job.resume),
	RANGE(job.resume_bytes, 0, INT64_MAX),
	RANGE(job.resume_tokens, 0, INT64_MAX),
	TEXT(job.identity),
	BOOL(job.strict),
	TEXT(job.asked),
	RANGE(job.reply_bytes, 0, PROTO_REPLY_BYTES),
	BOOL(job.reply_thinking),
	U64(job.conversation),
	U64(job.kept),
	RANGE(job.kept_tokens, 0, INT64_MAX),
	BOOL(job.restore),
	NAME(job.stream_id),
	BOOL(job.replay),
	RANGE(job.replay_bytes, 0, INT64_MAX),
};

static const struct wire_field body[] = {
	BYTES(body.bytes),
	BOOL(body.last),
};

static const struct wire_field ping[] = {
	U64(ping.seq),
};

static const struct wire_field drain[] = {
	I64(drain.deadline_ms),
	BOOL(drain.keep_backend),
};

static const struct wire_field forget[] = {
	NAME(forget.conversation),
};

static const struct wire_field credit[] = {
	U64(credit.bytes),
};

#define ABOUT_LINK(fields)                                                                         \
	{                                                                                          \
#fields, false, COUNT(fields), fields                                              \
	}
#define ABOUT_JOB(fields)                                                                          \
	{                                                                                          \
#fields, true, COUNT(fields), fields                                               \
	}

static const struct wire_shape shapes[] = {
	[PROTO_HELLO] = ABOUT_LINK(hello),
	[PROTO_STATE] = ABOUT_LINK(state),
	[PROTO_MODELS] = ABOUT_LINK(models),
	[PROTO_START] = ABOUT_JOB(start),
	[PROTO_DELTA] = ABOUT_JOB(delta),
	[PROTO_END] = ABOUT_JOB(end),
	[PROTO_FAIL] = ABOUT_JOB(fail),
	[PROTO_PONG] = ABOUT_LINK(pong),
	[PROTO_STATS] = ABOUT_LINK(stats),
	[PROTO_BYE] = {"bye", false, 0, NULL},
	[PROTO_KEPT] = ABOUT_LINK(kept),
	[PROTO_LOG] = {"log", false, COUNT(logged), logged},
	[PROTO_ACK] = ABOUT_LINK(ack),
	[PROTO_JOB] = ABOUT_JOB(job),
	[PROTO_BODY] = ABOUT_JOB(body),
	[PROTO_CANCEL] = {"cancel", true, 0, NULL},
	[PROTO_PING] = ABOUT_LINK(ping),
	[PROTO_DRAIN] = ABOUT_LINK(drain),
	[PROTO_FORGET] = ABOUT_LINK(forget),
	[PROTO_CREDIT] = ABOUT_JOB(credit),
};

const struct wire_shape *wire_shape(uint64_t type)
{
	return type < COUNT(shapes) && shapes[type].name ? &shapes[type] : NULL;
}
