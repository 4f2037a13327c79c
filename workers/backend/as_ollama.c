#include "workers/backend/as_ollama.h"

#include "common/base/hash.h"
#include "common/dialect/embed.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define QUANT_BYTES 16

/* --- facts that only the file's name or a count tells --- */

/* "Q4_K_M" of "qwen3-1.7b-Q4_K_M.gguf"; "unknown" when the name has none. */
static void quantization(const char *name, char out[QUANT_BYTES])
{
	static const char *const plain[] = {"BF16", "F16", "F32", "MXFP4"};
	for (const char *p = name; *p; p++) {
		if (p > name && (isalnum((unsigned char)p[-1]) || p[-1] == '_'))
			continue;
		const char *q = *p == 'I' || *p == 'i' ? p + 1 : p;
		size_t n = 0;
		if ((*q == 'Q' || *q == 'q') && isdigit((unsigned char)q[1])) {
			n = (size_t)(q - p) + 2;
			while (isalnum((unsigned char)p[n]) ||
				(p[n] == '_' && isalnum((unsigned char)p[n + 1])))
				n++;
		}
		for (size_t i = 0; n == 0 && i < sizeof(plain) / sizeof(plain[0]); i++)
			if (strncasecmp(p, plain[i], strlen(plain[i])) == 0 &&
				!isalnum((unsigned char)p[strlen(plain[i])]))
				n = strlen(plain[i]);
		if (n && n < QUANT_BYTES) {
			for (size_t i = 0; i < n; i++)
				out[i] = (char)toupper((unsigned char)p[i]);
			out[n] = '\0';
			return;
		}
	}
	snprintf(out, QUANT_BYTES, "unknown");
}

static void parameter_size(int64_t n, char *out, size_t size)
{
	if (n >= 1000000000)
		snprintf(out, size, "%.1fB", (double)n / 1e9);
	else if (n > 0)
		snprintf(out, size, "%.2fM", (double)n / 1e6);
	else
		snprintf(out, size, "unknown");
}

/*
 * 64 hex digits that stand for these words: an identity for clients to compare, not a hash of the
 * file.
 */
static void put_digest(struct buf *b, const char *name, int64_t bytes)
{
	uint64_t h = HASH_FNV_START ^ (uint64_t)bytes;
	for (unsigned char part = 0; part < 4; part++) {
		h = hash_fnv(hash_fnv(h, name, strlen(name)), &part, 1);
		buf_printf(b, "%016llx", (unsigned long long)h);
	}
}

struct facts {
	const char *name, *format;
	char arch[64], quant[QUANT_BYTES], params[24];
	int64_t size, train, parameters, window, modified;
};

/* --- pieces of the answers --- */

static void put_details(struct buf *b, const struct facts *f)
{
	buf_printf(b, "{\"parent_model\":\"\",\"format\":\"%s\",\"family\":", f->format);
	json_put_string(b, slice_str(f->arch));
	buf_add_str(b, ",\"families\":[");
	json_put_string(b, slice_str(f->arch));
	buf_printf(b, "],\"parameter_size\":\"%s\",\"quantization_level\":\"%s\"", f->params,
		f->quant);
	if (f->train > 0)
		buf_printf(b, ",\"context_length\":%lld", (long long)f->train);
	buf_add_char(b, '}');
}

static void put_capabilities(struct buf *b, const struct backend_view *v)
{
	buf_add_str(b, "[\"completion\"");
	buf_add_str(b, v->tools ? ",\"tools\"" : "");
	buf_add_str(b, v->vision ? ",\"vision\"" : "");
	buf_add_str(b, v->audio ? ",\"audio\"" : "");
	buf_add_str(b, v->thinking ? ",\"thinking\"" : "");
	buf_add_char(b, ']');
}

/* The members that /api/tags and /api/ps share. */
static void put_listed(struct buf *b, const struct facts *f)
{
	buf_add_str(b, "\"name\":");
	json_put_string(b, slice_str(f->name));
	buf_add_str(b, ",\"model\":");
	json_put_string(b, slice_str(f->name));
	buf_printf(b, ",\"size\":%lld,\"digest\":\"", (long long)f->size);
	put_digest(b, f->name, f->size);
	buf_add_str(b, "\",\"details\":");
	put_details(b, f);
}

static void put_time(struct buf *b, const char *name, time_t at)
{
	char text[40] = "";
	struct tm tm;
	if (gmtime_r(&at, &tm))
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	buf_printf(b, ",\"%s\":\"%s\"", name, text);
}

static void put_tag(struct buf *b, const struct backend_view *v, const struct facts *f)
{
	buf_add_char(b, '{');
	put_listed(b, f);
	put_time(b, "modified_at", f->modified);
	buf_add_str(b, ",\"capabilities\":");
	put_capabilities(b, v);
	buf_add_char(b, '}');
}

static void put_show(struct buf *b, const struct backend_view *v, const struct facts *f)
{
	buf_add_str(b, "{\"modelfile\":\"\",\"parameters\":\"");
	if (f->window > 0)
		buf_printf(b, "num_ctx                        %lld", (long long)f->window);
	buf_add_str(b, "\",\"template\":");
	json_put_string(b, slice_str(v->chat_template));
	buf_add_str(b, ",\"details\":");
	put_details(b, f);
	buf_add_str(b, ",\"model_info\":{\"general.architecture\":");
	json_put_string(b, slice_str(f->arch));
	if (f->parameters > 0)
		buf_printf(b, ",\"general.parameter_count\":%lld", (long long)f->parameters);
	buf_add_str(b, ",\"");
	json_put_escaped(b, slice_str(f->arch));
	/*
	 * the window it runs with, not the one it was trained with: this is what clients size
	 * their prompts by
	 */
	buf_printf(b, ".context_length\":%lld},\"capabilities\":",
		(long long)(f->window > 0 ? f->window : f->train));
	put_capabilities(b, v);
	put_time(b, "modified_at", f->modified);
	buf_add_char(b, '}');
}

static char *take(struct buf *b)
{
	char *text = buf_error(b) ? NULL : slice_dup(buf_slice(b));
	buf_clear(b);
	return text;
}

int as_ollama_model(const struct backend_view *v, struct json_value model, int64_t window,
	struct backend_model *m)
{
	struct json_value meta = json_get(model, "meta"), arch = json_get(model, "architecture");
	struct facts f = {
		.window = window, .modified = v->modified, .format = v->format ? v->format : ""};
	struct buf b;
	buf_init(&b, BACKEND_MODEL_JSON_BYTES * 4);
	*m = (struct backend_model){
		.name = json_string_dup(json_get(model, "id")), .window = window};
	if (!m->name)
		return -EINVAL;
	f.name = m->name;
	char *arch_name = json_string_dup(arch); /* an object of modalities in newer versions */
	snprintf(f.arch, sizeof(f.arch), "%s", arch_name ? arch_name : "llama");
	free(arch_name);
	if (!json_to_int(json_get(meta, "size"), &f.size))
		f.size = 0;
	if (!json_to_int(json_get(meta, "n_ctx_train"), &f.train))
		f.train = 0;
	if (!json_to_int(json_get(meta, "n_params"), &f.parameters))
		f.parameters = 0;
	quantization(v->model_path ? v->model_path : m->name, f.quant);
	parameter_size(f.parameters, f.params, sizeof(f.params));
	m->openai_json = slice_dup(model.raw);
	put_tag(&b, v, &f);
	m->ollama_json = take(&b);
	put_show(&b, v, &f);
	m->show_json = take(&b);
	buf_free(&b);
	if (m->openai_json && m->ollama_json && m->show_json)
		return 0;
	free(m->name);
	free(m->openai_json);
	free(m->ollama_json);
	free(m->show_json);
	*m = (struct backend_model){0};
	return -ENOMEM;
}

/* --- the paths --- */

enum owned { OWNED_NONE, OWNED_ROOT, OWNED_VERSION, OWNED_TAGS, OWNED_PS, OWNED_SHOW, OWNED_API };

static struct slice without_query(struct slice path)
{
	const char *query = path.n ? memchr(path.p, '?', path.n) : NULL;
	if (query)
		path.n = (size_t)(query - path.p);
	return path;
}

static enum owned owned_path(struct slice path)
{
	enum embed_form form;
	path = without_query(path);
	if (embed_path(path, &form))
		return OWNED_NONE;
	static const struct {
		const char *path;
		enum owned what;
	} table[] = {{"/", OWNED_ROOT}, {"/api/version", OWNED_VERSION}, {"/api/tags", OWNED_TAGS},
		{"/api/ps", OWNED_PS}, {"/api/show", OWNED_SHOW}};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (slice_eq(path, slice_str(table[i].path)))
			return table[i].what;
	return path.n > 5 && memcmp(path.p, "/api/", 5) == 0 ? OWNED_API : OWNED_NONE;
}

bool as_ollama_owns(struct slice path, bool *body)
{
	enum owned what = owned_path(path);
	*body = what == OWNED_SHOW;
	return what != OWNED_NONE;
}

static void answer_list(const struct backend_view *v, struct buf *b)
{
	buf_add_str(b, "{\"models\":[");
	for (size_t i = 0; i < v->count; i++) {
		buf_add_str(b, i ? "," : "");
		buf_add_str(b, v->models[i].ollama_json);
	}
	buf_add_str(b, "]}");
}

/*
 * What `ollama ps` makes its PROCESSOR column of: all of the size on a GPU, none, a part; and more
 * than the size, for which it says "Unknown".
 */
static int64_t size_vram(int64_t size, double gpu_share)
{
	return gpu_share < 0 ? size + 1 : (int64_t)((double)size * gpu_share);
}

/*
 * The models of such a backend are always loaded: the list again, with when they expire and what
 * they hold.
 */
static void answer_ps(const struct backend_view *v, struct buf *b)
{
	time_t later = time(NULL) + 24 * 3600;
	buf_add_str(b, "{\"models\":[");
	for (size_t i = 0; i < v->count; i++) {
		struct json_value root;
		int64_t size;
		struct slice object = slice_str(v->models[i].ollama_json);
		if (json_parse(object, JSON_MAX_DEPTH, &root, NULL))
			continue;
		if (!json_to_int(json_get(root, "size"), &size))
			size = 0;
		buf_add_str(b, i ? "," : "");
		buf_add(b, object.p, object.n - 1);
		put_time(b, "expires_at", later);
		buf_printf(b, ",\"size_vram\":%lld,\"context_length\":%lld}",
			(long long)size_vram(size, v->gpu_share), (long long)v->models[i].window);
	}
	buf_add_str(b, "]}");
}

static int answer_error(struct backend_answer *out, int status, const char *message)
{
	out->status = status;
	return dialect_error_body(DIALECT_OLLAMA_OTHER, status, slice_str(message), &out->body);
}

static int answer_show(const struct settings *s, const struct backend_view *v, struct slice body,
	struct backend_answer *out)
{
	struct json_value root, name;
	if (json_parse(body, JSON_MAX_DEPTH, &root, NULL) || !json_is(root, JSON_OBJECT))
		return answer_error(out, 400, body.n ? "invalid JSON" : "missing request body");
	name = json_get(root, "model");
	if (!json_is(name, JSON_STRING) || name.raw.n == 2)
		name = json_get(root, "name");
	char *asked = json_string_dup(name);
	if (!asked || !*asked) {
		free(asked);
		return answer_error(out, 400, "model is required");
	}
	const struct backend_model *found = NULL;
	for (size_t i = 0; i < v->count && !found; i++)
		if (backend_same_model(v->models[i].name, asked))
			found = &v->models[i];
	/* it serves its one model under any name, but only this other one is known to clients */
	if (!found && v->count == 1 && s->traits & TRAIT_ANY_NAME && s->model &&
		backend_same_model(s->model, asked))
		found = &v->models[0];
	int rc;
	if (found) {
		rc = buf_add_str(&out->body, found->show_json);
	} else {
		char message[256];
		snprintf(message, sizeof(message), "model '%.200s' not found", asked);
		rc = answer_error(out, 404, message);
	}
	free(asked);
	return rc;
}

int as_ollama_answer(const struct settings *s, const struct backend_view *v, struct slice method,
	struct slice path, struct slice body, struct backend_answer *out)
{
	enum owned what = owned_path(path);
	bool post = slice_eq(method, SLICE("POST"));
	bool get = slice_eq(method, SLICE("GET")) || slice_eq(method, SLICE("HEAD"));
	out->status = 200;
	out->content_type = "application/json; charset=utf-8";
	if (what == OWNED_API) {
		char text[160];
		snprintf(text, sizeof(text),
			"not supported: the backend of this device is %s, which has no store of "
			"models that a client may change",
			backend_profile(s->type)->title);
		return answer_error(out, 501, text);
	}
	if (what == OWNED_SHOW ? !post : !get)
		return answer_error(out, 405, "method not allowed");
	switch (what) {
	case OWNED_ROOT:
		out->content_type = "text/plain; charset=utf-8";
		buf_add_str(&out->body, "Ollama is running");
		break;
	case OWNED_VERSION:
		buf_add_str(&out->body, "{\"version\":\"" AS_OLLAMA_VERSION "\"}");
		break;
	case OWNED_TAGS:
		answer_list(v, &out->body);
		break;
	case OWNED_PS:
		answer_ps(v, &out->body);
		break;
	case OWNED_SHOW:
		return answer_show(s, v, body, out);
	case OWNED_NONE:
	case OWNED_API:
		break;
	}
	return buf_error(&out->body);
}
