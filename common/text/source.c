#include "common/text/source.h"

#include "common/text/piece.h"
#include "common/text/secret.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define PACK_LINES (1u << 20) /* more lines than this are read several to a piece */
#define TOKEN_MIN 3
#define PART_MIN 4
#define LONG_MESSAGE 1200.0 /* bytes beyond which a message's lines count less */
#define AGE_GROUPS 12.0
#define TRIFLE .05f /* the factor of empty lines, fences and footers */

struct reader {
	struct source *s;
	const struct select_options *o;
	struct lexicon lexicon;
	struct hashset seen; /* lines that come later */
	bool packed;
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

static struct line *add_line(struct reader *r)
{
	struct source *s = r->s;
	s->line = room(r, s->line, s->lines, &s->line_cap, sizeof(*s->line));
	if (r->error)
		return NULL;
	s->line[s->lines] = (struct line){.block = BLOCK_NONE};
	return &s->line[s->lines++];
}

/* Step 1: lines. */

static bool opens(struct slice line, const char *tag)
{
	return line.n >= strlen(tag) && memcmp(line.p, tag, strlen(tag)) == 0;
}

static bool is_fence(struct slice line)
{
	return opens(line, "```") || opens(line, "~~~");
}

static void split_message(struct reader *r, uint32_t message, uint32_t *row)
{
	struct source *s = r->s;
	struct slice text = s->m[message].text;
	bool footer = false, armour = false;
	struct piece p;

	for (size_t at = 0; piece_next(text, &at, r->packed, &p);) {
		struct line *l = add_line(r);
		if (!l)
			return;
		l->begin = (uint32_t)p.begin;
		l->end = (uint32_t)p.end;
		l->message = message;
		l->row = *row;
		*row += p.rows;
		struct slice body = slice_trim((struct slice){text.p + p.begin, p.end - p.begin});
		footer |= opens(body, "<environment_details>") || opens(body, "<system-reminder>");
		if (body.n >= 27 && secret_block_begins(body))
			armour = true;
		l->flags = (body.n ? 0u : LINE_BLANK) | (p.continued ? LINE_PART : 0u) |
			   (footer ? LINE_FOOTER : 0u) | (armour ? LINE_SECRET : 0u) |
			   (!p.continued && is_fence(body) ? LINE_FENCE : 0u);
		footer &= !opens(body, "</environment_details>") &&
			  !opens(body, "</system-reminder>");
		if (armour && secret_block_ends(body))
			armour = false;
	}
}

static void add_block(struct reader *r, uint32_t first, uint32_t end, bool fence, size_t max)
{
	struct source *s = r->s;
	const struct line *l = s->line;
	if (end - first > r->o->block_lines || l[end - 1].end - l[first].begin > max)
		return;
	s->block = room(r, s->block, s->blocks, &s->block_cap, sizeof(*s->block));
	if (r->error)
		return;
	for (uint32_t i = first; i < end; i++)
		s->line[i].block = s->blocks;
	s->block[s->blocks++] = (struct block){first, end, fence};
}

static bool in_diff(struct slice line)
{
	return line.n == 0 || strchr(" +-@\\", line.p[0]) || opens(line, "diff --git ") ||
	       opens(line, "index ") || opens(line, "new file") || opens(line, "deleted file") ||
	       opens(line, "rename ") || opens(line, "similarity ");
}

static bool begins_diff(const struct source *s, uint32_t i, uint32_t end)
{
	struct slice line = source_line(s, i);
	return opens(line, "diff --git ") ||
	       (opens(line, "--- ") && i + 1 < end && opens(source_line(s, i + 1), "+++ "));
}

static void find_blocks(struct reader *r, uint32_t message, size_t max)
{
	const struct source *s = r->s;
	uint32_t end = s->first[message + 1];
	bool spoken = s->m[message].role != TEXT_TOOL && !s->m[message].tool_result;

	for (uint32_t i = s->first[message]; i < end && !r->error; i++) {
		uint32_t last = i + 1;
		if (s->line[i].flags & LINE_FENCE) {
			char mark = *slice_trim(source_line(s, i)).p;
			while (last < end && (!(s->line[last].flags & LINE_FENCE) ||
						     *slice_trim(source_line(s, last)).p != mark))
				last++;
			if (last == end)
				break; /* never closed */
			add_block(r, i, last + 1, true, max);
			i = last;
		} else if (spoken && begins_diff(s, i, end)) {
			while (last < end && in_diff(source_line(s, last)))
				last++;
			while (s->line[last - 1].flags & LINE_BLANK)
				last--;
			add_block(r, i, last, false, max);
			i = last - 1;
		}
	}
}

static int split(struct reader *r, size_t block_bytes)
{
	struct source *s = r->s;
	uint32_t row = 0;

	s->first = calloc(s->n + 1, sizeof(*s->first));
	if (!s->first)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n && !r->error; i++) {
		s->first[i] = s->lines;
		if (!s->m[i].verbatim)
			split_message(r, i, &row);
	}
	s->first[s->n] = s->lines;
	struct line *end = r->error ? NULL : add_line(r);
	if (!end)
		return r->error;
	end->row = row;
	end->message = (uint32_t)s->n;
	s->lines--;
	for (uint32_t i = 0; i < s->n && !r->error; i++)
		find_blocks(r, i, block_bytes);
	return r->error;
}

/* Steps 2 and 3: tokens. Read from the newest message to the oldest. */

static void note_token(
	struct reader *r, const struct token *t, unsigned flags, uint32_t turn, struct line *l)
{
	struct source *s = r->s;
	if (!t->shaped && lexicon_look(&r->lexicon, t->p, t->n) & WORD_STOP)
		return;
	uint32_t id = vocab_add(&s->vocab, t->p, t->n, &r->error);
	if (id == VOCAB_NONE)
		return;
	struct vocab_word *w = &s->vocab.word[id];
	w->flags |= (uint8_t)(flags | (t->shaped ? VOCAB_SHAPED : 0u));
	if (turn > w->turn)
		w->turn = turn;
	if (!l)
		return;
	s->ids = room(r, s->ids, s->n_ids, &s->ids_cap, sizeof(*s->ids));
	if (r->error)
		return;
	s->ids[s->n_ids++] = id;
	l->n_ids++;
}

static void note_parts(
	struct reader *r, const struct token *t, unsigned flags, uint32_t turn, struct line *l)
{
	struct token part;
	for (const char *at = t->p; token_part(&at, t->p + t->n, &part);)
		if (part.n >= PART_MIN && part.n < t->n)
			note_token(r, &part, flags, turn, l);
}

static bool turn_uses(const struct reader *r, uint32_t message, const struct token *t)
{
	const struct vocab *v = &r->s->vocab;
	uint32_t id = t->n ? vocab_find(v, t->p, t->n) : VOCAB_NONE;
	return id != VOCAB_NONE && v->word[id].turn > message + 1;
}

/* A credential stays out unless a turn after its message uses it, alone or in the same URL. */
static bool is_unused_secret(
	const struct reader *r, uint32_t message, const struct token *t, struct slice value)
{
	const char *at = value.p;
	struct token part, longest = {0};
	while (token_next(&at, value.p + value.n, &part))
		if (part.n > longest.n)
			longest = part;
	return !turn_uses(r, message, &longest) && !(t->url && turn_uses(r, message, t));
}

static unsigned read_tokens(
	struct reader *r, uint32_t message, struct slice line, unsigned flags, struct line *l)
{
	const struct text_message *m = &r->s->m[message];
	bool tool = m->role == TEXT_TOOL || m->tool_result;
	uint32_t turn = tool ? 0 : message + 1;
	const char *at = line.p, *end = line.p + line.n;
	const char *secret_end = line.p;
	struct slice value;
	struct token t;
	unsigned found = 0;

	while (!r->error && token_next(&at, end, &t)) {
		if (l) {
			found |= pin_of_token(&r->lexicon, line, &t);
			if (secret_at(line, &t, &value) &&
				is_unused_secret(r, message, &t, value)) {
				found |= LINE_SECRET;
				secret_end = value.p + value.n;
			}
		}
		if (t.n < TOKEN_MIN)
			continue;
		unsigned secret = t.p < secret_end ? VOCAB_SECRET : 0;
		note_token(r, &t, flags | VOCAB_WHOLE | secret, turn, l);
		if (t.joined && !t.numeric)
			note_parts(r, &t, flags, turn, l);
	}
	return found;
}

static bool comes_later(struct reader *r, struct slice line)
{
	struct slice body = slice_trim(piece_body(line));
	int added = hashset_add(&r->seen, hash_bytes(body.p, body.n));
	if (added < 0)
		r->error = added;
	return added == 0;
}

static void read_live(struct reader *r, uint32_t message)
{
	unsigned flags = r->o->single ? VOCAB_AGENT : VOCAB_LIVE;
	struct slice text = r->s->m[message].text;
	struct piece p;
	for (size_t at = 0; !r->error && piece_next(text, &at, r->packed, &p);) {
		struct slice line = {text.p + p.begin, p.end - p.begin};
		comes_later(r, line);
		read_tokens(r, message, line, flags, NULL);
	}
}

static void read_old(struct reader *r, uint32_t message)
{
	struct source *s = r->s;
	const struct text_message *m = &s->m[message];
	bool agent = m->role == TEXT_ASSISTANT;
	bool human = m->role == TEXT_USER && !m->tool_result;

	for (uint32_t i = s->first[message + 1]; i-- > s->first[message] && !r->error;) {
		struct line *l = &s->line[i];
		struct slice line = source_line(s, i);
		uint64_t key;
		bool open;
		l->ids = s->n_ids;
		if (l->flags & LINE_BLANK)
			continue;
		if (comes_later(r, line))
			l->flags |= LINE_LATER;
		l->flags |= read_tokens(r, message, line, agent ? VOCAB_AGENT : 0, l);
		if (human && !(l->flags & LINE_FOOTER) &&
			pin_constraint(&r->lexicon, line, &key, &open))
			l->flags |= PIN_CONSTRAINT;
		if (!human && !agent)
			l->flags |= pin_definition(&r->lexicon, line);
		if (agent)
			l->flags &= ~(unsigned)(PIN_ERROR | PIN_FAILURE);
	}
	/* A credential longer than a piece goes on in the next one. */
	for (uint32_t i = s->first[message] + 1; i < s->first[message + 1]; i++) {
		const struct line *before = &s->line[i - 1];
		if ((before->flags & LINE_SECRET) && (s->line[i].flags & LINE_PART) &&
			token_is_inner(m->text.p[before->end - 1]) &&
			token_is_inner(m->text.p[s->line[i].begin]))
			s->line[i].flags |= LINE_SECRET;
	}
}

/* Step 4: the factor of a line. */

static double role_factor(const struct text_message *m, const struct line *l)
{
	switch (m->role) {
	case TEXT_ASSISTANT:
		return m->calls_tools && l->begin >= m->calls_at ? 3 : .5;
	case TEXT_USER:
		return m->tool_result ? 1 : 2;
	case TEXT_TOOL:
	case TEXT_SYSTEM:
		break;
	}
	return 1;
}

static void weigh(struct source *s, bool single)
{
	unsigned newest = 0;
	for (size_t i = 0; i < s->n; i++)
		if (!s->m[i].verbatim && s->m[i].group > newest)
			newest = s->m[i].group;

	for (uint32_t i = 0; i < s->n; i++) {
		const struct text_message *m = &s->m[i];
		bool tool = m->role == TEXT_TOOL || m->tool_result;
		double age = m->group < newest ? newest - m->group : 0;
		double base = single ? 1 : .15 + .85 * exp(-age / AGE_GROUPS);
		if ((double)m->text.n > LONG_MESSAGE)
			base *= sqrt(LONG_MESSAGE / (double)m->text.n);
		for (uint32_t k = s->first[i]; k < s->first[i + 1]; k++) {
			struct line *l = &s->line[k];
			double f = base * role_factor(m, l);
			if ((tool || single) && (l->flags & (PIN_ERROR | PIN_FAILURE)))
				f *= 2;
			else if ((tool || single) && (l->flags & PIN_DEFINITION))
				f *= 1.5;
			if (l->flags & (LINE_FENCE | LINE_FOOTER | LINE_BLANK))
				f *= TRIFLE;
			l->factor = l->flags & (LINE_LATER | LINE_SECRET) ? 0 : (float)f;
		}
	}
}

static int measure(struct reader *r)
{
	struct source *s = r->s;
	size_t all = 0, rows = 0;
	for (size_t i = 0; i < s->n; i++) {
		struct slice text = s->m[i].text;
		if (text.n > SELECT_BYTES_MAX || (all += text.n) > SELECT_BYTES_MAX)
			return -E2BIG;
		for (size_t k = 0; k < text.n; k++)
			rows += text.p[k] == '\n' || text.p[k] == '\r';
	}
	r->packed = rows > PACK_LINES;
	s->bytes = text_old_bytes(s->m, s->n);
	return 0;
}

int source_read(struct source *s, const struct text_message *m, size_t n,
	const struct select_options *o, size_t block_bytes)
{
	struct reader r = {.s = s, .o = o};

	*s = (struct source){.m = m, .n = n};
	if (n > SELECT_MESSAGES_MAX)
		return -E2BIG;
	int rc = measure(&r);
	if (rc == 0)
		rc = split(&r, block_bytes);
	if (rc)
		goto fail;
	lexicon_init(&r.lexicon);
	for (uint32_t i = (uint32_t)n; i-- > 0 && !r.error;) {
		if (!m[i].verbatim)
			read_old(&r, i);
		else if (!o->frozen)
			read_live(&r, i);
	}
	rc = r.error;
	hashset_fini(&r.seen);
	if (rc)
		goto fail;
	weigh(s, o->single);
	return 0;
fail:
	hashset_fini(&r.seen);
	source_fini(s);
	return rc;
}

void source_fini(struct source *s)
{
	free(s->line);
	free(s->first);
	free(s->block);
	free(s->ids);
	vocab_fini(&s->vocab);
	*s = (struct source){0};
}
