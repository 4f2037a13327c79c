/*
 * libFuzzer target for backends' answers: whatever pieces the bytes come in, the events are the
 * same, and so is what each writer makes of them; and what a writer has written is an answer that
 * the parser of that dialect reads, with the same text.
 *
 * The first two bytes choose the format and seed the pieces.
 */
#include "common/dialect/answer.h"

#include <stdint.h>
#include <stdlib.h>

#define REQUIRE(c)                                                                                 \
	do {                                                                                       \
		if (!(c))                                                                          \
			abort();                                                                   \
	} while (0)

#define LINE_BYTES 1000 /* a cap that inputs reach */
#define WRITTEN_BYTES 1000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	struct buf trace, text, thinking;
	unsigned begun, ended; /* tool calls */
	bool over, error;
	struct answer_writer *writer; /* may be NULL */
	struct buf out;
	int writer_error;
};

static void note_usage(struct buf *b, const struct answer_usage *u)
{
	buf_printf(b, " %lld/%lld+%lld %a %a %a", (long long)u->prompt_tokens,
		(long long)u->cached_tokens, (long long)u->output_tokens, u->prompt_ms,
		u->output_ms, u->load_ms);
}

static void on_event(void *ctx, const struct answer_event *e)
{
	struct seen *s = ctx;
	REQUIRE(!s->over); /* nothing follows the end */
	buf_printf(&s->trace, "%d %u %d %d {", e->kind, e->index, e->finish, e->status);
	const struct slice parts[] = {e->text, e->logprobs, e->id, e->name};
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		buf_printf(&s->trace, "%zu:", parts[i].n);
		buf_add_slice(&s->trace, parts[i]);
	}
	if (e->kind == ANSWER_END)
		note_usage(&s->trace, &e->usage);
	buf_add_str(&s->trace, "}\n");
	if (e->kind == ANSWER_TEXT)
		buf_add_slice(&s->text, e->text);
	if (e->kind == ANSWER_THINKING)
		buf_add_slice(&s->thinking, e->text);
	s->begun += e->kind == ANSWER_TOOL_BEGIN;
	s->ended += e->kind == ANSWER_TOOL_END;
	s->error |= e->kind == ANSWER_ERROR;
	s->over = e->kind == ANSWER_END || e->kind == ANSWER_ERROR;
	REQUIRE(s->ended <= s->begun && s->begun <= s->ended + 1);
	if (s->writer && s->writer_error == 0)
		s->writer_error = answer_writer_put(s->writer, e, &s->out);
}

static void seen_fini(struct seen *s)
{
	answer_writer_destroy(s->writer);
	buf_free(&s->trace);
	buf_free(&s->text);
	buf_free(&s->thinking);
	buf_free(&s->out);
}

/* The next piece's length; 0 for step: all at once. */
static size_t piece(size_t left, unsigned step, uint32_t *state)
{
	if (step == 0)
		return left;
	*state = *state * 1664525u + 1013904223u;
	size_t n = step == 1 ? 1 : 1 + (*state >> 16) % step;
	return n < left ? n : left;
}

/* What finish returned, with -EPROTO and the like. Each piece is memory of its own: a slice kept
 * too long is found. */
static int parse(struct seen *s, enum answer_format format, bool stream, size_t line_bytes,
	struct slice in, unsigned step)
{
	uint32_t state = step;
	struct answer_parser *p = answer_parser_create(format, stream, line_bytes, on_event, s);
	REQUIRE(p);
	int rc = 0;
	for (size_t at = 0, n; at < in.n && rc == 0; at += n) {
		n = piece(in.n - at, step, &state);
		char *bytes = malloc(n);
		REQUIRE(bytes);
		memcpy(bytes, in.p + at, n);
		rc = answer_parser_feed(p, (struct slice){bytes, n});
		free(bytes);
		REQUIRE(rc == 0 || *answer_parser_problem(p));
	}
	int end = answer_parser_finish(p);
	REQUIRE(rc == 0 || end == rc);
	REQUIRE(end != 0 || s->over);
	answer_parser_destroy(p);
	return end;
}

static bool same_text(const struct seen *a, const struct seen *b)
{
	return slice_eq(buf_slice(&a->text), buf_slice(&b->text));
}

/* Through a writer and back. Text that is no UTF-8 is mended on the way; where there is none, no
 * byte of it may change. */
static void check_written(enum dialect d, enum answer_format own, bool stream_out,
	enum answer_format format, bool stream, struct slice in)
{
	struct seen s = {.writer = answer_writer_create(
				 d, stream_out, SLICE("m"), "id", true, WRITTEN_BYTES)};
	struct seen back = {0};
	REQUIRE(s.writer);
	int rc = parse(&s, format, stream, 0, in, 0);
	REQUIRE(s.writer_error == 0);
	if (rc == 0 && !s.error) {
		REQUIRE(parse(&back, own, stream_out, 0, buf_slice(&s.out), 7) == 0);
		REQUIRE(!back.error);
		if (utf8_valid_prefix(buf_slice(&s.text)) == s.text.n)
			REQUIRE(same_text(&s, &back));
		if (own == ANSWER_OLLAMA_CHAT ||
			own == ANSWER_OPENAI_CHAT) /* the others have no calls */
			REQUIRE(back.begun == s.begun);
	}
	seen_fini(&s);
	seen_fini(&back);
}

static void check_pieces(
	enum answer_format format, bool stream, size_t line_bytes, struct slice in, unsigned seed)
{
	const unsigned steps[] = {1, 2 + seed % 6, 2 + seed};
	struct seen whole = {0};
	int rc = parse(&whole, format, stream, line_bytes, in, 0);
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		struct seen pieces = {0};
		REQUIRE(parse(&pieces, format, stream, line_bytes, in, steps[i]) == rc);
		REQUIRE(slice_eq(buf_slice(&whole.trace), buf_slice(&pieces.trace)));
		seen_fini(&pieces);
	}
	seen_fini(&whole);
}

static const struct {
	enum dialect dialect;
	enum answer_format own; /* what a client of it reads */
} fronts[] = {
	{DIALECT_OLLAMA_CHAT, ANSWER_OLLAMA_CHAT},
	{DIALECT_OLLAMA_GENERATE, ANSWER_OLLAMA_GENERATE},
	{DIALECT_OPENAI_CHAT, ANSWER_OPENAI_CHAT},
	{DIALECT_OPENAI_TEXT, ANSWER_OPENAI_TEXT},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	struct slice in = {(const char *)data + 2, size - 2};
	enum answer_format format = (enum answer_format)(data[0] % (ANSWER_LLAMA_INFILL + 1));
	bool stream = data[0] & 64, short_lines = data[0] & 128;
	check_pieces(format, stream, short_lines ? LINE_BYTES : 0, in, data[1]);
	for (size_t i = 0; i < sizeof(fronts) / sizeof(*fronts); i++)
		check_written(fronts[i].dialect, fronts[i].own, data[1] & 1, format, stream, in);
	return 0;
}
