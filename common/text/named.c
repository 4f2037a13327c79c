/*
 * One text that is read for a question: the functions, classes and sections that the question names
 * are taken whole.
 *
 * A block begins at a line that defines a name of the question (a definition, a heading, or a name
 * at the line's begin with a parenthesis behind it) and ends before the next line that is indented
 * no deeper, closing brackets aside; a section ends before the next heading of its rank.
 */
#include "common/text/piece.h"
#include "common/text/selection.h"

#define NAMED_SHARE .6	/* of the budget, most that such blocks take */
#define BLOCK_LINES 400 /* a longer block ends there */

static size_t indent_of(struct slice line)
{
	size_t n = 0, i = 0;
	for (; i < line.n && (line.p[i] == ' ' || line.p[i] == '\t'); i++)
		n += line.p[i] == '\t' ? 8 : 1;
	return n;
}

static size_t heading_rank(struct slice line)
{
	size_t n = 0;
	while (n < line.n && line.p[n] == '#')
		n++;
	return n && n < line.n && line.p[n] == ' ' ? n : 0;
}

/* Is the word one of the question's? */
static bool is_asked(const struct selection *s, const struct token *t)
{
	const struct vocab *v = &s->source.c->vocab;
	uint32_t id = vocab_find(v, t->p, t->n);
	return id != VOCAB_NONE && (v->word[id].flags & VOCAB_AGENT);
}

/* Does the line define a name that the question has? */
static bool defines_asked(const struct selection *s, uint32_t i)
{
	struct slice line = source_line(&s->source, i), body = piece_body(line);
	const char *at = body.p, *end = body.p + body.n;
	bool heading = heading_rank(body) > 0;
	bool definition = s->source.line[i].flags & PIN_DEFINITION;
	bool outer = body.n && token_is_start(body.p[0]) && body.p[body.n - 1] != ';';
	struct token t;
	if (!heading && !definition && !outer)
		return false;
	while (token_next(&at, end, &t)) {
		bool called = at < end && *at == '(';
		if (is_asked(s, &t) && (heading || called || (definition && t.shaped)))
			return true;
		if (called)
			return false; /* what stands in parentheses is no name of this line's */
	}
	return false;
}

static bool is_bracket(struct slice body)
{
	return body.n && strchr("{})];", body.p[0]);
}

static uint32_t block_end(const struct source *src, uint32_t begin)
{
	struct slice first = piece_body(source_line(src, begin));
	size_t rank = heading_rank(first), indent = indent_of(first);
	uint32_t end = begin + 1, most = src->first[src->line[begin].message + 1];
	if (most - begin > BLOCK_LINES)
		most = begin + BLOCK_LINES;
	for (; end < most; end++) {
		struct slice line = piece_body(source_line(src, end)), body = slice_trim(line);
		if (body.n == 0 || (src->line[end].flags & LINE_PART))
			continue;
		if (rank) {
			size_t other = heading_rank(body);
			if (other && other <= rank)
				break;
		} else if (indent_of(line) <= indent && !is_bracket(body)) {
			break;
		}
	}
	while (end > begin + 1 && (src->line[end - 1].flags & LINE_BLANK))
		end--;
	return end;
}

void selection_force_named(struct selection *s)
{
	const struct source *src = &s->source;
	size_t most = s->cost.used + (size_t)(NAMED_SHARE * (double)s->budget);
	if (most > s->limit)
		most = s->limit;
	for (uint32_t i = 0; i < src->lines; i++) {
		if (!defines_asked(s, i))
			continue;
		uint32_t end = block_end(src, i);
		for (uint32_t k = i; k < end; k++)
			if (selection_may_pick(s, k, k + 1) &&
				selection_fits(s, selection_cost(s, k, k + 1), most))
				selection_take(s, k, k + 1);
		i = end - 1;
	}
}
