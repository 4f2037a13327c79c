/*
 * fake-backend: a scripted Ollama or llama-server for tests and benchmarks. See README.md.
 *
 * A map of the files, from the socket inwards:
 *   http.c, http_reply.c  an HTTP/1.1 server that can misbehave byte by byte
 *   api.c                 the life of a request: counted, script read, faults, routed
 *   script.c              directives and rules: which answer, which fault
 *   ask.c                 messages and prompts of every dialect into one text
 *   ollama.c              Ollama's errors and catalogue of models
 *   ollama_gen.c          its chat and generate; ollama_store.c its pulls and blobs
 *   llama.c               llama-server's /completion; llama_info.c its props, slots, tokens
 *   compat.c              vLLM's errors, key, lists: another server of the OpenAI API
 *   openai.c              the /v1 answers of all; openai_models.c their models
 *   embed.c               embeddings of all dialects
 *   engine.c, gen.c       models, slots, queues, loads; one generation in time
 *   host_cache.c          prompts that had to leave their slot
 *   answer.c, prompt.c    what is said; how text becomes tokens and KV prefixes
 *   stats.c, control.c    counters, log and dumps; the /fake/ routes
 *   clock.c, crc32.c      timers in nanoseconds; checksums of bodies
 */
#include "tests/fake/api.h"
#include "tests/fake/dialect.h"
#include "tests/fake/engine.h"
#include "tests/fake/stats.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum option_key {
	OPT_TYPE = 256,
	OPT_HOST,
	OPT_PORT,
	OPT_MODEL,
	OPT_PREFILL,
	OPT_DECODE,
	OPT_DEPTH_HALF,
	OPT_DECODE_HALF,
	OPT_CHARS,
	OPT_SPEED,
	OPT_CACHE_TOKENS,
	OPT_CACHE_RATE,
	OPT_LOAD,
	OPT_NUM_CTX,
	OPT_CTX_ALL,
	OPT_SLOTS,
	OPT_ANSWER,
	OPT_EARLY,
	OPT_OLD,
	OPT_NO_INSERT,
	OPT_NO_REPLAY,
	OPT_MAX_CTX,
	OPT_EMBEDDINGS,
	OPT_METRICS,
	OPT_CONTROL,
	OPT_NO_CONTROL,
	OPT_LOG,
	OPT_DUMP,
	OPT_SAVE_PATH,
	OPT_SIMILARITY,
	OPT_BATCH,
	OPT_API_KEY,
	OPT_HYBRID,
	OPT_MODEL_PATH,
	OPT_VRAM,
	OPT_KV,
	OPT_BYTES,
	OPT_KEEP,
	OPT_SPEC,
	OPT_HELP,
};

static const struct {
	const char *name;
	enum option_key key;
	bool flag;
} options[] = {
	{"--type", OPT_TYPE, false},
	{"--host", OPT_HOST, false},
	{"--port", OPT_PORT, false},
	{"--model", OPT_MODEL, false},
	{"--alias", OPT_MODEL, false},
	{"-a", OPT_MODEL, false},
	{"--prefill", OPT_PREFILL, false},
	{"--decode", OPT_DECODE, false},
	{"--depth-half", OPT_DEPTH_HALF, false},
	{"--decode-half", OPT_DECODE_HALF, false},
	{"--chars-per-token", OPT_CHARS, false},
	{"--speed", OPT_SPEED, false},
	{"--host-cache-tokens", OPT_CACHE_TOKENS, false},
	{"--host-cache-rate", OPT_CACHE_RATE, false},
	{"--load-ms", OPT_LOAD, false},
	{"--num-ctx", OPT_NUM_CTX, false},
	{"-c", OPT_CTX_ALL, false},
	{"--ctx-size", OPT_CTX_ALL, false},
	{"--slots", OPT_SLOTS, false},
	{"-np", OPT_SLOTS, false},
	{"--parallel", OPT_SLOTS, false},
	{"--answer-tokens", OPT_ANSWER, false},
	{"--early-headers", OPT_EARLY, true},
	{"--old", OPT_OLD, true},
	{"--no-insert", OPT_NO_INSERT, true},
	{"--no-replay", OPT_NO_REPLAY, true},
	{"--max-ctx", OPT_MAX_CTX, false},
	{"--embeddings", OPT_EMBEDDINGS, true},
	{"--embedding", OPT_EMBEDDINGS, true},
	{"--metrics", OPT_METRICS, true},
	{"--control", OPT_CONTROL, true},
	{"--no-control", OPT_NO_CONTROL, true},
	{"--log", OPT_LOG, false},
	{"--dump", OPT_DUMP, false},
	{"--slot-save-path", OPT_SAVE_PATH, false},
	{"--slot-prompt-similarity", OPT_SIMILARITY, false},
	{"-sps", OPT_SIMILARITY, false},
	{"--batch-size", OPT_BATCH, false},
	{"-b", OPT_BATCH, false},
	{"--api-key", OPT_API_KEY, false},
	{"--hybrid", OPT_HYBRID, true},
	{"--max-model-len", OPT_NUM_CTX, false},
	{"-m", OPT_MODEL_PATH, false},
	{"--vram-bytes", OPT_VRAM, false},
	{"--kv-bytes", OPT_KV, false},
	{"--model-bytes", OPT_BYTES, false},
	{"--keep-s", OPT_KEEP, false},
	{"--spec-type", OPT_SPEC, false},
	{"--help", OPT_HELP, true},
};

static const char usage[] =
	"usage: fake-backend --type ollama|llama-server|openai --port N [--host 127.0.0.1] "
	"[--model "
	"NAME]...\n"
	"  [--prefill TOK_S] [--decode TOK_S] [--depth-half TOKENS] [--decode-half TOKENS] "
	"[--load-ms N]\n"
	"  [--num-ctx N] [--slots N] [--chars-per-token F] [--answer-tokens N] [--early-headers]\n"
	"  [--old] [--no-insert] [--no-replay] [--max-ctx N] [--speed F] [--host-cache-tokens N] "
	"[--host-cache-rate TOK_S]\n"
	"  [--embeddings] [--metrics] [--log FILE] [--dump DIR] [--slot-save-path DIR] "
	"[--no-control]\n"
	"  [--api-key KEY] [--max-model-len N] [--model-bytes N] [--kv-bytes N] [--vram-bytes N]\n"
	"  [--keep-s S] [--spec-type T] [--hybrid]\n"
	"llama-server's options are accepted: -m, -c (for all slots), -np, -b, -sps and --alias "
	"count, "
	"others are ignored.\n";

static void fail(const char *what, const char *value)
{
	fprintf(stderr, "fake-backend: %s: %s\n", what, value);
	exit(2);
}

static double number(const char *name, const char *value, double max)
{
	char *end;
	double v = strtod(value, &end);

	if (end == value || *end || !(v >= 0 && v <= max))
		fail(name, value);
	return v;
}

static enum fake_type type_of(const char *name)
{
	static const char *const names[] = {
		[TYPE_OLLAMA] = "ollama", [TYPE_LLAMA] = "llama-server", [TYPE_OPENAI] = "openai"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(names[i], name) == 0)
			return (enum fake_type)i;
	fail("--type is ollama, llama-server or openai, not", name);
	return TYPE_OLLAMA;
}

static void set_option(struct options *o, enum option_key key, const char *name, const char *value,
	unsigned *ctx_all)
{
	switch (key) {
	case OPT_TYPE:
		o->type = type_of(value);
		break;
	case OPT_HOST:
		o->host = value;
		break;
	case OPT_PORT:
		o->port = (int)number(name, value, 65535);
		break;
	case OPT_MODEL:
		if (o->model_count == FAKE_MODELS)
			fail("too many models", value);
		o->models[o->model_count++] = value;
		break;
	case OPT_PREFILL:
		o->prefill = number(name, value, 1e9);
		break;
	case OPT_DECODE:
		o->decode = number(name, value, 1e9);
		break;
	case OPT_DEPTH_HALF:
		o->depth_half = number(name, value, 1e9);
		break;
	case OPT_DECODE_HALF:
		o->decode_half = number(name, value, 1e9);
		break;
	case OPT_CHARS:
		o->chars_per_token = number(name, value, 1000);
		if (o->chars_per_token < 0.1)
			fail(name, value);
		break;
	case OPT_SPEED:
		o->speed = number(name, value, 1e6);
		if (o->speed <= 0)
			fail(name, value);
		break;
	case OPT_CACHE_TOKENS:
		o->cache_tokens = number(name, value, 1e9);
		break;
	case OPT_CACHE_RATE:
		o->cache_rate = number(name, value, 1e12);
		break;
	case OPT_LOAD:
		o->load_ms = (unsigned)number(name, value, 1e8);
		break;
	case OPT_NUM_CTX:
		o->num_ctx = (unsigned)number(name, value, 2e9);
		break;
	case OPT_CTX_ALL:
		*ctx_all = (unsigned)number(name, value, 2e9);
		break;
	case OPT_SLOTS:
		o->slots = strcmp(value, "-1") == 0
				   ? 4
				   : (unsigned)number(name, value, ENGINE_SLOTS_MAX);
		break;
	case OPT_ANSWER:
		o->answer_tokens = (unsigned)number(name, value, 1e9);
		break;
	case OPT_EARLY:
		o->early_headers = true;
		break;
	case OPT_OLD:
		o->old = true;
		break;
	case OPT_NO_REPLAY:
		o->no_replay = true;
		break;
	case OPT_NO_INSERT:
		o->no_insert = true;
		break;
	case OPT_MAX_CTX:
		o->max_ctx = (unsigned)number(name, value, 2e9);
		break;
	case OPT_EMBEDDINGS:
		o->embeddings = true;
		break;
	case OPT_METRICS:
		o->metrics = true;
		break;
	case OPT_CONTROL:
		o->control = true;
		break;
	case OPT_NO_CONTROL:
		o->control = false;
		break;
	case OPT_LOG:
		o->log_path = value;
		break;
	case OPT_DUMP:
		o->dump_dir = value;
		break;
	case OPT_BATCH:
		o->batch = (size_t)number(name, value, 1e9);
		break;
	case OPT_SIMILARITY:
		o->slot_similarity = number(name, value, 1);
		break;
	case OPT_SAVE_PATH:
		o->slot_save_path = value;
		break;
	case OPT_API_KEY:
		o->api_key = value;
		break;
	case OPT_HYBRID:
		o->hybrid = true;
		break;
	case OPT_MODEL_PATH:
		o->model_path = value;
		break;
	case OPT_VRAM:
		o->vram_bytes = number(name, value, 1e15);
		break;
	case OPT_KV:
		o->kv_bytes = number(name, value, 1e9);
		break;
	case OPT_BYTES:
		o->model_bytes = number(name, value, 1e15);
		break;
	case OPT_KEEP:
		o->keep_s = number(name, value, 1e9);
		break;
	case OPT_SPEC:
		o->spec_type = value;
		break;
	case OPT_HELP:
		fputs(usage, stdout);
		exit(0);
	}
}

/* Unknown options are llama-server's: skipped, with the word after them unless that is an option
 * too. */
static void parse_options(struct options *o, int argc, char **argv)
{
	unsigned ctx_all = 0;
	bool typed = false;

	*o = (struct options){.host = "127.0.0.1",
		.chars_per_token = 4,
		.slot_similarity = .1,
		.speed = 1,
		.answer_tokens = 16,
		.control = true,
		.vram_bytes = -1,
		.keep_s = -1,
		.model_bytes = MODEL_BYTES,
		.spec_type = "none",
		.model_path = "fake.gguf"};
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];
		size_t k = 0;

		while (k < sizeof(options) / sizeof(*options) && strcmp(options[k].name, name) != 0)
			k++;
		if (k == sizeof(options) / sizeof(*options)) {
			if (name[0] != '-')
				fail("not an option", name);
			if (i + 1 < argc &&
				(argv[i + 1][0] != '-' ||
					(argv[i + 1][1] >= '0' && argv[i + 1][1] <= '9')))
				i++;
			continue;
		}
		if (!options[k].flag && i + 1 == argc)
			fail("needs a value", name);
		typed |= options[k].key == OPT_TYPE;
		set_option(o, options[k].key, name, options[k].flag ? NULL : argv[++i], &ctx_all);
	}
	if (!typed) {
		fputs(usage, stderr);
		exit(2);
	}
	o->prefill *= o->speed;
	o->decode *= o->speed;
	o->cache_rate *= o->speed;
	if (!o->slots)
		o->slots = 1;
	if (!o->num_ctx && ctx_all)
		o->num_ctx = ctx_all / o->slots; /* non-unified KV: each slot gets its share */
	if (!o->num_ctx)
		o->num_ctx = o->type == TYPE_OLLAMA ? 4096 : 8192;
	if (!o->batch)
		o->batch = o->type == TYPE_OLLAMA ? 512 : 2048;
	if (!o->model_count)
		o->models[o->model_count++] = "fake";
}

static void on_signal(uv_signal_t *handle, int number_of)
{
	(void)number_of;
	uv_stop(handle->loop);
}

int main(int argc, char **argv)
{
	static struct fake fake;
	static uv_signal_t term, interrupt;
	int err;

	parse_options(&fake.options, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	fake.loop = uv_default_loop();
	fake.started_ns = clock_now();
	fake.started_at = time(NULL);
	fake.http.clock = &fake.clock;
	fake.http.handler = &api_handler;
	fake.http.arg = &fake;
	fake.http.headers = fake.options.type == TYPE_LLAMA
				    ? "Server: llama.cpp\r\nX-Accel-Buffering: no\r\n"
			    : fake.options.type == TYPE_OPENAI ? "server: uvicorn\r\n"
							       : "";
	err = clock_init(&fake.clock, fake.loop);
	if (!err)
		err = stats_init(&fake);
	if (!err) {
		fake.engine = engine_create(&fake);
		err = http_listen(&fake.http, fake.loop, fake.options.host, fake.options.port);
	}
	if (err) {
		fprintf(stderr, "fake-backend: %s:%d: %s\n", fake.options.host, fake.options.port,
			uv_strerror(err));
		return 1;
	}
	uv_signal_init(fake.loop, &term);
	uv_signal_start(&term, on_signal, SIGTERM);
	uv_signal_init(fake.loop, &interrupt);
	uv_signal_start(&interrupt, on_signal, SIGINT);
	printf("listening %d\n", fake.http.port);
	fflush(stdout);
	uv_run(fake.loop, UV_RUN_DEFAULT);
	return 0;
}
