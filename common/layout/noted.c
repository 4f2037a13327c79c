#include "common/layout/noted.h"

struct head {
	uint32_t from, to, bytes;
};

_Static_assert(sizeof(struct head) == LAYOUT_NOTE_BYTES, "noted.h tells it");

int layout_note_pack(struct buf *packed, const struct layout_note *n)
{
	struct head h = {n->from, n->to, (uint32_t)n->text.n};
	buf_add(packed, (const char *)&h, sizeof(h));
	return buf_add_slice(packed, n->text);
}

bool layout_note_next(struct slice *packed, struct layout_note *n)
{
	struct head h;
	if (packed->n < sizeof(h))
		return false;
	memcpy(&h, packed->p, sizeof(h));
	if (h.bytes > packed->n - sizeof(h) || h.from >= h.to) {
		packed->n = 0;
		return false;
	}
	*n = (struct layout_note){h.from, h.to, {packed->p + sizeof(h), h.bytes}};
	packed->p += sizeof(h) + h.bytes;
	packed->n -= sizeof(h) + h.bytes;
	return true;
}
