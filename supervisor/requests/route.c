#include "supervisor/requests/route.h"

#include "common/base/percent.h"

#include <stdio.h>

#define PATH_MAX_BYTES 256 /* longer than any known one */

enum { GET = 1, POST = 2, ANY = 4 };
enum { WORKS = 1, NAMED = 2, WRITES = 4, ASKS = 8 };

struct known {
	unsigned methods;
	const char *path;
	enum route_kind kind;
	enum dialect dialect;
	unsigned flags;
	const char *v1;
};

static const struct known known[] = {
	{POST, "/api/chat", ROUTE_CHAT, DIALECT_OLLAMA_CHAT, 0, NULL},
	{POST, "/api/generate", ROUTE_CHAT, DIALECT_OLLAMA_GENERATE, 0, NULL},
	{POST, "/v1/chat/completions", ROUTE_CHAT, DIALECT_OPENAI_CHAT, 0, NULL},
	{POST, "/chat/completions", ROUTE_CHAT, DIALECT_OPENAI_CHAT, 0, NULL},
	{POST, "/v1/completions", ROUTE_CHAT, DIALECT_OPENAI_TEXT, 0, NULL},
	{POST, "/completions", ROUTE_CHAT, DIALECT_OPENAI_TEXT, 0, NULL},
	{POST, "/v1/messages", ROUTE_CHAT, DIALECT_ANTHROPIC, 0, NULL},
	{POST, "/v1/messages/count_tokens", ROUTE_CHAT, DIALECT_ANTHROPIC_COUNT, NAMED, NULL},
	{POST, "/v1/responses", ROUTE_CHAT, DIALECT_RESPONSES, 0, NULL},
	{POST, "/responses", ROUTE_CHAT, DIALECT_RESPONSES, 0, NULL},
	{POST, "/v1/responses/input_tokens", ROUTE_CHAT, DIALECT_RESPONSES_COUNT, 0, NULL},
	{POST, "/v1/responses/compact", ROUTE_CHAT, DIALECT_RESPONSES_COMPACT, 0, NULL},
	{POST, "/responses/compact", ROUTE_CHAT, DIALECT_RESPONSES_COMPACT, 0, NULL},

	{GET, "/", ROUTE_ROOT, DIALECT_OLLAMA_OTHER, 0, NULL},
	{GET, "/api/tags", ROUTE_TAGS, DIALECT_OLLAMA_OTHER, 0, NULL},
	{GET, "/api/ps", ROUTE_PS, DIALECT_OLLAMA_OTHER, 0, NULL},
	{GET, "/metrics", ROUTE_METRICS, DIALECT_OPENAI_OTHER, 0, NULL},
	{GET, "/v1/models", ROUTE_MODELS, DIALECT_OPENAI_OTHER, 0, NULL},
	{GET, "/models", ROUTE_MODELS, DIALECT_OPENAI_OTHER, 0, NULL},

	{POST, "/api/embed", ROUTE_PASS, DIALECT_OLLAMA_OTHER, WORKS | NAMED, NULL},
	{POST, "/api/embeddings", ROUTE_PASS, DIALECT_OLLAMA_OTHER, WORKS | NAMED, NULL},
	{POST, "/completion", ROUTE_PASS, DIALECT_OPENAI_OTHER, WORKS | NAMED | WRITES, NULL},
	{POST, "/infill", ROUTE_PASS, DIALECT_OPENAI_OTHER, WORKS | NAMED | WRITES, NULL},
	{POST, "/v1/embeddings", ROUTE_PASS, DIALECT_OPENAI_OTHER, WORKS | NAMED, NULL},
	{POST, "/embeddings", ROUTE_PASS, DIALECT_OPENAI_OTHER, WORKS | NAMED, "/v1/embeddings"},
	{POST, "/embedding", ROUTE_PASS, DIALECT_OPENAI_OTHER, WORKS | NAMED, NULL},
	{POST, "/v1/rerank", ROUTE_PASS, DIALECT_OPENAI_OTHER, WORKS | NAMED, NULL},
	{POST, "/v1/reranking", ROUTE_PASS, DIALECT_OPENAI_OTHER, WORKS | NAMED, NULL},
	{POST, "/rerank", ROUTE_PASS, DIALECT_OPENAI_OTHER, WORKS | NAMED, NULL},
	{POST, "/reranking", ROUTE_PASS, DIALECT_OPENAI_OTHER, WORKS | NAMED, NULL},
	{POST, "/v1/audio/transcriptions", ROUTE_PASS, DIALECT_OPENAI_OTHER, WORKS | WRITES, NULL},

	{POST, "/v1/chat/completions/input_tokens", ROUTE_PASS, DIALECT_OPENAI_OTHER, NAMED, NULL},
	{POST, "/tokenize", ROUTE_PASS, DIALECT_OPENAI_OTHER, NAMED, NULL},
	{POST, "/detokenize", ROUTE_PASS, DIALECT_OPENAI_OTHER, NAMED, NULL},
	{POST, "/apply-template", ROUTE_PASS, DIALECT_OPENAI_OTHER, NAMED, NULL},
	{ANY, "/api/show", ROUTE_PASS, DIALECT_OLLAMA_OTHER, NAMED | ASKS, NULL},
	{ANY, "/api/copy", ROUTE_PASS, DIALECT_OLLAMA_OTHER, NAMED, NULL},
	{ANY, "/api/delete", ROUTE_PASS, DIALECT_OLLAMA_OTHER, NAMED, NULL},
	{ANY, "/api/push", ROUTE_PASS, DIALECT_OLLAMA_OTHER, NAMED, NULL},
	{ANY, "/api/pull", ROUTE_PASS, DIALECT_OLLAMA_OTHER, 0, NULL},
	{ANY, "/api/create", ROUTE_PASS, DIALECT_OLLAMA_OTHER, 0, NULL},
	{ANY, "/api/version", ROUTE_PASS, DIALECT_OLLAMA_OTHER, 0, NULL},
	{ANY, "/props", ROUTE_PASS, DIALECT_OPENAI_OTHER, 0, NULL},
	{ANY, "/slots", ROUTE_PASS, DIALECT_OPENAI_OTHER, 0, NULL},
	{ANY, "/health", ROUTE_PASS, DIALECT_OPENAI_OTHER, 0, NULL},
	{ANY, "/lora-adapters", ROUTE_PASS, DIALECT_OPENAI_OTHER, 0, NULL},
};

static const char models_prefix[] = "/v1/models/";
#define MODELS_PREFIX_BYTES (sizeof(models_prefix) - 1)
static const char responses_prefix[] = "/v1/responses/";
static const char page_path[] = "/ui";

static unsigned method_bit(const char *method)
{
	if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
		return GET | ANY;
	return strcmp(method, "POST") == 0 ? POST | ANY : ANY;
}

/* The path as servers see it, NUL-terminated; 0 when it is longer than any known one. Both take an
 * escaped slash for one when they look for a handler. */
static size_t clean(struct slice path, char out[PATH_MAX_BYTES])
{
	const char *p = path.p, *end = path.p + path.n;
	size_t n = 0;
	while (p < end) {
		unsigned code = 0;
		size_t escape = percent_escape(p, end, &code);
		if (code <= 0x20 || code >= 0x7f)
			escape = 0;
		char c = escape ? (char)code : *p;
		p += escape ? escape : 1;
		if (c == '/' && n > 0 && out[n - 1] == '/')
			continue;
		if (n == PATH_MAX_BYTES - 1)
			return 0;
		out[n++] = c;
	}
	if (n > 1 && out[n - 1] == '/')
		n--;
	out[n] = '\0';
	return n;
}

static bool is_page(const char *path)
{
	size_t n = sizeof(page_path) - 1;
	return strncmp(path, page_path, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static enum dialect errors_of(const char *path)
{
	if (strncmp(path, "/v1/messages", 12) == 0)
		return DIALECT_ANTHROPIC_OTHER;
	return strncmp(path, "/v1", 3) == 0 ? DIALECT_OPENAI_OTHER : DIALECT_OLLAMA_OTHER;
}

/*
 * May a request change the server that it goes to? What is known to ask does not, nor does a GET of a
 * path that is known, or below /api or /v1: other GETs may (SGLang's /flush_cache). A path with dots
 * may be another one to whoever stands before the backend. k: its row whose methods do not count, or NULL.
 */
static bool may_change(const char *method, const char *path, const struct known *k)
{
	bool reads = method_bit(method) & GET;
	if (strcmp(method, "OPTIONS") == 0)
		return false;
	if (k && (k->methods == POST || k->flags & ASKS))
		return !reads && strcmp(method, "POST") != 0;
	bool ours = k || strncmp(path, "/api/", 5) == 0 || strncmp(path, "/v1/", 4) == 0;
	return !reads || !ours || strstr(path, "/.");
}

void route_find(const char *method, struct slice path, struct route *out)
{
	char text[PATH_MAX_BYTES];
	unsigned bit = method_bit(method);
	size_t n = clean(path, text);
	*out = (struct route){.kind = ROUTE_PASS, .dialect = errors_of(n ? text : "")};
	if (n == 0) {
		snprintf(text, sizeof(text), "%.*s", (int)(path.n < 32 ? path.n : 32), path.p);
		out->dialect = errors_of(text);
	}
	out->changes = may_change(method, n ? text : "", NULL);
	for (size_t i = 0; n && i < sizeof(known) / sizeof(*known); i++) {
		const struct known *k = &known[i];
		if (strcmp(text, k->path) != 0)
			continue;
		out->changes = may_change(method, text, k);
		out->dialect = dialect_errors(k->dialect);
		out->path = k->path;
		if (!(k->methods & bit))
			return; /* the backend says what it thinks of the method */
		*out = (struct route){.kind = k->kind,
			.dialect = k->dialect,
			.works = k->flags & WORKS,
			.writes = k->flags & WRITES,
			.named = k->flags & NAMED,
			.changes = out->changes,
			.path = k->path,
			.v1 = k->v1};
		return;
	}
	if (is_page(text))
		out->kind = ROUTE_PAGE;
	if (strncmp(text, responses_prefix, strlen(responses_prefix)) == 0) {
		out->kind = ROUTE_STORED;
		out->changes = false; /* it goes to no server */
	}
	if ((bit & GET) && path.n > MODELS_PREFIX_BYTES &&
		memcmp(path.p, models_prefix, MODELS_PREFIX_BYTES) == 0)
		out->kind = ROUTE_MODEL;
}

const char *route_of_chat(enum dialect d)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (known[i].kind == ROUTE_CHAT && known[i].dialect == d)
			return known[i].path;
	return NULL;
}

int route_model(struct slice path, struct buf *out)
{
	const char *p = path.p + MODELS_PREFIX_BYTES, *end = path.p + path.n;
	while (p < end) {
		unsigned code = 0;
		size_t escape = percent_escape(p, end, &code);
		if (code == 0 || code > 0xff)
			escape = 0;
		buf_add_char(out, escape ? (char)code : *p);
		p += escape ? escape : 1;
	}
	if (out->n > 1 && out->p[out->n - 1] == '/')
		out->n--;
	return buf_error(out);
}
