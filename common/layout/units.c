#include "common/layout/units.h"

#include "common/layout/parts.h"
#include "common/text/chunk.h"

#include <errno.h>
#include <stdlib.h>

/* --- which groups --- */

static size_t spelt(const struct chat_message *m)
{
	return m->content.raw.n + m->tool_calls.raw.n;
}

struct filling {
	struct layout_unit unit;
	size_t bytes;
};

static void fill(struct filling *f, const struct chat_message *m)
{
	f->unit.key = hash_mix(f->unit.key ^ layout_message_hash(m));
	f->bytes += m->role == CHAT_SYSTEM ? 0 : spelt(m);
}

int layout_units(const struct chat_request *r, uint32_t end, size_t bytes,
	struct layout_unit **units, size_t *count)
{
	struct filling f = {.unit = {.from = 1}};
	uint32_t group = 0;
	*count = 0;
	*units = calloc(r->count + 1, sizeof(**units)); /* a unit has a message at least */
	if (!*units)
		return -ENOMEM;
	for (size_t i = 0; i < r->count; i++) {
		group += r->messages[i].role == CHAT_ASSISTANT;
		if (group == 0)
			continue;
		if (group > f.unit.from && r->messages[i].role == CHAT_ASSISTANT &&
			f.bytes >= bytes) {
			f.unit.to = group;
			if (f.unit.to > end)
				break;
			(*units)[(*count)++] = f.unit;
			f = (struct filling){.unit = {.from = group}};
		}
		fill(&f, &r->messages[i]);
	}
	return 0;
}

/* --- what they say --- */

/* A digest leaves it as it is. */
static bool stays(const struct layout_message *m)
{
	return m->level == LAYOUT_FIXED || (m->flags & PART_UNTOUCHED);
}

static int render(struct layout *l, size_t begin, size_t end, size_t bytes,
	struct buf texts[LAYOUT_UNIT_CHUNKS], size_t *count)
{
	struct text_chunk *chunks = NULL;
	for (size_t i = begin; i < end; i++)
		l->text[i].verbatim = stays(&l->messages[i]);
	int rc = text_chunks(
		l->text + begin, end - begin, bytes, LAYOUT_UNIT_CHUNKS, &chunks, count);
	for (size_t i = 0; i < *count && rc == 0; i++)
		rc = text_chunk_render(l->text + begin, &chunks[i], &texts[i]);
	text_chunks_free(chunks, *count);
	return rc;
}

int layout_unit_read(const struct chat_request *r, const struct layout_unit *u, size_t bytes,
	struct buf texts[LAYOUT_UNIT_CHUNKS], size_t *count)
{
	struct layout l = {.request = r, .options = layout_defaults()};
	int rc = layout_read(&l);
	size_t begin = rc ? 0 : layout_group_begin(&l, u->from);
	size_t end = rc ? 0 : layout_group_begin(&l, u->to);
	*count = 0;
	for (size_t i = 0; i < LAYOUT_UNIT_CHUNKS; i++)
		buf_init(&texts[i], 0);
	for (size_t i = begin; i < end && rc == 0; i++)
		rc = layout_read_message(&l, i);
	if (rc == 0)
		rc = render(&l, begin, end, bytes, texts, count);
	layout_fini(&l);
	return rc;
}
