/* Every key of the configuration: type, range, default. The meaning of each stands in config.h and
 * etc/tandem.conf. */
#include "common/base/log_out.h"
#include "common/config/config_schema.h"

#define DAY_MS 86400000.0
#define HOUR_MS 3600000.0
#define KIB 1024.0
#define MIB (1024.0 * KIB)
#define GIB (1024.0 * MIB)

#define NUMBER(kind, g, n, lo, hi, dflt)                                                           \
	{                                                                                          \
		.group = #g, .name = #n, .type = kind, .offset = offsetof(struct config, g.n),     \
		.min = lo, .max = hi, .fallback = dflt                                             \
	}

static const char *const level_names[] = {"debug", "info", "warn", "error", NULL};
static const char *const format_names[] = {"logfmt", "json", NULL};
static const char *const role_names[] = {"main", "condense", NULL};
static const char *const mode_names[] = {"adaptive", "threshold", NULL};

_Static_assert(LOG_DEBUG == 0 && LOG_ERROR == 3 && LOG_LOGFMT == 0 && LOG_JSON == 1, "log names");
_Static_assert(ROLE_MAIN == 1 << 0 && ROLE_CONDENSE == 1 << 1, "role names");
_Static_assert(ROUTING_ADAPTIVE == 0 && ROUTING_THRESHOLD == 1, "mode names");

static const struct config_key main_keys[] = {
	{.group = "listen",
		.name = "address",
		.type = KEY_TEXT,
		.text = "127.0.0.1",
		.offset = offsetof(struct config, listen.address),
		.check = config_check_address},
	NUMBER(KEY_INT, listen, port, 0, 65535, 8512),
	{.name = "run_dir",
		.type = KEY_TEXT,
		.text = "/run/tandem",
		.offset = offsetof(struct config, run_dir),
		.check = config_check_run_dir},
	{.name = "state_dir",
		.type = KEY_TEXT,
		.offset = offsetof(struct config, state_dir),
		.check = config_check_state_dir},
	{.name = "origins",
		.type = KEY_ARGV,
		.offset = offsetof(struct config, origins),
		.check = config_check_origin},
	{.group = "log",
		.name = "level",
		.type = KEY_ENUM,
		.names = level_names,
		.offset = offsetof(struct config, log.level),
		.fallback = LOG_INFO},
	{.group = "log",
		.name = "format",
		.type = KEY_ENUM,
		.names = format_names,
		.offset = offsetof(struct config, log.format),
		.fallback = LOG_LOGFMT},
	{.group = "log",
		.name = "content",
		.type = KEY_BOOL,
		.offset = offsetof(struct config, log.content)},
	NUMBER(KEY_INT64, log, buffer_bytes, LOG_BUFFER_LEAST, GIB, 262144),
	{.name = "devices", .type = KEY_OTHER},

	{.group = "routing",
		.name = "mode",
		.type = KEY_ENUM,
		.names = mode_names,
		.offset = offsetof(struct config, routing.mode),
		.fallback = ROUTING_ADAPTIVE},
	NUMBER(KEY_INT64, routing, a_max_tokens, 0, 1e7, 2000),
	NUMBER(KEY_INT64, routing, b_max_tokens, 0, 1e7, 6000),
	NUMBER(KEY_INT64, routing, min_gain_ms, 0, HOUR_MS, 2000),
	NUMBER(KEY_REAL, routing, min_gain, 0, 1, 0.3),
	{.group = "routing",
		.name = "warm",
		.type = KEY_BOOL,
		.offset = offsetof(struct config, routing.warm),
		.fallback = 1},

	NUMBER(KEY_REAL, condense, keep_ratio_b, 0.02, 1, 0.35),
	NUMBER(KEY_REAL, condense, keep_ratio_c, 0.02, 1, 0.25),
	NUMBER(KEY_INT64, condense, chunk_tokens, 64, 100000, 1500),
	NUMBER(KEY_INT64, condense, notes_max_tokens, 16, 4096, 160),
	NUMBER(KEY_INT64, condense, job_timeout_ms, 10, HOUR_MS, 30000),
	NUMBER(KEY_INT64, condense, max_chunks, 1, 1024, 64),
	NUMBER(KEY_INT64, condense, result_bytes, KIB, 16 * MIB, 65536),

	NUMBER(KEY_INT64, deadlines, first_byte_ms, 1, HOUR_MS, 2000),
	NUMBER(KEY_INT64, deadlines, first_byte_nonstream_ms, 0, DAY_MS, 0),
	NUMBER(KEY_INT64, deadlines, heartbeat_ms, 10, HOUR_MS, 10000),
	NUMBER(KEY_INT64, deadlines, worker_boot_ms, 10, DAY_MS, 120000),
	NUMBER(KEY_INT64, deadlines, hello_ms, 10, HOUR_MS, 5000),
	NUMBER(KEY_INT64, deadlines, ping_ms, 10, HOUR_MS, 2000),
	NUMBER(KEY_INT64, deadlines, drain_ms, 0, DAY_MS, 30000),
	NUMBER(KEY_INT64, deadlines, main_wait_ms, 0, DAY_MS, 60000),
	NUMBER(KEY_INT64, deadlines, backend_connect_ms, 1, HOUR_MS, 3000),
	NUMBER(KEY_INT64, deadlines, backend_idle_ms, 10, DAY_MS, 300000),
	NUMBER(KEY_INT64, deadlines, head_ms, 10, HOUR_MS, 30000),
	NUMBER(KEY_INT64, deadlines, body_ms, 10, HOUR_MS, 30000),
	NUMBER(KEY_INT64, deadlines, kv_ms, 0, HOUR_MS, 30000),
	NUMBER(KEY_INT64, deadlines, upgrade_grace_ms, 0, HOUR_MS, 5000),
	NUMBER(KEY_INT64, deadlines, backend_first_byte_ms, 0, 24 * HOUR_MS, HOUR_MS),
	NUMBER(KEY_INT64, deadlines, backend_silent_ms, 0, HOUR_MS, 120000),

	NUMBER(KEY_INT64, limits, body_bytes, KIB, 16 * GIB, 134217728),
	NUMBER(KEY_INT64, limits, unpacked_bytes, KIB, 16 * GIB, 134217728),
	NUMBER(KEY_INT64, limits, connections, 1, 1e6, 1024),
	NUMBER(KEY_INT64, limits, queue, 0, 1e6, 256),
	NUMBER(KEY_INT64, limits, queue_per_client, 0, 1e6, 64),
	{.group = "limits",
		.name = "coalesce",
		.type = KEY_BOOL,
		.offset = offsetof(struct config, limits.coalesce),
		.fallback = 1},
	NUMBER(KEY_INT64, limits, coalesce_after_ms, 0, HOUR_MS, 500),
	NUMBER(KEY_INT64, limits, stream_bytes, KIB, GIB, 262144),
	NUMBER(KEY_INT64, limits, line_bytes, KIB, GIB, 16777216),
	NUMBER(KEY_INT64, limits, resume_bytes, 0, GIB, 1048576),
	NUMBER(KEY_INT64, limits, resumes, 0, 1e6, 8),
	NUMBER(KEY_INT64, limits, request_deaths, 1, 1000, 2),
	NUMBER(KEY_INT64, limits, link_bytes, 64 * KIB, 16 * GIB, 67108864),
	/* The headers of a request cross to the worker in one frame: PROTO_FRAME_MAX,
	   PROTO_JOB_HEADERS_MAX. */
	NUMBER(KEY_INT64, limits, header_bytes, KIB, MIB, 1048576),
	NUMBER(KEY_INT64, limits, header_total_bytes, KIB, 16 * GIB, 67108864),
	NUMBER(KEY_INT64, limits, headers, 16, 1024, 1000),
	NUMBER(KEY_INT64, limits, body_rate, 0, GIB, 500),
	NUMBER(KEY_INT64, limits, body_total_bytes, KIB, 1024 * GIB, 1073741824),
	NUMBER(KEY_INT64, limits, old_processes, 1, 64, 4),
	NUMBER(KEY_INT64, limits, layout_bytes, 0, 16 * GIB, 67108864),
	NUMBER(KEY_INT64, limits, models, 1, 4096, 4096),
	NUMBER(KEY_INT64, limits, event_bytes, 16 * KIB, GIB, 1048576),
	NUMBER(KEY_INT64, limits, state_bytes, MIB, GIB, 67108864),
	NUMBER(KEY_INT64, limits, backend_log_bytes, 64 * KIB, GIB, 4194304),
	NUMBER(KEY_INT64, limits, idle_ms, 10, DAY_MS, 120000),

	NUMBER(KEY_INT64, backoff, first_ms, 1, HOUR_MS, 200),
	NUMBER(KEY_INT64, backoff, max_ms, 1, HOUR_MS, 30000),
	NUMBER(KEY_INT64, backoff, max_restarts, 0, CONFIG_RESTARTS_MAX, 10),
	NUMBER(KEY_INT64, backoff, window_ms, 1, DAY_MS, 600000),
};

static const struct config_key device_keys[] = {
	{.name = "name",
		.type = KEY_NAME,
		.offset = offsetof(struct config_device, name),
		.check = config_check_name},
	{.name = "roles",
		.type = KEY_FLAGS,
		.offset = offsetof(struct config_device, roles),
		.names = role_names},
	{.name = "slots",
		.type = KEY_INT,
		.offset = offsetof(struct config_device, slots),
		.min = 1,
		.max = 256,
		.fallback = 1},
	{.name = "model",
		.type = KEY_TEXT,
		.offset = offsetof(struct config_device, model),
		.check = config_check_model},
	{.name = "num_ctx",
		.type = KEY_INT64,
		.offset = offsetof(struct config_device, num_ctx),
		.min = 0,
		.max = 1e8},
	{.name = "num_ctx_max",
		.type = KEY_INT64,
		.offset = offsetof(struct config_device, num_ctx_max),
		.min = 0,
		.max = 1e8},
	{.name = "client_num_ctx",
		.type = KEY_BOOL,
		.offset = offsetof(struct config_device, client_num_ctx)},
	{.name = "pin",
		.type = KEY_TEXT,
		.offset = offsetof(struct config_device, pin),
		.check = config_check_pin},
	{.group = "backend",
		.name = "type",
		.type = KEY_ENUM,
		.names = backend_type_names,
		.offset = offsetof(struct config_device, backend.type)},
	{.group = "backend",
		.name = "url",
		.type = KEY_TEXT,
		.offset = offsetof(struct config_device, backend.url),
		.check = config_check_url},
	{.group = "backend",
		.name = "key_file",
		.type = KEY_TEXT,
		.offset = offsetof(struct config_device, backend.key_file),
		.check = config_check_key_file},
	{.group = "backend",
		.name = "ca_file",
		.type = KEY_TEXT,
		.offset = offsetof(struct config_device, backend.ca_file),
		.check = config_check_file},
	{.group = "backend",
		.name = "command",
		.type = KEY_ARGV,
		.min = 1,
		.offset = offsetof(struct config_device, backend.command)},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const struct config_schema config_schema_main = {main_keys, COUNT(main_keys)};
const struct config_schema config_schema_device = {device_keys, COUNT(device_keys)};
