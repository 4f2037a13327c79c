/*
 * Ollama's routes besides chat and generate: the catalogue of models, blobs, pulls.
 * docs/protocols.md#ollama.
 */
#include "tests/fake/dialect.h"
#include "tests/fake/digits.h"
#include "tests/fake/mem.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const char details[] =
	"{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":\"fake\",\"families\":[\"fake\"],"
	"\"parameter_size\":\"1.2B\",\"quantization_level\":\"Q4_K_M\"}";

void put_now(struct buf *out)
{
	static char second[32];
	static time_t at;
	struct timespec ts;
	char room[DIGITS_BYTES];

	clock_gettime(CLOCK_REALTIME, &ts);
	if (ts.tv_sec != at) {
		struct tm tm;

		at = ts.tv_sec;
		gmtime_r(&at, &tm);
		strftime(second, sizeof(second), "\"%Y-%m-%dT%H:%M:%S.", &tm);
	}
	buf_add_str(out, second);
	buf_add_slice(out, digits(room, (uint64_t)ts.tv_nsec, 10, 9));
	buf_add_str(out, "Z\"");
}

void put_count(struct buf *out, const char *name, uint64_t n)
{
	char room[DIGITS_BYTES];

	if (!n)
		return;
	json_put_key(out, name);
	buf_add_slice(out, digits(room, n, 10, 1));
}

static const char *usual_message(int status)
{
	switch (status) {
	case 400:
		return "invalid request";
	case 404:
		return "model 'fake' not found";
	case 503:
		return "server busy, please try again.  maximum pending requests exceeded";
	default:
		return "an error was encountered while running the model";
	}
}

void ollama_error(struct request *r, int status, struct slice message)
{
	bool openai = r->x->path.n > 4 && memcmp(r->x->path.p, "/v1/", 4) == 0;
	struct buf out;

	if (!message.n)
		message = slice_str(usual_message(status));
	buf_init(&out, SCRIPT_TEXT_MAX);
	buf_add_str(&out, openai ? "{\"error\":{\"message\":" : "{\"error\":");
	json_put_string(&out, message);
	if (openai)
		buf_printf(&out, ",\"type\":\"%s\",\"param\":null,\"code\":null}",
			status == 400	? "invalid_request_error"
			: status == 404 ? "not_found_error"
					: "api_error");
	buf_add_char(&out, '}');
	http_reply(r->x, status, api_json_type(r), buf_slice(&out));
	buf_free(&out);
}

static bool starts(struct slice s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.n >= n && memcmp(s.p, prefix, n) == 0;
}

static bool ends(struct slice s, const char *suffix)
{
	size_t n = strlen(suffix);

	return s.n >= n && memcmp(s.p + s.n - n, suffix, n) == 0;
}

/* The host part of "host:port" or "scheme://host:port". */
static struct slice host_of(struct slice s)
{
	const char *scheme = memmem(s.p, s.n, "://", 3), *colon;

	if (scheme) {
		s.n -= (size_t)(scheme + 3 - s.p);
		s.p = scheme + 3;
	}
	colon = s.n && s.p[0] != '[' ? memchr(s.p, ':', s.n) : NULL;
	return (struct slice){s.p, colon ? (size_t)(colon - s.p) : s.n};
}

bool ollama_admits(const struct request *r)
{
	static const char *const schemes[] = {
		"app://", "file://", "tauri://", "vscode-webview://", "vscode-file://"};
	struct slice host = host_of(http_header(r->x, "host")),
		     origin = http_header(r->x, "origin");
	size_t digits = strspn(host.n ? host.p : "", "0123456789.");
	static char machine[256];

	if (!machine[0])
		gethostname(machine, sizeof(machine) - 1);
	if (host.n && digits < host.n && host.p[0] != '[' && !slice_ieq(host, SLICE("localhost")) &&
		!slice_ieq(host, slice_str(machine)) && !ends(host, ".localhost") &&
		!ends(host, ".local") && !ends(host, ".internal"))
		return false;
	if (!origin.n)
		return true;
	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
		if (starts(origin, schemes[i]))
			return true;
	origin = host_of(origin);
	return slice_eq(origin, SLICE("localhost")) || slice_eq(origin, SLICE("127.0.0.1")) ||
	       slice_eq(origin, SLICE("0.0.0.0"));
}

static void root(struct request *r)
{
	http_reply(r->x, 200, "text/plain; charset=utf-8", SLICE("Ollama is running"));
}

static void version(struct request *r)
{
	http_reply(r->x, 200, api_json_type(r), SLICE("{\"version\":\"0.33.0\"}"));
}

bool ollama_body_model(struct request *r, struct buf *name)
{
	buf_init(name, 4096);
	if (!api_object(r))
		return false;
	if (json_string_decode(json_get(r->json, "model"), name) < 0 || !name->n)
		json_string_decode(json_get(r->json, "name"), name);
	if (name->n)
		return true;
	api_error(r, 400, SLICE("model is required"));
	return false;
}

/* A whole name: with its tag. */
static void put_model_name(struct buf *out, const char *key, const struct model *m)
{
	json_put_key(out, key);
	buf_add_char(out, '"');
	json_put_escaped(out, slice_str(m->name));
	buf_add_str(out, strchr(m->name, ':') ? "\"" : ":latest\"");
}

static void put_model(struct buf *out, const struct model *m)
{
	put_model_name(out, "name", m);
	put_model_name(out, "model", m);
}

/* A model never expires where nothing else is said: expires_at is then as far away as can be. */
static void put_loaded(
	struct buf *out, const struct options *o, const struct model *m, double bytes)
{
	char expires[40] = "2318-12-01T00:00:00Z";
	time_t at = time(NULL) + (time_t)o->keep_s;
	struct tm tm;
	if (o->keep_s >= 0 && gmtime_r(&at, &tm))
		strftime(expires, sizeof(expires), "%Y-%m-%dT%H:%M:%S.25Z", &tm);
	buf_printf(out, ",\"expires_at\":\"%s\",\"size_vram\":%.0f,\"context_length\":%u", expires,
		o->vram_bytes >= 0 && o->vram_bytes < bytes ? o->vram_bytes : bytes, m->num_ctx);
}

static void list_models(struct request *r, bool loaded)
{
	const struct options *o = &r->fake->options;
	struct buf out;
	bool first = true;

	buf_init(&out, 1u << 20);
	buf_add_str(&out, "{\"models\":[");
	for (const struct model *m = r->fake->engine->models; m; m = m->next) {
		if (!m->listed || (loaded && m->state != MODEL_READY))
			continue;
		buf_add_str(&out, first ? "{" : ",{");
		first = false;
		put_model(&out, m);
		if (!loaded)
			buf_add_str(&out, ",\"modified_at\":\"2026-08-21T10:00:00.000000001Z\"");
		double bytes = o->model_bytes + (loaded ? o->kv_bytes * m->num_ctx : 0);
		buf_printf(&out, ",\"size\":%.0f,\"digest\":\"%s\",\"details\":%s", bytes,
			MODEL_DIGEST, details);
		if (loaded)
			put_loaded(&out, o, m, bytes);
		buf_add_char(&out, '}');
	}
	buf_add_str(&out, "]}");
	api_reply(r, 200, &out);
}

static void tags(struct request *r)
{
	list_models(r, false);
}

static void ps(struct request *r)
{
	list_models(r, true);
}

void ollama_not_found(struct request *r, struct slice name)
{
	api_errorf(r, 404, "model '%.*s' not found", (int)name.n, name.p);
}

static void show(struct request *r)
{
	struct buf name, out;
	struct model *m = NULL;

	if (!ollama_body_model(r, &name)) {
		buf_free(&name);
		return;
	}
	m = engine_model(r->fake->engine, buf_slice(&name));
	if (!m) {
		ollama_not_found(r, buf_slice(&name));
		buf_free(&name);
		return;
	}
	buf_free(&name);
	buf_init(&out, 1u << 16);
	buf_printf(&out,
		"{\"license\":\"MIT\",\"modelfile\":\"FROM %s\",\"parameters\":\"num_ctx           "
		"             %u\","
		"\"template\":\"{{ if .System }}{{ .System }}{{ end }}{{ if .Tools }}{{ .Tools "
		"}}{{ end }}{{ .Prompt }}"
		"{{ .Suffix "
		"}}\",\"details\":%s,\"model_info\":{\"general.architecture\":\"fake\",\"general."
		"basename\":\"fake\","
		"\"general.parameter_count\":1235814432,\"fake.context_length\":%d,\"fake."
		"embedding_length\":%d,\"fake.block_count\":28,\"fake.attention.head_count\":28,"
		"\"fake.attention.head_count_kv\":4,\"fake.attention.key_length\":128,"
		"\"fake.attention.value_length\":128},"
		"\"capabilities\":[\"completion\",\"tools\",\"insert\",\"thinking\",\"vision\"],"
		"\"modified_at\":\"2026-08-21T10:00:00.000000001Z\"}",
		m->name, r->fake->options.num_ctx, details, TRAIN_CTX, EMBED_DIMS);
	api_reply(r, 200, &out);
}

static void cloud_status(struct request *r)
{
	http_reply(r->x, 200, api_json_type(r),
		SLICE("{\"cloud\":{\"disabled\":true,\"source\":\"env\"}}"));
}

const struct route ollama_routes[] = {
	{"GET", "/", root, 0},
	{"HEAD", "/", root, 0},
	{"GET", "/api/version", version, 0},
	{"HEAD", "/api/version", version, 0},
	{"GET", "/api/status", cloud_status, 0},
	{"GET", "/api/tags", tags, 0},
	{"HEAD", "/api/tags", tags, 0},
	{"GET", "/api/ps", ps, 0},
	{"POST", "/api/show", show, 0},
	{"POST", "/api/chat", ollama_chat, ROUTE_GENERATES},
	{"POST", "/api/generate", ollama_generate, ROUTE_GENERATES},
	{"POST", "/api/embed", ollama_embed, 0},
	{"POST", "/api/embeddings", ollama_embeddings, 0},
	{"POST", "/api/pull", ollama_pull, 0},
	{"POST", "/api/push", ollama_push, 0},
	{"POST", "/api/create", ollama_create, 0},
	{"POST", "/api/copy", ollama_copy, 0},
	{"DELETE", "/api/delete", ollama_delete, 0},
	{"HEAD", "/api/blobs/*", ollama_head_blob, 0},
	{"POST", "/api/blobs/*", ollama_post_blob, ROUTE_DISCARD},
	{"POST", "/v1/chat/completions", openai_chat, ROUTE_GENERATES},
	{"POST", "/v1/completions", openai_completions, ROUTE_GENERATES},
	{"POST", "/v1/embeddings", openai_embeddings, 0},
	{"GET", "/v1/models", openai_models, 0},
	{"GET", "/v1/models/*", openai_model, 0},
	{0},
};
