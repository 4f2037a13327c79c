/*
 * What the pretended model says: thinking "t0 t1 ...", text "w0 w1 ..." or a scripted one, then
 * tool calls. A scripted text is cut into tokens of --chars-per-token code points, as prompts are.
 */
#include "tests/fake/api.h"
#include "tests/fake/digits.h"
#include "tests/fake/engine.h"
#include "tests/fake/mem.h"

#include <math.h>
#include <stdio.h>

static size_t tokens_of(const struct gen *g, const struct buf *text)
{
	return prompt_tokens(buf_slice(text), g->r->fake->options.chars_per_token);
}

static size_t without_last_word(const char *p, size_t n)
{
	const char *space = memrchr(p, ' ', n);
	return space && space > p ? (size_t)(space - p) : n;
}

/* Lines of the prompt's last message as a list, from a quarter of it on: what a small model that
 * takes notes says at its best. */
static void quote(struct gen *g, struct script *s)
{
	struct slice rest = buf_slice(&g->prompt.text);
	size_t start = g->prompt.count ? g->prompt.pieces[g->prompt.count - 1].start : 0;
	size_t skip = start + PROMPT_MARK_BYTES + (rest.n - start) / 4;

	if (skip > rest.n)
		return;
	rest = (struct slice){rest.p + skip, rest.n - skip};
	size_t most = (size_t)(s->quote > 0 ? s->quote : s->excerpt);
	for (bool whole = false; rest.n && tokens_of(g, &s->text) < most; whole = true) {
		const char *end = memchr(rest.p, '\n', rest.n);
		size_t n = end ? (size_t)(end - rest.p) : rest.n;

		if (whole && n) {
			buf_add_str(&s->text, "- ");
			buf_add(&s->text, rest.p, s->quote > 0 ? n : without_last_word(rest.p, n));
			buf_add_char(&s->text, '\n');
		}
		n += end != NULL;
		rest = (struct slice){rest.p + n, rest.n - n};
	}
	s->has_text = true;
}

void answer_plan(struct gen *g)
{
	const struct options *o = &g->r->fake->options;
	struct script *s = &g->r->script;

	g->total = 0;
	if (s->fault == FAULT_EMPTY)
		return;
	if ((s->quote > 0 || s->excerpt > 0) && !s->has_text)
		quote(g, s);
	g->thinking = g->thinks && s->thinking > 0 ? (size_t)s->thinking : 0;
	if (s->has_text)
		g->text_tokens = tokens_of(g, &s->text);
	else if (s->tokens >= 0)
		g->text_tokens = (size_t)s->tokens;
	else
		g->text_tokens = s->tool_count ? 0 : o->answer_tokens;
	if (s->hugeline && !g->text_tokens)
		g->text_tokens = 1;
	g->total = g->thinking + g->text_tokens;
	for (size_t i = 0; i < s->tool_count; i++) {
		size_t n = tokens_of(g, &s->tools[i].args);

		g->tool_tokens[i] = n ? n : 1;
		g->total += g->tool_tokens[i];
	}
	if (g->max_tokens >= 0 && g->total > g->given + (size_t)g->max_tokens) {
		g->total = g->given + (size_t)g->max_tokens;
		g->reason = REASON_LENGTH;
	}
	/* With context shift generation goes on past the window, up to ten of them
	 * (docs/protocols.md#options-and-reloads). */
	size_t window = g->model->num_ctx, room = window > g->prompt_n ? window - g->prompt_n : 0;

	if (g->shift)
		room = window * 10;
	if (g->total > g->given + room) {
		g->total = g->given + room;
		g->reason = REASON_LENGTH;
		g->window_full = true;
	}
}

/* The k-th token of text, which starts at g->cursor. */
static struct slice next_piece(struct gen *g, const struct buf *text, size_t k)
{
	double f = g->r->fake->options.chars_per_token;
	size_t chars = (size_t)floor((double)(k + 1) * f) - (size_t)floor((double)k * f);
	size_t at = g->cursor, n = at;

	while (n < text->n && chars--)
		do
			n++;
		while (n < text->n && ((unsigned char)text->p[n] & 0xC0) == 0x80);
	g->cursor = n;
	return (struct slice){text->p + at, n - at};
}

/* Appends the k-th word, with the space before it, to word. */
static struct slice word_of(bool thinking, size_t k, char word[2 + DIGITS_BYTES])
{
	char room[DIGITS_BYTES];
	struct slice number = digits(room, k, 10, 1);
	size_t skip = k ? 0 : 1; /* no space before the first */

	word[0] = ' ';
	word[1] = thinking ? 't' : 'w';
	memcpy(word + 2, number.p, number.n);
	return (struct slice){word + skip, 2 + number.n - skip};
}

/* Appends the k-th token of the answer's text, after those before it. */
static void put_text_token(struct gen *g, size_t k, struct buf *out)
{
	const struct script *s = &g->r->script;
	char word[2 + DIGITS_BYTES];

	if (s->hugeline && k == 0)
		for (size_t i = 0; i < s->hugeline; i++)
			buf_add_char(out, 'x');
	else
		buf_add_slice(
			out, s->has_text ? next_piece(g, &s->text, k) : word_of(false, k, word));
}

void answer_begin_with(struct gen *g, struct slice text, bool suffix)
{
	const struct script *s = &g->r->script;
	size_t tokens = s->has_text	 ? tokens_of(g, &s->text)
			: s->tokens >= 0 ? (size_t)s->tokens
					 : g->r->fake->options.answer_tokens;
	struct buf said;

	if (!text.n || s->fault == FAULT_EMPTY)
		return;
	buf_init(&said, SCRIPT_TEXT_MAX);
	for (size_t k = 0; k < tokens && said.n < text.n; k++) {
		put_text_token(g, k, &said);
		if (said.n > text.n || (!suffix && said.n < text.n) ||
			memcmp(text.p + text.n - said.n, said.p, said.n))
			continue;
		g->given = k + 1;
		g->given_bytes = said.n;
	}
	buf_free(&said);
	/* Where the next piece begins; pieces are of the text's own bytes. */
	g->cursor = s->has_text ? g->given_bytes : 0;
	g->emitted = g->given;
}

bool answer_refuses_begun(struct gen *g)
{
	struct request *r = g->r;

	if (!g->begun || !g->thinks || r->script.thinking <= 0)
		return false;
	gen_free(g);
	api_error(
		r, 400, SLICE("Assistant response prefill is incompatible with enable_thinking."));
	return true;
}

static void say(struct gen *g, bool thinking, struct slice text)
{
	buf_add_slice(thinking ? &g->thought : &g->text, text);
	if (g->stream && text.n)
		g->ops->text(g, thinking, text);
}

static void say_word(struct gen *g, bool thinking, size_t k)
{
	char word[2 + DIGITS_BYTES];

	say(g, thinking, word_of(thinking, k, word));
}

static void say_huge(struct gen *g, size_t bytes)
{
	char *x = mem_grow(NULL, bytes);

	memset(x, 'x', bytes);
	say(g, false, (struct slice){x, bytes});
	free(x);
}

static void say_tool(struct gen *g, size_t k)
{
	const struct script *s = &g->r->script;
	size_t i = 0;

	while (k >= g->tool_tokens[i])
		k -= g->tool_tokens[i++];
	if (k == 0)
		g->cursor = 0;
	struct slice fragment = next_piece(g, &s->tools[i].args, k);

	if (g->stream)
		g->ops->tool(g, i, fragment, k == 0, k + 1 == g->tool_tokens[i]);
}

void answer_put_calls(const struct gen *g, struct buf *out)
{
	const struct script *s = &g->r->script;
	size_t said = g->thinking + g->text_tokens;

	for (size_t i = 0; i < s->tool_count; i++) {
		said += g->tool_tokens[i];
		if (g->emitted < said)
			return;
		buf_add_slice(out, buf_slice(&s->tools[i].name));
		buf_add_slice(out, buf_slice(&s->tools[i].args));
	}
}

void answer_token(struct gen *g)
{
	const struct script *s = &g->r->script;
	size_t k = g->emitted++;

	if (k < g->thinking) {
		say_word(g, true, k);
		return;
	}
	k -= g->thinking;
	if (k >= g->text_tokens)
		say_tool(g, k - g->text_tokens);
	else if (s->hugeline && k == 0)
		say_huge(g, s->hugeline);
	else if (s->has_text)
		say(g, false, next_piece(g, &s->text, k));
	else
		say_word(g, false, k);
}
