/*
 * Translations lose nothing: conversations and answers made up at random, whose every text and number
 * occurs once, are found again behind each translation, and a way there and back ends where it began.
 */
#include "tests/unit/vectors.h"

#include <inttypes.h>

#define ROUNDS 400
#define ATOM_BYTES 24

#define CHAT DIALECT_OLLAMA_CHAT
#define OPENAI DIALECT_OPENAI_CHAT
#define CLAUDE DIALECT_ANTHROPIC

/* --- making things up --- */

/* Atoms are words that occur nowhere else: a7x, a8x, ... */
struct maker {
	uint64_t state;
	unsigned atoms;
	enum dialect dialect;
	struct buf *out;
};

static unsigned pick(struct maker *m, unsigned n)
{
	m->state = m->state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(m->state >> 33) % n;
}

static void put(struct maker *m, const char *text)
{
	buf_add_str(m->out, text);
}

static void put_atom(struct maker *m)
{
	buf_printf(m->out, "a%ux", m->atoms++);
}

/* The inside of a string that JSON may write in several ways. */
static void put_text(struct maker *m)
{
	static const char *const around[] = {
		"", " ", "\\n", "\\u2028", "\\\"", "\xc3\xa9", "\\ud83d\\ude00", "\\/", "\\\\"};
	put(m, around[pick(m, COUNT(around))]);
	put_atom(m);
	put(m, around[pick(m, COUNT(around))]);
}

static void put_string(struct maker *m)
{
	put(m, "\"");
	put_text(m);
	put(m, "\"");
}

static void put_arguments(struct maker *m, const char *quote)
{
	buf_printf(m->out, "{%s", quote);
	put_atom(m);
	buf_printf(m->out, "%s: 1.%u0, %s", quote, pick(m, 9), quote);
	put_atom(m);
	buf_printf(m->out, "%s:[%s", quote, quote);
	put_atom(m);
	buf_printf(m->out, "%s,null]}", quote);
}

/* The name of a call is its tool's: 0, 1, ... of this answer. */
static void put_call(struct maker *m, unsigned round, unsigned call)
{
	bool claude = m->dialect == CLAUDE;
	if (m->dialect == OPENAI) {
		buf_printf(m->out,
			"{\"id\":\"id%u_%u\",\"type\":\"function\",\"function\":{\"name\":"
			"\"f%u_%u\",\"arguments\":\"",
			round, call, round, call);
		put_arguments(m, "\\\"");
		put(m, "\"}}");
		return;
	}
	if (claude)
		buf_printf(m->out,
			"{\"type\":\"tool_use\",\"id\":\"id%u_%u\",\"name\":\"f%u_%u\",\"input\":",
			round, call, round, call);
	else
		buf_printf(
			m->out, "{\"function\":{\"name\":\"f%u_%u\",\"arguments\":", round, call);
	put_arguments(m, "\"");
	put(m, claude ? "}" : "}}");
}

static void put_user(struct maker *m)
{
	bool pictured = pick(m, 3) == 0;
	put(m, "{\"role\":\"user\",\"content\":");
	if (m->dialect == CHAT) {
		put_string(m);
		if (pictured) {
			put(m, ",\"images\":[\"iVBOR/");
			put_atom(m);
			put(m, "\"]");
		}
	} else if (pick(m, 2) || pictured) {
		put(m, "[{\"type\":\"text\",\"text\":");
		put_string(m);
		put(m, "},{\"type\":\"text\",\"text\":");
		put_string(m);
		put(m, "}");
		if (pictured) {
			put(m, m->dialect == CLAUDE
					? ",{\"type\":\"image\",\"source\":{\"type\":\"base64\","
					  "\"media_type\":\"image/png\",\"data\":\"iVBOR/"
					: ",{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:"
					  "image/png;base64,iVBOR/");
			put_atom(m);
			put(m, "\"}}");
		}
		put(m, "]");
	} else {
		put_string(m);
	}
	put(m, "}");
}

static void put_assistant(struct maker *m, unsigned round, unsigned calls)
{
	bool thinks = pick(m, 2);
	if (m->dialect == CLAUDE) {
		put(m, ",{\"role\":\"assistant\",\"content\":[");
		if (thinks) {
			put(m, "{\"type\":\"thinking\",\"signature\":\"\",\"thinking\":");
			put_string(m);
			put(m, "},");
		}
		put(m, "{\"type\":\"text\",\"text\":");
		put_string(m);
		put(m, "}");
	} else {
		put(m, ",{\"role\":\"assistant\",\"content\":");
		put_string(m);
		if (thinks) {
			put(m, m->dialect == CHAT ? ",\"thinking\":" : ",\"reasoning_content\":");
			put_string(m);
		}
		put(m, calls ? ",\"tool_calls\":[" : "");
	}
	for (unsigned i = 0; i < calls; i++) {
		put(m, i || m->dialect == CLAUDE ? "," : "");
		put_call(m, round, i);
	}
	put(m, m->dialect == CLAUDE ? "]}" : calls ? "]}" : "}");
}

static void put_results(struct maker *m, unsigned round, unsigned calls)
{
	if (m->dialect == CLAUDE)
		put(m, ",{\"role\":\"user\",\"content\":[");
	for (unsigned i = 0; i < calls; i++) {
		if (m->dialect == CLAUDE)
			buf_printf(m->out,
				"%s{\"type\":\"tool_result\",\"tool_use_id\":\"id%u_%u\","
				"\"content\":",
				i ? "," : "", round, i);
		else if (m->dialect == OPENAI)
			buf_printf(m->out,
				",{\"role\":\"tool\",\"tool_call_id\":\"id%u_%u\",\"content\":",
				round, i);
		else
			buf_printf(m->out,
				",{\"role\":\"tool\",\"tool_name\":\"f%u_%u\",\"content\":", round,
				i);
		put_string(m);
		put(m, "}");
	}
	if (m->dialect == CLAUDE)
		put(m, "]}");
}

static void put_messages(struct maker *m)
{
	unsigned rounds = pick(m, 4);
	put(m, ",\"messages\":[");
	if (m->dialect != CLAUDE && pick(m, 2)) {
		put(m, "{\"role\":\"system\",\"content\":");
		put_string(m);
		put(m, "},");
	}
	put_user(m);
	for (unsigned i = 0; i < rounds; i++) {
		unsigned calls = pick(m, 3);
		put_assistant(m, i, calls);
		if (calls)
			put_results(m, i, calls);
		put(m, ",");
		put_user(m);
	}
	put(m, "]");
}

static void put_tools(struct maker *m)
{
	unsigned n = pick(m, 3);
	put(m, n ? ",\"tools\":[" : "");
	for (unsigned i = 0; i < n; i++) {
		put(m, i ? "," : "");
		put(m, m->dialect == CLAUDE ? "{\"name\":"
					    : "{\"type\":\"function\",\"function\":{\"name\":");
		put_string(m);
		put(m, ",\"description\":");
		put_string(m);
		put(m, m->dialect == CLAUDE ? ",\"input_schema\":{\"z\":"
					    : ",\"parameters\":{\"z\":");
		put_string(m);
		put(m, m->dialect == CLAUDE ? "}}" : "}}}");
	}
	put(m, n ? "]" : "");
}

/* A number that occurs nowhere else, under the name that this dialect has for it. */
static void put_samplers(struct maker *m)
{
	static const char *const names[] = {"temperature", "top_p", "top_k", "min_p", "typical_p",
		"seed", "presence_penalty", "frequency_penalty", "repeat_penalty", "repeat_last_n"};
	size_t known = m->dialect == CLAUDE ? 3 : COUNT(names);
	bool first = m->dialect == CHAT;
	put(m, m->dialect == CHAT ? ",\"options\":{" : "");
	for (size_t i = 0; i < known; i++) {
		if (pick(m, 2))
			continue;
		buf_printf(
			m->out, "%s\"%s\":9%05u", first ? "" : ",", names[i], 10000 + m->atoms++);
		first = false;
	}
	if (pick(m, 2)) {
		put(m, first ? "" : ",");
		put(m, m->dialect == CLAUDE ? "\"stop_sequences\":[" : "\"stop\":[");
		put_string(m);
		put(m, "]");
		first = false;
	}
	if (m->dialect == CHAT)
		buf_printf(m->out, "%s\"num_predict\":%u}", first ? "" : ",", 1 + pick(m, 99));
	else
		buf_printf(m->out, ",\"max_tokens\":%u", 1 + pick(m, 99));
}

static void put_form(struct maker *m)
{
	if (pick(m, 3))
		return;
	put(m, m->dialect == CHAT ? ",\"format\":{\"type\":"
		: m->dialect == OPENAI
			? ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
			  "\"name\":\"n\",\"schema\":{\"type\":"
			: ",\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{"
			  "\"type\":");
	put_string(m);
	put(m, m->dialect == CHAT ? "}" : "}}}");
}

static void make_request(struct maker *m)
{
	buf_printf(m->out, "{\"model\":\"m\",\"stream\":%s", pick(m, 2) ? "true" : "false");
	if (m->dialect == CLAUDE) {
		put(m, ",\"system\":");
		put_string(m);
	}
	put_tools(m);
	put_messages(m);
	put_samplers(m);
	put_form(m);
	put(m, "}");
}

/* --- requests --- */

/* What that backend is asked for it: the body, whoever wrote it. */
static void translate(enum dialect d, enum backend_api api, struct slice text, struct buf *out)
{
	struct chat_request r;
	struct dialect_error error = {0};
	struct backend_call call;
	buf_clear(out);
	if (chat_request_parse(d, text, &r, &error))
		fail_msg("%s: %.*s", error.text, (int)text.n, text.p);
	if (backend_call_build(api, &r, 0, &call, out, &error))
		fail_msg("%s: %.*s", error.text, (int)text.n, text.p);
	if (out->n == 0)
		buf_add_slice(out, text);
	chat_request_fini(&r);
}

static void check_atoms(struct slice text, unsigned atoms, const char *number)
{
	char atom[ATOM_BYTES];
	for (unsigned i = 0; i < atoms; i++) {
		snprintf(atom, sizeof(atom), "a%ux", i);
		const char *at = memmem(text.p, text.n, atom, strlen(atom));
		snprintf(atom, sizeof(atom), "9%05u", 10000 + i);
		if (!at && !memmem(text.p, text.n, atom, strlen(atom)))
			fail_msg("%s: a%ux is lost in %.*s", number, i, (int)text.n, text.p);
	}
}

static void check_same(const struct buf *a, const struct buf *b)
{
	char *first = compacted(buf_slice(a)), *second = compacted(buf_slice(b));
	assert_string_equal(first, second);
	free(first);
	free(second);
}

/* There and back and there again: twice the same. Of an API that no backend speaks: what comes out
 * behind another one on the way is what comes out without it. */
static void check_way(struct maker *m)
{
	enum backend_api there = m->dialect == OPENAI ? BACKEND_OLLAMA : BACKEND_LLAMA_SERVER;
	enum backend_api back = m->dialect == OPENAI ? BACKEND_LLAMA_SERVER : BACKEND_OLLAMA;
	struct buf once, between, twice;
	buf_init(&once, 0);
	buf_init(&between, 0);
	buf_init(&twice, 0);
	translate(m->dialect, there, buf_slice(m->out), &once);
	translate(there == BACKEND_OLLAMA ? CHAT : OPENAI, back, buf_slice(&once), &between);
	check_atoms(buf_slice(&between), m->atoms, "back");
	if (m->dialect == CLAUDE) {
		translate(m->dialect, back, buf_slice(m->out), &twice);
		check_same(&between, &twice);
	} else {
		translate(m->dialect, there, buf_slice(&between), &twice);
		check_same(&once, &twice);
	}
	buf_free(&once);
	buf_free(&between);
	buf_free(&twice);
}

static void requests_lose_nothing(void **state)
{
	static const enum dialect dialects[] = {CHAT, OPENAI, CLAUDE};
	struct buf text, out;
	(void)state;
	buf_init(&text, 0);
	buf_init(&out, 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		for (size_t d = 0; d < COUNT(dialects); d++) {
			struct maker m = {.state = i * 3 + d, .dialect = dialects[d], .out = &text};
			buf_clear(&text);
			make_request(&m);
			vectors_parse(buf_slice(&text));
			for (enum backend_type b = 0; b < BACKEND_TYPES; b++) {
				translate(
					m.dialect, backend_profile(b)->api, buf_slice(&text), &out);
				check_atoms(buf_slice(&out), m.atoms, backend_type_name(b));
			}
			check_way(&m);
		}
	}
	buf_free(&text);
	buf_free(&out);
}

/* --- answers --- */

#define CALLS 4

/* What an answer says, whoever says it. */
struct said {
	struct buf text, thinking, logprobs;
	struct {
		struct buf id, name, arguments;
	} calls[CALLS];
	unsigned count;
	bool length, ended;
	int64_t prompt_tokens, output_tokens;
};

static void said_init(struct said *s)
{
	*s = (struct said){0};
	buf_init(&s->text, 0);
	buf_init(&s->thinking, 0);
	buf_init(&s->logprobs, 0);
	for (size_t i = 0; i < CALLS; i++) {
		buf_init(&s->calls[i].id, 0);
		buf_init(&s->calls[i].name, 0);
		buf_init(&s->calls[i].arguments, 0);
	}
}

static void said_fini(struct said *s)
{
	buf_free(&s->text);
	buf_free(&s->thinking);
	buf_free(&s->logprobs);
	for (size_t i = 0; i < CALLS; i++) {
		buf_free(&s->calls[i].id);
		buf_free(&s->calls[i].name);
		buf_free(&s->calls[i].arguments);
	}
}

static void hear(void *ctx, const struct answer_event *e)
{
	struct said *s = ctx;
	switch (e->kind) {
	case ANSWER_TEXT:
		buf_add_slice(&s->text, e->text);
		buf_add_slice(&s->logprobs, e->logprobs);
		break;
	case ANSWER_THINKING:
		buf_add_slice(&s->thinking, e->text);
		break;
	case ANSWER_TOOL_BEGIN:
		assert_true(s->count < CALLS);
		buf_add_slice(&s->calls[s->count].id, e->id);
		buf_add_slice(&s->calls[s->count++].name, e->name);
		break;
	case ANSWER_TOOL_ARGS:
		buf_add_slice(&s->calls[s->count - 1].arguments, e->text);
		break;
	case ANSWER_TOOL_END:
		break;
	case ANSWER_END:
		s->ended = true;
		s->length = e->finish == FINISH_LENGTH;
		s->prompt_tokens = e->usage.prompt_tokens;
		s->output_tokens = e->usage.output_tokens;
		break;
	case ANSWER_ERROR:
		fail_msg("%.*s", (int)e->text.n, e->text.p);
	}
}

struct telling {
	struct maker m;
	struct answer_writer *w;
	struct said *said; /* what has been told */
	struct buf *out, scratch;
};

static void tell(struct telling *t, const struct answer_event *e)
{
	hear(t->said, e);
	assert_int_equal(answer_writer_put(t->w, e, t->out), 0);
}

/* A piece of plain text with an atom in it. */
static struct slice some_text(struct telling *t)
{
	static const char *const around[] = {"", " ", "\n", "\"", "\\", "\xe2\x80\xa8", "\xc3\xa9"};
	buf_clear(&t->scratch);
	buf_printf(&t->scratch, "%sa%ux%s", around[pick(&t->m, COUNT(around))], t->m.atoms++,
		around[pick(&t->m, COUNT(around))]);
	return buf_slice(&t->scratch);
}

static void tell_call(struct telling *t, unsigned index)
{
	char id[32], name[32], arguments[96];
	struct answer_event e = {.kind = ANSWER_TOOL_BEGIN, .index = index};
	snprintf(id, sizeof(id), "a%ux", t->m.atoms++);
	snprintf(name, sizeof(name), "a%ux", t->m.atoms++);
	e.id = slice_str(id);
	e.name = slice_str(name);
	tell(t, &e);
	int n = snprintf(arguments, sizeof(arguments), "{\"a%ux\":[1.50,\"\xc3\xa9\"],\"b\":{}}",
		t->m.atoms++);
	e = (struct answer_event){.kind = ANSWER_TOOL_ARGS, .index = index};
	for (int at = 0, piece; at < n; at += piece) { /* pieces do not split a character */
		piece = at == 0 ? n - 4 : n - at;
		e.text = (struct slice){arguments + at, (size_t)piece};
		tell(t, &e);
	}
	e = (struct answer_event){.kind = ANSWER_TOOL_END, .index = index};
	tell(t, &e);
}

static void tell_all(struct telling *t, bool bare)
{
	struct answer_event e;
	char logprobs[96];
	unsigned calls = bare ? 0 : pick(&t->m, CALLS), texts = pick(&t->m, 4);
	bool known = pick(&t->m, 2);
	for (unsigned i = bare ? 0 : pick(&t->m, 3); i > 0; i--) {
		e = (struct answer_event){.kind = ANSWER_THINKING, .text = some_text(t)};
		tell(t, &e);
	}
	while (texts-- > 0) {
		e = (struct answer_event){.kind = ANSWER_TEXT, .text = some_text(t)};
		if (known && !bare && t->m.dialect != CLAUDE) {
			snprintf(logprobs, sizeof(logprobs),
				"{\"token\":\"a%ux\",\"logprob\":-1.50}", t->m.atoms++);
			e.logprobs = slice_str(logprobs);
		}
		tell(t, &e);
	}
	for (unsigned i = 0; i < calls; i++)
		tell_call(t, i);
	e = (struct answer_event){.kind = ANSWER_END,
		.finish = calls		   ? FINISH_TOOL_CALLS
			  : pick(&t->m, 2) ? FINISH_LENGTH
					   : FINISH_STOP,
		.usage = {1 + pick(&t->m, 999), -1, 1 + pick(&t->m, 999), -1, -1, -1}};
	tell(t, &e);
}

static void check_calls(const struct said *a, const struct said *b)
{
	assert_int_equal(a->count, b->count);
	for (unsigned i = 0; i < a->count; i++) {
		check_same(&a->calls[i].arguments, &b->calls[i].arguments);
		assert_true(slice_eq(buf_slice(&a->calls[i].id), buf_slice(&b->calls[i].id)));
		assert_true(slice_eq(buf_slice(&a->calls[i].name), buf_slice(&b->calls[i].name)));
	}
}

static void check_said(const struct said *a, const struct said *b)
{
	assert_true(b->ended && a->length == b->length);
	assert_true(slice_eq(buf_slice(&a->text), buf_slice(&b->text)));
	assert_true(slice_eq(buf_slice(&a->thinking), buf_slice(&b->thinking)));
	assert_int_equal(a->prompt_tokens, b->prompt_tokens);
	assert_int_equal(a->output_tokens, b->output_tokens);
	check_calls(a, b);
}

/* format: how to read it again; -1: nobody here can. */
static void check_answer(enum dialect d, int format, bool stream, unsigned round)
{
	struct said told, heard;
	struct buf out;
	bool bare = d == DIALECT_OPENAI_TEXT;
	said_init(&told);
	said_init(&heard);
	buf_init(&out, 0);
	struct telling t = {.m = {.state = round, .dialect = d}, .said = &told, .out = &out};
	buf_init(&t.scratch, 0);
	t.w = answer_writer_create(d, stream, SLICE("m"), "i", true, 0);
	assert_non_null(t.w);
	tell_all(&t, bare);
	check_atoms(buf_slice(&out), t.m.atoms, dialect_name(d));
	if (format >= 0) {
		struct answer_parser *p = answer_parser_create(
			(enum answer_format)format, stream, 1 << 20, hear, &heard);
		assert_non_null(p);
		assert_int_equal(answer_parser_feed(p, buf_slice(&out)), 0);
		assert_int_equal(answer_parser_finish(p), 0);
		answer_parser_destroy(p);
		check_said(&told, &heard);
	}
	answer_writer_destroy(t.w);
	buf_free(&t.scratch);
	buf_free(&out);
	said_fini(&told);
	said_fini(&heard);
}

static void answers_lose_nothing(void **state)
{
	static const struct {
		enum dialect dialect;
		int format;
	} ways[] = {{CHAT, ANSWER_OLLAMA_CHAT}, {DIALECT_OLLAMA_GENERATE, ANSWER_OLLAMA_GENERATE},
		{OPENAI, ANSWER_OPENAI_CHAT}, {DIALECT_OPENAI_TEXT, ANSWER_OPENAI_TEXT},
		{CLAUDE, -1}, {DIALECT_RESPONSES, -1}};
	(void)state;
	for (size_t i = 0; i < COUNT(ways); i++)
		for (unsigned round = 0; round < ROUNDS; round++)
			check_answer(ways[i].dialect, ways[i].format, round % 2, round);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_lose_nothing),
		cmocka_unit_test(answers_lose_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
