#include "tests/eval/scribe.h"

#include "common/base/json.h"
#include "common/layout/units.h"
#include "common/text/notes.h"
#include "common/text/piece.h"
#include "common/text/vocab.h"

#include <errno.h>
#include <stdlib.h>

#define NOTES 8
#define KEEP_GROUPS 2
#define LINE_LEAST 16
#define INVENTED "- the fault lies in invented_name_77 of /no/such/file.c\n"

/* --- one chunk --- */

/* Names of a line that no note has yet. */
static unsigned names(struct slice line, const struct vocab *seen)
{
	unsigned n = 0;
	struct token t;
	for (const char *at = line.p; token_next(&at, line.p + line.n, &t);)
		n += t.shaped && vocab_find(seen, t.p, t.n) == VOCAB_NONE;
	return n;
}

static void remember(struct slice line, struct vocab *seen)
{
	struct token t;
	int error = 0;
	for (const char *at = line.p; token_next(&at, line.p + line.n, &t);)
		vocab_add(seen, t.p, t.n, &error);
}

/* All of a line but its last word: a whole line would be no note. */
static struct slice part_of(struct slice line)
{
	line = slice_trim(line);
	while (line.n && line.p[line.n - 1] != ' ')
		line.n--;
	line = slice_trim(line);
	return line.n >= LINE_LEAST && line.n < NOTES_LINE_BYTES - 2 && *line.p != '['
		       ? line
		       : (struct slice){0};
}

static struct slice best_line(struct slice text, const struct vocab *seen)
{
	struct slice best = {0};
	double most = 0;
	while (text.n) {
		const char *nl = memchr(text.p, '\n', text.n);
		size_t n = nl ? (size_t)(nl - text.p) : text.n;
		struct slice part = part_of((struct slice){text.p, n});
		double worth = part.n ? names(part, seen) / ((double)part.n + 20) : 0;
		if (worth > most) {
			most = worth;
			best = part;
		}
		text.p += n + (nl != NULL);
		text.n -= n + (nl != NULL);
	}
	return best;
}

static void write_notes(struct slice chunk, struct buf *notes)
{
	const struct notes_rule rule = {.strict = true, .max_bytes = 65536};
	struct vocab seen = {0};
	struct buf answer;
	buf_init(&answer, 0);
	buf_add_str(&answer, INVENTED);
	for (int i = 0; i < NOTES; i++) {
		struct slice line = best_line(chunk, &seen);
		if (line.n == 0)
			break;
		buf_printf(&answer, "- %.*s\n", (int)line.n, line.p);
		remember(line, &seen);
	}
	notes_verify(chunk, buf_slice(&answer), &rule, NULL, notes);
	vocab_fini(&seen);
	buf_free(&answer);
}

/* --- a conversation --- */

static int offer_unit(const struct chat_request *r, const struct layout_unit *u, struct buf *packed)
{
	struct buf texts[LAYOUT_UNIT_CHUNKS], notes;
	size_t n;
	buf_init(&notes, 0);
	int rc = layout_unit_read(r, u, SCRIBE_UNIT_BYTES * 2, texts, &n);
	for (size_t i = 0; i < n && rc == 0; i++)
		write_notes(buf_slice(&texts[i]), &notes);
	const struct layout_note note = {u->from, u->to, buf_slice(&notes)};
	if (rc == 0)
		rc = layout_note_pack(packed, &note);
	for (size_t i = 0; i < LAYOUT_UNIT_CHUNKS; i++)
		buf_free(&texts[i]);
	buf_free(&notes);
	return rc;
}

int scribe_offer(const struct chat_request *r, struct buf *packed)
{
	struct layout_unit *units;
	size_t count;
	uint32_t groups = layout_chains(r, NULL, NULL);
	uint32_t end = groups > KEEP_GROUPS ? groups - KEEP_GROUPS : 0;
	int rc = layout_units(r, end, SCRIBE_UNIT_BYTES, &units, &count);
	for (size_t i = 0; i < count && rc == 0; i++)
		rc = offer_unit(r, &units[i], packed);
	free(units);
	return rc;
}

void scribe_forget(struct scribe *s)
{
	for (size_t i = 0; i < s->count; i++)
		free((char *)s->noted[i].notes.p);
	free(s->noted);
	*s = (struct scribe){0};
}

int scribe_keep(struct scribe *s, const struct layout *l)
{
	if (!l->took_offered || s->count == SCRIBE_DECISIONS_MAX)
		return 0;
	struct layout_noted *grown = reallocarray(s->noted, s->count + 1, sizeof(*grown));
	char *copy = slice_dup(l->options.offered);
	if (grown)
		s->noted = grown;
	if (!grown || !copy) {
		free(copy);
		return -ENOMEM;
	}
	s->noted[s->count++] = (struct layout_noted){
		l->messages[l->count - 1].chain, {copy, l->options.offered.n}};
	return 0;
}
