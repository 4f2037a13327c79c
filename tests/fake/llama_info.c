/*
 * llama-server's routes besides answers: what it tells about itself, tokens, slots.
 * docs/protocols.md#llama-server.
 */
#include "tests/fake/dialect.h"
#include "tests/fake/streams.h"

#include <stdio.h>
#include <stdlib.h>

/* --- what it tells about itself --- */

static void health(struct request *r)
{
	http_reply(r->x, 200, api_json_type(r), SLICE("{\"status\":\"ok\"}"));
}

static void root(struct request *r)
{
	http_reply(r->x, 200, "text/html; charset=utf-8",
		SLICE("<html><body>llama.cpp</body></html>"));
}

static void props(struct request *r)
{
	const struct model *m = r->fake->engine->models;
	struct buf out;

	buf_init(&out, 1u << 20);
	buf_printf(&out,
		"{\"default_generation_settings\":{\"id\":0,\"n_ctx\":%u,\"params\":{\"n_predict\":"
		"-1,\"temperature\":0.8,\"speculative.types\":\"none\"}},"
		"\"total_slots\":%u,\"model_alias\":",
		m->num_ctx, m->slot_count);
	json_put_string(&out, slice_str(m->name));
	json_put_key(&out, "model_path");
	json_put_string(&out, slice_str(r->fake->options.model_path));
	buf_add_str(&out,
		",\"modalities\":{\"vision\":false,\"audio\":false,\"video\":false},"
		"\"chat_template\":\"{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% "
		"endfor %}\","
		"\"chat_template_caps\":{\"supports_tools\":true,\"supports_tool_calls\":true},"
		"\"bos_token\":\"<s>\",\"eos_token\":\"</"
		"s>\",\"build_info\":\"b10434-fake\",\"is_sleeping\":false}");
	api_reply(r, 200, &out);
}

static size_t slot_tokens(const struct model *m, const struct slot *s)
{
	double f = m->engine->fake->options.chars_per_token;

	return s->gen ? s->gen->prompt_n : prompt_tokens(buf_slice(&s->kv), f);
}

static void slots(struct request *r)
{
	const struct model *m = r->fake->engine->models;
	bool must_be_free = memmem(r->x->query.p, r->x->query.n, "fail_on_no_slot=1", 17) != NULL;
	struct buf out;

	if (must_be_free && m->active == m->slot_count) {
		llama_error(r, 503, SLICE("no slot available"));
		return;
	}
	buf_init(&out, SCRIPT_TEXT_MAX);
	buf_add_char(&out, '[');
	for (unsigned i = 0; i < m->slot_count; i++) {
		const struct gen *g = m->slots[i].gen;

		buf_printf(&out,
			"%s{\"id\":%u,\"n_ctx\":%u,\"speculative\":%s,\"is_processing\":%s",
			i ? "," : "", i, m->num_ctx,
			strcmp(r->fake->options.spec_type, "none") != 0 ? "true" : "false",
			g ? "true" : "false");
		if (m->slots[i].used == 0) { /* nothing more is told of it before its first task */
			buf_add_char(&out, '}');
			continue;
		}
		buf_printf(&out,
			",\"id_task\":%lld,\"n_prompt_tokens\":%zu,\"params\":{\"n_predict\":%lld},"
			"\"next_token\":{\"has_next_token\":%s,\"n_"
			"remain\":%lld,"
			"\"n_decoded\":%zu}}",
			(long long)m->slots[i].task, slot_tokens(m, &m->slots[i]),
			g ? (long long)g->max_tokens : -1ll, g ? "true" : "false",
			g ? (long long)(g->total - g->emitted) : -1ll, g ? g->emitted : 0);
	}
	buf_add_char(&out, ']');
	api_reply(r, 200, &out);
}

static void metrics(struct request *r)
{
	const struct engine_count *c = &r->fake->engine->count;
	char text[1024];
	int n;

	if (!r->fake->options.metrics) {
		llama_error(r, 501,
			SLICE("This server does not support metrics endpoint. Start it with "
			      "`--metrics`"));
		return;
	}
	n = snprintf(text, sizeof(text),
		"# TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total %llu\n"
		"# TYPE llamacpp:tokens_predicted_total counter\nllamacpp:tokens_predicted_total "
		"%llu\n"
		"# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing %u\n"
		"# TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred %u\n",
		(unsigned long long)c->prefilled, (unsigned long long)c->generated, c->active,
		c->waiting);
	http_reply(r->x, 200, "text/plain; version=0.0.4", (struct slice){text, (size_t)n});
}

/* --- tokens and templates --- */

static void tokenize(struct request *r)
{
	double f = r->fake->options.chars_per_token;
	bool pieces = false;
	struct buf text, out;
	size_t n, at = 0;

	if (!api_object(r))
		return;
	buf_init(&text, FAKE_BODY_MAX);
	buf_init(&out, FAKE_BODY_MAX);
	json_to_bool(json_get(r->json, "with_pieces"), &pieces);
	json_string_decode(json_get(r->json, "content"), &text);
	n = prompt_tokens(buf_slice(&text), f);
	buf_add_str(&out, "{\"tokens\":[");
	for (size_t k = 0; k < n; k++) {
		struct slice rest = {text.p + at, text.n - at};
		struct slice piece = {rest.p, k + 1 < n ? prompt_prefix(rest, 1, f) : rest.n};
		unsigned id = 1;

		for (size_t i = 0; i < piece.n; i++)
			id = (id * 31 + (unsigned char)piece.p[i]) % 31997;
		buf_printf(&out, "%s%s%u", k ? "," : "", pieces ? "{\"id\":" : "", id);
		if (pieces) {
			json_put_key(&out, "piece");
			json_put_string(&out, piece);
			buf_add_char(&out, '}');
		}
		at += piece.n;
	}
	buf_add_str(&out, "]}");
	buf_free(&text);
	api_reply(r, 200, &out);
}

static void apply_template(struct request *r)
{
	struct buf text, out;

	if (!api_object(r))
		return;
	buf_init(&text, FAKE_BODY_MAX);
	buf_init(&out, FAKE_BODY_MAX);
	ask_render(r->json, false, &text); /* the beginning of an answer is left open */
	buf_add_str(&out, "{\"prompt\":");
	json_put_string(&out, buf_slice(&text));
	buf_add_char(&out, '}');
	buf_free(&text);
	api_reply(r, 200, &out);
}

/* --- POST /slots/N?action=save|restore|erase --- */

/* Opens DIR/filename; the name must be a plain one. */
static FILE *open_save(struct request *r, struct slice name, const char *mode)
{
	char path[4096];

	if (!name.n || memchr(name.p, '/', name.n) || memchr(name.p, 0, name.n))
		return NULL;
	snprintf(path, sizeof(path), "%s/%.*s", r->fake->options.slot_save_path, (int)name.n,
		name.p);
	return fopen(path, mode);
}

/* What a file of a slot begins with; its length follows, and what does not fit it is refused. */
#define SAVE_MARK "fake-kv "

static long save_slot(const struct slot *s, FILE *file)
{
	int head = fprintf(file, SAVE_MARK "%zu\n", s->kv.n);

	if (s->kv.n)
		fwrite(s->kv.p, 1, s->kv.n, file);
	return ferror(file) ? -1 : head + (long)s->kv.n;
}

/* As the real one does: what a slot held is lost, whatever the file is. */
static long restore_slot(struct slot *s, FILE *file)
{
	char piece[65536];
	size_t n, length = 0;
	int head = 0;

	buf_clear(&s->kv);
	if (fscanf(file, SAVE_MARK "%zu%n", &length, &head) != 1 || fgetc(file) != '\n')
		return -1;
	while ((n = fread(piece, 1, sizeof(piece), file)))
		buf_add(&s->kv, piece, n);
	if (ferror(file) || buf_error(&s->kv) || s->kv.n != length) {
		buf_clear(&s->kv);
		return -1;
	}
	s->restored = true;
	return head + 1 + (long)length;
}

/* Bytes moved, or -1. */
static long move_slot(struct request *r, struct slot *s, struct slice name, bool save)
{
	FILE *file = open_save(r, name, save ? "w" : "r");
	long bytes;

	if (!file && !save)
		buf_clear(&s->kv);
	if (!file)
		return -1;
	bytes = save ? save_slot(s, file) : restore_slot(s, file);
	return fclose(file) ? -1 : bytes;
}

static void slot_action(struct request *r)
{
	struct model *m = r->fake->engine->models;
	unsigned long id = strtoul(r->x->path.p + 7, NULL, 10); /* past "/slots/" */
	struct slice action = r->x->query;
	struct buf name, out;
	size_t tokens;
	long bytes = 0;

	buf_init(&name, 4096);
	if (!r->fake->options.slot_save_path) {
		llama_error(r, 501,
			SLICE("This server does not support slots action. Start it with "
			      "`--slot-save-path`"));
		return;
	}
	if (id >= m->slot_count || (!slice_eq(action, SLICE("action=save")) &&
					   !slice_eq(action, SLICE("action=restore")) &&
					   !slice_eq(action, SLICE("action=erase")))) {
		llama_error(r, 400, SLICE("Invalid action"));
		return;
	}
	json_string_decode(json_get(r->json, "filename"), &name);
	tokens = prompt_tokens(buf_slice(&m->slots[id].kv), r->fake->options.chars_per_token);
	if (slice_eq(action, SLICE("action=erase")))
		buf_clear(&m->slots[id].kv);
	else
		bytes = move_slot(
			r, &m->slots[id], buf_slice(&name), slice_eq(action, SLICE("action=save")));
	buf_init(&out, 8192);
	if (bytes < 0) {
		llama_error(r, 400,
			slice_eq(action, SLICE("action=save"))
				? SLICE("Invalid filename")
				: SLICE("Unable to restore slot: No available space in KV cache or "
					"invalid "
					"slot save file"));
	} else {
		buf_printf(&out, "{\"id_slot\":%lu", id);
		if (slice_eq(action, SLICE("action=erase"))) {
			buf_printf(&out, ",\"n_erased\":%zu}", tokens);
		} else {
			bool save = slice_eq(action, SLICE("action=save"));

			json_put_key(&out, "filename");
			json_put_string(&out, buf_slice(&name));
			tokens = prompt_tokens(
				buf_slice(&m->slots[id].kv), r->fake->options.chars_per_token);
			buf_printf(&out, ",\"%s\":%zu,\"%s\":%ld,\"timings\":{\"%s\":1.0}}",
				save ? "n_saved" : "n_restored", tokens,
				save ? "n_written" : "n_read", bytes,
				save ? "save_ms" : "restore_ms");
		}
		api_reply(r, 200, &out);
	}
	buf_free(&name);
}

const struct route llama_routes[] = {
	{"GET", "/", root, 0},
	{"GET", "/health", health, 0},
	{"GET", "/v1/health", health, 0},
	{"GET", "/props", props, 0},
	{"GET", "/slots", slots, 0},
	{"POST", "/slots/*", slot_action, 0},
	{"GET", "/metrics", metrics, 0},
	{"GET", "/v1/stream", streams_get, ROUTE_BODILESS},
	{"DELETE", "/v1/stream", streams_delete, ROUTE_BODILESS},
	{"GET", "/models", openai_models, 0},
	{"GET", "/v1/models", openai_models, 0},
	{"POST", "/tokenize", tokenize, 0},
	{"POST", "/apply-template", apply_template, 0},
	{"POST", "/v1/chat/completions/input_tokens", llama_input_tokens, 0},
	{"POST", "/v1/chat/completions", openai_chat, ROUTE_GENERATES},
	{"POST", "/chat/completions", openai_chat, ROUTE_GENERATES},
	{"POST", "/v1/completions", openai_completions, ROUTE_GENERATES},
	{"POST", "/completion", llama_completion, ROUTE_GENERATES},
	{"POST", "/completions", llama_completion, ROUTE_GENERATES},
	{"POST", "/infill", llama_infill, ROUTE_GENERATES},
	{"POST", "/v1/embeddings", openai_embeddings, 0},
	{"POST", "/embeddings", openai_embeddings, 0},
	{0},
};
