/*
 * libFuzzer target for the whole condensing path: a chat body is parsed, planned, laid out and
 * written again, with and without notes. What comes out must be a request of the same dialect, fit
 * its budget, keep calls and results together and what must stay as it was, and come out the same
 * when it is done again.
 *
 * The first bytes choose dialect, window and settings. Then either the body stands as it is, or the
 * bytes are a program that builds a conversation: few bytes reach deep that way.
 */
#include "common/condense.h"
#include "common/layout/parts.h"
#include "supervisor/requests/decide.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(c)                                                                                 \
	do {                                                                                       \
		if (!(c))                                                                          \
			abort();                                                                   \
	} while (0)

#define BODY_BYTES 100000 /* of a conversation that is built */
#define NOTES_EACH 512	  /* most bytes of a note that is made up */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- the program --- */

struct program {
	const uint8_t *p;
	size_t n;
};

static unsigned next(struct program *in)
{
	if (in->n == 0)
		return 0;
	in->n--;
	return *in->p++;
}

static unsigned below(struct program *in, unsigned n)
{
	return next(in) % n;
}

static void put_piece(struct program *in, struct buf *text)
{
	static const char *const pieces[] = {"\n", "src/a.c:12: f(x);\n", "error: undefined x\n",
		"never touch src/legacy.c. ", "@@ -1,2 +1,3 @@\n+new\n-old\n",
		"diff --git a/x b/x\n", "<feedback>", "</feedback>", "<system-reminder>",
		"[..12]\n", "[user]\n", "[Earlier part of this conversation", "```\n",
		"int main(void)\n{\n}\n", "the quick brown fox jumps over it again ",
		"x_y_z --flag a/b/c.d ", "\xe6\xbc\xa2", "\xf0\x9f\x98\x80", "| a | b |\n",
		"# Head\n", "\r\n", "\x01", "<tool_result>", "[read_file for 'a'] Result:\n",
		"I ran this command:\n\n", "\"quoted\" \\ ",
		"sk-ant-api03-AAAAAAAAAAAAAAAAAAAAAAAAAAAAA ", "Translate this. "};
	unsigned kind = next(in);
	if (kind < 224) {
		buf_add_str(text, pieces[kind % (sizeof(pieces) / sizeof(*pieces))]);
		return;
	}
	size_t n = kind - 224; /* the input's own bytes */
	n = n < in->n ? n : in->n;
	buf_add(text, in->p, n);
	in->p += n;
	in->n -= n;
}

/* A few pieces, and that again and again: long texts are what is condensed. */
static void put_text(struct program *in, struct buf *text, size_t most)
{
	unsigned pieces = below(in, 12), times = next(in);
	for (unsigned i = 0; i < pieces; i++)
		put_piece(in, text);
	struct buf once;
	buf_init(&once, 0);
	buf_add_slice(&once, buf_slice(text));
	times = times < 128 ? 1 : times - 127;
	for (unsigned i = 1; i < times && once.n && text->n + once.n < most; i++) {
		buf_printf(text, "%u ", i);
		buf_add_slice(text, buf_slice(&once));
	}
	buf_free(&once);
}

static void put_calls(struct program *in, bool ollama, struct buf *out)
{
	unsigned n = below(in, 4);
	buf_add_str(out, ",\"tool_calls\":[");
	for (unsigned i = 0; i < n; i++) {
		struct buf text;
		buf_init(&text, 0);
		buf_printf(out,
			"%s{\"id\":\"c%u\",\"type\":\"function\",\"function\":{\"name\":\"f%u\",",
			i ? "," : "", below(in, 24), below(in, 3));
		buf_add_str(out, "\"arguments\":");
		put_text(in, &text, 1500);
		if (ollama)
			buf_add_str(out, "{\"text\":");
		json_put_string(out, buf_slice(&text));
		buf_add_str(out, ollama ? "}}}" : "}}");
		buf_free(&text);
	}
	buf_add_char(out, ']');
}

static void put_content(struct program *in, struct buf *out)
{
	struct buf text;
	buf_init(&text, 0);
	put_text(in, &text, 6000);
	switch (below(in, 8)) {
	case 0:
		buf_add_str(out, "null");
		break;
	case 1:
		buf_add_str(out, "[{\"type\":\"text\",\"text\":");
		json_put_string(out, buf_slice(&text));
		buf_add_str(out, "},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/"
				 "png;base64,AAAA\"}}]");
		break;
	default:
		json_put_string(out, buf_slice(&text));
	}
	buf_free(&text);
}

static void put_message(struct program *in, bool ollama, struct buf *out)
{
	static const char *const roles[] = {
		"user", "assistant", "tool", "assistant", "tool", "user", "tool", "system"};
	const char *role = roles[below(in, 8)];
	buf_printf(out, "{\"role\":\"%s\",\"content\":", role);
	put_content(in, out);
	if (role[0] == 'a')
		put_calls(in, ollama, out);
	if (role[0] == 't')
		buf_printf(out, ",\"tool_call_id\":\"c%u\"", below(in, 24));
	buf_add_char(out, '}');
}

static void build(struct program *in, enum dialect d, struct buf *body)
{
	buf_add_str(body, "{\"model\":\"m\",");
	if (below(in, 4) == 0)
		buf_add_str(body, "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f0\","
				  "\"description\":\"What it does. Much more of it.\","
				  "\"parameters\":{\"type\":\"object\"}}}],");
	if (d == DIALECT_OLLAMA_GENERATE || d == DIALECT_OPENAI_TEXT) {
		struct buf text;
		buf_init(&text, 0);
		put_text(in, &text, 30000);
		buf_add_str(body, "\"prompt\":");
		json_put_string(body, buf_slice(&text));
		buf_add_char(body, '}');
		buf_free(&text);
		return;
	}
	buf_add_str(body, "\"messages\":[");
	for (bool first = true; in->n > 0 && body->n < BODY_BYTES; first = false) {
		buf_add_str(body, first ? "" : ",");
		put_message(in, d == DIALECT_OLLAMA_CHAT, body);
	}
	buf_add_str(body, "]}");
}

/* --- what must hold --- */

static bool gone(const struct layout *l, size_t i)
{
	return l->edits[i].kind == CHAT_DROP;
}

/* A result goes with its call and stays with it, or becomes words of the user. */
static void check_pairs(const struct layout *l)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->owner[i] && l->edits[i].kind != CHAT_INSERT_BEFORE_DROP)
			REQUIRE(gone(l, i) == gone(l, l->owner[i] - 1));
}

/* Results in the request for which no call of that id stands before them. */
static size_t orphans(const struct chat_request *r)
{
	size_t found = 0;
	for (size_t i = 0; i < r->count; i++) {
		bool called = r->messages[i].call_id.type != JSON_STRING;
		for (size_t k = 0; k < i && !called; k++) {
			struct json_iter it = json_iter(r->messages[k].tool_calls);
			struct chat_call call;
			while (!called && chat_call_next(&it, &call))
				called = slice_eq(call.id.raw, r->messages[i].call_id.raw);
		}
		found += !called;
	}
	return found;
}

static void check_untouched(const struct layout *l)
{
	for (size_t i = 0; i < l->count; i++) {
		if (l->request->messages[i].role == CHAT_SYSTEM)
			REQUIRE(l->edits[i].kind == CHAT_KEEP);
		if ((l->messages[i].flags & PART_UNTOUCHED) && !l->spare_nobody)
			REQUIRE(l->edits[i].kind == CHAT_KEEP);
	}
}

/* The body that was written, read again. */
static void check_body(const struct condense *c, const struct buf *body, double window)
{
	struct chat_request now;
	struct dialect_error error;
	const struct chat_request *was = c->request;
	REQUIRE(chat_request_parse(was->dialect, buf_slice(body), &now, &error) == 0);
	REQUIRE(now.count > 0 && now.stream == was->stream);
	REQUIRE(slice_eq(now.model.raw, was->model.raw));
	/* The layout adds up its parts, this counts the whole. On text of little else than marks and
	 * escapes they differ by a fifth; what is worse is a fault of the sums. */
	if (window > 0)
		REQUIRE(token_census_start(&now.census) < window * 1.5 + 80);
	if (was->count < 200)
		REQUIRE(orphans(&now) <= orphans(was));
	chat_request_fini(&now);
}

static void check_notes(struct condense *c, const struct slice source)
{
	size_t n = condense_chunks(c);
	struct slice *notes = calloc(n + 1, sizeof(*notes));
	struct buf body;
	buf_init(&body, 0);
	REQUIRE(notes);
	for (size_t i = 0; i < n; i++) {
		struct slice chunk = condense_chunk(c, i);
		REQUIRE(chunk.n > 0 && utf8_valid_prefix(chunk) == chunk.n);
		if (i % 3 == 0)
			notes[i] = chunk;
		else if (i % 3 == 1) /* any bytes, as a model may write them */
			notes[i] = (struct slice){
				source.p, source.n < NOTES_EACH ? source.n : NOTES_EACH};
	}
	REQUIRE(condense_assemble(c, notes, 8192, &body) == CONDENSE_OK);
	check_body(c, &body, 0);
	check_pairs(&c->layout);
	buf_free(&body);
	free(notes);
}

static enum condense_result condensed(struct condense *c, const struct chat_request *r,
	const struct condense_facts *f, struct buf *body)
{
	REQUIRE(condense_init(c, r) == 0);
	condense_options(c, f, NULL);
	enum condense_result result = condense_prepare(c);
	REQUIRE(result != CONDENSE_FAILED);
	if (result == CONDENSE_OK)
		REQUIRE(condense_assemble(c, NULL, 0, body) == CONDENSE_OK);
	return result;
}

static void check_condense(
	const struct chat_request *r, const struct condense_facts *f, struct slice source)
{
	struct condense c, again;
	struct buf body, same;
	buf_init(&body, 0);
	buf_init(&same, 0);
	enum condense_result result = condensed(&c, r, f, &body);
	REQUIRE(condensed(&again, r, f, &same) == result);
	REQUIRE(slice_eq(buf_slice(&body), buf_slice(&same)));
	if (result == CONDENSE_OK) {
		char words[64];
		if (f->room_tokens > 0)
			REQUIRE(condense_tokens(&c) <= (double)f->room_tokens + .001);
		check_pairs(&c.layout);
		check_untouched(&c.layout);
		check_body(&c, &body, f->room_tokens > 0 ? c.options.window : 0);
		condense_summary(&c, words, sizeof(words));
		check_notes(&c, source);
	}
	condense_fini(&c);
	condense_fini(&again);
	buf_free(&body);
	buf_free(&same);
}

/* --- the plan --- */

struct settings {
	enum dialect dialect;
	bool built, by_time, overflowed;
	unsigned window, scale;
};

static struct settings take_settings(struct program *in)
{
	static const enum dialect dialects[] = {DIALECT_OPENAI_CHAT, DIALECT_OLLAMA_CHAT,
		DIALECT_OLLAMA_GENERATE, DIALECT_OPENAI_TEXT};
	unsigned how = next(in);
	unsigned window = next(in);
	return (struct settings){.dialect = dialects[how & 3],
		.built = how & 4,
		.by_time = how & 8,
		.overflowed = how & 16,
		.window = window,
		.scale = next(in)};
}

/* Windows from a small part of the prompt to four times it; 0: unknown. Estimates that the model
 * has taught to be other than the start table's. */
static void check_plan(
	const struct settings *set, const struct chat_request *r, struct slice source)
{
	struct config conf;
	struct plan plan;
	double start = token_census_start(&r->census);
	double tokens = start * (.5 + set->scale / 128.0);
	struct plan_facts f = {.main = {.present = true, .ready = true, .slots = 1},
		.small = {.present = set->scale & 1, .ready = true, .slots = 2, .window = 4096}};
	f.main.window = (int64_t)(tokens * set->window / 64) + (set->window ? 64 : 0);
	REQUIRE(config_defaults(&conf) == 0);
	decide_facts(&f, &conf, r, (uint64_t)tokens + 1, true);
	f.a_max_tokens = 50;
	f.b_max_tokens = 400;
	plan_decide(&f, &plan);
	REQUIRE(plan.reason[0]);
	if (plan.condense) {
		struct condense_facts facts =
			decide_condense(&conf, &f, &plan, r, tokens, set->overflowed, set->by_time);
		check_condense(r, &facts, source);
	}
	config_free(&conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct program in = {data, size};
	struct settings set = take_settings(&in);
	struct slice source = {(const char *)in.p, in.n};
	struct chat_request r;
	struct dialect_error error;
	struct buf body;
	buf_init(&body, 0);
	if (set.built)
		build(&in, set.dialect, &body);
	else
		buf_add_slice(&body, source);
	/* As the server takes it: what is broken and can be mended is mended. */
	if (chat_request_take(set.dialect, &body, &r, &error) == 0) {
		check_plan(&set, &r, source);
		chat_request_fini(&r);
	}
	buf_free(&body);
	return 0;
}
