/*
 * Notes of a small model about what was left out: what it reads, and where its notes stand.
 */
#include "common/layout/parts.h"

#include "common/text/chunk.h"

#include <errno.h>
#include <stdlib.h>

static const char notes_intro[] =
	"\n[Notes on the parts left out; every name and number in them was "
	"checked against the source]\n";
static const char notes_outro[] = "[End of the notes]\n";

struct chunk_list {
	struct layout_chunk *chunk;
	size_t count;
};

static int add_chunks(struct chunk_list *c, const struct text_message *m, size_t n, size_t bytes,
	size_t most, size_t owner)
{
	struct text_chunk *cut = NULL;
	size_t count = 0;
	int rc = text_chunks(m, n, bytes, most > c->count ? most - c->count : 1, &cut, &count);
	if (rc || count == 0)
		return rc;
	struct layout_chunk *grown = reallocarray(c->chunk, c->count + count, sizeof(*grown));
	if (!grown) {
		text_chunks_free(cut, count);
		return -ENOMEM;
	}
	c->chunk = grown;
	for (size_t i = 0; i < count && rc == 0; i++) {
		struct layout_chunk *k = &c->chunk[c->count++];
		*k = (struct layout_chunk){.owner = owner};
		if (owner == SIZE_MAX) /* behind the last text that it speaks of */
			k->owner = cut[i].spans[cut[i].count - 1].message;
		rc = text_chunk_render(m, &cut[i], &k->text);
	}
	text_chunks_free(cut, count);
	return rc;
}

/* One text that was cut by itself: its ends stand in the prompt, so only its middle is read. */
static int add_single(
	struct chunk_list *c, const struct layout *l, size_t i, size_t bytes, size_t most)
{
	struct text_edges edges;
	text_single_split(l->text[i].text, l->messages[i].bytes_out, &edges);
	struct text_message middle = {.role = l->text[i].role, .text = edges.middle};
	return add_chunks(c, &middle, 1, bytes, most, i);
}

static size_t holder(const struct layout *l)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->messages[i].flags & PART_HOLDER)
			return i;
	return l->count;
}

int layout_chunks(struct layout *l, size_t chunk_bytes, size_t max_chunks,
	struct layout_chunk **chunks, size_t *count)
{
	struct chunk_list c = {0};
	int rc = layout_need_texts(l);
	struct text_message *m = calloc(l->count + 1, sizeof(*m));
	*chunks = NULL;
	*count = 0;
	if (!m)
		return -ENOMEM;
	for (unsigned pass = 0; pass < 2 && rc == 0; pass++) {
		bool any = false;
		for (size_t i = 0; i < l->count; i++) {
			uint32_t flags = l->messages[i].flags;
			bool digest = flags & (PART_DROPPED | PART_HOLDER);
			bool raised =
				!digest && (flags & PART_OUT) && l->messages[i].level == LAYOUT_L1;
			m[i] = l->text[i];
			m[i].verbatim = pass ? !raised : !digest;
			any |= !m[i].verbatim;
		}
		if (any)
			rc = add_chunks(&c, m, l->count, chunk_bytes, max_chunks,
				pass ? SIZE_MAX : holder(l));
	}
	for (size_t i = 0; i < l->count && rc == 0; i++)
		if (l->messages[i].level == LAYOUT_CUT && (l->messages[i].flags & PART_OUT))
			rc = add_single(&c, l, i, chunk_bytes, max_chunks);
	free(m);
	if (rc) {
		layout_chunks_free(c.chunk, c.count);
		return rc;
	}
	*chunks = c.chunk;
	*count = c.count;
	return 0;
}

void layout_chunks_free(struct layout_chunk *chunks, size_t count)
{
	for (size_t i = 0; i < count; i++)
		buf_free(&chunks[i].text);
	free(chunks);
}

/* Whole lines up to most bytes. */
static struct slice whole_lines(struct slice notes, size_t most)
{
	if (most && notes.n > most)
		for (notes.n = most; notes.n > 0 && notes.p[notes.n - 1] != '\n'; notes.n--)
			;
	return notes;
}

static void put_notes(const struct layout_chunk *chunks, size_t count, const struct slice *notes,
	size_t notes_bytes, size_t owner, struct buf *out)
{
	bool any = false;
	for (size_t i = 0; i < count; i++) {
		struct slice text = whole_lines(notes[i], notes_bytes);
		if (chunks[i].owner != owner || text.n == 0)
			continue;
		if (!any)
			buf_add_str(out, notes_intro);
		any = true;
		buf_add_slice(out, text);
		if (text.p[text.n - 1] != '\n')
			buf_add_char(out, '\n');
	}
	if (any)
		buf_add_str(out, notes_outro);
}

int layout_add_notes(struct layout *l, const struct layout_chunk *chunks, size_t count,
	const struct slice *notes, size_t notes_bytes)
{
	for (size_t i = 0; i < l->count; i++) {
		struct layout_message *m = &l->messages[i];
		if (!(m->flags & PART_OUT))
			continue;
		size_t before = l->out[i].n;
		put_notes(chunks, count, notes, notes_bytes, i, &l->out[i]);
		if (buf_error(&l->out[i]))
			return -ENOMEM;
		if (l->out[i].n == before)
			continue;
		m->bytes_out = l->out[i].n;
		m->tokens_out = layout_tokens(buf_slice(&l->out[i]), 0);
	}
	return layout_edit(l);
}
