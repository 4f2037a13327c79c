#include "common/text/corpus.h"

#include "common/text/heading.h"
#include "common/text/piece.h"
#include "common/text/secret.h"
#include "common/text/select.h"
#include "common/text/speaker.h"

#include <errno.h>
#include <stdlib.h>

#define PACK_LINES (1u << 20) /* more lines than this are read several to a piece */
#define TOKEN_MIN 3
#define FLAG_MIN 2
#define PART_MIN 4

struct reader {
	struct corpus *c;
	const struct text_message *m;
	uint32_t message;
	unsigned flags;		  /* of every token */
	struct corpus_line *line; /* that its tokens go to, or NULL */
	int error;
};

/* Room for one more element; the array doubles. */
static void *room(struct reader *r, void *array, uint32_t n, uint32_t *cap, size_t size)
{
	if (n < *cap)
		return array;
	uint32_t wide = *cap ? *cap * 2 : 256;
	void *p = reallocarray(array, wide, size);
	if (!p) {
		r->error = -ENOMEM;
		return array;
	}
	*cap = wide;
	return p;
}

/* --- tokens --- */

static bool is_tool(const struct text_message *m)
{
	return m->role == TEXT_TOOL || m->tool_result;
}

static uint32_t note_token(struct reader *r, const struct token *t, unsigned flags)
{
	struct corpus *c = r->c;
	if (!t->shaped && lexicon_look(&c->lexicon, t->p, t->n) & WORD_STOP)
		return VOCAB_NONE;
	uint32_t id = vocab_add(&c->vocab, t->p, t->n, &r->error);
	if (id == VOCAB_NONE)
		return id;
	struct vocab_word *w = &c->vocab.word[id];
	w->flags |= (uint8_t)(flags | (t->shaped ? VOCAB_SHAPED : 0u));
	w->kind = (uint8_t)t->kind;
	w->count += w->count < UINT32_MAX;
	if (!is_tool(r->m))
		w->turn = r->message + 1;
	if (!r->line)
		return id;
	c->ids = room(r, c->ids, c->n_ids, &c->ids_cap, sizeof(*c->ids));
	if (!r->error) {
		c->ids[c->n_ids++] = id;
		r->line->n_ids++;
	}
	return id;
}

static void note_parts(struct reader *r, const struct token *t, unsigned flags)
{
	struct token part;
	for (const char *at = t->p; token_part(&at, t->p + t->n, &part);)
		if (part.n >= PART_MIN && part.n < t->n)
			note_token(r, &part, flags);
}

/* The longest token of a credential: if a later turn has it, the credential is in use. */
static uint32_t secret_token(struct reader *r, struct slice value)
{
	const char *at = value.p;
	struct token part, longest = {0};
	while (token_next(&at, value.p + value.n, &part))
		if (part.n > longest.n)
			longest = part;
	uint32_t id =
		longest.n ? vocab_add(&r->c->vocab, longest.p, longest.n, &r->error) : VOCAB_NONE;
	if (id != VOCAB_NONE && !is_tool(r->m))
		r->c->vocab.word[id].turn = r->message + 1; /* also as a part of a URL */
	return id;
}

static void read_tokens(struct reader *r, struct slice line)
{
	const char *at = line.p, *end = line.p + line.n, *secret_end = line.p;
	struct slice value;
	struct token t;

	while (!r->error && token_next(&at, end, &t)) {
		if (r->line)
			r->line->flags |= pin_of_token(&r->c->lexicon, line, &t);
		if (secret_at(line, &t, &value)) {
			uint32_t id = secret_token(r, value);
			secret_end = value.p + value.n;
			if (r->line) {
				r->line->secret = id;
				r->line->flags |= LINE_SECRET;
			}
		}
		if (t.n < (t.kind == TOKEN_FLAG ? FLAG_MIN : TOKEN_MIN))
			continue;
		unsigned secret = t.p < secret_end ? VOCAB_SECRET : 0;
		note_token(r, &t, r->flags | VOCAB_WHOLE | secret);
		if (t.joined && !t.numeric)
			note_parts(r, &t, r->flags);
	}
}

/* --- lines --- */

static void note_equal(struct reader *r, struct corpus_line *l, struct slice line, uint32_t number)
{
	struct corpus *c = r->c;
	struct slice body = slice_trim(piece_body(line));
	l->same = vocab_add(&c->equal, body.p, body.n, &r->error);
	if (l->same == VOCAB_NONE || r->error)
		return;
	c->last = room(r, c->last, l->same, &c->last_cap, sizeof(*c->last));
	if (!r->error)
		c->last[l->same] = number;
}

static bool is_fence(struct slice line)
{
	return line.n >= 3 && (memcmp(line.p, "```", 3) == 0 || memcmp(line.p, "~~~", 3) == 0);
}

static void note_kind(struct reader *r, struct corpus_line *l, struct slice line, bool human)
{
	bool agent = r->m->role == TEXT_ASSISTANT, open = false;
	if (human) {
		l->flags |= LINE_HUMAN;
		if (pin_constraint(&r->c->lexicon, line, &l->key, &open))
			l->flags |= PIN_CONSTRAINT | (open ? LINE_SENTENCE : 0u);
		else if (pin_prose(line))
			l->flags |= PIN_PROSE;
	} else if (!agent) {
		l->flags |= pin_definition(&r->c->lexicon, line);
	}
	if (agent)
		l->flags &= ~(unsigned)(PIN_ERROR | PIN_FAILURE);
}

static struct corpus_line *add_line(struct reader *r, const struct piece *p)
{
	struct corpus *c = r->c;
	c->line = room(r, c->line, c->lines, &c->line_cap, sizeof(*c->line));
	if (r->error)
		return NULL;
	struct corpus_line *l = &c->line[c->lines++];
	*l = (struct corpus_line){.begin = (uint32_t)p->begin,
		.end = (uint32_t)p->end,
		.ids = c->n_ids,
		.rows = p->rows,
		.head = CORPUS_NONE,
		.same = VOCAB_NONE,
		.secret = CORPUS_NONE,
		.flags = p->continued ? LINE_PART : 0};
	return l;
}

/* A credential longer than a piece goes on in the next one. */
static void carry_secret(const struct corpus *c, struct slice text, struct corpus_line *l)
{
	const struct corpus_line *before = l - 1;
	if (l > &c->line[c->first[c->n]] && (before->flags & LINE_SECRET) &&
		(l->flags & LINE_PART) && token_is_inner(text.p[before->end - 1]) &&
		token_is_inner(text.p[l->begin])) {
		l->flags |= LINE_SECRET;
		l->secret = before->secret;
	}
}

static void read_lines(struct reader *r)
{
	struct corpus *c = r->c;
	struct slice text = r->m->text;
	struct speaker speaker;
	struct heading heading = {.corpus = c, .message = r->message};
	bool armour = false, machine;
	struct piece p;

	speaker_begin(&speaker, r->m);
	for (size_t at = 0; !r->error && piece_next(text, &at, c->packed, &p);) {
		struct slice line = {text.p + p.begin, p.end - p.begin}, body = slice_trim(line);
		bool human = speaker_line(&speaker, line, &machine);
		struct corpus_line *l = add_line(r, &p);
		if (!l)
			return;
		l->flags |= machine ? LINE_MACHINE : 0u;
		if (body.n >= 27 && secret_block_begins(body))
			armour = true;
		l->flags |= armour ? LINE_ARMOUR : 0u;
		if (armour && secret_block_ends(body))
			armour = false;
		if (body.n == 0) {
			l->flags |= LINE_BLANK | (human ? LINE_HUMAN : 0u);
			heading.table = 0;
			continue;
		}
		l->flags |= !p.continued && is_fence(body) ? LINE_FENCE : 0u;
		r->line = l;
		read_tokens(r, line);
		note_kind(r, l, line, human);
		note_equal(r, l, line, c->lines - 1);
		carry_secret(c, text, l);
		if (r->m->role != TEXT_ASSISTANT)
			heading_line(&heading, c->lines - 1);
	}
}

/* Known to the vocabulary, and newer than equal lines before it. */
static void read_words(struct reader *r)
{
	struct slice text = r->m->text;
	struct piece p;
	for (size_t at = 0; !r->error && piece_next(text, &at, r->c->packed, &p);) {
		struct slice line = {text.p + p.begin, p.end - p.begin};
		struct corpus_line l = {0};
		read_tokens(r, line);
		if (slice_trim(line).n)
			note_equal(r, &l, line, CORPUS_NONE);
	}
}

int corpus_read(struct corpus *c, enum corpus_reading how)
{
	struct reader r = {.c = c, .m = &c->m[c->n], .message = (uint32_t)c->n};

	c->first[c->n] = c->lines;
	if (how == CORPUS_LINES) {
		r.flags = r.m->role == TEXT_ASSISTANT ? VOCAB_AGENT : 0;
		read_lines(&r);
	} else {
		r.flags = how == CORPUS_LIVE ? VOCAB_LIVE : VOCAB_AGENT;
		read_words(&r);
	}
	c->first[++c->n] = c->lines;
	return r.error;
}

int corpus_init(struct corpus *c, const struct text_message *m, size_t total)
{
	size_t all = 0, rows = 0;
	*c = (struct corpus){.m = m, .total = total};
	if (total > SELECT_MESSAGES_MAX)
		return -E2BIG;
	for (size_t i = 0; i < total; i++) {
		struct slice text = m[i].text;
		if (text.n > SELECT_BYTES_MAX || (all += text.n) > SELECT_BYTES_MAX)
			return -E2BIG;
		for (size_t k = 0; k < text.n; k++)
			rows += text.p[k] == '\n' || text.p[k] == '\r';
	}
	c->packed = rows > PACK_LINES;
	c->first = calloc(total + 1, sizeof(*c->first));
	if (!c->first)
		return -ENOMEM;
	lexicon_init(&c->lexicon);
	return 0;
}

void corpus_fini(struct corpus *c)
{
	free(c->line);
	free(c->first);
	free(c->ids);
	free(c->last);
	vocab_fini(&c->vocab);
	vocab_fini(&c->equal);
	*c = (struct corpus){0};
}
