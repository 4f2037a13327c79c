/*
 * Ollama's routes besides chat and generate: the catalogue of models, blobs, pulls.
 * protocols.md 1.1 to 1.7.
 */
#include "tests/fake/dialect.h"
#include "tests/fake/mem.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define MODEL_BYTES 1321098329ll
#define BLOBS_MAX 64 /* digests remembered */

static const char details[] =
	"{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":\"fake\",\"families\":[\"fake\"],"
	"\"parameter_size\":\"1.2B\",\"quantization_level\":\"Q4_K_M\"}";
static const char digest[] = "baf6a787fdffd633537aa2eb51cfd54cb93ff08e28040095462bb63daf552878";

void put_now(struct buf *out)
{
	static char second[32];
	static time_t at;
	struct timespec ts;
	char text[64];
	int n;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (ts.tv_sec != at) {
		struct tm tm;

		at = ts.tv_sec;
		gmtime_r(&at, &tm);
		strftime(second, sizeof(second), "\"%Y-%m-%dT%H:%M:%S", &tm);
	}
	n = snprintf(text, sizeof(text), "%s.%09ldZ\"", second, ts.tv_nsec);
	buf_add(out, text, (size_t)n);
}

void put_count(struct buf *out, const char *name, uint64_t n)
{
	if (!n)
		return;
	json_put_key(out, name);
	json_put_int(out, (int64_t)n);
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
	char machine[256] = "";

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

/* The name a body gives as "model" or, legacy, "name"; false: replied 400. */
static bool body_model(struct request *r, struct buf *name)
{
	buf_init(name, 4096);
	if (!api_object(r))
		return false;
	if (json_string_decode(json_get(r->json, "model"), name) < 0)
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

static void list_models(struct request *r, bool loaded)
{
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
		buf_printf(&out, ",\"size\":%lld,\"digest\":\"%s\",\"details\":%s", MODEL_BYTES,
			digest, details);
		if (loaded)
			buf_printf(&out,
				",\"expires_at\":\"2318-12-01T00:00:00Z\",\"size_vram\":%lld,"
				"\"context_length\":%u",
				MODEL_BYTES, m->num_ctx);
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

static void not_found(struct request *r, struct slice name)
{
	api_errorf(r, 404, "model '%.*s' not found", (int)name.n, name.p);
}

static void show(struct request *r)
{
	struct buf name, out;
	struct model *m = NULL;

	if (!body_model(r, &name)) {
		buf_free(&name);
		return;
	}
	m = engine_model(r->fake->engine, buf_slice(&name));
	if (!m) {
		not_found(r, buf_slice(&name));
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
		"embedding_length\":%d},"
		"\"capabilities\":[\"completion\",\"tools\",\"insert\",\"thinking\",\"vision\","
		"\"embedding\"],"
		"\"modified_at\":\"2026-08-21T10:00:00.000000001Z\"}",
		m->name, r->fake->options.num_ctx, details, TRAIN_CTX, EMBED_DIMS);
	api_reply(r, 200, &out);
}

static void copy(struct request *r)
{
	struct buf from, to;

	buf_init(&from, 4096);
	buf_init(&to, 4096);
	if (!api_object(r))
		goto out;
	json_string_decode(json_get(r->json, "source"), &from);
	json_string_decode(json_get(r->json, "destination"), &to);
	if (!engine_model(r->fake->engine, buf_slice(&from))) {
		not_found(r, buf_slice(&from));
	} else if (!to.n) {
		api_error(r, 400, SLICE("destination is required"));
	} else {
		engine_add_model(r->fake->engine, buf_slice(&to));
		http_reply(r->x, 200, NULL, SLICE(""));
	}
out:
	buf_free(&from);
	buf_free(&to);
}

static void delete (struct request *r)
{
	struct buf name;
	struct model *m;

	if (body_model(r, &name)) {
		m = engine_model(r->fake->engine, buf_slice(&name));
		if (m) {
			m->listed = false;
			http_reply(r->x, 200, NULL, SLICE(""));
		} else {
			not_found(r, buf_slice(&name));
		}
	}
	buf_free(&name);
}

/* pull, push and create: progress lines, then success. */
static void put_progress(struct request *r, const char *line, bool stream)
{
	if (!stream)
		return;
	http_data(r->x, slice_str(line));
	http_data(r->x, SLICE("\n"));
}

static void transfer(struct request *r, const char *verb, bool adds)
{
	const char *last = "{\"status\":\"success\"}";
	bool stream = ask_streams(r);
	struct buf name;
	char line[256];

	json_to_bool(json_get(r->json, "stream"), &stream);
	if (!body_model(r, &name)) {
		buf_free(&name);
		return;
	}
	if (adds)
		engine_add_model(r->fake->engine, buf_slice(&name));
	buf_free(&name);
	http_begin(r->x, 200, stream ? "application/x-ndjson" : api_json_type(r),
		stream ? -1 : (int64_t)strlen(last));
	snprintf(line, sizeof(line), "{\"status\":\"%s manifest\"}", verb);
	put_progress(r, line, stream);
	for (int i = 0; i <= 4; i++) {
		snprintf(line, sizeof(line),
			"{\"status\":\"%s "
			"%.12s\",\"digest\":\"sha256:%s\",\"total\":%lld,\"completed\":%lld}",
			verb, digest, digest, MODEL_BYTES, MODEL_BYTES * i / 4);
		put_progress(r, line, stream);
	}
	put_progress(r, "{\"status\":\"verifying sha256 digest\"}", stream);
	put_progress(r, "{\"status\":\"writing manifest\"}", stream);
	http_data(r->x, slice_str(last));
	if (stream)
		http_data(r->x, SLICE("\n"));
	http_end(r->x);
}

static void pull(struct request *r)
{
	transfer(r, "pulling", true);
}

static void push(struct request *r)
{
	transfer(r, "pushing", false);
}

static void create(struct request *r)
{
	transfer(r, "creating", true);
}

/* Digests of the blobs posted, oldest forgotten first. */
static char *blobs[BLOBS_MAX];
static size_t blob_count;

static bool have_blob(struct slice path)
{
	for (size_t i = 0; i < BLOBS_MAX; i++)
		if (blobs[i] && slice_eq(slice_str(blobs[i]), path))
			return true;
	return false;
}

static void head_blob(struct request *r)
{
	http_reply(r->x, have_blob(r->x->path) ? 200 : 404, NULL, SLICE(""));
}

static void post_blob(struct request *r)
{
	bool present = have_blob(r->x->path);

	if (!present) {
		char **place = &blobs[blob_count++ % BLOBS_MAX];

		free(*place);
		*place = slice_dup(r->x->path);
	}
	http_reply(r->x, present ? 200 : 201, NULL, SLICE(""));
}

static void embed(struct request *r)
{
	struct json_value input, text;
	struct json_iter it;
	struct model *m = NULL;
	struct buf out, name;
	size_t chars = 0, n = 0;
	double f = r->fake->options.chars_per_token;

	if (!body_model(r, &name)) {
		buf_free(&name);
		return;
	}
	m = engine_model(r->fake->engine, buf_slice(&name));
	if (!m) {
		api_errorf(r, 404, "model \"%s\" not found, try pulling it first", buf_cstr(&name));
		buf_free(&name);
		return;
	}
	buf_free(&name);
	buf_init(&out, SCRIPT_TEXT_MAX);
	buf_printf(&out, "{\"model\":%.*s,\"embeddings\":[", (int)json_get(r->json, "model").raw.n,
		json_get(r->json, "model").raw.p);
	input = json_get(r->json, "input");
	it = json_iter(input);
	while (json_is(input, JSON_STRING) ? n == 0 : json_array_next(&it, &text)) {
		if (json_is(input, JSON_STRING))
			text = input;
		if (n++)
			buf_add_char(&out, ',');
		put_embedding(&out, text.raw, false);
		chars += json_string_chars(text);
	}
	buf_add_char(&out, ']');
	put_count(&out, "total_duration", 1000000);
	put_count(&out, "load_duration", 1000);
	put_count(&out, "prompt_eval_count", (uint64_t)((double)chars / f + 0.999));
	buf_add_char(&out, '}');
	api_reply(r, 200, &out);
}

static void embeddings(struct request *r)
{
	struct buf out;

	if (!api_object(r))
		return;
	buf_init(&out, 1u << 16);
	buf_add_str(&out, "{\"embedding\":");
	if (json_string_chars(json_get(r->json, "prompt")))
		put_embedding(&out, json_get(r->json, "prompt").raw, false);
	else
		buf_add_str(&out, "[]");
	buf_add_char(&out, '}');
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
	{"POST", "/api/embed", embed, 0},
	{"POST", "/api/embeddings", embeddings, 0},
	{"POST", "/api/pull", pull, 0},
	{"POST", "/api/push", push, 0},
	{"POST", "/api/create", create, 0},
	{"POST", "/api/copy", copy, 0},
	{"DELETE", "/api/delete", delete, 0},
	{"HEAD", "/api/blobs/*", head_blob, 0},
	{"POST", "/api/blobs/*", post_blob, ROUTE_DISCARD},
	{"POST", "/v1/chat/completions", openai_chat, ROUTE_GENERATES},
	{"POST", "/v1/completions", openai_completions, ROUTE_GENERATES},
	{"POST", "/v1/embeddings", openai_embeddings, 0},
	{"GET", "/v1/models", openai_models, 0},
	{"GET", "/v1/models/*", openai_model, 0},
	{0},
};
